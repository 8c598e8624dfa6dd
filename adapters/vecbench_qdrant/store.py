"""QdrantStore: one class, three engines behind it: embedded (edge), a server, and the client's own imitation."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, ClassVar, Protocol, Self

from vecbench.capabilities import Capabilities, StoreInfo
from vecbench.collection import Collection
from vecbench.errors import ConfigError, StoreError
from vecbench.spec import CollectionSpec
from vecbench.store import VectorStore

__all__ = ["Engine", "QdrantStore"]


class Engine(Protocol):
    """What `QdrantStore` hands its work to."""

    capabilities: Capabilities
    info: StoreInfo
    native: Any
    secret: str | None

    def create(self, store: VectorStore, spec: CollectionSpec) -> Collection:
        """Create a collection that does not exist yet."""
        ...

    def open(self, store: VectorStore, name: str) -> Collection:
        """Open a collection; `CollectionNotFound`."""
        ...

    def names(self) -> list[str]:
        """The names of vecbench's collections."""
        ...

    def drop(self, name: str) -> None:
        """Delete a collection; `CollectionNotFound`."""
        ...

    def close(self) -> None:
        """Close what was opened."""
        ...

    def translate(self, error: Exception, doing: str) -> StoreError | None:
        """Our error for one of the client's."""
        ...


class QdrantStore(VectorStore):
    """Qdrant, embedded (`connect("qdrant")`, `path=` to keep the data) or as a server (`connect("qdrant=http://…")`).

    `qdrant:memory` is the Python client's imitation, NumPy brute force: for tests, never for a benchmark.
    """

    name: ClassVar[str] = "qdrant"
    extra: ClassVar[str] = "qdrant"
    modules: ClassVar[tuple[str, ...]] = ("qdrant_edge",)
    modes: ClassVar[tuple[str, ...]] = ("edge", "memory", "server")

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.capabilities = engine.capabilities

    @classmethod
    def open(
        cls, *, url: str | None = None, path: str | Path | None = None, mode: str | None = None, **options: Any
    ) -> Self:
        """Open the embedded engine, in a temporary directory without `path`, or connect to the server at `url`.

        options, server only: api_key (else the environment's QDRANT_API_KEY), grpc (True, False, or None to use it
        where its port answers), grpc_port (6334), timeout (seconds, 60). Raises `ConfigError` for any other.
        """
        mode = mode or ("server" if url is not None else "edge")
        if (mode == "server") != (url is not None):
            raise ConfigError(
                "qdrant: mode 'server' needs a url, as in qdrant=http://localhost:6333, and only that does"
            )
        if path is not None and mode != "edge":
            raise ConfigError(f"qdrant: a path belongs to the embedded engine, not to mode {mode!r}")
        known = {"api_key", "grpc", "grpc_port", "timeout"} if mode == "server" else set()
        unknown = set(options) - known
        if unknown:
            takes = f"it takes {', '.join(sorted(known))}" if known else "it takes none"
            raise ConfigError(f"qdrant ({mode}) has no option {', '.join(sorted(unknown))}; {takes}")
        if mode == "edge":
            from vecbench_qdrant.edge import EdgeEngine

            return cls(EdgeEngine(path))
        from vecbench_qdrant.server import ClientEngine

        if url is None:
            return cls(ClientEngine.in_memory())
        options["api_key"] = options.get("api_key") or os.environ.get("QDRANT_API_KEY") or None
        return cls(ClientEngine.connect(url, **options))

    @property
    def info(self) -> StoreInfo:
        """Which of the three engines answers, and its version."""
        return self._engine.info

    @property
    def native(self) -> Any:
        """The `QdrantClient`; None for the embedded engine, whose handles belong to its collections."""
        return self._engine.native

    def _create(self, spec: CollectionSpec) -> Collection:
        return self._engine.create(self, spec)

    def _open_collection(self, name: str) -> Collection:
        return self._engine.open(self, name)

    def _list(self) -> list[str]:
        return self._engine.names()

    def _drop(self, name: str) -> None:
        self._engine.drop(name)

    def _close(self) -> None:
        self._engine.close()

    def _hidden(self) -> tuple[str | None, ...]:
        return (self._engine.secret,)

    def _translate(self, error: Exception, doing: str) -> StoreError | None:
        return self._engine.translate(error, doing)
