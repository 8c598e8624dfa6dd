"""The contract between a vector store and everything else: the page to read first.

    with connect("qdrant", path="kb") as store:
        docs = store.create_collection(CollectionSpec("docs", dim=384, metric=Metric.COSINE))
        docs.upsert(Records(ids=["a", "b"], vectors=vectors, metadata=[{"year": 2024}, {"year": 2025}]))
        docs.optimize()
        for hit in docs.search(query, k=10, where=F("year") >= 2025).hits():
            print(hit.id, hit.distance)

The public verbs check their arguments and translate errors once, for all stores; an adapter writes the methods with a
leading underscore and may rely on checked input. A store and its collections may be used from several threads.
"""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from types import ModuleType, TracebackType
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn, Self
from weakref import WeakSet

from vecbench.capabilities import Capabilities, StoreInfo
from vecbench.collection import Collection
from vecbench.errors import (
    CollectionExists,
    CollectionNotFound,
    ConfigError,
    ConnectionFailed,
    DimensionMismatch,
    MissingDependency,
    StoreClosed,
    StoreError,
    StoreRejected,
    UnsupportedIndex,
    UnsupportedMetric,
    VecbenchError,
    cause_of,
    redact,
)
from vecbench.spec import CollectionSpec, check_name

if TYPE_CHECKING:
    from filelock import FileLock

__all__ = ["Collection", "CollectionSpec", "VectorStore", "hold_directory", "import_client"]


def import_client(module: str, *, store: str, extra: str) -> ModuleType:
    """Import a vendor's client, or raise `MissingDependency` with the line that installs it."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as e:
        if e.name is not None and module.split(".", maxsplit=1)[0] != e.name.split(".")[0]:
            raise  # the client is there and one of its own imports is broken: that is not ours to rename
        raise MissingDependency(f"store '{store}'", module=module, extra=extra) from e


def hold_directory(path: Path, *, store: str) -> FileLock:
    """Make a store's directory if it is not there and hold it, against this and every other process, until released.

    The lock may be released by another thread than the one that took it. Raises `ConfigError` where a file is in the
    way, `ConnectionFailed` where somebody holds it or it cannot be used.
    """
    from filelock import FileLock, Timeout

    if path.exists() and not path.is_dir():
        raise ConfigError(f"{store} keeps its data in a directory, and {path} is a file")
    try:
        path.mkdir(parents=True, exist_ok=True)
        # thread_local: a lock counted per thread would not be given back when another thread closes the store.
        lock = FileLock(path / f"vecbench-{store}.lock", is_singleton=False, thread_local=False)
        lock.acquire(timeout=0)
    except Timeout:
        raise ConnectionFailed(
            f"the {store} directory {path} is open already, here or in another process; close it there first"
        ) from None
    except OSError as e:
        raise ConnectionFailed(f"the {store} directory {path} cannot be used: {e.strerror or e}") from e
    return lock


class VectorStore(ABC):
    """One connection to a store; a context manager that closes what it opened itself, and nothing else.

    name: as in `connect(name)`. extra: the vecbench extra that installs its client. modules: import names of what the
    extra installs. modes: deployments to choose by `name:mode`. needs_account: nothing of it runs without one.
    """

    name: ClassVar[str]
    extra: ClassVar[str] = ""
    modules: ClassVar[tuple[str, ...]] = ()
    modes: ClassVar[tuple[str, ...]] = ()
    needs_account: ClassVar[bool] = False
    capabilities: Capabilities = Capabilities()

    _closed = False
    _handed: WeakSet[Collection]  # out, see `drop_collection`
    _handing: Lock
    _service: Any = None  # of an adapter that starts its engine itself: a vecbench.services.local.Service

    def __new__(cls, *_args: Any, **_options: Any) -> Self:
        """A store that has handed out nothing; adapters need not call an `__init__` of ours."""
        made = super().__new__(cls)
        made._handed, made._handing = WeakSet(), Lock()
        return made

    @classmethod
    @abstractmethod
    def open(
        cls, *, url: str | None = None, path: str | Path | None = None, mode: str | None = None, **options: Any
    ) -> Self:
        """Connect: to a server by `url`, to data on disk by `path`, or to a fresh embedded engine with neither.

        Raises `MissingDependency`, `ConnectionFailed`, or `ConfigError` for an option that the store does not know.
        """

    @property
    @abstractmethod
    def info(self) -> StoreInfo:
        """Who answers: label, deployment, engine and client versions."""

    @property
    def native(self) -> Any:
        """The vendor's own client or handle: the way out of this interface."""
        return None

    def reached_at(self) -> tuple[str, Mapping[str, str]] | None:
        """Where other processes reach the engine that this store started: a URL, and the secrets for `connect`.

        None for an engine in this process, and for one that was there before.
        """
        return None if self._service is None else (self._service.url, self._service.secrets)

    def create_collection(self, spec: CollectionSpec, *, exist_ok: bool = False) -> Collection:
        """Create a collection and return it.

        exist_ok: return one that exists already, provided that dimension, metric and embedder agree
        (`CollectionMismatch`); without it `CollectionExists`. Raises `UnsupportedMetric` or `UnsupportedIndex` before
        anything is created where the store cannot honour the spec.
        """
        self._require_open()
        can = self.capabilities
        if spec.metric not in can.metrics:
            raise UnsupportedMetric(
                f"{self.name} has no {spec.metric} distance; it has {', '.join(sorted(can.metrics))}"
            )
        if spec.index.kind not in can.indexes:
            raise UnsupportedIndex(
                f"{self.name} has no {spec.index.kind} index; it has {', '.join(sorted(can.indexes))}"
                + ("; for native, see the store's README: index=NativeIndex(…)" if "native" in can.indexes else "")
            )
        if can.max_dim is not None and spec.dim > can.max_dim:
            raise DimensionMismatch(
                f"{self.name} takes vectors of up to {can.max_dim} dimensions, asked for {spec.dim}"
            )
        if exist_ok:
            try:
                existing = self.get_collection(spec.name)
            except CollectionNotFound:
                pass  # created below
            else:
                existing.spec.require_same(spec)
                return existing
        elif spec.name in self.list_collections():
            raise CollectionExists(f"{self.name} has a collection {spec.name!r} already; pass exist_ok=True to use it")
        try:
            return self._handed_out(self._create(spec))
        except Exception as e:
            self._fail(e, f"creating collection {spec.name!r}")

    def get_collection(self, name: str) -> Collection:
        """The collection of that name, its spec read back from the store; `CollectionNotFound`."""
        self._require_open()
        check_name(name)
        try:
            return self._handed_out(self._open_collection(name))
        except Exception as e:
            self._fail(e, f"opening collection {name!r}")

    def list_collections(self) -> list[str]:
        """The names of all collections made through vecbench, sorted."""
        self._require_open()
        try:
            return sorted(self._list())
        except Exception as e:
            self._fail(e, "listing collections")

    def drop_collection(self, name: str, *, missing_ok: bool = False) -> None:
        """Delete a collection with everything in it; `CollectionNotFound` unless `missing_ok`.

        What this store has handed out of it raises `CollectionNotFound` from now on, also when the name is taken again.
        """
        self._require_open()
        check_name(name)
        try:
            try:
                self._drop(name)
            except Exception as e:
                self._fail(e, f"dropping collection {name!r}")
        except CollectionNotFound:
            self._end_handles(name)
            if not missing_ok:
                raise
        else:
            self._end_handles(name)

    def close(self) -> None:
        """End the connection; closing twice is fine, using a closed store raises `StoreClosed`."""
        if self._closed:
            return
        self._closed = True
        try:
            self._close()
        except Exception as e:
            self._fail(e, "closing")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    # What an adapter writes -------------------------------------------------------------------------------------------

    @abstractmethod
    def _create(self, spec: CollectionSpec) -> Collection:
        """Create a collection that does not exist yet; metric, index kind and dimension are supported."""

    @abstractmethod
    def _open_collection(self, name: str) -> Collection:
        """Open a collection, reading its spec from the store; raise `CollectionNotFound`."""

    @abstractmethod
    def _list(self) -> list[str]:
        """Names of the collections made through vecbench, in any order."""

    @abstractmethod
    def _drop(self, name: str) -> None:
        """Delete a collection; raise `CollectionNotFound`."""

    def _close(self) -> None:  # noqa: B027  a store without a connection has nothing to close
        """Close what `open` opened."""

    def _translate(self, error: Exception, doing: str) -> StoreError | None:
        """Our error for one of the vendor's; None for the default, `StoreRejected` with the vendor's words."""
        return None

    def _hidden(self) -> tuple[str | None, ...]:
        """What no error may tell: the passwords and keys that `open` was given."""
        return ()

    def _fail(self, error: Exception, doing: str) -> NoReturn:
        """Raise our error for `error`; the vendor's own becomes the `__cause__`, unless it tells what is hidden."""
        hidden = self._hidden()
        if isinstance(error, VecbenchError):
            if cause_of(error, hidden) is None:
                error.__cause__ = None  # nor is a context shown then
            raise error
        ours = self._translate(error, doing)
        if ours is None:
            words = f"{type(error).__name__}: {error}"
            for secret in filter(None, hidden):
                words = words.replace(secret, "***")
            ours = StoreRejected(f"{self.name}: {doing} failed: {redact(words)}")
        raise ours from cause_of(error, hidden)

    @contextmanager
    def _doing(self, handle: Collection | None, doing: str) -> Iterator[None]:
        """What an adapter adds to the contract is done in here: store and collection are there, errors become ours."""
        self._require_open(handle)
        try:
            yield
        except Exception as e:
            self._fail(e, doing)

    def _require_open(self, handle: Collection | None = None) -> None:
        if self._closed:
            raise StoreClosed(f"this {self.name} store was closed; connect again")
        if handle is not None and handle._gone:
            raise CollectionNotFound(
                f"{self.name}: collection {handle.spec.name!r} was dropped; open or create it anew"
            )

    def _end_handles(self, name: str) -> None:
        with self._handing:
            for handle in self._handed:
                handle._gone = handle._gone or handle.spec.name == name

    def _handed_out(self, collection: Collection) -> Collection:
        with self._handing:
            self._handed.add(collection)
        return collection
