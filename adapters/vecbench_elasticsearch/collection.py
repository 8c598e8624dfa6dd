"""A collection: one index of one shard."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from vecbench.distance import from_squared
from vecbench.errors import PartialWriteError, StoreError, UnsupportedOperation
from vecbench.filters import Filter
from vecbench.index import Flat, SearchParams
from vecbench.spec import CollectionSpec
from vecbench.typed import dump_metadata, load_metadata, numbers, tokens
from vecbench.types import Distances, Include, Metadata, Metric, Records, SearchResult, Vectors
from vecbench_elasticsearch.faults import item_error
from vecbench_elasticsearch.filters import NUMBERS, TOKENS, condition
from vecbench_elasticsearch.parameters import MAX_CANDIDATES, default_candidates, is_quantised
from vecbench_elasticsearch.words import WordCollection

if TYPE_CHECKING:
    from vecbench.store import VectorStore

__all__ = ["ElasticsearchCollection", "writer"]

_FIELDS: dict[Include, str] = {"vectors": "v", "metadata": "meta", "documents": "doc"}
_KEEP_ALIVE = "10m"  # how long a scan may rest between two batches
_HITS = "hits.hits._id,hits.hits._score,hits.hits._source"
_SEARCHES, _SEARCH_BYTES = 100, 10_000_000  # in one request
_IDS = 1_000  # in one request
# Operations that came too late: the record was changed since it was read (_delete_where), or deleted (index_words).
_OUTRUN = {"version_conflict_engine_exception", "document_missing_exception"}


def writer(name: str) -> str:
    """The alias of an index. Writes demand it: a write to a plain name that is gone would create an index."""
    return name + "-writer"


class ElasticsearchCollection(WordCollection):
    """An index. A search sees what was there at the last refresh, which `flush` does."""

    def __init__(self, store: VectorStore, spec: CollectionSpec, client: Any, name: str) -> None:
        super().__init__(store, spec)
        self._client, self._name = client, name
        self._dumps = client.transport.serializers.get_serializer("application/json").dumps
        self._quantised = is_quantised(spec.index)

    @property
    def native(self) -> Any:
        """The client; the index is called `describe()["native_name"]`."""
        return self._client

    def index_options(self) -> dict[str, Any]:
        """What the server says the vectors are indexed with."""
        answer = self._client.indices.get_mapping(index=self._name)
        found: dict[str, Any] = answer[self._name]["mappings"]["properties"]["v"]["index_options"]
        return found

    # Writing ----------------------------------------------------------------------------------------------------------

    def _upsert(self, records: Records) -> None:
        assert records.vectors is not None  # noqa: S101  checked by the base class; tells the type checker
        metadata: Sequence[Metadata] = records.metadata or [{}] * len(records)
        documents: Sequence[str | None] = records.documents or [None] * len(records)
        lines: list[bytes] = []
        for id_, vector, meta, text in zip(records.ids, records.vectors, metadata, documents, strict=True):
            source: dict[str, Any] = {"v": vector}
            if meta:
                source["meta"] = dump_metadata(meta)
                source[TOKENS] = tokens(meta)
                held = numbers(meta)
                if held:
                    source[NUMBERS] = {key: value + 0.0 for key, value in held.items()}  # no −0.0, see filters.py
            if text is not None:
                source["doc"] = text
            lines += (self._dumps({"index": {"_id": id_}}), self._dumps(source))
        problems = self._bulk(lines)
        if not problems:
            return
        error = next(iter(problems.values()))
        if len(problems) == len(records):
            raise error
        raise PartialWriteError(
            f"{error} (and {len(problems) - 1} more of {len(records)} records)",
            accepted=[id_ for i, id_ in enumerate(records.ids) if i not in problems],
            failed=[records.ids[i] for i in problems],
        )

    def _bulk(self, lines: list[bytes]) -> dict[int, StoreError]:
        """Send the operations of one request; what went wrong, by the number of the operation."""
        answer = self._client.bulk(
            operations=lines,
            index=writer(self._name),
            require_alias=True,
            filter_path="errors,items.*.status,items.*.error.type,items.*.error.reason,items.*.error.caused_by.reason",
        )
        if not answer["errors"]:
            return {}
        outcomes = [outcome for item in answer["items"] for outcome in item.values()]
        return {
            i: item_error(outcome["error"], f"writing to {self.spec.name!r}")
            for i, outcome in enumerate(outcomes)
            if "error" in outcome and outcome["error"].get("type") not in _OUTRUN
        }

    def _delete_ids(self, ids: list[str]) -> None:
        for start in range(0, len(ids), _IDS):
            self._change([{"delete": {"_id": id_}} for id_ in ids[start : start + _IDS]])

    def _delete_where(self, where: Filter) -> None:
        """Delete what a search finds, unless it was written again meanwhile."""
        self._client.indices.refresh(index=self._name)
        for hits in self._pages(condition(where), _IDS, ()):
            read = [{"_id": h["_id"], "if_seq_no": h["_seq_no"], "if_primary_term": h["_primary_term"]} for h in hits]
            self._change([{"delete": one} for one in read])

    def _change(self, lines: list[Any]) -> None:
        problems = self._bulk([self._dumps(line) for line in lines])
        if problems:
            raise next(iter(problems.values()))

    # Reading ----------------------------------------------------------------------------------------------------------

    def _get(self, ids: list[str], include: tuple[Include, ...]) -> Records:
        hits: list[Any] = []
        for start in range(0, len(ids), _IDS):
            answer = self._client.mget(index=self._name, ids=ids[start : start + _IDS], source=_source(include))
            for found in answer["docs"]:
                if "error" in found:
                    raise item_error(found["error"], f"getting records from {self.spec.name!r}")
                if found["found"]:
                    hits.append(found)
        return self._columns(hits, include)

    def _columns(self, hits: Sequence[Any], include: Sequence[Include]) -> Records:
        sources = [h.get("_source", {}) for h in hits]
        return Records(
            [h["_id"] for h in hits],
            np.array([s["v"] for s in sources], np.float32).reshape(len(hits), self.spec.dim)
            if "vectors" in include
            else None,
            [load_metadata(s.get("meta")) for s in sources] if "metadata" in include else None,
            [s.get("doc") for s in sources] if "documents" in include else None,
        )

    def _count(self, where: Filter | None) -> int:
        return int(self._client.count(index=self._name, query=None if where is None else condition(where))["count"])

    def _scan(self, where: Filter | None, batch_size: int, include: tuple[Include, ...]) -> Iterator[Records]:
        query = {"match_all": {}} if where is None else condition(where)
        for hits in self._pages(query, min(batch_size, MAX_CANDIDATES), include):
            yield self._columns(hits, include)

    def _pages(
        self, query: dict[str, Any], size: int, include: Sequence[Include], *, by_score: bool = False
    ) -> Iterator[list[Any]]:
        """All hits of a query, as they stood at its start."""
        pit = self._client.open_point_in_time(index=self._name, keep_alive=_KEEP_ALIVE)["id"]
        after = None
        try:
            while True:
                page = self._client.search(
                    pit={"id": pit, "keep_alive": _KEEP_ALIVE},
                    query=query,
                    sort=["_score", "_shard_doc"] if by_score else ["_shard_doc"],
                    search_after=after,
                    size=size,
                    source=_source(include),
                    seq_no_primary_term=True,
                    track_total_hits=False,
                    allow_partial_search_results=False,
                )
                pit, hits = page["pit_id"], page["hits"]["hits"]
                if hits:
                    yield hits
                if len(hits) < size:
                    return
                after = hits[-1]["sort"]
        finally:
            with contextlib.suppress(Exception):  # the server forgets it by itself; what failed before is told
                self._client.close_point_in_time(id=pit)

    # Searching --------------------------------------------------------------------------------------------------------

    def _search(
        self, queries: Vectors, k: int, where: Filter | None, params: SearchParams, include: tuple[Include, ...]
    ) -> SearchResult:
        filters = [] if where is None else [condition(where)]
        body = {"size": k, "_source": _source(include)}
        knn = self._knn(k, params)
        if params.exact and not isinstance(self.spec.index, Flat):
            answers = self._exactly(queries, k, filters, body)
        else:
            answers = self._ask([{**body, "knn": {**knn, "query_vector": q, "filter": filters}} for q in queries])
            short = [i for i, hits in enumerate(answers) if len(hits) < k]
            if short and not isinstance(self.spec.index, Flat):
                # A graph may have unreachable rows: if more match than were found, compare with all.
                matching = min(k, self._count(where))
                short = [i for i in short if len(answers[i]) < matching]
                for i, hits in zip(short, self._exactly(queries[short], k, filters, body), strict=True):
                    answers[i] = hits
        raw = [np.array([h["_score"] for h in hits], np.float32) for hits in answers]
        return SearchResult(
            [[h["_id"] for h in hits] for hits in answers],
            [_distances(scores, self.spec.metric) for scores in raw],
            self.spec.metric,
            raw=list(raw),
            records=[self._columns(hits, include) for hits in answers] if include else None,
        )

    def _knn(self, k: int, params: SearchParams) -> dict[str, Any]:
        wanted = params.ef_search or default_candidates(self.spec.index) or k
        if wanted > MAX_CANDIDATES:
            raise UnsupportedOperation(f"elasticsearch takes ef_search up to {MAX_CANDIDATES}, got {wanted}")
        known = {"num_candidates", "rescore_vector"} if self._quantised else {"num_candidates"}
        unknown = set(params.native) - known
        if unknown:
            raise UnsupportedOperation(
                f"elasticsearch has no search parameter {', '.join(sorted(unknown))} for a {self.spec.index.kind} "
                f"index; it has {', '.join(sorted(known))}"
            )
        return {"field": "v", "k": k, "num_candidates": max(wanted, k), **params.native}

    def _ask(self, searches: list[dict[str, Any]]) -> list[list[Any]]:
        """The hits of each search."""
        if len(searches) == 1:
            answer = self._client.search(
                index=self._name, **_as_arguments(searches[0]), filter_path=_HITS, allow_partial_search_results=False
            )
            return [answer.get("hits", {}).get("hits", [])]
        answers: list[list[Any]] = []
        header = self._dumps({"index": self._name, "allow_partial_search_results": False})
        paths = ",".join(["responses.status", "responses.error", *(f"responses.{p}" for p in _HITS.split(","))])
        for batch in _batches([self._dumps(one) for one in searches]):
            lines = [line for search in batch for line in (header, search)]
            for found in self._client.msearch(searches=lines, filter_path=paths)["responses"]:
                if "error" in found:
                    raise item_error(found["error"], f"searching {self.spec.name!r}")
                answers.append(found.get("hits", {}).get("hits", []))
        return answers

    def _exactly(
        self, queries: Vectors, k: int, filters: list[dict[str, Any]], body: dict[str, Any]
    ) -> list[list[Any]]:
        """The answers of a comparison with every row that passes the filters.

        Where a filter passes no more rows than there are candidates, Lucene leaves the graph aside and compares with
        all of them. So we ask for one window of rows after another. `_seq_no` numbers the writes: a window of as many
        numbers cannot hold more rows. (`script_score` would do the same where scripts are allowed, and only there.)
        """
        if not len(queries):
            return []
        counted = self._client.count(index=self._name, query={"bool": {"filter": filters}})["count"]
        ends = [0] if counted <= MAX_CANDIDATES else list(range(0, self._last_write() + 1, MAX_CANDIDATES))
        windows = [{"gte": end, "lt": end + MAX_CANDIDATES} for end in ends] if len(ends) > 1 else [{"gte": 0}]
        knn: dict[str, Any] = {"field": "v", "k": k, "num_candidates": MAX_CANDIDATES}
        if self._quantised:
            knn["rescore_vector"] = {"oversample": MAX_CANDIDATES / k}  # by the vectors as written, all candidates

        def searches(query: Vectors) -> list[dict[str, Any]]:
            return [
                {**body, "knn": {**knn, "query_vector": query, "filter": [*filters, {"range": {"_seq_no": window}}]}}
                for window in windows
            ]

        if len(windows) == 1:
            return self._ask([one for query in queries for one in searches(query)])
        # One query after the other: a million rows are a hundred windows, and the hits of all are held until merged.
        return [
            sorted((hit for hits in self._ask(searches(query)) for hit in hits), key=_by_score)[:k] for query in queries
        ]

    def _last_write(self) -> int:
        path = "indices.*.shards.*.seq_no.max_seq_no"
        answer = self._client.indices.stats(index=self._name, level="shards", filter_path=path)
        shards = next(iter(answer["indices"].values()))["shards"]
        return max(int(copy["seq_no"]["max_seq_no"]) for copies in shards.values() for copy in copies)

    # State ------------------------------------------------------------------------------------------------------------

    def _flush(self, timeout: float) -> None:
        # Every acknowledged write is on disk already, in the translog; a refresh makes it visible to searches.
        self._client.options(request_timeout=timeout).indices.refresh(index=self._name)

    def _optimize(self, timeout: float) -> None:
        """One segment, so one graph. What was deleted in the last half minute stays in it, unseen, until the next."""
        patient = self._client.options(request_timeout=timeout)
        patient.indices.forcemerge(index=self._name, max_num_segments=1)
        patient.indices.refresh(index=self._name)

    def _describe(self) -> dict[str, Any]:
        stats = self._client.indices.stats(index=self._name, metric="docs,store,segments")["_all"]["primaries"]
        told = {
            "native_name": self._name,
            "index": {**self.index_options(), "kind": self.spec.index.kind},
            "rows": stats["docs"]["count"],
            "indexed_rows": stats["docs"]["count"],  # each segment is written with its graph
            "deleted_rows": stats["docs"]["deleted"],
            "segments": stats["segments"]["count"],
            "disk_bytes": stats["store"]["size_in_bytes"],
        }
        with contextlib.suppress(UnsupportedOperation):
            if words := self._states():
                told["words"] = words
        return told


def _batches(searches: list[bytes]) -> Iterator[list[bytes]]:
    """As many searches as go into one request: a filter may be long."""
    batch: list[bytes] = []
    for search in searches:
        if batch and (len(batch) == _SEARCHES or sum(map(len, batch)) + len(search) > _SEARCH_BYTES):
            yield batch
            batch = []
        batch.append(search)
    if batch:
        yield batch


def _source(include: Sequence[Include]) -> list[str] | bool:
    return [_FIELDS[column] for column in include] or False


def _as_arguments(search: dict[str, Any]) -> dict[str, Any]:
    """The client calls `_source` `source`."""
    return {key.lstrip("_"): value for key, value in search.items()}


def _by_score(hit: Any) -> float:
    return -float(hit["_score"])


def _distances(scores: npt.NDArray[np.float32], metric: Metric) -> Distances:
    """The distances that Lucene's scores were made from."""
    s = scores.astype(np.float64)
    if metric is Metric.EUCLIDEAN:
        return np.asarray(from_squared(1 / s - 1))
    if metric is Metric.COSINE:
        return np.asarray(2 - 2 * s)
    return np.where(s >= 1, 1 - s, 1 / s - 1)
