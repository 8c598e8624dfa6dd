"""Qdrant for vecbench: the embedded Rust engine without a URL, a server or the cloud with one."""

from vecbench_qdrant.store import QdrantStore

__all__ = ["QdrantStore"]
