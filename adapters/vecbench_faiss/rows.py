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

__all__ = ["Rows", "Selection", "SharedLock"]

_FILTERS_KEPT = 8


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
        self._originals: list[Vectors] = []  # under cosine: what was written, in blocks; `flat` holds unit vectors
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
        start, n = len(self.ids), len(records)
        metadata: list[Metadata] = [{} for _ in range(n)]
        if records.metadata is not None:
            metadata = [copy_metadata(m) for m in records.metadata]
        searched = vectors
        if self.metric is Metric.COSINE:
            searched = vectors.copy()
            self.faiss.normalize_L2(searched)
        self.flat.add(searched)  # may run out of memory: nothing else was changed yet
        if self.metric is Metric.COSINE:
            self._originals.append(vectors.copy())
            self._starts.append(start)
        elif self.metric is Metric.DOT and n:
            self.longest = max(self.longest, float(np.sqrt(np.einsum("ij,ij->i", vectors, vectors).max())))
        if start + n > len(self._alive):
            self._alive = np.concatenate([self._alive, np.ones(max(n, len(self._alive)), bool)])
        if self.id_row:
            self.kill(records.ids)
        self.ids.extend(records.ids)
        self.id_row.update(zip(records.ids, range(start, start + n), strict=True))
        self.metadata.extend(metadata)
        self.documents.extend([None] * n if records.documents is None else records.documents)
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

    def restore(self, records: Records, vectors: Vectors, dead: Sequence[int]) -> None:
        """Append rows as they lay on disk, where one id may have dead rows beside its live one; then `restored`."""
        self.id_row.clear()
        self.append(records, vectors)
        self._alive[list(dead)] = False

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
        if self.metric is not Metric.COSINE:
            return self.search_vectors()[rows] if len(rows) else np.empty((0, self.dim), np.float32)
        out = np.empty((len(rows), self.dim), np.float32)
        block = np.searchsorted(self._starts, rows, side="right") - 1
        for b in np.unique(block):
            at = np.flatnonzero(block == b)
            out[at] = self._originals[b][rows[at] - self._starts[b]]
        return out

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
        live = np.flatnonzero(self.alive).tolist()
        if live:
            records = self.columns(live, ("vectors", "metadata", "documents"))
            assert records.vectors is not None  # noqa: S101  asked for in the line above
            fresh.append(records, records.vectors)
        return fresh


def copy_metadata(metadata: Metadata) -> dict[str, Any]:
    """A copy that shares no list with the original."""
    return {k: list(v) if type(v) is list else v for k, v in metadata.items()}
