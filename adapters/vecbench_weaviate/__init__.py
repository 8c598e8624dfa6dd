"""Weaviate for vecbench: a process of its own without a URL, a server or the cloud with one."""

from vecbench_weaviate.store import WeaviateStore

__all__ = ["WeaviateStore"]
