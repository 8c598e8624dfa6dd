"""pgvector for vecbench: PostgreSQL by URL, or one of our own without."""

from vecbench_pgvector.store import PgvectorStore

__all__ = ["PgvectorStore"]
