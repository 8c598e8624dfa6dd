"""ChromaStore: the engine in this process, a server of the installed package, or a server by URL."""

from __future__ import annotations

import os
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Self
from weakref import WeakValueDictionary

from vecbench.capabilities import Capabilities, StoreInfo, Tolerance
from vecbench.collection import Collection
from vecbench.errors import ConfigError, StoreError, UnsupportedIndex, cause_of
from vecbench.filters import OPERATORS
from vecbench.index import HNSW, Index
from vecbench.spec import CollectionSpec, hashed_name
from vecbench.store import VectorStore
from vecbench.types import Metric
from vecbench_chroma.collection import SPEC_KEY, ChromaCollection, Common
from vecbench_chroma.connection import Connection, Embedded, Process, Server
from vecbench_chroma.faults import translate_error

__all__ = ["ChromaStore"]

_PREFIX = "vecbench-"
_SPACES = {Metric.EUCLIDEAN: "l2", Metric.COSINE: "cosine", Metric.DOT: "ip"}
_NATIVE = {"resize_factor": (int, float), "sync_threshold": (int,)}  # num_threads and batch_size do nothing any more
_REQUEST_BYTES = 30_000_000  # of the 40 MB that a server takes

_CAPABILITIES = Capabilities(
    metrics=frozenset(Metric),
    indexes=frozenset({"hnsw"}),
    filters=OPERATORS,
    preserves_vectors=False,  # a cosine collection keeps unit vectors and lengths: the last bit may change
    tolerance=Tolerance(absolute=2e-6, relative=1e-6),
)


class ChromaStore(VectorStore):
    """Chroma, embedded (`connect("chroma")`, `path=` to keep the data) or a server (`connect("chroma=http://…")`).

    `chroma:server` without a URL starts the installed package's own server, and ends it with the store.
    """

    name: ClassVar[str] = "chroma"
    extra: ClassVar[str] = "chroma"
    modules: ClassVar[tuple[str, ...]] = ("chromadb",)
    modes: ClassVar[tuple[str, ...]] = ("embedded", "server")

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._opened: WeakValueDictionary[str, Common] = WeakValueDictionary()
        self._lock = threading.Lock()
        connection.open()
        try:
            max_batch = int(connection.client.get_max_batch_size())
        except Exception as e:
            connection.close()
            raise self._translate(e, "connecting") from cause_of(e, self._hidden())
        self.capabilities = replace(
            _CAPABILITIES,
            ef_search="collection" if connection.reopens else "none",
            persistent=connection.persistent,
            concurrent_writers=connection.shared,
            max_batch=max_batch,
            max_batch_bytes=_REQUEST_BYTES if isinstance(connection, Server) else None,
        )

    @classmethod
    def open(
        cls, *, url: str | None = None, path: str | Path | None = None, mode: str | None = None, **options: Any
    ) -> Self:
        """Open the directory `path`, a temporary one without it, or connect to the server at `url`.

        options: timeout (seconds of a request, 60; both kinds of server); by URL also api_key (else the environment's
        CHROMA_API_KEY), tenant, database. Raises `ConfigError` for any other.
        """
        mode = mode or ("server" if url is not None else "embedded")
        if url is not None and (mode != "server" or path is not None):
            raise ConfigError("chroma: a url belongs to mode 'server', and goes without a path")
        if mode not in cls.modes:
            raise ConfigError(f"chroma has no mode {mode!r}; it has {', '.join(cls.modes)}")
        known = {"timeout"} if mode == "server" else set()
        if url is not None:
            known |= {"api_key", "tenant", "database"}
        unknown = set(options) - known
        if unknown:
            takes = f"it takes {', '.join(sorted(known))}" if known else "it takes none"
            raise ConfigError(f"chroma ({mode}) has no option {', '.join(sorted(unknown))}; {takes}")
        if mode == "embedded":
            return cls(Embedded(path))
        if url is None:
            return cls(Process(path, **options))
        options["api_key"] = options.get("api_key") or os.environ.get("CHROMA_API_KEY") or None
        return cls(Server(url, **options))

    @property
    def info(self) -> StoreInfo:
        """Which kind of engine answers, and its version where that is known."""
        return self._connection.info

    @property
    def native(self) -> Any:
        """The chromadb client; another one after a `reconfigure`."""
        return self._connection.client

    def _create(self, spec: CollectionSpec) -> Collection:
        sent = {"space": _SPACES[spec.metric], **_parameters(spec.index)}
        with self._connection.use() as client:
            native = client.create_collection(
                _PREFIX + hashed_name(spec.name),
                embedding_function=None,
                metadata={SPEC_KEY: spec.to_json()},
                configuration={"hnsw": sent},
            )
            held = native.configuration_json.get("hnsw") or {}
            if any(held.get(key) != value for key, value in sent.items()):
                client.delete_collection(native.name)
                raise UnsupportedIndex(f"chroma was asked for the index {sent} and made {native.configuration_json}")
            return self._collection(spec, native)

    def _open_collection(self, name: str) -> Collection:
        with self._connection.use() as client:
            native = client.get_collection(_PREFIX + hashed_name(name), embedding_function=None)
            return self._collection(_spec(native), native)

    def _collection(self, spec: CollectionSpec, native: Any) -> ChromaCollection:
        """Called while the client is in use, so that it is the one that `native` belongs to."""
        with self._lock:
            common = self._opened.setdefault(str(native.id), Common())
            return ChromaCollection(self, spec, self._connection, native, common)

    def _list(self) -> list[str]:
        with self._connection.use() as client:
            return [_spec(c).name for c in client.list_collections() if c.name.startswith(_PREFIX)]

    def _drop(self, name: str) -> None:
        with self._connection.use() as client:
            try:
                client.delete_collection(_PREFIX + hashed_name(name))
            except Exception as e:  # the base class must see a missing collection as such
                raise self._translate(e, f"dropping collection {name!r}") from e

    def _close(self) -> None:
        self._connection.close()

    def _hidden(self) -> tuple[str | None, ...]:
        return (self._connection.secret,)

    def _translate(self, error: Exception, doing: str) -> StoreError:
        return translate_error(error, doing, self._connection.secret)


def _spec(native: Any) -> CollectionSpec:
    return CollectionSpec.from_json((native.metadata or {}).get(SPEC_KEY, ""))


def _parameters(index: Index) -> dict[str, Any]:
    """The index in Chroma's words; `UnsupportedIndex` for what it would ignore or fail over."""
    assert isinstance(index, HNSW)  # noqa: S101  the only index there is; tells the type checker
    if index.m < 2:
        raise UnsupportedIndex("chroma needs m of at least 2: a graph with one link a node falls apart")
    for key, value in index.native.items():
        if key not in _NATIVE:
            raise UnsupportedIndex(f"chroma has no index parameter {key}; it has {', '.join(sorted(_NATIVE))}")
        if type(value) not in _NATIVE[key] or value < 1:
            raise UnsupportedIndex(f"chroma's {key} is a number of at least 1, got {value!r}")
    return {
        "max_neighbors": index.m,
        "ef_construction": index.ef_construction,
        "ef_search": index.ef_search,
        **index.native,
    }
