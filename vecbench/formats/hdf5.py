"""HDF5 as ann-benchmarks lays it out: `train`, `test`, `neighbors`, and the attribute `distance`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from vecbench.errors import DatasetError, MissingDependency
from vecbench.formats.blocks import BLOCK_BYTES
from vecbench.formats.convert import converted, map_floats
from vecbench.formats.found import VectorSet, hold_out_rows
from vecbench.types import Metric, Vectors

__all__ = ["read_hdf5"]

_METRICS = {"euclidean": Metric.EUCLIDEAN, "angular": Metric.COSINE, "cosine": Metric.COSINE, "dot": Metric.DOT}


def read_hdf5(path: Path) -> VectorSet:
    """The vectors, the queries (the last rows where there is no `test`) and the neighbours of an HDF5 file.

    Vectors that lie in one piece as float32 are mapped in the file, others converted once. Whatever would read another
    file or unpickle is refused: links to elsewhere, external and virtual storage, object types.
    """
    with _open(path) as file:
        metric = _metric(path, file.attrs.get("distance"))
        base = _vectors(path, file, "train")
        queries = _vectors(path, file, "test") if "test" in file else None
        neighbours = None
        if "neighbors" in file:
            found = _matrix(path, file, "neighbors", "iu")
            neighbours = np.asarray(found[:], np.int64)
    return hold_out_rows(VectorSet(base, queries, metric=metric, neighbours=neighbours), path)


def _library() -> Any:
    try:
        import h5py
    except ImportError as e:
        raise MissingDependency("Reading HDF5", module="h5py", extra="files") from e
    return h5py


@contextmanager
def _open(path: Path) -> Iterator[Any]:
    """The file; what h5py makes of its bytes inside the context becomes a DatasetError."""
    h5py = _library()
    try:
        with h5py.File(path, "r") as file:
            yield file
    except DatasetError:
        raise
    except Exception as e:  # of one and the same damage h5py makes OSError, RuntimeError, KeyError or ValueError
        raise DatasetError(f"{path} is no HDF5 file that can be read, or is truncated or damaged: {e}") from e


def _metric(path: Path, said: object) -> Metric | None:
    name = said.decode("ascii", "replace") if isinstance(said, bytes) else said
    if name is None:
        return None
    if not isinstance(name, str) or name not in _METRICS:
        raise DatasetError(f"{path}: its distance is {name!r}; known are {', '.join(_METRICS)}")
    return _METRICS[name]


def _matrix(path: Path, file: Any, name: str, kinds: str) -> Any:
    h5py = _library()
    if name not in file:
        raise DatasetError(f"{path} has no array {name!r}; it has {', '.join(sorted(file)) or 'none'}")
    if not isinstance(file.get(name, getlink=True), h5py.HardLink):
        raise DatasetError(f"{path}: {name!r} is a link to elsewhere, which is not followed")
    found = file[name]
    if not isinstance(found, h5py.Dataset):
        raise DatasetError(f"{path}: {name!r} is no array")
    if found.is_virtual or found.external:
        raise DatasetError(f"{path}: {name!r} is stored in other files, which are not read")
    if found.dtype.kind not in kinds or found.ndim != 2 or 0 in found.shape:
        raise DatasetError(f"{path}: {name!r} is {found.dtype} {found.shape}; a matrix of numbers is expected")
    return found


def _vectors(path: Path, file: Any, name: str) -> Vectors:
    found = _matrix(path, file, name, "fiu")
    rows, dim = found.shape
    offset = found.id.get_offset()  # None where it is chunked, compressed, compact or not written yet
    if offset is not None and found.dtype == np.dtype("<f4"):
        if offset + found.nbytes > path.stat().st_size:
            raise DatasetError(f"{path} is truncated: {name!r} would end beyond it")
        return map_floats(path, offset, (rows, dim))
    return converted([path], name, dim, rows, partial(_slices, path, name))


def _slices(path: Path, name: str) -> Iterator[npt.NDArray[Any]]:
    with _open(path) as file:
        found = _matrix(path, file, name, "fiu")
        step = max(1, BLOCK_BYTES // max(1, found.shape[1] * max(4, found.dtype.itemsize)))
        if found.chunks:  # a chunk is unpacked whole for any part of it
            step = max(found.chunks[0], step // found.chunks[0] * found.chunks[0])
        for start in range(0, len(found), step):
            yield found[start : start + step]
