"""The rows of a data set on their way into a store: in an order of the seed, never all of a large one in memory."""

from __future__ import annotations

import contextlib
import hashlib
import mmap
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from vecbench.errors import RunVoid
from vecbench.formats.blocks import mapped_file
from vecbench.types import Records, Vectors

__all__ = [
    "BATCH", "HELD_BYTES", "batches", "drop_pages", "insertion_order", "open_rows", "require_unchanged", "save_rows",
]  # fmt: skip

BATCH = 1000
HELD_BYTES = 256_000_000  # a base of up to so many bytes is prepared whole before the first row is sent
_WINDOW_ROWS = 16_384
_Numbers: TypeAlias = npt.NDArray[np.int64]
_RUN = 64  # rows that stay together when a file is too large for a row of it to be read at a time


def insertion_order(n: int, seed: int, *, whole: bool) -> Iterator[_Numbers]:
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
    whole = base.nbytes <= HELD_BYTES
    for order in insertion_order(len(base), seed, whole=whole):
        source, places = (base, order) if whole else _in_order_of_the_file(base, order)
        made = []
        for start in range(0, len(order), BATCH):
            numbers = order[start : start + BATCH].tolist()
            vectors = np.ascontiguousarray(source[places[start : start + BATCH]], np.float32)
            made.append(Records([str(i) for i in numbers], vectors, [{"bucket": i % buckets} for i in numbers]))
        del source  # not held while the window is sent
        yield made


def _in_order_of_the_file(base: Vectors, order: _Numbers) -> tuple[Vectors, _Numbers]:
    """The rows of a window in memory, read from first to last, and where in them each of `order` is."""
    by_place = np.argsort(order)
    places = np.empty_like(by_place)
    places[by_place] = np.arange(len(order))
    return base[order[by_place]], places


def save_rows(vectors: Vectors, path: Path) -> dict[str, Any]:
    """Where another process finds the array: the file that it is mapped from, or one that is written at `path`.

    Of a file of somebody's own it is kept what it was: replaced or changed meanwhile, it would be compared with itself.
    """
    if (place := mapped_file(vectors)) is None:
        np.save(path, vectors)
        return {"npy": str(path)}
    file = place[0].resolve()
    return {
        "raw": str(file), "offset": place[1], "shape": list(vectors.shape), "stamp": _stamp(file),
        "sample": _sample(vectors),
    }  # fmt: skip


def open_rows(place: dict[str, Any]) -> Vectors:
    """The array that `save_rows` put somewhere, mapped; `RunVoid` where it is another one now."""
    if "npy" in place:
        held: Vectors = np.load(place["npy"], mmap_mode="r", allow_pickle=False)
        return held
    require_unchanged(place)
    found: Vectors = np.memmap(place["raw"], np.float32, "r", place["offset"], tuple(place["shape"]))
    if _sample(found) != place["sample"]:  # replaced after it was loaded, but before it was stamped
        raise _changed(place)
    return found


def require_unchanged(place: dict[str, Any]) -> None:
    """Raise `RunVoid` where the file that `save_rows` named is another one now, or was written to."""
    if "raw" in place and _stamp(Path(place["raw"])) != place["stamp"]:
        raise _changed(place)


def _changed(place: dict[str, Any]) -> RunVoid:
    name = Path(place["raw"]).name
    return RunVoid(f"{name} was changed or replaced while it was measured; run again, and leave it alone meanwhile")


def _stamp(path: Path) -> list[int]:
    try:
        found = path.stat()
    except OSError:
        return []
    return [found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns]


def _sample(vectors: Vectors) -> str:
    """The hash of up to a thousand rows, from the first to the last."""
    rows = np.linspace(0, len(vectors) - 1, min(len(vectors), 1000)).astype(np.int64)
    return hashlib.sha256(np.ascontiguousarray(vectors[rows]).data).hexdigest()


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
