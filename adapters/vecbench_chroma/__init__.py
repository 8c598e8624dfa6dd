"""Chroma for vecbench: embedded in this process, or a server over HTTP."""

from vecbench_chroma.store import ChromaStore

__all__ = ["ChromaStore"]
