"""Pinecone for vecbench: the vendor's cloud, through its SDK over HTTP."""

from vecbench_pinecone.store import PineconeStore

__all__ = ["PineconeStore"]
