"""Milvus for vecbench: a server by URL or as a local process; and Milvus Lite, which is another engine."""

from vecbench_milvus.store import MilvusLiteStore, MilvusStore

__all__ = ["MilvusLiteStore", "MilvusStore"]
