"""The rows of a data set on their way into a store: in an order of the seed, never all of a large one in memory."""

from __future__ import annotations

import contextlib
import mmap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from vecbench.types import Records, Vectors

__all__ = ["BATCH", "HELD_BYTES", "batches", "drop_pages", "insertion_order", "mapped_file", "open_rows", "save_rows"]

BATCH = 1000
HELD_BYTES = 256_000_000  # a base of up to so many bytes is prepared whole before the first row is sent
_WINDOW_ROWS = 16_384
_RUN = 64  # rows that stay together when a file is too large for a row of it to be read at a time


def insertion_order(n: int, seed: int, *, whole: bool) -> Iterator[np.ndarray[Any, np.dtype[np.int64]]]:
    """Row numbers in windows, every row once, the same for the same seed.

    whole: one permutation of everything. Else runs of 64 neighbouring rows are shuffled, and the rows inside a window
    of 256 runs again: a file larger than memory is read in pieces of 100 kB, not of one row.
    """
    random = np.random.default_rng(seed)
    if whole:
        yield random.permutation(n)
        return
    runs = random.permutation(-(-n // _RUN))
    for start in range(0, len(runs), _WINDOW_ROWS // _RUN):
        rows = (runs[start : start + _WINDOW_ROWS // _RUN, None] * _RUN + np.arange(_RUN)).ravel()
        yield random.permutation(rows[rows < n])


def batches(base: Vectors, seed: int, buckets: int) -> Iterator[list[Records]]:
    """The base in lists of batches of 1,000 rows: one list where it is small enough, else a window at a time.

    A row's number is its id; its metadata is `bucket`, the number modulo `buckets`, to filter by.
    """
    for order in insertion_order(len(base), seed, whole=base.nbytes <= HELD_BYTES):
        # Read in the order of the file, and brought into the order of insertion in memory.
        sorted_rows = np.sort(order) if base.nbytes > HELD_BYTES else None
        block = None if sorted_rows is None else np.ascontiguousarray(base[sorted_rows], np.float32)
        made = []
        for start in range(0, len(order), BATCH):
            part = order[start : start + BATCH]
            if block is None or sorted_rows is None:
                vectors = np.ascontiguousarray(base[part], np.float32)
            else:
                vectors = block[np.searchsorted(sorted_rows, part)]
            numbers = part.tolist()
            made.append(Records([str(i) for i in numbers], vectors, [{"bucket": i % buckets} for i in numbers]))
        block = None  # not held while the window is sent
        yield made


def mapped_file(vectors: Vectors) -> tuple[Path, int] | None:
    """The file that an array is a view of, and the offset in bytes at which it begins; None for one in memory."""
    held: Any = vectors
    root: np.memmap[Any, Any] | None = None  # a view of a mapped array is one too, but only the first has its address
    while held is not None:
        if isinstance(held, np.memmap) and held.filename is not None:
            root = held
        held = getattr(held, "base", None)
    if root is None:
        return None
    return Path(str(root.filename)).resolve(), int(root.offset) + vectors.ctypes.data - root.ctypes.data


def save_rows(vectors: Vectors, path: Path) -> dict[str, Any]:
    """Where another process finds the array: the file that it is mapped from, or one that is written at `path`."""
    place = mapped_file(vectors) if vectors.flags.c_contiguous else None
    if place is None:
        np.save(path, vectors)
        return {"npy": str(path)}
    return {"raw": str(place[0]), "offset": place[1], "shape": list(vectors.shape)}


def open_rows(place: dict[str, Any]) -> Vectors:
    """The array that `save_rows` put somewhere, mapped."""
    if "npy" in place:
        held: Vectors = np.load(place["npy"], mmap_mode="r", allow_pickle=False)
        return held
    return np.memmap(place["raw"], np.float32, "r", place["offset"], tuple(place["shape"]))


def drop_pages(vectors: Vectors) -> None:
    """Take the pages of a mapped array out of this process's memory: they are the data set's, not the engine's."""
    held: Any = vectors
    while held is not None:
        mapping = getattr(held, "_mmap", None)
        if isinstance(mapping, mmap.mmap):
            if hasattr(mmap, "MADV_DONTNEED"):
                with contextlib.suppress(OSError, ValueError):
                    mapping.madvise(mmap.MADV_DONTNEED)
            return
        held = getattr(held, "base", None)
