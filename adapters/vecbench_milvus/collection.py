"""A collection of Milvus or of Milvus Lite."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from vecbench.collection import Collection
from vecbench.errors import StoreTimeout
from vecbench.filters import Filter
from vecbench.index import Flat, NativeIndex, SearchParams
from vecbench.spec import CollectionSpec, hashed_name
from vecbench.store import VectorStore
from vecbench.typed import translate
from vecbench.types import Include, Records, SearchResult, Vectors
from vecbench_milvus.answers import Answer, compared, measured, to_distances
from vecbench_milvus.filters import ID, MilvusDialect, id_of, one_of
from vecbench_milvus.link import Link
from vecbench_milvus.parameters import search_parameters
from vecbench_milvus.rows import VECTOR, check_sizes, columns, encode, fields, row_bytes

__all__ = ["PREFIX", "MilvusCollection"]

PREFIX = "vecbench_"
_ANSWER_BYTES = 32_000_000  # half of what a server sends in one message
_MOST_ROWS = 16_384  # of one answer, by the server's rules
_IDS = 1_000  # in one expression
_WIDEST = 100_000  # more would cost a query its memory
_INDEXED_FROM = 1_024  # rows of a segment: a smaller one is not indexed but searched as a whole
_TOLD_ELSEWHERE = {
    "index_type",
    "field_name",
    "index_name",
    "total_rows",
    "indexed_rows",
    "pending_index_rows",
    "state",
}


@dataclass(frozen=True, slots=True)
class _Question:
    """What one call of Milvus's search asks."""

    vectors: Vectors
    k: int
    expression: str
    sent: dict[str, Any]
    include: tuple[Include, ...]


class MilvusCollection(Collection):
    """Every write is an upsert. The first read after a write through this store is Strong, later ones are Bounded."""

    def __init__(self, store: VectorStore, spec: CollectionSpec, link: Link) -> None:
        super().__init__(store, spec)
        self._link, self._client = link, link.client
        self._name = PREFIX + hashed_name(spec.name)
        self._fresh = link.fresh(self._name)

    @property
    def native(self) -> Any:
        """The `MilvusClient`; the collection's name on the server is in `describe()["native_name"]`."""
        return self._client

    def _expression(self, where: Filter | None) -> str:
        return "" if where is None else translate(where, MilvusDialect())

    # Writing ----------------------------------------------------------------------------------------------------------

    def _check_records(self, records: Records) -> Records:
        checked = super()._check_records(records)
        check_sizes(checked)
        return checked

    def _record_bytes(self, records: Records, row: int) -> int:
        size = 4 * self.spec.dim + 4 * len(records.ids[row]) + 200
        if records.documents is not None:
            size += 4 * len(records.documents[row] or "")
        if records.metadata is not None:  # as JSON, and again as tokens and numbers
            size += sum(12 * (len(key) + len(str(value))) + 200 for key, value in records.metadata[row].items())
        return size

    def _write(self, verb: str, **what: Any) -> None:
        try:
            with self._link.turn():
                getattr(self._client, verb)(self._name, timeout=self._link.timeout, **what)
        finally:
            self._fresh.wrote()

    def _upsert(self, records: Records) -> None:
        self._write("upsert", data=encode(records))

    def _delete_ids(self, ids: list[str]) -> None:
        for start in range(0, len(ids), _IDS):
            self._write("delete", filter=one_of(ids[start : start + _IDS]))

    def _delete_where(self, where: Filter) -> None:
        self._flush(self._link.timeout)  # the server looks for what matches, and must not look at older data
        self._write("delete", filter=self._expression(where))

    # Reading ----------------------------------------------------------------------------------------------------------

    def _read(self, verb: str, *, strong: bool = False, timeout: float | None = None, **what: Any) -> Any:
        mark = self._fresh.written
        strong = strong or self._fresh.seen < mark
        answer = getattr(self._client, verb)(
            self._name,
            consistency_level="Strong" if strong else "Bounded",
            timeout=self._link.timeout if timeout is None else timeout,
            **what,
        )
        if strong:
            self._fresh.saw(mark)
        return answer

    def _get(self, ids: list[str], include: tuple[Include, ...]) -> Records:
        rows: list[Any] = []
        step = max(1, min(_IDS, _ANSWER_BYTES // row_bytes(include, self.spec.dim)))
        for start in range(0, len(ids), step):
            rows += self._read("query", filter=one_of(ids[start : start + step]), output_fields=fields(include))
        return columns(rows, include, self.spec.dim)

    def _count(self, where: Filter | None) -> int:
        return self._counted(self._expression(where))

    def _counted(self, expression: str, **how: Any) -> int:
        return int(self._read("query", filter=expression, output_fields=["count(*)"], **how)[0]["count(*)"])

    def _scan(self, where: Filter | None, batch_size: int, include: tuple[Include, ...]) -> Iterator[Records]:
        size = min(batch_size, _MOST_ROWS, max(1, _ANSWER_BYTES // row_bytes(include, self.spec.dim)))
        rows = self._read(
            "query_iterator", filter=self._expression(where), batch_size=size, output_fields=fields(include)
        )
        try:
            while batch := rows.next():
                yield columns(batch, include, self.spec.dim)
        finally:
            rows.close()

    # Searching --------------------------------------------------------------------------------------------------------

    def _search(
        self, queries: Vectors, k: int, where: Filter | None, params: SearchParams, include: tuple[Include, ...]
    ) -> SearchResult:
        sent = search_parameters(self.spec.index, params, k)
        expression = self._expression(where)
        if expression and self._link.flavour.wide_filters:
            sent = self._wider(sent)
        compressed = isinstance(self.spec.index, NativeIndex)
        # Columns of many large rows do not fit into one message: they are fetched by id afterwards.
        fetched = include if k * row_bytes(include, self.spec.dim) <= _ANSWER_BYTES else ()
        if compressed and "vectors" not in fetched:
            fetched = (*fetched, "vectors")
        question = _Question(queries, k, expression, sent, fetched)
        answers = self._ask(question)
        if any(len(answer.ids) < k for answer in answers):
            self._complete(answers, question, where)
        if compressed:
            answers = [
                a if a.records is None else measured(q, a, self.spec.metric)
                for q, a in zip(queries, answers, strict=True)
            ]
        return SearchResult(
            [a.ids for a in answers],
            [a.distances for a in answers],
            self.spec.metric,
            raw=[a.scores for a in answers],
            records=[self._chosen(a, fetched, include) for a in answers] if include else None,
        )

    def _complete(self, answers: list[Answer], question: _Question, where: Filter | None) -> None:
        """Ask again where fewer came back than match: all of the index, then every record, compared here.

        The walk of a graph can end early, and what was not optimized yet is searched through an interim index of the
        server's, which looks at an eighth of it whatever it is told.
        """
        k = min(question.k, self._counted(question.expression))
        wider = self._wider(question.sent)

        def everywhere(vectors: Vectors) -> list[Answer]:
            return compared(vectors, self._scan(where, _MOST_ROWS, ("vectors",)), k, self.spec.metric)

        def further(vectors: Vectors) -> list[Answer]:
            return self._ask(replace(question, vectors=vectors, sent=wider))

        for way in (everywhere,) if wider == question.sent else (further, everywhere):
            short = [i for i, answer in enumerate(answers) if len(answer.ids) < k]
            if short:
                for i, answer in zip(short, way(question.vectors[short]), strict=True):
                    answers[i] = answer

    def _chosen(self, answer: Answer, fetched: Sequence[Include], include: tuple[Include, ...]) -> Records:
        """The columns asked for, of the records as they were fetched or by id."""
        records = answer.records
        if records is None or not set(include) <= set(fetched):
            return self.get(answer.ids, include=include)
        if "vectors" not in include:
            records.vectors = None
        return records

    def _wider(self, sent: dict[str, Any]) -> dict[str, Any]:
        """The same search over as much of the index as one can ask for."""
        index = self.spec.index
        if "ef" in sent:
            rows = int(self._client.get_collection_stats(self._name, timeout=self._link.timeout)["row_count"])
            # Twice: the statistics may leave out dead rows, which the graph still holds.
            return {**sent, "ef": max(sent["ef"], min(2 * rows + 1_000, _WIDEST))}
        if "nprobe" in sent:
            return {**sent, "nprobe": max(sent["nprobe"], getattr(index, "nlist", 0), index.native.get("nlist", 0))}
        return sent

    def _ask(self, question: _Question) -> list[Answer]:
        include, dim = question.include, self.spec.dim
        step = max(1, min(1_000, _ANSWER_BYTES // (question.k * row_bytes(include, dim))))
        answers: list[Answer] = []
        for start in range(0, len(question.vectors), step):
            found = self._read(
                "search",
                data=question.vectors[start : start + step],
                limit=question.k,
                anns_field=VECTOR,
                filter=question.expression,
                search_params={"params": question.sent},
                output_fields=fields(include),
            )
            for hits in found:
                scores = np.array(hits.distances, np.float64)
                rows = columns([{**h["entity"], ID: h[ID]} for h in hits], include, dim) if include else None
                ids = [id_of(key) for key in hits.ids] if rows is None else list(rows.ids)
                answers.append(Answer(ids, scores, to_distances(scores, self.spec.metric), rows))
        return answers

    # Upkeep -----------------------------------------------------------------------------------------------------------

    def _flush(self, timeout: float) -> None:
        """A strong count waits until the readers have caught up with every write, whoever made it."""
        self._counted("", strong=True, timeout=timeout)

    def _optimize(self, timeout: float) -> None:
        """Seal what was written, wait for its index, and have the readers take the index into use."""
        deadline = time.monotonic() + timeout

        def left() -> float:
            return max(deadline - time.monotonic(), 0.001)

        def until(done: Callable[[], bool], what: str) -> None:
            pause = threading.Event()
            while not done():
                if time.monotonic() > deadline:
                    raise StoreTimeout(f"{self.store.name}: {self.spec.name!r} was not {what} within {timeout:g} s")
                pause.wait(0.1)

        with self._link.turn():
            self._client.flush(self._name, timeout=left())
        if self._link.inside is not None:
            self._link.inside.wait(self._name, left())
            return
        until(lambda: self._index()["pending_index_rows"] == 0, "indexed")
        # Without this the readers go on searching the unsealed copy for up to ten seconds; with it they may still take
        # the sealed one before its index.
        self._client.refresh_load(self._name, timeout=left())
        if not isinstance(self.spec.index, Flat):
            until(lambda: all(s.index_name or s.num_rows < _INDEXED_FROM for s in self._loaded()), "using its index")

    def _loaded(self) -> list[Any]:
        segments: list[Any] = self._client.list_loaded_segments(self._name, timeout=self._link.timeout)
        return segments

    def _index(self) -> dict[str, Any]:
        told: dict[str, Any] = self._client.describe_index(self._name, VECTOR, timeout=self._link.timeout)
        return told

    def _describe(self) -> dict[str, Any]:
        told = self._index()
        index = {"metric_type": told["metric_type"], **told.get("params", {})}
        index |= {key: _plain(value) for key, value in told.items() if key not in {*index, *_TOLD_ELSEWHERE}}
        out = {
            "native_name": self._name,
            "index": {"kind": self.spec.index.kind, "type": told["index_type"], **index},
            "rows": self._count(None),
        }
        if self._link.inside is not None:
            return {**out, "indexed_rows": self._link.inside.indexed_rows(self._name)}
        loaded = self._loaded()
        return {
            **out,
            "indexed_rows": int(told["indexed_rows"]),
            "segments": len(loaded),
            "loaded_rows": sum(segment.num_rows for segment in loaded),
            "consistency": "Strong for the first read after a write through this store, then Bounded",
        }


def _plain(value: Any) -> Any:
    return int(value) if isinstance(value, str) and value.isdecimal() else value
