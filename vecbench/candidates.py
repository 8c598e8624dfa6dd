"""The rows that may yet be among the k nearest of each query, kept while a search goes on."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

__all__ = ["Candidates", "Measure"]

_Floats: TypeAlias = npt.NDArray[np.float64]
_Rows: TypeAlias = npt.NDArray[np.int64]
Measure: TypeAlias = Callable[[int, _Rows], tuple[_Rows, _Floats, _Floats]]
"""The k nearest of the given rows to the query of that number, and bounds of their scores from exact distances."""


class Candidates:
    """Of each of `count` queries the candidates: row numbers, and bounds of their scores (see `Products`).

    floor: float64 (count,); k rows are proven to score at least this, so a row that cannot reach it is none of the k
    nearest. It only rises. hope: float64 (count,); what the floor will most probably rise to, and until it has, rows
    below are left out on that hope: where it comes to nothing, the query is among the `lost`. measure: called for a
    query that has more candidates than can be kept, as happens where more rows are level, or nearly so, than float32
    can tell apart.
    """

    def __init__(self, count: int, k: int, measure: Measure) -> None:
        self.floor, self.hope = np.full(count, -np.inf), np.full(count, -np.inf)
        self._k, self._measure, self._room = k, measure, _room(k)
        self._fill = np.zeros(count, np.int64)
        self._step = max(k // 2, 48)  # so many more, and the floor may have risen enough to be looked for
        self._look = np.full(count, k + self._step)
        self._rows = np.empty((count, self._room), np.int64)
        self._low, self._high = np.empty((count, self._room)), np.empty((count, self._room))
        self._begin = np.arange(count) * self._room  # of a query's candidates among those of all

    @staticmethod
    def bytes_each(k: int) -> int:
        """Memory for the candidates of one query."""
        return 3 * 8 * _room(k)

    def limits(self, slack: _Floats, factor: _Floats) -> npt.NDArray[np.float32]:
        """The least product, float32 (count,), with which a row may reach floor and hope; see `Products` for factor."""
        with np.errstate(over="ignore"):  # a floor beyond float32 becomes infinite, which is right
            exact = (np.maximum(self.floor, self.hope) * factor - slack).astype(np.float32)
        return np.asarray(np.nextafter(exact, np.float32(-np.inf)))

    def raise_floor(self, scores: _Floats) -> None:
        """Take account of what k rows of each query are proven to score, float64 (count,)."""
        np.maximum(self.floor, scores, out=self.floor)

    def lost(self) -> npt.NDArray[np.int64]:
        """The queries whose floor has not risen to the hope: of all rows read, some of the nearest may be missing."""
        self._raise_floors(np.flatnonzero((self._fill >= self._k) & (self.floor < self.hope)))
        return np.flatnonzero(self.floor < self.hope)

    def add(self, which: npt.NDArray[np.int64], rows: _Rows, low: _Floats, high: _Floats) -> None:
        """Keep rows with the bounds of their scores; which: their queries, ascending. No row may come twice."""
        while len(which):
            counts = np.bincount(which, minlength=len(self._fill))
            fill = self._fill + counts
            place = (fill - np.cumsum(counts))[which] + np.arange(len(which))
            if fill.max() <= self._room:
                self._fill_in(self._begin[which] + place, rows, low, high)
                self._fill = fill
                self._raise_floors(np.flatnonzero(fill > self._look))
                return
            fits = place < self._room
            self._fill_in((self._begin[which] + place)[fits], rows[fits], low[fits], high[fits])
            np.minimum(fill, self._room, out=self._fill)
            self._raise_floors(np.flatnonzero(self._fill > self._look))
            for query in np.flatnonzero(self._fill == self._room).tolist():
                self._make_room(query)
            left = ~fits & (high >= self.floor[which])
            which, rows, low, high = which[left], rows[left], low[left], high[left]

    def _fill_in(self, at: npt.NDArray[np.int64], rows: _Rows, low: _Floats, high: _Floats) -> None:
        for kept, new in ((self._rows, rows), (self._low, low), (self._high, high)):
            kept.reshape(-1)[at] = new

    def settle(self, query: int, rows: _Rows) -> None:
        """Let the k nearest of `rows` be the candidates of a query, by their exact distances."""
        self._put(query, *self._measure(query, rows))
        if self._fill[query] == self._k:
            self.floor[query] = max(self.floor[query], self._low[query, : self._k].min())

    def rows(self, query: int) -> _Rows:
        """The candidates of a query that can still reach the floor, in no order; see `raise_floors`."""
        used = self._fill[query]
        return np.asarray(self._rows[query, :used][self._high[query, :used] >= self.floor[query]])

    def raise_floors(self) -> None:
        """Raise every floor as far as the candidates prove, so that no more of them are left than must be."""
        self._raise_floors(np.flatnonzero(self._fill > self._k))

    def _raise_floors(self, who: npt.NDArray[np.int64]) -> None:
        if len(who):
            used = int(self._fill[who].max())
            low, at = self._low[who, :used], used - self._k
            np.copyto(low, -np.inf, where=np.arange(used) >= self._fill[who, None])
            low.partition(at, axis=1)
            self.floor[who] = np.maximum(self.floor[who], low[:, at])
            self._look[who] = self._fill[who] + self._step

    def _make_room(self, query: int) -> None:
        """Drop what cannot reach the floor, which is up to date; where much is level with it, measure."""
        keep = self._high[query] >= self.floor[query]
        if keep.sum() > (self._k + self._room) // 2:
            self.settle(query, self._rows[query, keep])
        else:
            self._put(query, self._rows[query, keep], self._low[query, keep], self._high[query, keep])

    def _put(self, query: int, rows: _Rows, low: _Floats, high: _Floats) -> None:
        n = len(rows)
        self._rows[query, :n], self._low[query, :n], self._high[query, :n] = rows, low, high
        self._fill[query], self._look[query] = n, max(n, self._k) + self._step


def _room(k: int) -> int:
    return 3 * k + 256
