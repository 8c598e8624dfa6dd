"""Vectors in plain binary files: .npy, .fvecs and .bvecs, .fbin and its kin; and neighbours in .ivecs and .ibin.

.npy      NumPy's own; never unpickled
.fvecs    per row: int32 d, then d float32; .bvecs has uint8, .ivecs int32 (the texmex formats)
.fbin     uint32 n, uint32 d, then n × d float32; .f16bin, .u8bin, .i8bin, .ibin (the big-ann-benchmarks formats)

All little-endian. Float32 rows are memory-mapped where they lie; the rest is converted once.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from vecbench.errors import DatasetError
from vecbench.formats.blocks import BLOCK_BYTES, blocks
from vecbench.formats.convert import converted, map_floats
from vecbench.types import Vectors

__all__ = ["NEIGHBOUR_SUFFIXES", "VECTOR_SUFFIXES", "Neighbours", "npy_header", "open_vectors", "read_neighbours"]

Neighbours: TypeAlias = npt.NDArray[np.int64]
_MOST_DIMENSIONS = 1 << 20  # a header that says more is no header
_VECS: dict[str, np.dtype[Any]] = {".fvecs": np.dtype("<f4"), ".bvecs": np.dtype("u1"), ".ivecs": np.dtype("<i4")}
_BINS: dict[str, np.dtype[Any]] = {
    ".fbin": np.dtype("<f4"),
    ".f16bin": np.dtype("<f2"),
    ".u8bin": np.dtype("u1"),
    ".i8bin": np.dtype("i1"),
    ".ibin": np.dtype("<i4"),
}
VECTOR_SUFFIXES = (".npy", ".fvecs", ".bvecs", ".fbin", ".f16bin", ".u8bin", ".i8bin")
NEIGHBOUR_SUFFIXES = (".ivecs", ".ibin", ".npy")


def open_vectors(path: Path) -> Vectors:
    """The vectors of a file as float32 (n, dim), mapped and read-only; NaN is looked for where they are converted.

    Raises DatasetError, naming file and row, for what is not wholly in the format that the file's suffix promises.
    """
    suffix = path.suffix.lower()
    if suffix not in VECTOR_SUFFIXES:
        raise DatasetError(f"{path}: vectors are read from {', '.join(VECTOR_SUFFIXES)} files, not from {suffix!r}")
    try:
        if suffix == ".npy":
            return _open_npy(path)
        return _open_vecs(path) if suffix in _VECS else _open_bin(path)
    except OSError as e:
        raise DatasetError(f"{path} cannot be read: {e.strerror or e}") from e


def read_neighbours(path: Path) -> Neighbours:
    """Row numbers of neighbours, int64 (q, k), from .ivecs, .ibin (distances behind them are left out) or .npy."""
    suffix = path.suffix.lower()
    try:
        if suffix == ".ivecs":
            rows, dim = _vecs_shape(path)
            return np.concatenate(list(_vecs_blocks(path, rows, dim))).astype(np.int64)
        if suffix == ".ibin":
            rows, dim = _bin_shape(path, (1, 2))
            return np.fromfile(path, "<i4", rows * dim, offset=8).reshape(rows, dim).astype(np.int64)
        if suffix == ".npy":
            shape, fortran, dtype, offset = npy_header(path)
            if dtype.kind not in "iu" or len(shape) != 2 or 0 in shape:
                raise DatasetError(f"{path}: neighbours are a matrix of row numbers; it holds {dtype} {shape}")
            whole = np.memmap(path, dtype, "r", offset, shape, "F" if fortran else "C")
            return np.array(whole, np.int64, order="C")
    except OSError as e:
        raise DatasetError(f"{path} cannot be read: {e.strerror or e}") from e
    raise DatasetError(f"{path}: neighbours are read from {', '.join(NEIGHBOUR_SUFFIXES)} files, not from {suffix!r}")


def npy_header(path: Path) -> tuple[tuple[int, ...], bool, np.dtype[Any], int]:
    """Shape, whether in Fortran order, dtype, and where the data begin; DatasetError unless the file is whole."""
    with path.open("rb") as file:
        try:
            version = np.lib.format.read_magic(file)
            if version == (1, 0):
                shape, fortran, dtype = np.lib.format.read_array_header_1_0(file)
            elif version == (2, 0):
                shape, fortran, dtype = np.lib.format.read_array_header_2_0(file)
            else:
                raise ValueError(f"format version {version}")
        except Exception as e:  # NumPy evaluates the header, a literal of Python: whatever that raises
            raise DatasetError(f"{path} is no .npy file that can be read: {e}") from e
        offset = file.tell()
    if not all(type(axis) is int and axis >= 0 for axis in shape):
        raise DatasetError(f"{path}: its header says that the array has shape {shape}, which none has")
    if dtype.hasobject:
        raise DatasetError(f"{path} holds Python objects, which are never unpickled; save it with a plain dtype")
    _require_bytes(path, offset + int(np.prod(shape, dtype=object)) * dtype.itemsize, f"its header says {shape}")
    return shape, fortran, dtype, offset


def _open_npy(path: Path) -> Vectors:
    shape, fortran, dtype, offset = npy_header(path)
    if len(shape) != 2 or 0 in shape:
        raise DatasetError(f"{path} holds an array of shape {shape}; vectors are a matrix of rows × dimensions")
    if dtype == np.dtype("<f4") and not fortran:
        return map_floats(path, offset, (shape[0], shape[1]))
    if dtype.kind not in "fiu":
        raise DatasetError(f"{path} holds {dtype}; vectors are of integers or floats")
    size = (shape[0], shape[1])
    make = (
        partial(_columns, path, offset, size, dtype)
        if fortran
        else partial(_slices, _mapped(path, dtype, offset, size))
    )
    return converted([path], "", shape[1], shape[0], make)


def _mapped(path: Path, dtype: np.dtype[Any], offset: int, shape: tuple[int, int]) -> npt.NDArray[Any]:
    return np.memmap(path, dtype, "r", offset, shape)


def _slices(whole: npt.NDArray[Any]) -> Iterator[npt.NDArray[Any]]:
    """Rows of a mapped array in C order, so many that they have about `BLOCK_BYTES` as float32."""
    rows = max(1, BLOCK_BYTES // (whole.shape[1] * max(4, whole.dtype.itemsize)))
    for _, block in blocks(whole, rows * whole.shape[1] * whole.dtype.itemsize):
        yield block


def _columns(path: Path, offset: int, shape: tuple[int, int], dtype: np.dtype[Any]) -> Iterator[npt.NDArray[Any]]:
    """The same of an array in Fortran order: a piece of every column is read for each block of rows."""
    n, dim = shape
    step = max(1, BLOCK_BYTES // (dim * max(4, dtype.itemsize)))
    with path.open("rb") as file:
        for start in range(0, n, step):
            block = np.empty((min(step, n - start), dim), dtype)
            for column in range(dim):
                file.seek(offset + (column * n + start) * dtype.itemsize)
                block[:, column] = np.fromfile(file, dtype, len(block))
            yield block


def _open_vecs(path: Path) -> Vectors:
    rows, dim = _vecs_shape(path)
    return converted([path], "", dim, rows, partial(_vecs_blocks, path, rows, dim))


def _vecs_shape(path: Path) -> tuple[int, int]:
    item = _VECS[path.suffix.lower()].itemsize
    size = path.stat().st_size
    head = np.fromfile(path, "<i4", 1)
    if not len(head):
        raise DatasetError(f"{path} has {size} bytes, which is no row")
    dim = int(head[0])
    if not 1 <= dim <= _MOST_DIMENSIONS:
        raise DatasetError(f"{path}: row 0 says that it has {dim} dimensions; is this a {path.suffix} file?")
    rows, rest = divmod(size, 4 + dim * item)
    if rest:
        raise DatasetError(
            f"{path} has {size:,} bytes: {rows:,} rows of {dim} dimensions and {rest} bytes more; it is truncated, "
            f"or its rows differ in length"
        )
    return rows, dim


def _vecs_blocks(path: Path, rows: int, dim: int) -> Iterator[npt.NDArray[Any]]:
    """The values, with the header of every row checked."""
    record = np.dtype([("dim", "<i4"), ("values", _VECS[path.suffix.lower()], (dim,))])
    step = max(1, BLOCK_BYTES // (4 + 4 * dim))
    with path.open("rb") as file:
        for start in range(0, rows, step):
            found = np.fromfile(file, record, min(step, rows - start))
            wrong = found["dim"] != dim
            if wrong.any():
                row = int(np.argmax(wrong))
                raise DatasetError(
                    f"{path}: row {start + row} says that it has {found['dim'][row]} dimensions, row 0 has {dim}"
                )
            yield found["values"]


def _open_bin(path: Path) -> Vectors:
    rows, dim = _bin_shape(path)
    dtype = _BINS[path.suffix.lower()]
    if dtype == np.dtype("<f4"):
        return map_floats(path, 8, (rows, dim))
    return converted([path], "", dim, rows, partial(_slices, _mapped(path, dtype, 8, (rows, dim))))


def _bin_shape(path: Path, times: tuple[int, ...] = (1,)) -> tuple[int, int]:
    """n and d; the file may hold the n × d values as often as `times` says."""
    head = np.fromfile(path, "<u4", 2)
    if len(head) < 2:
        raise DatasetError(f"{path} has {path.stat().st_size} bytes; its header alone has 8")
    rows, dim = int(head[0]), int(head[1])
    if not rows or not 1 <= dim <= _MOST_DIMENSIONS:
        raise DatasetError(f"{path}: its header says {rows} rows of {dim}; is this a {path.suffix} file?")
    values = rows * dim * _BINS[path.suffix.lower()].itemsize
    size = path.stat().st_size
    if size not in {8 + n * values for n in times}:
        _require_bytes(path, 8 + values, f"its header says {rows:,} rows of {dim}")
    return rows, dim


def _require_bytes(path: Path, expected: int, because: str) -> None:
    size = path.stat().st_size
    if size != expected:
        how = "it is truncated" if size < expected else "what follows is unknown"
        raise DatasetError(f"{path} has {size:,} bytes, but {because}, which are {expected:,}; {how}")
