"""A FAISS collection: rows, an approximate index over the older ones, exact search over the rest."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from vecbench.distance import from_similarity, from_squared, paired_distances
from vecbench.errors import CollectionNotFound, StoreRejected
from vecbench.filters import Filter
from vecbench.index import DEFAULT_SEARCH, Flat, SearchParams
from vecbench.spec import CollectionSpec
from vecbench.store import Collection, VectorStore
from vecbench.types import Distances, Include, Metric, Records, SearchResult, Vectors
from vecbench_faiss.ann import Ann, build, check_index, check_search
from vecbench_faiss.persist import Directory, Segment
from vecbench_faiss.rows import Rows, SharedLock

__all__ = ["FaissCollection"]

# Matches that are searched exactly, at least: faster than an index that must find them, and none is missed. A graph is
# also left aside where it would compute more distances than there are matches.
_FEW = 1000
_FEW_SHARE = 0.05  # of the rows
_MAX_SEGMENTS = 64
_DEAD_SHARE = 0.2  # of the rows: from there on `optimize` builds the index anew; FAISS cannot remove from a graph

_LARGE_DOT = 0.05  # of ‖q‖·‖x‖: float32 sums of 1,000 products err by up to 5e-7 of it, by 1e-5 of such a result

_Found = tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]


class FaissCollection(Collection):
    """Rows [0, built) are in the approximate index; later ones are searched exactly until `optimize`."""

    def __init__(self, store: VectorStore, spec: CollectionSpec, faiss: Any, directory: Directory | None) -> None:
        super().__init__(store, spec)
        self._faiss = faiss
        self._directory: Directory | None = directory
        self._rows: Rows | None = Rows(faiss, spec.dim, spec.metric)
        self._kind = check_index(faiss, spec.index, spec.dim)
        self._ann: Ann | None = None
        self._built = 0
        self._renumbered = False  # dead rows were dropped: the next flush writes everything
        self._index_unsaved = False
        self._lock = SharedLock()
        self._every = faiss.IDSelectorAll()
        self._seen_params = DEFAULT_SEARCH
        # Compressed indexes answer with approximate scores: theirs are measured again. Float32 inner products of long
        # vectors lose the digits that a small result would need.
        self._rescore = spec.index.kind == "native" or spec.metric is Metric.DOT
        if directory is not None:
            self._load(directory)

    def _load(self, directory: Directory) -> None:
        rows = self._live()
        for segment in directory.read(self.spec.dim):
            rows.restore(segment)
        rows.restored()
        saved = directory.index_file()
        if saved is not None:
            path, built = saved
            try:
                self._ann = Ann(self._faiss, self.spec.index, self._faiss.read_index(str(path)))
            except RuntimeError:
                pass  # the file is whole, but of another version of FAISS: built again below
            else:
                self._built = built
                self._ann.probe(rows.search_vectors()[:1])
        if self._ann is None and directory.has_index:
            self._rebuild()

    def _live(self) -> Rows:
        if self._rows is None:
            raise CollectionNotFound(f"faiss: collection {self.spec.name!r} was dropped")
        return self._rows

    def forget(self) -> None:
        """The collection was dropped: let go of everything, refuse later calls."""
        with self._lock.writing():
            self._rows = self._ann = self._directory = None

    @property
    def native(self) -> Any:
        """The FAISS index: the approximate one where it is built, the flat one else."""
        return self._ann.handle if self._ann is not None else self._live().flat

    # Writing ----------------------------------------------------------------------------------------------------------

    def _upsert(self, records: Records) -> None:
        assert records.vectors is not None  # noqa: S101  checked by the base class; tells the type checker
        with self._lock.writing():
            rows = self._live()
            if len(records):
                rows.append(records, records.vectors)

    def _delete_ids(self, ids: list[str]) -> None:
        with self._lock.writing():
            self._live().kill(ids)

    def _delete_where(self, where: Filter) -> None:
        with self._lock.writing():
            rows = self._live()
            rows.kill([rows.ids[r] for r in np.flatnonzero(rows.select(where).mask).tolist()])

    def _flush(self, timeout: float) -> None:
        self.save()

    def save(self) -> None:
        """Write to disk what is not there yet; nothing to do in memory."""
        with self._lock.writing():
            rows, directory = self._live(), self._directory
            if directory is None:
                return
            everything = self._renumbered or directory.segments >= _MAX_SEGMENTS
            start = 0 if everything else directory.rows
            if self._renumbered or start < len(rows) or rows.died:
                dead = np.flatnonzero(~rows.alive).tolist() if everything else rows.died
                vectors = rows.blocks(np.arange(start, len(rows)))
                segment = Segment(dead, rows.ids[start:], rows.metadata[start:], rows.documents[start:], vectors)
                directory.append(segment, replace_all=everything, keep_index=not self._renumbered)
                self._renumbered = False
                rows.died.clear()
            if self._index_unsaved and self._ann is not None:
                handle = self._ann.handle
                directory.write_index(lambda file: self._faiss.write_index(handle, file), self._built)
            self._index_unsaved = False

    def _optimize(self, timeout: float) -> None:
        with self._lock.writing():
            rows = self._live()
            if rows.dead > _DEAD_SHARE * len(rows) or (rows.dead and self._ann is None):
                self._rows = rows.compacted()
                self._ann, self._built, self._renumbered = None, 0, True
                self._rebuild()
            elif self._ann is None:
                self._rebuild()
            elif self._built < len(rows):
                self._extend(self._ann, rows)

    def _rebuild(self) -> None:
        rows = self._live()
        self._ann = build(self._faiss, self.spec.index, self.spec.metric, rows.search_vectors())
        self._built = len(rows) if self._ann is not None else 0
        self._index_unsaved = self._ann is not None

    def _extend(self, ann: Ann, rows: Rows) -> None:
        try:
            ann.add(rows.search_vectors(self._built), self._built)
        except RuntimeError as e:
            self._ann, self._built = None, 0  # nobody knows how many rows went in
            raise StoreRejected(f"faiss: the index of {self.spec.name!r} takes no more rows; optimize again") from e
        self._built, self._index_unsaved = len(rows), True

    # Reading ----------------------------------------------------------------------------------------------------------

    def _get(self, ids: list[str], include: tuple[Include, ...]) -> Records:
        with self._lock.reading():
            rows = self._live()
            return rows.columns([rows.id_row[i] for i in ids if i in rows.id_row], include)

    def _count(self, where: Filter | None) -> int:
        with self._lock.reading():
            rows = self._live()
            return len(rows) - rows.dead if where is None else rows.select(where).count

    def _scan(self, where: Filter | None, batch_size: int, include: tuple[Include, ...]) -> Iterator[Records]:
        with self._lock.reading():
            rows = self._live()
            ids = [rows.ids[r] for r in np.flatnonzero(rows.select(where).mask).tolist()]
        for start in range(0, len(ids), batch_size):
            yield self._get(ids[start : start + batch_size], include)

    def _search(
        self, queries: Vectors, k: int, where: Filter | None, params: SearchParams, include: tuple[Include, ...]
    ) -> SearchResult:
        if params is not self._seen_params:
            check_search(self._kind, self.spec.index, params)
            self._seen_params = params
        self._lock.start_reading()
        try:
            rows, ann = self._live(), self._ann
            k = min(k, len(rows.ids) - rows.dead)
            unit = queries
            if self.spec.metric is Metric.COSINE:
                unit = _normalised(self._faiss, queries)
            if k == 0:
                scores, found = np.empty((len(unit), 0), np.float32), np.empty((len(unit), 0), np.int64)
            elif ann is None or params.exact or where is not None or rows.dead or self._built < len(rows.ids):
                scores, found = self._general(rows, unit, k, where, params)
            else:
                scores, found = ann.search(unit, k, params, None)
                if len(queries) == 1 and not include:
                    result = self._answer_one(rows, queries, scores[0], found[0].tolist())
                    if result is not None:
                        return result
                if (found[:, -1] < 0).any():  # the index came back short
                    scores, found = self._exact(rows, unit, k, None)
            return self._answer(rows, queries, k, (scores, found), include)
        finally:
            self._lock.stop_reading()

    def _general(self, rows: Rows, unit: Vectors, k: int, where: Filter | None, params: SearchParams) -> _Found:
        """Under a filter, with dead rows, or with rows that the index does not cover yet."""
        chosen = rows.select(where) if where is not None or rows.dead else None
        matching = len(rows) if chosen is None else chosen.count
        selector = None if chosen is None else chosen.selector
        k = min(k, matching)
        ann = self._ann
        if ann is None or params.exact or not matching or (selector is not None and not ann.takes_selector):
            return self._exact(rows, unit, k, selector)
        if where is not None and matching <= max(_FEW, _FEW_SHARE * len(rows), ann.distances_computed(params)):
            return self._exact(rows, unit, k, selector)
        scores, found = ann.search(unit, k, params, selector)
        if self._built < len(rows):
            later = self._faiss.IDSelectorRange(self._built, len(rows))
            both = self._faiss.IDSelectorAnd(later, self._every if selector is None else selector)
            more, added = self._exact(rows, unit, min(k, len(rows) - self._built), both)
            scores, found = np.hstack([scores, more]), np.hstack([found, added])
        if ((found >= 0).sum(1) < k).any():  # the index came back short, and there are more matches
            return self._exact(rows, unit, k, selector)
        return scores, found

    def _exact(self, rows: Rows, unit: Vectors, k: int, selector: Any) -> _Found:
        if not k or not len(unit):
            return np.empty((len(unit), k), np.float32), np.empty((len(unit), k), np.int64)
        # Without a selector FAISS may expand the square and lose digits, for many queries and for one over many rows.
        parameters = self._faiss.SearchParameters(sel=self._every if selector is None else selector)
        return rows.flat.search(unit, k, params=parameters)  # type: ignore[no-any-return]  # faiss ships no types

    def _answer_one(self, rows: Rows, query: Vectors, raw: Distances, hits: list[int]) -> SearchResult | None:
        """What `_answer` gives, for the common case and in a few microseconds; None for the others."""
        metric = self.spec.metric
        if hits[-1] < 0 or self.spec.index.kind == "native":
            return None
        distances: Distances
        if metric is Metric.EUCLIDEAN:
            distances = np.sqrt(raw)
        elif metric is Metric.COSINE:
            distances = 1 - raw
        elif raw[-1] > _LARGE_DOT * rows.longest * math.sqrt(np.vdot(query, query)):
            distances = -raw
        else:
            return None
        ids = rows.ids
        return SearchResult([[ids[h] for h in hits]], [distances], metric, [raw])

    def _answer(
        self, rows: Rows, queries: Vectors, k: int, candidates: _Found, include: tuple[Include, ...]
    ) -> SearchResult:
        """Ids and distances of the k best candidates; a row number of −1 is none."""
        metric, ids = self.spec.metric, rows.ids
        raws: list[Distances] = []
        result = SearchResult([], [], metric, raw=raws, records=[] if include else None)
        merged = self._ann is not None and self._built < len(rows)  # answers of the index, then those of the other rows
        for numbers, raw, query in zip(candidates[1], candidates[0], queries, strict=True):
            if merged:
                there = numbers >= 0
                numbers, raw = numbers[there], raw[there]  # noqa: PLW2901  the padding is dropped
            distances: Distances
            if self._rescore:
                distances = paired_distances(query, rows.vectors(numbers), metric)
            elif metric is Metric.EUCLIDEAN:
                distances = from_squared(raw)
            else:
                distances = from_similarity(raw)
            if self._rescore or merged:
                order = np.argsort(distances, kind="stable")[:k]
                numbers, raw, distances = numbers[order], raw[order], distances[order]  # noqa: PLW2901  as above
            hits = numbers.tolist()
            result.ids.append([ids[h] for h in hits])
            result.distances.append(distances)
            raws.append(raw)
            if result.records is not None:
                result.records.append(rows.columns(hits, include))
        return result

    def _describe(self) -> dict[str, Any]:
        with self._lock.reading():
            rows = self._live()
            out: dict[str, Any] = {"rows": len(rows) - rows.dead, "deleted_rows_kept": rows.dead}
            out["indexed_rows"] = self._built if self._ann is not None else len(rows)
            if self._ann is not None:
                out["index"] = dict(self._ann.describe())
                out["index_bytes"] = self._ann.size()
            else:
                out["index"] = {"kind": "flat", "faiss_class": "IndexFlat"}
                if not isinstance(self.spec.index, Flat):
                    out["note"] = "searched exactly: optimize has not run, or there are too few rows to train on"
            if self._directory is not None:
                out["disk_bytes"] = sum(p.stat().st_size for p in self._directory.path.iterdir())
            return out


def _normalised(faiss: Any, queries: Vectors) -> Vectors:
    if len(queries) == 1:  # one division instead of a copy and a call through FAISS's wrapper
        length = np.vdot(queries, queries)
        if 1e-30 < length < 1e30:
            return queries / np.sqrt(length)  # type: ignore[no-any-return]  # float32, as the query is
    unit = queries.copy()
    faiss.normalize_L2(unit)
    return unit
