"""A FAISS collection: rows, an approximate index over the older ones, exact search over the rest."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from vecbench.distance import from_similarity, from_squared, paired_distances
from vecbench.errors import CollectionNotFound
from vecbench.filters import Filter
from vecbench.index import Flat, SearchParams
from vecbench.spec import CollectionSpec
from vecbench.store import Collection, VectorStore
from vecbench.types import Distances, Include, Metric, Records, SearchResult, Vectors
from vecbench_faiss import ann as ann_index
from vecbench_faiss.persist import Directory, Segment
from vecbench_faiss.rows import Rows, SharedLock

__all__ = ["FaissCollection"]

_ALL: tuple[Include, ...] = ("vectors", "metadata", "documents")
_FEW = 1000  # matches that are searched exactly: faster than a graph that must find them, and nothing is missed
_FEW_SHARE = 0.05  # of the rows: below it a filtered graph search loses recall (0.8 at ef 200 with 2 % matching)
_DIRECT = 16  # queries at once: from 20 on FAISS expands the square, which loses digits on un-normalised vectors
_MAX_SEGMENTS = 64

_Found = tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]


class FaissCollection(Collection):
    """Rows [0, built) are in the approximate index; later ones are searched exactly until `optimize`."""

    def __init__(self, store: VectorStore, spec: CollectionSpec, faiss: Any, directory: Directory | None) -> None:
        super().__init__(store, spec)
        self._faiss = faiss
        self._directory: Directory | None = directory
        self._rows: Rows | None = Rows(faiss, spec.dim, spec.metric)
        self._ann: Any = None  # a FAISS index once it is built
        self._built = 0
        self._flushed = 0  # rows on disk; they lie there in the order of their numbers, dead ones too
        self._rewrite = False  # the rows were numbered anew: the next flush writes them all
        self._index_unsaved = False
        self._lock = SharedLock()
        self._parameters: tuple[SearchParams | None, int, Any] = (None, 0, None)
        if directory is not None:
            self._load(directory)

    def _load(self, directory: Directory) -> None:
        rows = self._live()
        for segment in directory.read(self.spec.dim):
            assert segment.records.vectors is not None  # noqa: S101  segments hold every column
            rows.restore(segment.records, segment.records.vectors, segment.dead)
        rows.died.clear()
        self._flushed = len(rows)
        saved = directory.index_file()
        if saved is not None:
            self._ann, self._built = self._faiss.read_index(str(saved[0])), saved[1]

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
        return self._ann if self._ann is not None else self._live().flat

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
            rows.kill([rows.ids[r] for r in np.flatnonzero(rows.selected(where)).tolist()])

    def _flush(self, timeout: float) -> None:
        with self._lock.writing():
            rows = self._live()
            if self._directory is None:
                return
            if self._directory.segments >= _MAX_SEGMENTS:
                self._rewrite, self._index_unsaved = True, True
            start = 0 if self._rewrite else self._flushed
            if self._rewrite or start < len(rows) or rows.died:
                segment = Segment(rows.died, rows.columns(range(start, len(rows)), _ALL))
                if self._rewrite:
                    segment.dead = np.flatnonzero(~rows.alive).tolist()
                self._directory.append(segment, replace_all=self._rewrite)
                self._flushed, self._rewrite = len(rows), False
                rows.died.clear()
            if self._index_unsaved and self._ann is not None:
                self._directory.write_index(lambda file: self._faiss.write_index(self._ann, file), self._built)
            self._index_unsaved = False

    def _compact(self) -> None:
        """Drop dead rows; the index is built anew, for FAISS cannot remove from a graph."""
        self._rows = self._live().compacted()
        self._ann, self._built, self._rewrite = None, 0, True
        self._rebuild()

    def _rebuild(self) -> None:
        rows = self._live()
        self._ann = ann_index.build(self._faiss, self.spec.index, self.spec.metric, rows.search_vectors())
        self._built = len(rows) if self._ann is not None else 0
        self._index_unsaved = self._ann is not None
        self._parameters = (None, 0, None)

    def _optimize(self, timeout: float) -> None:
        with self._lock.writing():
            rows = self._live()
            if rows.dead:
                self._compact()
            elif self._ann is None:
                self._rebuild()
            elif self._built < len(rows):
                ann_index.extend(self._ann, rows.search_vectors(self._built))
                self._built, self._index_unsaved = len(rows), True

    # Reading ----------------------------------------------------------------------------------------------------------

    def _get(self, ids: list[str], include: tuple[Include, ...]) -> Records:
        with self._lock.reading():
            rows = self._live()
            return rows.columns([rows.id_row[i] for i in ids if i in rows.id_row], include)

    def _count(self, where: Filter | None) -> int:
        with self._lock.reading():
            rows = self._live()
            return len(rows) - rows.dead if where is None else int(rows.selected(where).sum())

    def _scan(self, where: Filter | None, batch_size: int, include: tuple[Include, ...]) -> Iterator[Records]:
        with self._lock.reading():
            rows = self._live()
            ids = [rows.ids[r] for r in np.flatnonzero(rows.selected(where)).tolist()]
        for start in range(0, len(ids), batch_size):
            yield self._get(ids[start : start + batch_size], include)

    def _search(
        self, queries: Vectors, k: int, where: Filter | None, params: SearchParams, include: tuple[Include, ...]
    ) -> SearchResult:
        self._lock.start_reading()
        try:
            rows = self._live()
            unit = queries
            if self.spec.metric is Metric.COSINE:
                unit = queries.copy()
                self._faiss.normalize_L2(unit)
            plain = where is None and not rows.dead and self._built == len(rows) and self._ann is not None
            if plain and not params.exact:
                ann: Any = self._ann
                scores, found = ann.search(unit, min(k, len(rows)), params=self._cached(params, k))
                if (found[:, -1] < 0).any():  # the graph came back short
                    scores, found = self._exact(rows, unit, k, None)
            else:
                scores, found = self._general(rows, unit, k, where, params)
            return self._answer(rows, queries, scores, found, include)
        finally:
            self._lock.stop_reading()

    def _cached(self, params: SearchParams, k: int) -> Any:
        """FAISS's parameter object, kept while the caller repeats the same ones: making it costs microseconds."""
        known, known_k, made = self._parameters
        if params is not known or k != known_k:
            made = ann_index.search_parameters(self._faiss, self._ann, self.spec.index, params, k=k, selector=None)
            self._parameters = (params, k, made)
        return made

    def _general(self, rows: Rows, unit: Vectors, k: int, where: Filter | None, params: SearchParams) -> _Found:
        if params.native and (self._ann is None or params.exact):
            ann_index.check_search_native("flat", params)
        mask = rows.selected(where)
        matching = int(mask.sum())
        few = where is not None and matching <= max(_FEW, _FEW_SHARE * len(rows))
        if self._ann is None or params.exact or few:
            return self._exact(rows, unit, min(k, matching), mask if matching < len(rows) else None)
        k = min(k, matching)
        if k == 0:
            return np.empty((len(unit), 0), np.float32), np.empty((len(unit), 0), np.int64)
        selector, _keep = self._selector(mask[: self._built])
        parameters = ann_index.search_parameters(
            self._faiss, self._ann, self.spec.index, params, k=k, selector=selector
        )
        scores, found = self._ann.search(unit, k, params=parameters)
        if self._built < len(rows):
            tail = mask.copy()
            tail[: self._built] = False
            more, later = self._exact(rows, unit, k, tail)
            scores, found = self._merge(np.hstack([scores, more]), np.hstack([found, later]), k)
        if (found[:, -1] < 0).any():  # the index came back short, and there are more matches
            return self._exact(rows, unit, k, mask)
        return scores, found

    def _merge(self, scores: Any, found: Any, k: int) -> _Found:
        key = scores if self.spec.metric is Metric.EUCLIDEAN else -scores
        order = np.argsort(np.where(found < 0, np.inf, key), axis=1, kind="stable")[:, :k]
        return np.take_along_axis(scores, order, 1), np.take_along_axis(found, order, 1)

    def _exact(self, rows: Rows, unit: Vectors, k: int, mask: npt.NDArray[np.bool_] | None) -> _Found:
        k = min(k, len(rows))
        scores, found = np.empty((len(unit), k), np.float32), np.full((len(unit), k), -1, np.int64)
        if k == 0:
            return scores, found
        parameters, _keep = None, None
        if mask is not None:
            selector, _keep = self._selector(mask)
            parameters = self._faiss.SearchParameters(sel=selector)
        for start in range(0, len(unit), _DIRECT):
            part = slice(start, start + _DIRECT)
            scores[part], found[part] = rows.flat.search(unit[part], k, params=parameters)
        return scores, found

    def _selector(self, mask: npt.NDArray[np.bool_]) -> tuple[Any, Any]:
        """FAISS's view of a mask, and the bits that must outlive it."""
        bits = np.packbits(mask, bitorder="little")
        return self._faiss.IDSelectorBitmap(len(bits), self._faiss.swig_ptr(bits)), bits

    def _answer(
        self, rows: Rows, queries: Vectors, scores: Any, found: Any, include: tuple[Include, ...]
    ) -> SearchResult:
        metric, ids = self.spec.metric, rows.ids
        result = SearchResult([], [], metric, raw=[], records=[] if include else None)
        lossy = self.spec.index.kind == "native"
        for i, numbers in enumerate(found):
            hits = numbers.tolist()
            raw = scores[i]
            if hits and hits[-1] < 0:
                hits = [h for h in hits if h >= 0]
                raw = raw[: len(hits)]
            distances: Distances
            if lossy and hits:
                # A compressed index returns approximate scores: the answers are measured again from what was written.
                true = paired_distances(queries[i : i + 1], rows.vectors(np.asarray(hits, np.int64)), metric)
                order = np.argsort(true, kind="stable")
                hits, raw, distances = [hits[j] for j in order], raw[order], true[order]
            elif metric is Metric.EUCLIDEAN:
                distances = from_squared(raw)
            else:
                distances = from_similarity(raw) if metric is Metric.COSINE else -raw
            result.ids.append([ids[h] for h in hits])
            result.distances.append(distances)
            result.raw.append(raw)  # type: ignore[union-attr]  # made as a list above
            if result.records is not None:
                result.records.append(rows.columns(hits, include))
        return result

    def _describe(self) -> dict[str, Any]:
        with self._lock.reading():
            rows = self._live()
            out: dict[str, Any] = {"rows": len(rows) - rows.dead, "deleted_rows_kept": rows.dead}
            out["indexed_rows"] = self._built if self._ann is not None else len(rows)
            if self._ann is not None:
                out["index"] = ann_index.describe(self._faiss, self._ann)
                out["index_bytes"] = len(self._faiss.serialize_index(self._ann))
            else:
                out["index"] = {"kind": "flat", "faiss_class": "IndexFlat"}
                if not isinstance(self.spec.index, Flat):
                    out["note"] = "searched exactly: optimize has not run, or there are too few rows to train on"
            if self._directory is not None:
                out["disk_bytes"] = sum(p.stat().st_size for p in self._directory.path.iterdir())
            return out
