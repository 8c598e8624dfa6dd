"""FAISS behind the vecbench contract."""

from vecbench_faiss.store import FaissStore

__all__ = ["FaissStore"]
