"""Where to cut a row of leaves so that as little as possible of what belongs together is parted."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from vecbench.rag.split.tree import Layout

__all__ = ["Range", "best_cuts"]

Range: TypeAlias = tuple[int, int]
"""Leaves from the first index up to, not including, the second."""
_Row: TypeAlias = npt.NDArray[np.int64]


def best_cuts(layout: Layout, lowest: Sequence[int], refused: Collection[Range] = ()) -> list[Range]:
    """The leaves as consecutive ranges, the best of all such partitions.

    lowest[b - 1]: the smallest a for which the leaves [a, b) fit in a chunk; it never falls with b and is at most
    b - 1, for a single leaf has to stand somewhere. refused: ranges that are not to be used, of two leaves or more.

    Best is, in this order: the fewest arcs parted; the fewest units parted (what fits in no chunk is parted in any
    case); the fewest ranges; the least sum of squares of the ranges' characters, which is the most even one. All four
    are sums over the ranges (a pair of leaves is parted exactly by the range that holds its first and ends before its
    second), so that the best partition of [0, b) is a best partition of [0, a) and the range [a, b): dynamic
    programming. Time is leaves times leaves in a chunk, a few numpy operations per leaf.
    """
    leaves, count = layout.leaves, len(layout.leaves)
    starts = np.array([leaf.start for leaf in leaves], np.int64)
    parted = [_Crossing(count, layout.arcs), _Crossing(count, layout.units)]
    best = np.zeros((4, count + 1), np.int64)  # column b: the four sums of the best partition of [0, b)
    begin = [0] * (count + 1)  # of the last range of that partition
    forbidden: dict[int, list[int]] = {}
    for a, b in refused:
        forbidden.setdefault(b, []).append(a)
    for b in range(1, count + 1):
        low = lowest[b - 1]
        choice = np.arange(low, b)
        if b in forbidden:
            choice = np.setdiff1d(choice, forbidden[b])
        crossed = [pairs.advance(low, b) for pairs in parted]
        sums = best[:, choice]
        sums[0] += crossed[0][choice]
        sums[1] += crossed[1][choice]
        sums[2] += 1
        sums[3] += (leaves[b - 1].end - starts[choice]) ** 2
        keep = np.arange(len(choice))
        for row in sums:
            if len(keep) == 1:
                break
            values = row[keep]
            keep = keep[values == values.min()]
        begin[b] = int(choice[keep[0]])
        best[:, b] = sums[:, keep[0]]
    ranges = []
    while count:
        ranges.append((begin[count], count))
        count = begin[count]
    return ranges[::-1]


class _Crossing:
    """For every a, how many pairs have their first leaf in [a, b) and their second at b or later, as b grows."""

    def __init__(self, count: int, pairs: Sequence[tuple[int, int]]) -> None:
        self._from = [0] * count
        self._to: list[list[int]] = [[] for _ in range(count)]
        for first, second in pairs:
            self._from[first] += 1
            self._to[second].append(first)
        self._crossed = np.zeros(count + 1, np.int64)

    def advance(self, low: int, b: int) -> _Row:
        """Entries low to b - 1 hold; `low` never falls, so that what lies before it need not be kept right."""
        if self._from[b - 1]:
            self._crossed[low:b] += self._from[b - 1]
        for first in self._to[b - 1]:
            self._crossed[low : first + 1] -= 1
        return self._crossed
