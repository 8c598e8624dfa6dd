"""Files that no mapping shows as float32 rows, written once as a plain .npy; everything behind sees float32.

The copy lies in the user's cache, in a folder named after the source's path, size and times: another source, or a
changed one, is converted anew. It is complete when it has its name; what a killed process left is overwritten.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

import numpy as np
import numpy.typing as npt
from filelock import FileLock

from vecbench.errors import DatasetError
from vecbench.formats.blocks import require_finite
from vecbench.types import Vectors

__all__ = ["Blocks", "as_float32", "cache_home", "converted", "map_floats", "require_space", "shown", "write_npy"]

Blocks: TypeAlias = Iterable[npt.NDArray[Any]]
_VERSION = 2  # raised when what is written for the same source changes
_EXACT = 1 << 24  # beyond it float32 skips whole numbers
_SPARE_BYTES = 64 << 20


def cache_home() -> Path:
    """vecbench's folder in the user's cache, where all that can be made or fetched again lies."""
    from platformdirs import user_cache_path

    return user_cache_path("vecbench", appauthor=False)


def require_space(folder: Path, needed: int, what: str) -> None:
    """Raise DatasetError unless the disk of `folder`, which need not exist yet, has room for `needed` bytes."""
    there = next(place for place in (folder, *folder.parents) if place.exists())
    free = shutil.disk_usage(there).free
    if needed + _SPARE_BYTES > free:
        raise DatasetError(
            f"{what} needs {needed / 1e6:,.0f} MB, but the disk of {there} has {free / 1e6:,.0f} MB free; "
            f"make room, or point the user's cache elsewhere (XDG_CACHE_HOME)"
        )


def as_float32(where: str, start: int, block: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """Rows of any numbers as float32, C-contiguous; DatasetError, naming the row, where a value would be another.

    Rounding of float64 is accepted; a whole number that float32 does not have, an overflow, a row that would become
    zero, NaN and infinity are not.
    """
    if block.dtype.kind not in "fiu":
        raise DatasetError(f"{where}: its values are {block.dtype}; vectors are of integers or floats")
    if block.dtype.kind in "iu" and block.dtype.itemsize > 2:
        large = (block > _EXACT) | (block < -_EXACT) if block.dtype.kind == "i" else block > _EXACT
        if (bad := large.any(axis=1)).any():
            raise DatasetError(
                f"{where}: row {start + int(np.argmax(bad))} holds a whole number beyond 2^24, which float32 has not"
            )
    with np.errstate(over="ignore"):
        made = np.ascontiguousarray(block, np.float32)
    require_finite(where, start, made)
    if block.dtype.itemsize > 4 and (lost := ~made.any(axis=1) & block.any(axis=1)).any():
        raise DatasetError(
            f"{where}: row {start + int(np.argmax(lost))} is so small that float32 has it as zero; scale the vectors"
        )
    return made


def map_floats(path: Path, offset: int, shape: tuple[int, int]) -> Vectors:
    """Little-endian float32 rows in a file, memory-mapped and read-only."""
    return np.memmap(path, "<f4", "r", offset, shape)


def converted(sources: Sequence[Path], part: str, dim: int, rows: int | None, make: Callable[[], Blocks]) -> Vectors:
    """The rows of `make()` as mapped float32 (n, dim), written to the cache if they are not there yet.

    sources: the files that decide the rows. part: which of their arrays. rows: how many, None where only reading tells.
    DatasetError says whether the source cannot be read or the copy cannot be written.
    """
    stamps: list[list[Any]] = []
    for source in sources:
        status = source.stat()
        stamps.append([str(source.resolve()), status.st_size, status.st_mtime_ns, status.st_ctime_ns])
    key = hashlib.sha256(json.dumps([_VERSION, part, stamps]).encode()).hexdigest()[:32]
    folder = cache_home() / "converted"
    target = folder / f"{key}.npy"
    if not target.exists():
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with FileLock(folder / f"{key}.lock"):
                if not target.exists():
                    label = f"{sources[0].name} ({part})" if part else sources[0].name
                    size = "" if rows is None else f", {rows:,} × {dim}, {4e-6 * rows * dim:,.1f} MB"
                    print(f"converting {label} to float32 once{size}: {target}", file=sys.stderr)
                    require_space(folder, 0 if rows is None else 4 * rows * dim, f"converting {label}")
                    with shown(label, rows, "rows") as progress:
                        read = _read(f"{sources[0]} ({part})" if part else str(sources[0]), make())
                        write_npy(target, str(sources[0]), dim, read, rows=rows, progress=progress)
        except OSError as e:
            raise DatasetError(f"{target} cannot be written: {e.strerror or e}") from e
    return read_converted(target, dim)


def _read(where: str, made: Blocks) -> Blocks:
    """The blocks; what goes wrong here is of the source and not of the copy."""
    try:
        yield from made
    except OSError as e:
        raise DatasetError(f"{where} cannot be read: {e.strerror or e}") from e


def read_converted(path: Path, dim: int) -> Vectors:
    """What `write_npy` wrote, mapped."""
    from vecbench.formats.arrays import npy_header

    shape, fortran, dtype, offset = npy_header(path)
    if fortran or dtype != np.float32 or len(shape) != 2 or shape[1] != dim:
        raise DatasetError(f"{path} is damaged: it holds {dtype} {shape}; delete it, and it is made again")
    return map_floats(path, offset, (shape[0], shape[1]))


def write_npy(
    target: Path,
    where: str,
    dim: int,
    made: Blocks,
    *,
    rows: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> int:
    """Write rows block by block as float32 .npy, whole under its name or not at all; returns how many.

    where: names the source in errors. rows: how many there must be, None for any number.
    """
    part = target.with_name(f"{target.name}.part")
    done = 0
    with part.open("wb") as file:
        start = _header(file, (0, dim))
        for block in made:
            if block.ndim != 2 or block.shape[1] != dim:
                raise DatasetError(f"{where}: row {done} and on have shape {block.shape}; {dim} columns are expected")
            file.write(as_float32(where, done, block).data)
            done += len(block)
            if progress is not None:
                progress(done, rows or done)
        if not done or (rows is not None and done != rows):
            raise DatasetError(f"{where}: {done} rows were found, {rows or 'one or more'} were expected")
        file.seek(0)
        if _header(file, (done, dim)) != start:
            raise DatasetError(f"{where}: the header of {part} has grown; this is a defect of vecbench")
        file.flush()
        os.fsync(file.fileno())
    part.replace(target)
    return done


def _header(file: BinaryIO, shape: tuple[int, int]) -> int:
    """Write the header; its length is where the rows begin. NumPy leaves room in it for a longer first axis."""
    np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": shape})
    return file.tell()


@contextmanager
def shown(label: str, total: int | None, unit: str) -> Iterator[Callable[[int, int], None]]:
    """A function that draws (done, total) as a bar on stderr; it draws nothing where stderr is no terminal."""
    if not sys.stderr.isatty():
        yield lambda _done, _total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    count = DownloadColumn() if unit == "bytes" else MofNCompleteColumn()
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), count, TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bars:
        task = bars.add_task(label, total=total)
        yield lambda done, most: bars.update(task, completed=done, total=most)
