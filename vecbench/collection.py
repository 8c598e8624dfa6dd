"""The collection half of the contract: the verbs on records, checked and translated once for all stores."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
import numpy.typing as npt

from vecbench import checks
from vecbench.embed.spec import EmbedderSpec
from vecbench.errors import (
    ConfigError,
    DimensionMismatch,
    EmbedderMismatch,
    PartialWriteError,
    UnsupportedFilter,
    UnsupportedOperation,
    VecbenchError,
    cause_of,
)
from vecbench.filters import Filter, fields, operators
from vecbench.index import DEFAULT_SEARCH, SearchParams
from vecbench.spec import CollectionSpec
from vecbench.types import INCLUDE_ALL, Include, Records, SearchResult, Vectors

if TYPE_CHECKING:
    from vecbench.aio import AsyncCollection
    from vecbench.store import VectorStore

__all__ = ["Collection"]


class Collection(ABC):
    """Records of one dimension under one metric. Made by a `VectorStore`, never by hand."""

    def __init__(self, store: VectorStore, spec: CollectionSpec) -> None:
        self.store, self.spec = store, spec
        self._aio: AsyncCollection | None = None
        # A caller repeats the same parameters for many queries; they are checked when they change.
        self._checked_params: SearchParams | None = None
        self._checked_k = 0
        self._gone = False  # dropped; another may have its name

    @property
    def native(self) -> Any:
        """The vendor's own handle of the collection: the way out of this interface."""
        return None

    @property
    def aio(self) -> AsyncCollection:
        """The same verbs, awaited."""
        if self._aio is None:
            from vecbench.aio import AsyncCollection

            self._aio = AsyncCollection(self)
        return self._aio

    def upsert(self, records: Records) -> None:
        """Write records, each replacing the whole of an earlier one of the same id; returns when all are accepted.

        Everything is checked before anything is written: `DimensionMismatch`, `InvalidVector`, `InvalidId`,
        `InvalidMetadata`, `EmbedderMismatch`, each naming the row. Large batches are cut to the store's limits; if one
        part fails after others were accepted, `PartialWriteError` says which ids are in. Call `flush` to read them.
        """
        self.store._require_open(self)
        checked = self._check_records(records)
        accepted = 0
        try:
            for part in self._parts(checked):
                self._upsert(part)
                accepted += len(part)
        except Exception as e:
            self._fail_write(e, checked, accepted)

    def get(self, ids: Sequence[str], *, include: Sequence[Include] = INCLUDE_ALL) -> Records:
        """The records of these ids, in the order of the request, each once; an id that is not there is absent."""
        self.store._require_open(self)
        checks.check_ids(ids, unique=False)
        checks.check_include(include)
        wanted = list(dict.fromkeys(ids))
        try:
            found = self._get(wanted, tuple(include)) if wanted else Records([])
        except Exception as e:
            self.store._fail(e, f"getting {len(wanted)} records from {self.spec.name!r}")
        if not found.ids:
            return self._no_records(include)
        if list(found.ids) == wanted:
            return found
        at = {id_: i for i, id_ in enumerate(found.ids)}
        return found.take([at[id_] for id_ in wanted if id_ in at])

    def delete(self, *, ids: Sequence[str] | None = None, where: Filter | None = None) -> None:
        """Delete records by id or by filter, exactly one of the two; ids that are not there are fine."""
        self.store._require_open(self)
        if (ids is None) == (where is None):
            raise ConfigError("delete takes either ids or where, exactly one of them")
        try:
            if ids is not None:
                checks.check_ids(ids, unique=False)
                if len(ids):
                    self._delete_ids(list(dict.fromkeys(ids)))
            elif where is not None:
                self._check_where(where)
                self._delete_where(where)
        except Exception as e:
            self.store._fail(e, f"deleting from {self.spec.name!r}")

    def count(self, where: Filter | None = None) -> int:
        """The exact number of records, or of those that match."""
        self.store._require_open(self)
        if where is not None:
            self._check_where(where)
        try:
            return self._count(where)
        except Exception as e:
            self.store._fail(e, f"counting {self.spec.name!r}")

    def search(
        self,
        vectors: npt.ArrayLike,
        k: int = 10,
        *,
        where: Filter | None = None,
        params: SearchParams = DEFAULT_SEARCH,
        include: Sequence[Include] = (),
        embedder: EmbedderSpec | None = None,
    ) -> SearchResult:
        """The k nearest records of each query, nearest first; fewer only where fewer exist or match.

        vectors: float32 (n, dim), or (dim,) for one query. where: applied before the nearest are chosen. include:
        columns to return beside ids and distances. embedder: who made the query vectors, when known; another than the
        collection's raises `EmbedderMismatch`. What the store cannot do raises `Unsupported…`; nothing is ignored.
        """
        store, spec = self.store, self.spec
        if store._closed or self._gone:
            store._require_open(self)
        queries = checks.as_vectors(vectors, spec.dim, spec.metric, "queries")
        if type(k) is not int or k < 1:
            raise ConfigError(f"k must be a whole number of at least 1, got {k!r}")
        if where is not None:
            self._check_where(where)
        if params is not self._checked_params or k != self._checked_k:
            self._check_params(params, k)
            self._checked_params, self._checked_k = params, k
        if include:
            checks.check_include(include)
        if embedder is not None:
            self.check_embedder(embedder)
        try:
            return self._search(queries, k, where, params, tuple(include) if include else ())
        except Exception as e:
            store._fail(e, f"searching {spec.name!r}")

    def scan(
        self, *, where: Filter | None = None, batch_size: int = 1000, include: Sequence[Include] = INCLUDE_ALL
    ) -> Iterator[Records]:
        """Every record once, in batches of up to `batch_size`, in an order of the store's choosing.

        Records written or deleted while scanning may or may not appear.
        """
        self.store._require_open(self)
        if type(batch_size) is not int or batch_size < 1:
            raise ConfigError(f"batch_size must be a whole number of at least 1, got {batch_size!r}")
        if where is not None:
            self._check_where(where)
        checks.check_include(include)
        return self._scan_safely(where, batch_size, tuple(include))

    def flush(self, timeout: float = 60.0) -> None:
        """Return when every earlier write is visible to get, count and search, and on disk where the store keeps it.

        timeout: seconds, then `StoreTimeout`.
        """
        self.store._require_open(self)
        try:
            self._flush(timeout)
        except Exception as e:
            self.store._fail(e, f"flushing {self.spec.name!r}")

    def optimize(self, timeout: float = 3600.0) -> None:
        """Return when the index covers every row: the build clock stops here. timeout: seconds, then `StoreTimeout`."""
        self.store._require_open(self)
        try:
            self._optimize(timeout)
        except Exception as e:
            self.store._fail(e, f"optimizing {self.spec.name!r}")

    def describe(self) -> Mapping[str, Any]:
        """What is in force, read back from the engine where it tells: index kind and parameters, rows it covers, bytes.

        Plain JSON types. Keys where known: index, indexed_rows, index_bytes, disk_bytes, and the vendor's own.
        """
        self.store._require_open(self)
        try:
            return self._describe()
        except Exception as e:
            self.store._fail(e, f"describing {self.spec.name!r}")

    def reconfigure(self, *, ef_search: int | None = None, nprobe: int | None = None) -> None:
        """Change what the collection was created with, for stores that set it per collection; in force on return.

        `UnsupportedOperation` where the store takes the parameter with each query, or not at all.
        """
        self.store._require_open(self)
        can, index = self.store.capabilities, self.spec.index
        asked = {"ef_search": (ef_search, can.ef_search, "hnsw"), "nprobe": (nprobe, can.nprobe, "ivf_flat")}
        changed: dict[str, int] = {}
        for what, (value, scope, kind) in asked.items():
            if value is None:
                continue
            if index.kind != kind or scope != "collection":
                hint = "; pass SearchParams with the query" if scope == "query" else ""
                raise UnsupportedOperation(f"{self.store.name} cannot set {what} of a {index.kind} collection{hint}")
            changed[what] = value
        if not changed:
            raise ConfigError("reconfigure takes ef_search or nprobe")
        spec = replace(self.spec, index=replace(index, **changed))  # type: ignore[arg-type]  # the names are its fields
        try:
            self._reconfigure(spec)
        except Exception as e:
            self.store._fail(e, f"reconfiguring {self.spec.name!r}")
        self.spec, self._checked_params = spec, None

    def check_embedder(self, embedder: EmbedderSpec | str | None) -> None:
        """Raise `EmbedderMismatch`, naming both, unless `embedder` (a spec or its fingerprint) made this collection."""
        mine = self.spec.embedder
        theirs = embedder.fingerprint if isinstance(embedder, EmbedderSpec) else embedder
        if (None if mine is None else mine.fingerprint) != theirs:
            held = "no named embedder" if mine is None else mine.describe()
            given = embedder.describe() if isinstance(embedder, EmbedderSpec) else embedder
            raise EmbedderMismatch(f"collection {self.spec.name!r} holds vectors of {held}; these come from {given}")

    # What an adapter writes -------------------------------------------------------------------------------------------

    @abstractmethod
    def _upsert(self, records: Records) -> None:
        """Write checked records, vectors given; copy what is kept. Raise `PartialWriteError` if only some went in."""

    @abstractmethod
    def _get(self, ids: list[str], include: tuple[Include, ...]) -> Records:
        """The records found among distinct `ids`, in any order."""

    @abstractmethod
    def _delete_ids(self, ids: list[str]) -> None:
        """Delete by distinct ids, at least one; missing ones are fine."""

    @abstractmethod
    def _delete_where(self, where: Filter) -> None:
        """Delete what matches."""

    @abstractmethod
    def _count(self, where: Filter | None) -> int:
        """The exact number of records that match."""

    @abstractmethod
    def _search(
        self, queries: Vectors, k: int, where: Filter | None, params: SearchParams, include: tuple[Include, ...]
    ) -> SearchResult:
        """The k nearest of each checked query; distances in the unit of the metric, ascending."""

    @abstractmethod
    def _scan(self, where: Filter | None, batch_size: int, include: tuple[Include, ...]) -> Iterator[Records]:
        """Every matching record once."""

    @abstractmethod
    def _flush(self, timeout: float) -> None:
        """Make earlier writes visible and durable."""

    @abstractmethod
    def _optimize(self, timeout: float) -> None:
        """Build the index over all rows."""

    def _describe(self) -> dict[str, Any]:
        """What `describe` returns."""
        return {}

    def _reconfigure(self, spec: CollectionSpec) -> None:
        """Put the index parameters of `spec` in force and keep it in the store; only where a scope is "collection"."""
        raise UnsupportedOperation(f"{self.store.name} cannot change a collection")

    def _record_bytes(self, records: Records, row: int) -> int:
        """What a row takes in a request, rather too much than too little; only where `max_batch_bytes` is declared.

        This one is for JSON: up to 14 characters for a float, if it is written with float32's digits (25 if with
        float64's), 6 for a character of text.
        """
        size = 14 * self.spec.dim + 600
        if records.documents is not None:
            size += 6 * len(records.documents[row] or "")
        if records.metadata is not None:
            # Held as JSON, and again as tokens and numbers with keys in hexadecimal.
            size += sum(18 * (len(key) + len(str(value))) + 300 for key, value in records.metadata[row].items())
        return size

    def _parts(self, records: Records) -> Iterator[Records]:
        """The batch cut to the store's limits, in rows and in bytes. A row that is too large alone goes alone."""
        can, n = self.store.capabilities, len(records)
        most = can.max_batch or max(1, n)
        if can.max_batch_bytes is None:
            for start in range(0, n, most):
                yield records.rows(start, start + most) if most < n else records
            return
        start = size = 0
        for row in range(n):
            more = self._record_bytes(records, row)
            if row > start and (size + more > can.max_batch_bytes or row - start >= most):
                yield records.rows(start, row)
                start, size = row, 0
            size += more
        if start < n:
            yield records.rows(start, n)

    # The checking, done once ------------------------------------------------------------------------------------------

    def _check_records(self, records: Records) -> Records:
        if records.vectors is None:
            raise DimensionMismatch(f"records written to {self.spec.name!r} need vectors, and have none")
        vectors = checks.as_vectors(records.vectors, self.spec.dim, self.spec.metric)
        for what, column in (("vectors", vectors), ("metadata", records.metadata), ("documents", records.documents)):
            if column is not None and len(column) != len(records.ids):
                raise DimensionMismatch(f"{len(records.ids)} ids but {len(column)} {what}; columns have equal length")
        checks.check_ids(records.ids)
        if records.metadata is not None:
            checks.check_metadata(records.metadata)
        if records.documents is not None:
            checks.check_documents(records.documents)
        if records.embedder is not None:
            self.check_embedder(records.embedder)
        return Records(records.ids, vectors, records.metadata, records.documents, records.embedder)

    def _check_where(self, where: Filter) -> None:
        can = self.store.capabilities
        unknown = operators(where) - can.filters
        if unknown:
            raise UnsupportedFilter(f"{self.store.name} cannot filter by {', '.join(sorted(unknown))}")
        if can.declared_fields:
            undeclared = fields(where) - set(self.spec.fields)
            if undeclared:
                raise UnsupportedFilter(
                    f"{self.store.name} filters only by fields declared in CollectionSpec.fields; "
                    f"undeclared: {', '.join(sorted(undeclared))}"
                )

    def _check_params(self, params: SearchParams, k: int) -> None:
        can, index = self.store.capabilities, self.spec.index
        if can.max_k is not None and k > can.max_k:
            raise UnsupportedOperation(f"{self.store.name} returns at most {can.max_k} records a query, asked for {k}")
        if params.exact and not can.exact_search and index.kind != "flat":
            raise UnsupportedOperation(f"{self.store.name} has no exact search on a {index.kind} index")
        for what, scope, kind in (("ef_search", can.ef_search, "hnsw"), ("nprobe", can.nprobe, "ivf_flat")):
            value = getattr(params, what)
            if value is None or index.kind == "native":
                continue
            if index.kind != kind:
                raise UnsupportedOperation(f"{what} means nothing on a {index.kind} index")
            if scope != "query" and value != getattr(index, what):
                hint = "; reconfigure changes it" if scope == "collection" else ""
                raise UnsupportedOperation(
                    f"{self.store.name} cannot set {what} per query; this collection has {getattr(index, what)}{hint}"
                )

    def _scan_safely(self, where: Filter | None, batch_size: int, include: tuple[Include, ...]) -> Iterator[Records]:
        try:
            for batch in self._scan(where, batch_size, include):
                yield batch
                self.store._require_open(self)
        except Exception as e:
            self.store._fail(e, f"scanning {self.spec.name!r}")

    def _fail_write(self, error: Exception, records: Records, accepted: int) -> NoReturn:
        ids, cause = list(records.ids), cause_of(error, self.store._hidden())
        doing = f"writing to {self.spec.name!r}"
        if isinstance(error, PartialWriteError):
            inside = set(error.accepted)
            rest = [i for i in ids[accepted:] if i not in inside]
            raise PartialWriteError(str(error), accepted=[*ids[:accepted], *error.accepted], failed=rest) from cause
        if accepted:
            reason = error
            try:
                self.store._fail(error, doing)
            except VecbenchError as translated:
                reason = translated
            raise PartialWriteError(
                f"{self.store.name}: {accepted} of {len(ids)} records were accepted, then {doing} failed: {reason}",
                accepted=ids[:accepted],
                failed=ids[accepted:],
            ) from cause
        self.store._fail(error, doing)

    def _no_records(self, include: Sequence[Include]) -> Records:
        return Records(
            [],
            np.empty((0, self.spec.dim), np.float32) if "vectors" in include else None,
            [] if "metadata" in include else None,
            [] if "documents" in include else None,
        )
