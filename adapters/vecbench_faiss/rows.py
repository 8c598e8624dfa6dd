"""The rows of a collection in memory: vectors in one growing FAISS flat index, the rest in lists beside it."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt

from vecbench.filters import Filter, matches
from vecbench.types import Include, Metadata, Metric, Records, Vectors
from vecbench_faiss.persist import BLOCK_BYTES, Segment

__all__ = ["Rows", "Selection", "SharedLock"]

_FILTERS_KEPT = 8
_UNIT = 5e-7  # a squared length that differs from 1 by no more changes a cosine by less than float32 sums do
_NOTHING: Metadata = {}  # shared by all rows without metadata: each its own would be 64 bytes a row


class SharedLock:
    """Many readers or one writer; a waiting writer goes before new readers, so that searches cannot starve it.

    FAISS releases the GIL: a search must never meet a growing index. Neither half may be entered twice by one thread.
    """

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._changed = threading.Condition(self._mutex)
        self._readers = 0
        self._writers = 0  # writing or waiting to write

    def start_reading(self) -> None:
        """Wait for the writers, then keep them out."""
        with self._mutex:
            while self._writers:
                self._changed.wait()
            self._readers += 1

    def stop_reading(self) -> None:
        """Let a waiting writer in when this was the last reader."""
        with self._mutex:
            self._readers -= 1
            if self._writers and not self._readers:
                self._changed.notify_all()

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Hold off writers."""
        self.start_reading()
        try:
            yield
        finally:
            self.stop_reading()

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Hold off everybody."""
        with self._mutex:
            self._writers += 1
            try:
                while self._readers:
                    self._changed.wait()
                yield
            finally:
                self._writers -= 1
                self._changed.notify_all()


class Selection:
    """The live rows that match a filter: `mask` bool (n,), their `count`, and FAISS's `selector` of them."""

    def __init__(self, faiss: Any, mask: npt.NDArray[np.bool_]) -> None:
        self.mask, self.count = mask, int(mask.sum())
        self._bits = np.packbits(mask, bitorder="little")  # FAISS keeps a pointer to them
        self.selector = faiss.IDSelectorBitmap(len(self._bits), faiss.swig_ptr(self._bits))


class Rows:
    """Append-only rows with tombstones. Row numbers are the ids that FAISS sees; `id_row` maps ours to them.

    flat: a FAISS flat index with one vector per row, normalised under cosine. An overwritten or deleted record leaves a
    dead row behind, which `compacted` drops.
    """

    def __init__(self, faiss: Any, dim: int, metric: Metric) -> None:
        self.faiss, self.dim, self.metric = faiss, dim, metric
        self.flat = faiss.IndexFlat(dim, faiss.METRIC_L2 if metric is Metric.EUCLIDEAN else faiss.METRIC_INNER_PRODUCT)
        self.ids: list[str] = []
        self.metadata: list[Metadata] = []
        self.documents: list[str | None] = []
        self.id_row: dict[str, int] = {}
        self.longest = 0.0  # the greatest norm, known for dot only
        self.dead = 0
        self.died: list[int] = []  # since the owner last cleared it
        self._alive = np.ones(1024, bool)
        # Under cosine `flat` holds unit vectors; blocks of others as they were written, and their first rows:
        self._originals: list[Vectors] = []
        self._starts: list[int] = []
        self._selections: dict[str, Selection] = {}  # by filter; emptied by every write
        self._selecting = threading.Lock()

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def alive(self) -> npt.NDArray[np.bool_]:
        """True for the rows that count, (n,)."""
        return self._alive[: len(self.ids)]

    def append(self, records: Records, vectors: Vectors) -> None:
        """Add rows; an id that is there already leaves its old row dead. Everything that is kept is copied."""
        n = len(records)
        metadata = (
            [_NOTHING] * n if records.metadata is None else [copy_metadata(m) or _NOTHING for m in records.metadata]
        )
        self._add_vectors(vectors)  # may run out of memory: nothing else was changed yet
        self._add_columns(records.ids, metadata, [None] * n if records.documents is None else records.documents)

    def _add_vectors(self, vectors: Vectors) -> None:
        start, searched, kept = self.flat.ntotal, vectors, None
        if self.metric is Metric.COSINE and not _unit(vectors):
            searched, kept = vectors.copy(), vectors.copy()
            self.faiss.normalize_L2(searched)
        self.flat.add(searched)
        if self.metric is Metric.DOT and len(vectors):
            self.longest = max(self.longest, float(np.sqrt(np.einsum("ij,ij->i", vectors, vectors).max())))
        if kept is not None:
            self._originals.append(kept)
            self._starts.append(start)

    def _add_columns(self, ids: Sequence[str], metadata: Sequence[Metadata], documents: Sequence[str | None]) -> None:
        start, n = len(self.ids), len(ids)
        if start + n > len(self._alive):
            self._alive = np.concatenate([self._alive, np.ones(max(n, len(self._alive)), bool)])
        if self.id_row:
            self.kill(ids)
        self.ids.extend(ids)
        self.id_row.update(zip(ids, range(start, start + n), strict=True))
        self.metadata.extend(metadata)
        self.documents.extend(documents)
        self._selections.clear()

    def kill(self, ids: Sequence[str]) -> None:
        """Mark records as deleted; ids that are not there are fine."""
        self.bury([self.id_row.pop(i) for i in ids if i in self.id_row])

    def bury(self, rows: Sequence[int]) -> None:
        """Mark live rows, by number, as dead."""
        if rows:
            self._alive[list(rows)] = False
            self.dead += len(rows)
            self.died.extend(rows)
            self._selections.clear()

    def restore(self, segment: Segment) -> None:
        """Append rows as they lay on disk, where one id may have dead rows beside its live one; then `restored`."""
        self.id_row.clear()
        for block in segment.vectors:
            self._add_vectors(block)
        self._add_columns(segment.ids, [m or _NOTHING for m in segment.metadata], segment.documents)
        self._alive[list(segment.dead)] = False

    def restored(self) -> None:
        """Set up what follows from the rows, after the last `restore`."""
        self.dead = int((~self.alive).sum())
        self.died.clear()
        self.id_row = {self.ids[r]: r for r in np.flatnonzero(self.alive).tolist()}

    def select(self, where: Filter | None) -> Selection:
        """The live rows that match; the last few filters are remembered until the next write."""
        key = repr(where)  # not the filter: Eq("x", 1) and Eq("x", True) are equal in Python
        with self._selecting:
            found = self._selections.get(key)
            if found is None:
                mask = self.alive.copy()
                if where is not None:
                    mask &= np.fromiter((matches(where, m) for m in self.metadata), bool, len(self.metadata))
                if len(self._selections) >= _FILTERS_KEPT:
                    del self._selections[next(iter(self._selections))]
                found = self._selections[key] = Selection(self.faiss, mask)
            return found

    def search_vectors(self, start: int = 0) -> Vectors:
        """What FAISS compares, from row `start` on: a view that the next append invalidates."""
        if not self.ids:
            return np.empty((0, self.dim), np.float32)
        view = self.faiss.rev_swig_ptr(self.flat.get_xb(), len(self.ids) * self.dim).reshape(-1, self.dim)
        return view[start:]  # type: ignore[no-any-return]  # faiss ships no types

    def vectors(self, rows: npt.NDArray[np.int64]) -> Vectors:
        """Copies of the vectors as they were written."""
        out = self.search_vectors()[rows] if len(rows) else np.empty((0, self.dim), np.float32)
        if self._originals:
            block = np.searchsorted(self._starts, rows, side="right") - 1
            for b in np.unique(block[block >= 0]):
                offset = rows - self._starts[b]
                at = np.flatnonzero((block == b) & (offset < len(self._originals[b])))
                out[at] = self._originals[b][offset[at]]
        return out

    def blocks(self, rows: npt.NDArray[np.int64]) -> Iterator[Vectors]:
        """What `vectors` gives, a block at a time."""
        step = max(1, BLOCK_BYTES // (4 * self.dim))
        for start in range(0, len(rows), step):
            yield self.vectors(rows[start : start + step])

    def columns(self, rows: Sequence[int], include: tuple[Include, ...]) -> Records:
        """The rows as records with the columns asked for."""
        return Records(
            [self.ids[r] for r in rows],
            self.vectors(np.asarray(rows, np.int64)) if "vectors" in include else None,
            [copy_metadata(self.metadata[r]) for r in rows] if "metadata" in include else None,
            [self.documents[r] for r in rows] if "documents" in include else None,
        )

    def compacted(self) -> Rows:
        """The live rows alone, in order."""
        fresh = Rows(self.faiss, self.dim, self.metric)
        live = np.flatnonzero(self.alive)
        for block in self.blocks(live):
            fresh._add_vectors(block)
        rows: list[int] = live.tolist()
        fresh._add_columns(
            [self.ids[r] for r in rows], [self.metadata[r] for r in rows], [self.documents[r] for r in rows]
        )
        return fresh


def _unit(vectors: Vectors) -> bool:
    """Whether all are of length 1 already, as many embedders give them: then one copy serves for both."""
    squares = np.einsum("ij,ij->i", vectors, vectors, dtype=np.float64)
    return not (np.abs(squares - 1) > _UNIT).any()


def copy_metadata(metadata: Metadata) -> dict[str, Any]:
    """A copy that shares no list with the original."""
    return {k: list(v) if type(v) is list else v for k, v in metadata.items()}
