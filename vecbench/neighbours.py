"""The exact nearest rows of many queries among many rows, at close to the rate of the matrix product itself."""

from __future__ import annotations

import math
from collections.abc import Iterator
from queue import SimpleQueue
from typing import Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from vecbench.candidates import Candidates
from vecbench.distance import distances_to
from vecbench.errors import ConfigError
from vecbench.products import Block, Products, Side
from vecbench.threads import Threads
from vecbench.types import Metric, Vectors

__all__ = ["MEMORY_BYTES", "Largest", "Search", "nearest", "queries_at_once", "worth_threads"]

_Floats: TypeAlias = npt.NDArray[np.float64]
_Rows: TypeAlias = npt.NDArray[np.int64]

MEMORY_BYTES = 512 * 2**20
_TILE = 1024  # queries that one thread multiplies with one block of rows: BLAS packs each block once for all of them
_BLOCK = 1024
_CHUNK = 8  # blocks for each thread between two meetings of all threads
_SAMPLE_SHARE = 16  # at most one row in so many is read first, so that few of the rest look near enough to be kept
_SMALL = 1 << 27  # multiplications, below which threads cost more than they bring
_MORE = 28  # beyond k of what `Largest` gives, so that rounding seldom sends a query back to the processor


class Largest(Protocol):
    """Finds the largest inner products on another device, a GPU say, adding in float32 as IEEE 754 has it.

    block_rows: base rows at a time. most: the largest `count` that it can do.
    """

    block_rows: int
    most: int

    def __call__(self, queries: Vectors, rows: Vectors, count: int) -> tuple[Vectors, _Rows]:
        """For each query the `count` largest products with `rows`, descending, and their rows: both (q, count)."""
        ...


def nearest(
    queries: Vectors,
    base: Vectors,
    k: int,
    metric: Metric,
    *,
    mask: npt.NDArray[np.bool_] | None = None,
    threads: int | None = None,
    memory_bytes: int = MEMORY_BYTES,
    largest: Largest | None = None,
    called: _Rows | None = None,
) -> tuple[_Rows, _Floats]:
    """The exact k nearest rows of `base` for each query: row numbers (q, k) and float64 distances (q, k), ascending.

    The result is that of `paired_distances` with every row, to the bit, whatever the number of threads; rows of equal
    distance are ordered by their numbers. mask: bool (n,), the rows that may be found; None for all. k is cut to their
    number. base may be a memory map: it is read in order, never whole. threads: None for every processor that this
    process may use. memory_bytes: what may be used beside arguments and result; queries that do not fit are done in
    turns. largest: finds the candidates on another device. called: the numbers that rows have in messages, int64 (n,),
    where base is a part of something. Raises DatasetError for NaN and infinity, and for a zero vector under cosine,
    ConfigError where `largest` multiplies with less precision than float32.
    """
    many = worth_threads(queries, base)
    turn = queries_at_once(k, base.shape[1], memory_bytes)
    found: list[tuple[_Rows, _Floats]] = []
    with Threads(threads if many or threads else 1, limit=many) as workers:
        for start in range(0, max(1, len(queries)), turn):
            part = queries[start : start + turn]
            search = Search(
                part, base, k, metric, workers, mask=mask, largest=largest, first_query=start, called=called
            )
            for _ in search.scan():
                pass
            found.append(search.result())
    rows, distances = zip(*found, strict=True)
    return np.concatenate(rows), np.concatenate(distances)


def queries_at_once(k: int, dim: int, memory_bytes: int) -> int:
    """How many queries a `Search` can take so that it stays within `memory_bytes`; at least one tile."""
    each = Candidates.bytes_each(k) + 16 * k + 16 * (dim + 1)  # candidates, result, the query in both precisions
    return max(_TILE, memory_bytes // 2 // each // _TILE * _TILE)


def worth_threads(queries: Vectors, base: Vectors) -> bool:
    """Whether there is so much to multiply that threads bring more than they cost."""
    return len(queries) * base.size > _SMALL


class _Tile:
    """Some of the queries of a search, with the candidates of each; one thread at a time works on it."""

    def __init__(self, start: int, queries: Vectors, wide: _Floats, products: Products) -> None:
        self.start, self.queries, self.wide, self._products = start, queries, wide, products
        self.found: Candidates
        self._side: tuple[float, Side] | None = None

    def side(self, scale: float) -> Side:
        if self._side is None or self._side[0] != scale:
            self._side = (scale, self._products.left(self.wide, scale))
        return self._side[1]


class Search:
    """One reading of a base, a chunk of rows at a time, for queries that are few enough to keep candidates of all.

    Each block of rows is multiplied with the queries in float32. A row becomes a candidate where, for all that rounding
    may have done, it could be among the k nearest of the rows read so far; that bound rises as more are read, so most
    rows are dismissed by one comparison. What is left at the end is measured in float64.

    Some rows are looked at beforehand, to guess how high the bound will be at the end: that leaves out most of what
    would be kept before the bound has risen. A query whose bound does not rise so far is done again without a guess.
    first_query: the number of the first query, for messages. called: as of `nearest`. hopeful: False does without it.
    """

    def __init__(
        self,
        queries: Vectors,
        base: Vectors,
        k: int,
        metric: Metric,
        workers: Threads,
        *,
        mask: npt.NDArray[np.bool_] | None = None,
        largest: Largest | None = None,
        first_query: int = 0,
        called: _Rows | None = None,
        hopeful: bool = True,
    ) -> None:
        self._base, self._metric, self._workers, self._mask, self._hopeful = base, metric, workers, mask, hopeful
        self._numbers = None if mask is None else np.flatnonzero(mask)
        self.size = len(base) if self._numbers is None else len(self._numbers)
        self.k = min(k, self.size)
        self._largest = largest if largest is not None and self.k + _MORE <= largest.most else None
        self._products = Products(metric, base, called)
        self._shape = (len(queries), self.k)
        self._tiles: list[_Tile] = []
        if self.k and len(queries):
            wide = self._products.about_centre(queries, first_query)
            rounds = -(-len(queries) // (_TILE * workers.threads))
            parts = min(rounds * workers.threads, len(queries))  # so that no thread waits for another's last tile
            for part in range(parts):
                start, stop = (len(queries) * i // parts for i in (part, part + 1))
                self._tiles.append(self._tile(start, queries[start:stop], wide[start:stop]))
        self._room = np.empty((0, 0), np.float32)
        self._scores: SimpleQueue[tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]] = SimpleQueue()

    def _tile(self, start: int, queries: Vectors, wide: _Floats) -> _Tile:
        tile = _Tile(start, queries, wide, self._products)

        def measure(query: int, rows: _Rows) -> tuple[_Rows, _Floats, _Floats]:
            rows, distances = self._exact(queries[query], rows)
            score, off = self._products.from_distances(wide[query], distances, self._base[rows])
            return rows, score - off, score + off

        tile.found = Candidates(len(queries), self.k, measure)
        return tile

    def scan(self, start: int = 0) -> Iterator[int]:
        """Read the rows that may be found, from the `start`-th on; gives after each chunk how many have been read."""
        if not self._tiles:
            return
        blocks = _CHUNK * self._workers.threads
        if self._largest is not None:
            blocks = max(blocks, self._largest.block_rows // _BLOCK)
        self._room = np.empty((min(blocks * _BLOCK, self.size), self._products.width), np.float32)
        for _ in range(self._workers.threads):
            size = min(_TILE, self._shape[0]) * min(_BLOCK, self.size)
            self._scores.put((np.empty(size, np.float32), np.empty(size, np.bool_)))
        sample = max(2 * self.k, _BLOCK)
        if start == 0 and self._hopeful and sample <= min(len(self._room), self.size // _SAMPLE_SHARE):
            # Golden-ratio steps within equal strides: no period in the data keeps pace with them.
            within = np.arange(sample) * 0.618033988749895 % 1
            self._hope(((np.arange(sample) + within) * self.size / sample).astype(np.int64))
        while start < self.size:
            stop = min(start + len(self._room), self.size)
            made = self._blocks(np.arange(start, stop))
            if self._largest is None or len({block.scale for block in made}) > 1:
                self._workers.map(lambda tile, made=made: self._multiply(tile, made), self._tiles)  # type: ignore[misc]
            else:
                self._elsewhere(self._largest, made)
            start = stop
            if stop == self.size:
                self._find_lost()
            yield start

    def known(self, rows: _Rows, hopes: _Floats) -> None:
        """Begin from an earlier search: its `result` and `hopes`, after as many rows as `scan` is told to leave out."""

        def take(tile: _Tile) -> None:
            tile.found.hope[:] = hopes[tile.start : tile.start + len(tile.queries)]
            for i in range(len(tile.queries)):
                its = rows[tile.start + i]
                tile.found.settle(i, its[its >= 0])

        self._workers.map(take, self._tiles)

    def hopes(self) -> _Floats:
        """For `known`: what each query leaves rows out for, float64 (q,)."""
        return np.concatenate([tile.found.hope for tile in self._tiles])

    def _find_lost(self) -> None:
        """Read all rows once more for the queries that hoped for too much, without hope; hardly ever are there any."""
        lost = [tile.found.lost() for tile in self._tiles]
        queries = np.concatenate([tile.queries[its] for tile, its in zip(self._tiles, lost, strict=True)])
        if not len(queries):
            return
        again = Search(queries, self._base, self.k, self._metric, self._workers, mask=self._mask, hopeful=False)
        for _ in again.scan():
            pass
        found = iter(again.result()[0])
        for tile, its in zip(self._tiles, lost, strict=True):
            tile.found.hope[its] = -np.inf
            for query in its.tolist():
                tile.found.settle(query, next(found))

    def result(self) -> tuple[_Rows, _Floats]:
        """The k nearest, rows and distances as `nearest` gives them, once all rows have been read.

        Before that, the nearest of those read; there may be fewer than k that can, or are hoped to, be among the k
        nearest of all, and then −1 and infinity stand in the places that are left.
        """
        rows, distances = np.full(self._shape, -1), np.full(self._shape, np.inf)

        def finish(tile: _Tile) -> None:
            tile.found.raise_floors()
            for i, query in enumerate(tile.queries):
                found = self._exact(query, tile.found.rows(i))
                n = len(found[0])
                rows[tile.start + i, :n], distances[tile.start + i, :n] = found

        self._workers.map(finish, self._tiles)
        return rows, distances

    def _exact(self, query: Vectors, rows: _Rows) -> tuple[_Rows, _Floats]:
        """The k nearest of these rows and their distances."""
        rows = np.sort(rows)  # in the order of the file, and of equal distances
        distances = distances_to(query, self._base, rows, self._metric)
        order = np.argsort(distances, kind="stable")[: self.k]
        return rows[order], distances[order]

    def _blocks(self, positions: _Rows) -> list[Block]:
        """The rows at these positions among those that may be found, in blocks."""
        in_order = self._numbers is None and len(positions) == positions[-1] - positions[0] + 1

        def make(start: int) -> Block:
            part = positions[start : start + _BLOCK]
            numbers = part if self._numbers is None else self._numbers[part]
            vectors = self._base[part[0] : part[-1] + 1] if in_order else self._base[numbers]
            return self._products.block(vectors, numbers, self._room[start : start + _BLOCK])

        return self._workers.map(make, range(0, len(positions), _BLOCK))

    def _hope(self, positions: _Rows) -> None:
        """Guess from some rows how near the k nearest of all will be; they are read again in their turn."""
        blocks = self._blocks(positions)
        if len({block.scale for block in blocks}) > 1:
            return
        reach = max(block.reach for block in blocks)
        expected = self.k * len(positions) / self.size  # among the k nearest; more than the rank: once in millions
        rank = min(self.k, math.ceil(expected + 5 * math.sqrt(expected) + 5))

        def look(tile: _Tile) -> None:
            side, scores = tile.side(blocks[0].scale), np.empty((len(tile.queries), len(positions)), np.float32)
            for i, block in enumerate(blocks):
                np.matmul(side.rows, block.rows.T, out=scores[:, i * _BLOCK : i * _BLOCK + len(block.rows)])
            slack = self._products.slack(side, reach)
            if rank == self.k:
                tile.found.raise_floor(_kth(scores, rank, slack, side))
            else:  # lower by as much as a level row may seem to be, or of many level rows none would reach it
                tile.found.hope[:] = _kth(scores, rank, 3 * slack, side)

        self._workers.map(look, self._tiles)

    def _multiply(self, tile: _Tile, blocks: list[Block], done: npt.NDArray[np.bool_] | None = None) -> None:
        """Find candidates among blocks for the queries of a tile, but for those that are `done`, bool (q,)."""
        floats, bools = self._scores.get()
        slacks: dict[tuple[float, float], _Floats] = {}
        limits: dict[tuple[float, float], Vectors] = {}  # as long as no floor rises
        gathered = _Gathered(tile)
        try:
            for block in blocks:
                side, shape = tile.side(block.scale), (len(tile.queries), len(block.rows))
                size = shape[0] * shape[1]
                scores, near = floats[:size].reshape(shape), bools[:size].reshape(shape)
                np.matmul(side.rows, block.rows.T, out=scores)
                if (key := (block.scale, block.reach)) not in slacks:
                    slacks[key] = self._products.slack(side, block.reach)
                slack = slacks[key]
                if shape[1] >= self.k and np.isneginf(tile.found.floor).any():
                    tile.found.raise_floor(_kth(scores, self.k, slack, side))
                    limits.clear()
                if key not in limits:
                    limits[key] = tile.found.limits(slack, side.factor)
                    if done is not None:
                        limits[key][done] = np.inf
                np.greater_equal(scores, limits[key][:, None], out=near)
                hits = np.flatnonzero(near)
                which = hits // shape[1]
                found = block.numbers[hits - which * shape[1]]
                if gathered.take(which, found, scores.reshape(-1)[hits], slack=slack, side=side):
                    limits.clear()
            gathered.hand_over()
        finally:
            self._scores.put((floats, bools))

    def _elsewhere(self, largest: Largest, blocks: list[Block]) -> None:
        """Find candidates on another device; a query of which it may have left one out is done here."""
        for i, block in enumerate(blocks):  # those that could be taken as they are were not copied
            if not np.shares_memory(block.rows, self._room):
                self._room[i * _BLOCK : i * _BLOCK + len(block.rows)] = block.rows
        numbers = np.concatenate([block.numbers for block in blocks])
        reach, scale = max(block.reach for block in blocks), blocks[0].scale
        count = min(self.k + _MORE, len(numbers))
        queries = np.ascontiguousarray(np.concatenate([tile.side(scale).rows for tile in self._tiles]))
        scores, columns = largest(queries, self._room[: len(numbers)], count)

        def take(tile: _Tile) -> None:
            side, part = tile.side(scale), slice(tile.start, tile.start + len(tile.queries))
            slack, its = self._products.slack(side, reach), scores[part]
            true = np.einsum("ij,ij->i", side.rows, self._room[columns[part][:, 0]], dtype=np.float64)
            if (np.abs(true - its[:, 0]) > slack).any():
                raise ConfigError("the device multiplies with less precision than float32; compute without it")
            if count >= self.k:
                tile.found.raise_floor(_kth(its, self.k, slack, side))
            limits = tile.found.limits(slack, side.factor)
            done = (its[:, -1] < limits) | (count == len(numbers))
            which, column = np.nonzero((its >= limits[:, None]) & done[:, None])
            gathered = _Gathered(tile)
            gathered.take(which, numbers[columns[part][which, column]], its[which, column], slack=slack, side=side)
            gathered.hand_over()
            if not done.all():
                self._multiply(tile, blocks, done)

        self._workers.map(take, self._tiles)


def _kth(scores: Vectors, k: int, slack: _Floats, side: Side) -> _Floats:
    """What k of these rows are proven to score, for each query."""
    at = scores.shape[1] - k
    return np.asarray((np.partition(scores, at, axis=1)[:, at] - slack) / side.factor)


class _Gathered:
    """What blocks give to a tile, kept back until it is about a row for each query: handing over has its own price."""

    def __init__(self, tile: _Tile) -> None:
        self._tile, self._count = tile, 0
        self._parts: list[tuple[_Rows, _Rows, _Floats, _Floats]] = []

    def take(self, which: _Rows, rows: _Rows, scores: Vectors, *, slack: _Floats, side: Side) -> bool:
        """Take some more, `which` ascending; whether all was handed over, so that floors may have risen."""
        wide, off = scores / side.factor[which], (slack / side.factor)[which]
        self._parts.append((which, rows, wide - off, wide + off))
        self._count += len(which)
        if self._count < len(self._tile.queries):
            return False
        self.hand_over()
        return True

    def hand_over(self) -> None:
        """Let what was gathered be candidates."""
        if self._count:
            which, rows, low, high = (np.concatenate(column) for column in zip(*self._parts, strict=True))
            if len(self._parts) > 1:
                order = np.argsort(which, kind="stable")
                which, rows, low, high = which[order], rows[order], low[order], high[order]
            self._tile.found.add(which, rows, low, high)
        self._parts, self._count = [], 0
