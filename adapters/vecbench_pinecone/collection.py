"""A collection on Pinecone: the default namespace of one index, over the data plane."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import wait
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote_plus

import numpy as np

from vecbench.collection import Collection
from vecbench.distance import from_similarity, from_squared
from vecbench.errors import (
    CollectionNotFound,
    InvalidMetadata,
    PartialWriteError,
    StoreRejected,
    UnsupportedOperation,
)
from vecbench.filters import Filter
from vecbench.index import SearchParams
from vecbench.spec import CollectionSpec
from vecbench.types import Distances, Include, Metric, Records, SearchResult, Vectors
from vecbench_pinecone.faults import no_namespace, wait_until
from vecbench_pinecone.filters import Condition, condition
from vecbench_pinecone.records import (
    EVERYTHING,
    HASHED,
    LAYOUT,
    MAX_METADATA_BYTES,
    NOBODY,
    columns,
    encode,
    metadata_bytes,
    native_id,
    own_id,
    stored_metadata,
)

if TYPE_CHECKING:
    from vecbench_pinecone.store import PineconeStore

__all__ = ["Opened", "PineconeCollection"]

_ANSWER_BYTES = 4_000_000  # of one query
_URL_BYTES = 6_000  # of the ids of one fetch
_IDS = 1_000  # of one fetch or delete
_PAGE = 100
_SEARCH = frozenset({"scan_factor", "max_candidates"})


@dataclass
class Opened:
    """An index's own client, shared by the collections that use it, and whether the index still exists."""

    name: str
    host: str
    client: Any
    dropped: bool = False

    def end(self) -> None:
        """The index is gone."""
        self.dropped = True
        self.client.close()


class PineconeCollection(Collection):
    """The SDK's client is safe to share between threads; reads may lag behind writes until `flush`."""

    store: PineconeStore

    def __init__(self, store: PineconeStore, spec: CollectionSpec, opened: Opened) -> None:
        super().__init__(store, spec)
        self._opened = opened

    @property
    def native(self) -> Any:
        """The `pinecone.Index`."""
        return self._live()

    def _live(self) -> Any:
        if self._opened.dropped:
            raise CollectionNotFound(f"pinecone: collection {self.spec.name!r} was dropped")
        return self._opened.client

    def _all(self, ask: Callable[[list[float]], list[Any]], queries: list[list[float]]) -> list[list[Any]]:
        """The answers to all queries, asked side by side.

        Every request has ended before an error is raised: it may end the client, and a request of another thread would
        leave its connection open for ever.
        """
        asked = [self.store.pool.submit(ask, query) for query in queries]
        wait(asked)
        return [future.result() for future in asked]

    # Writing ----------------------------------------------------------------------------------------------------------

    def _record_bytes(self, records: Records, row: int) -> int:
        """Floats are written with up to 24 characters, the comma included."""
        return super()._record_bytes(records, row) + 10 * self.spec.dim

    def _check_records(self, records: Records) -> Records:
        """Metadata with its document and filter keys has a limit of its own, checked before anything is written."""
        checked = super()._check_records(records)
        vector_bytes = 24 * self.spec.dim
        for row, id_ in enumerate(checked.ids):
            if self._record_bytes(checked, row) - vector_bytes <= MAX_METADATA_BYTES:
                continue  # by a generous estimate
            metadata = checked.metadata[row] if checked.metadata is not None else None
            document = checked.documents[row] if checked.documents is not None else None
            size = metadata_bytes(stored_metadata(id_, metadata, document))
            if size > MAX_METADATA_BYTES:
                raise InvalidMetadata(
                    f"row {row}: pinecone keeps {MAX_METADATA_BYTES} bytes of metadata and document a record; "
                    f"with what serves filters this one has {size}"
                )
        return checked

    def _upsert(self, records: Records) -> None:
        accepted = self._live().upsert(vectors=encode(records)).upserted_count
        if accepted != len(records):
            raise PartialWriteError(
                f"pinecone took {accepted} of {len(records)} records and does not say which",
                accepted=[],
                failed=list(records.ids),
            )

    def _delete_ids(self, ids: list[str]) -> None:
        for start in range(0, len(ids), _IDS):
            self._delete(ids=[native_id(i) for i in ids[start : start + _IDS]])

    def _delete_where(self, where: Filter) -> None:
        self._delete(filter=condition(where))

    def _delete(self, **selector: Any) -> None:
        try:
            self._live().delete(**selector)
        except Exception as e:
            if not no_namespace(e):
                raise

    # Reading ----------------------------------------------------------------------------------------------------------

    def _get(self, ids: list[str], include: tuple[Include, ...]) -> Records:
        return columns(self._fetch([native_id(i) for i in ids]).values(), include, self.spec.dim)

    def _fetch(self, ids: list[str]) -> dict[str, Any]:
        """Whole records by Pinecone's ids, which travel in the URL."""
        found: dict[str, Any] = {}
        most = max(1, min(_IDS, _ANSWER_BYTES // (24 * self.spec.dim)))
        part: list[str] = []
        size = 0
        for id_ in [*ids, None]:
            more = 0 if id_ is None else len(quote_plus(id_)) + len("&ids=")
            if part and (id_ is None or len(part) == most or size + more > _URL_BYTES):
                found |= self._live().fetch(ids=part).vectors
                part, size = [], 0
            if id_ is not None:
                part.append(id_)
                size += more
        return found

    def _count(self, where: Filter | None) -> int:
        return self._matching(condition(where)) if where is not None else self._rows()

    def _rows(self) -> int:
        """By the statistics of the index, which may be the last to know."""
        spaces = self._live().describe_index_stats().namespaces
        return sum(spaces[name].vector_count for name in ("", "__default__") if name in spaces)

    def _matching(self, where: Condition) -> int:
        """By a dry run of an update, which would change nothing if it were run."""
        try:
            counted = self._live().update(filter=where, set_metadata=LAYOUT, dry_run=True).matched_records
        except Exception as e:
            if no_namespace(e):
                return 0
            raise
        if counted is None:
            raise StoreRejected("pinecone: a dry run of an update did not say how many records match")
        return int(counted)

    def _search(
        self, queries: Vectors, k: int, where: Filter | None, params: SearchParams, include: tuple[Include, ...]
    ) -> SearchResult:
        # An answer is limited in size: ask for columns only where the largest records would fit, else fetch them after.
        with_values, with_metadata = "vectors" in include, bool({"metadata", "documents"} & set(include))
        largest = 24 * self.spec.dim * with_values + MAX_METADATA_BYTES * with_metadata
        whole = k * largest <= _ANSWER_BYTES
        options: dict[str, Any] = {
            "top_k": k,
            "include_values": with_values and whole,
            "include_metadata": with_metadata and whole,
            **_native_search(params),
        }
        if where is not None:
            options["filter"] = condition(where)
        index = self._live()

        def ask(query: list[float]) -> list[Any]:
            return list(index.query(vector=query, **options).matches)

        each = queries.tolist()
        answers = [ask(each[0])] if len(each) == 1 else self._all(ask, each)
        wanted = {
            match.id: None
            for matches in answers
            for match in matches
            if (include and not whole) or (match.id.startswith(HASHED) and not options["include_metadata"])
        }
        fetched = self._fetch(list(wanted))
        result = SearchResult([], [], self.spec.metric, raw=[], records=[] if include else None)
        for matches in answers:
            # A record that was deleted since the query is not there to be told.
            held = [(m.score, fetched.get(m.id, m)) for m in matches if m.id not in wanted or m.id in fetched]
            raw = np.array([score for score, _ in held])
            result.ids.append([own_id(record) for _, record in held])
            result.distances.append(self._distances(raw))
            assert result.raw is not None  # noqa: S101  set above; tells the type checker
            result.raw.append(raw)
            if result.records is not None:
                result.records.append(columns([record for _, record in held], include, self.spec.dim))
        return result

    def _distances(self, raw: Distances) -> Distances:
        if self.spec.metric is Metric.EUCLIDEAN:
            return from_squared(raw)
        return from_similarity(raw) if self.spec.metric is Metric.COSINE else -raw

    def _scan(self, where: Filter | None, batch_size: int, include: tuple[Include, ...]) -> Iterator[Records]:
        chosen = EVERYTHING if where is None else condition(where)
        token: str | None = None
        while True:
            page = self._live().fetch_by_metadata(filter=chosen, limit=min(batch_size, _PAGE), pagination_token=token)
            if page.vectors:
                yield columns(page.vectors.values(), include, self.spec.dim)
            following = page.pagination.next if page.pagination is not None else None
            if not following:
                return
            if following == token:
                raise StoreRejected("pinecone: a page of records names itself as the next one")
            token = following

    # Visibility -------------------------------------------------------------------------------------------------------

    def _flush(self, timeout: float) -> None:
        """Write something that changes nothing, and wait until searches have seen that write, and counts agree."""
        until = time.monotonic() + timeout
        try:
            written = self._live().update(id=NOBODY, set_metadata=LAYOUT).response_info
        except Exception as e:
            if no_namespace(e):
                return  # nothing was ever written
            raise
        target = written.lsn_committed

        def wait(done: Any, what: str) -> None:
            wait_until(done, until - time.monotonic(), f"{self.spec.name!r}: {what}")

        if target is not None:
            wait(lambda: self._seen(target), "not every write is visible to searches")
        wait(lambda: self._rows() == self._matching(EVERYTHING), "the index's statistics lag behind its records")

    def _seen(self, target: int) -> bool:
        probe = [1.0] + [0.0] * (self.spec.dim - 1)
        info = self._live().query(vector=probe, top_k=1).response_info
        return info.lsn_reconciled is None or bool(info.is_reconciled(target))

    def _optimize(self, timeout: float) -> None:
        """The service builds and keeps its index itself and tells nothing of it; what is visible is searched."""
        self._flush(timeout)

    def _describe(self) -> dict[str, Any]:
        self._live()
        model = self.store.native.indexes.describe(self._opened.name).to_dict()
        return {
            "native_name": self._opened.name,
            "index": {
                "kind": "native",
                "name": "serverless",
                "cloud": model["deployment"].get("cloud"),
                "region": model["deployment"].get("region"),
                "metric": model["metric"],
                "dimension": model["dimension"],
                "read_capacity": (model["read_capacity"] or {}).get("mode"),
            },
            "rows": self._rows(),
            "state": model["status"]["state"],
        }


def _native_search(params: SearchParams) -> dict[str, Any]:
    for name in ("ef_search", "nprobe"):
        if getattr(params, name) is not None:
            raise UnsupportedOperation(f"pinecone has no {name}")
    unknown = set(params.native) - _SEARCH
    if unknown:
        raise UnsupportedOperation(
            f"pinecone has no search parameter {', '.join(sorted(unknown))}; it has {', '.join(sorted(_SEARCH))}"
        )
    return dict(params.native)
