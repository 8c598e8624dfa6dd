"""Scores of rows as float32 matrix products, and how far each can be from the exact one: what may be left unread."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from vecbench.errors import DatasetError
from vecbench.types import Metric, Vectors

__all__ = ["Block", "Products", "Side"]

_Floats: TypeAlias = npt.NDArray[np.float64]
_PLAIN = 2.0**30  # magnitudes up to this and down to its inverse are multiplied as they are: no square is lost
_FAR = 2.0**100  # data that large is not centred: the difference of two such numbers might not be finite
_CENTRE_ROWS = 1024
_UNIT, _UNIT64, _FLUSHED = 2.0**-24, 2.0**-53, 2.0**-125  # of float32, of float64; what a flushed product may be short


@dataclass(frozen=True, slots=True)
class Block:
    """Some base rows, ready to be multiplied.

    rows: matrix float32 (b, width). numbers: their row numbers, int64 (b,). scale: the power of two in them. reach: the
    greatest norm among them, rounded up so that most blocks have the same.
    """

    rows: Vectors
    numbers: npt.NDArray[np.int64]
    scale: float
    reach: float


@dataclass(frozen=True, slots=True)
class Side:
    """Some queries, ready to be multiplied with blocks of one scale.

    rows: matrix float32 (q, width), in Fortran's order. factor: the product is the score times this power of two,
    float64 (q,). shrink: the power of two in each query alone. norms: of the rows, without the column that carries the
    base's squares.
    """

    rows: Vectors
    factor: _Floats
    shrink: _Floats
    norms: _Floats


class Products:
    """Turns queries and base rows into matrices whose product is each pair's score, up to a known rounding error.

    A score grows as the distance shrinks. Euclidean: q·x − ‖x‖²/2 about the base's centre (d² = ‖q‖² − 2·score), the
    squares being one more column; cosine: q·x of unit vectors; dot: q·x. Powers of two keep extreme data within
    float32, so nothing overflows, and what underflows is counted in `slack`. called: the numbers that rows of the base
    have in messages, int64 (n,); None for their own.
    """

    def __init__(self, metric: Metric, base: Vectors, called: npt.NDArray[np.int64] | None = None) -> None:
        self.metric, self.dim, self._called = metric, base.shape[1], called
        self.width = self.dim + (metric is Metric.EUCLIDEAN)
        self.centre = np.zeros(self.dim, np.float32)
        if metric is Metric.EUCLIDEAN and len(base):  # far from the origin, float32 would see no difference
            sample = base[:: max(1, len(base) // _CENTRE_ROWS)].astype(np.float64)
            if np.abs(sample).max() < _FAR:
                self.centre = sample.mean(axis=0).astype(np.float32)

    def about_centre(self, queries: Vectors, first: int = 0) -> _Floats:
        """Queries in float64, from the centre; of length 1 for cosine. DatasetError for one that has no distance.

        first: the number of the first of them, for messages.
        """
        wide = queries.astype(np.float64) - self.centre
        if not np.isfinite(wide).all():
            row = int(np.flatnonzero(~np.isfinite(wide).all(axis=1))[0])
            raise DatasetError(f"row {first + row} of queries holds NaN or infinity")
        if self.metric is Metric.COSINE:
            norms = np.sqrt(np.einsum("ij,ij->i", wide, wide))
            if not norms.all():
                raise _no_cosine("queries", first + int(np.flatnonzero(norms == 0)[0]))
            wide /= norms[:, None]
        return wide

    def left(self, wide: _Floats, scale: float) -> Side:
        """Queries `about_centre`, made to be multiplied with blocks of this scale."""
        euclidean = self.metric is Metric.EUCLIDEAN
        scaled = wide * scale if euclidean else wide
        largest = np.abs(scaled).max(axis=1, initial=0)
        smallest = 0.0 if euclidean else 1 / _PLAIN  # a small query beside the base's squares may as well be zero
        plain = (largest <= _PLAIN) & (largest >= smallest) | (largest == 0)
        shrink = np.where(plain, 1.0, np.ldexp(1.0, -np.frexp(largest)[1]))
        rows = np.empty((self.width, len(wide)), np.float32).T  # in this order BLAS is one or two percent faster
        rows[:, : self.dim] = scaled * shrink[:, None]
        norms = np.sqrt(np.einsum("ij,ij->i", rows[:, : self.dim], rows[:, : self.dim], dtype=np.float64))
        if euclidean:
            rows[:, self.dim] = shrink
            return Side(rows, shrink * scale**2, shrink, norms)
        return Side(rows, shrink * scale, shrink, norms)

    def block(self, vectors: Vectors, numbers: npt.NDArray[np.int64], out: Vectors) -> Block:
        """Base rows made to be multiplied, in `out` float32 (rows, width) where they cannot be taken as they are.

        Raises DatasetError for NaN and infinity, and for a zero row under cosine.
        """
        made, given = out[: len(vectors), : self.dim], vectors
        if self.metric is Metric.EUCLIDEAN:
            vectors = np.subtract(vectors, self.centre, out=made)
        squares, scale = np.einsum("ij,ij->i", vectors, vectors), 1.0
        if not 1 / _PLAIN**2 <= float(squares.max()) <= _PLAIN**2:  # nor where it is NaN
            largest = max(float(vectors.max()), -float(vectors.min()))
            if not np.isfinite(largest):
                row = int(numbers[~np.isfinite(vectors).all(axis=1)][0])
                raise DatasetError(f"row {self._named(row)} of base holds NaN or infinity")
            scale = float(np.ldexp(1.0, -np.frexp(largest)[1]))
            # In float64, as the power itself may be outside float32.
            vectors = np.multiply(vectors, np.float64(scale), out=made, casting="same_kind")
            squares = np.einsum("ij,ij->i", vectors, vectors)
        if self.metric is Metric.COSINE:
            return Block(self._of_length_one(vectors, squares, given, numbers, made), numbers, 1.0, 1.0)
        part, power = np.frexp(np.sqrt(float(squares.max()) * (1 + self._rounding())))
        reach = float(np.ldexp(np.ceil(part * 16) / 16, power))
        if self.metric is Metric.EUCLIDEAN:
            np.multiply(squares, np.float32(-0.5), out=out[: len(vectors), self.dim])
            vectors = out[: len(vectors)]
        return Block(vectors, numbers, scale, reach)

    def slack(self, side: Side, reach: float) -> _Floats:
        """How far a product of these queries with a row of norm up to `reach` can be from score · factor: float64 (q,).

        |computed − true| ≤ γ·‖q‖·‖x‖ whatever the order of the sum, γ = dim·u/(1 − dim·u): Higham, Accuracy and
        Stability of Numerical Algorithms, §3.1, with Cauchy–Schwarz for Σ|q_i·x_i|. The roundings of centring, scaling
        and squares are a few u more. What float64 may see differently in the exact distances is counted too, so a row
        beyond the slack is behind in them as well, not level.
        """
        flushed = (self.dim + 16) * _FLUSHED * (1 + side.norms + reach)
        if self.metric is Metric.COSINE:  # the rows' lengths are sums of float32 as well: half as much again
            return np.asarray(1.5 * self._rounding() * side.norms + flushed)
        if self.metric is Metric.DOT:
            return np.asarray(self._rounding() * side.norms * reach + flushed)
        squares = side.shrink * reach**2
        exact = 8 * (self.dim + 16) * _UNIT64 * (side.norms**2 / side.shrink + squares)
        return np.asarray(self._rounding() * (side.norms * reach + squares) + exact + flushed)

    def from_distances(self, wide: _Floats, distances: _Floats, vectors: Vectors) -> tuple[_Floats, _Floats]:
        """Scores of one query, `about_centre`, with rows at these distances, and how far they may be off: (n,)."""
        few = 8 * (self.dim + 16) * _UNIT64
        if self.metric is Metric.COSINE:
            return 1 - distances, np.full(len(distances), few)
        if self.metric is Metric.DOT:
            squares = np.einsum("ij,ij->i", vectors, vectors, dtype=np.float64)
            return -distances, few * np.sqrt(squares * (wide @ wide))
        square, squares = float(wide @ wide), distances * distances
        return (square - squares) / 2, few * (square + squares)

    def _rounding(self) -> float:
        return float(1.1 * (self.dim + 16) * _UNIT)

    def _named(self, row: int) -> int:
        return row if self._called is None else int(self._called[row])

    def _of_length_one(
        self,
        rows: Vectors,
        squares: npt.NDArray[np.float32],
        given: Vectors,
        numbers: npt.NDArray[np.int64],
        out: Vectors,
    ) -> Vectors:
        lost = np.flatnonzero(squares < 1 / _PLAIN**2)  # beside longer rows: they, or their squares, may be flushed
        squares[lost] = 1
        made = np.multiply(rows, (1 / np.sqrt(squares))[:, None], out=out)
        for i in lost.tolist():
            wide = given[i].astype(np.float64)
            norm = float(np.sqrt(wide @ wide))
            if norm == 0:
                raise _no_cosine("base", self._named(int(numbers[i])))
            made[i] = wide / norm
        return made


def _no_cosine(part: str, row: int) -> DatasetError:
    return DatasetError(f"row {row} of {part} is zero and has no cosine distance; use another metric or remove it")
