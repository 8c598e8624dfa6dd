"""Vectors in Parquet: a column of lists, and an id column; one file, or a folder as VectorDBBench lays it out."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from vecbench.errors import DatasetError, MissingDependency
from vecbench.formats.arrays import Neighbours
from vecbench.formats.blocks import BLOCK_BYTES
from vecbench.formats.convert import converted
from vecbench.formats.found import VectorSet, hold_out_rows
from vecbench.formats.rows import RowNames
from vecbench.types import Vectors

__all__ = ["read_parquet", "train_files"]

_VECTORS = ("emb", "embedding", "embeddings", "vector", "vec")
_IDS = ("id", "_id", "doc_id", "docid")
_PAGES = 1 << 20  # read ahead by so much, and not by whole column chunks
_TRAIN = re.compile(r"(shuffle_)?train(-\d+-of-(\d+))?\.parquet")


def train_files(folder: Path) -> list[Path]:
    """The base files of a folder in VectorDBBench's layout, in order; empty where it is none.

    `train.parquet` or `train-00-of-10.parquet` …, or the same with `shuffle_` before; where both forms are there the
    plain one is taken, for they hold the same rows. DatasetError where a part is missing.
    """
    for shuffled in (None, "shuffle_"):
        found = [(m, path) for path in sorted(folder.glob("*.parquet")) if (m := _TRAIN.fullmatch(path.name))]
        mine = [(m, path) for m, path in found if m[1] == shuffled]
        if not mine:
            continue
        if whole := [path for m, path in mine if m[2] is None]:
            return whole
        if len(mine) != int(mine[0][0][3]):
            raise DatasetError(f"{folder} has {len(mine)} of the {mine[0][0][3]} parts of {mine[0][1].name}")
        return [path for _, path in mine]
    return []


def read_parquet(path: Path, queries: Path | None = None) -> VectorSet:
    """The vectors of a file or folder; queries from a file of their own, `test.parquet`, or held out.

    Raises DatasetError, naming file and row, for a vector that is missing, too short or too long, or holds null or NaN.
    """
    files = train_files(path) if path.is_dir() else [path]
    if not files:
        raise DatasetError(f"{path} has no train.parquet; name a file, or the folder of a VectorDBBench set")
    folder = path if path.is_dir() else path.parent
    beside = folder / "test.parquet"
    named = queries or (beside if beside.exists() and (path.is_dir() or _TRAIN.fullmatch(path.name)) else None)
    base, ids = _read(files)
    if named is None:
        return hold_out_rows(VectorSet(base, ids=ids), path)
    asked, query_ids = _read([named])
    truth = folder / "neighbors.parquet"
    found = _neighbours(truth, ids, len(asked)) if queries is None and truth.exists() else None
    # The ids of the queries are numbers like those of the base and mean other rows.
    names = RowNames(query_ids.numbers, "q") if isinstance(query_ids, RowNames) else query_ids
    return VectorSet(base, asked, ids=ids, query_ids=names, neighbours=found)


def _library() -> Any:
    try:
        import pyarrow.parquet
    except ImportError as e:
        raise MissingDependency("Reading Parquet", module="pyarrow", extra="files") from e
    return pyarrow.parquet


@contextmanager
def _open(path: Path) -> Iterator[Any]:
    """The file; what pyarrow makes of its bytes inside the context becomes a DatasetError."""
    library = _library()
    import pyarrow as pa

    try:
        with library.ParquetFile(path, buffer_size=_PAGES, pre_buffer=False) as file:
            yield file
    except (pa.ArrowException, OSError, UnicodeDecodeError) as e:
        raise DatasetError(f"{path} is no Parquet file that can be read, or is truncated or damaged: {e}") from e


def _read(files: Sequence[Path]) -> tuple[Vectors, Sequence[str]]:
    rows, dim, column = 0, 0, ""
    for path in files:
        with _open(path) as file:
            column = column or _column(path, file)
            rows += file.metadata.num_rows
            if not dim and file.metadata.num_rows:
                first = next(file.iter_batches(1, columns=[column]), None)
                dim = 0 if first is None else _matrix(path, 0, column, first).shape[1]
    if not dim:
        raise DatasetError(f"{files[0]} has no rows")
    vectors = converted(files, column, dim, rows, partial(_vectors, files, column, dim))
    return vectors, _ids(files, rows)


def _column(path: Path, file: Any) -> str:
    """The column of the vectors: by its name, or the only one that holds lists of numbers."""
    import pyarrow as pa

    def is_vector(kind: Any) -> bool:
        lists = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
        return bool(lists and (pa.types.is_floating(kind.value_type) or pa.types.is_integer(kind.value_type)))

    fields: list[str] = [field.name for field in file.schema_arrow if is_vector(field.type)]
    for name in _VECTORS:
        if name in fields:
            return name
    if len(fields) != 1:
        raise DatasetError(
            f"{path}: which column holds the vectors? {fields or 'none'} hold lists of numbers; "
            f"call it one of {', '.join(_VECTORS)}"
        )
    return fields[0]


def _vectors(files: Sequence[Path], column: str, dim: int) -> Iterator[npt.NDArray[Any]]:
    for path in files:
        start = 0
        for batch in _batches(path, [column], max(1, BLOCK_BYTES // (8 * dim))):
            yield (block := _matrix(path, start, column, batch, dim))
            start += len(block)


def _batches(path: Path, columns: list[str], rows: int) -> Iterator[Any]:
    with _open(path) as file:
        if missing := sorted(set(columns) - set(file.schema_arrow.names)):
            raise DatasetError(f"{path} has no column {missing[0]!r}; it has {', '.join(file.schema_arrow.names)}")
        yield from file.iter_batches(rows, columns=columns)


def _matrix(path: Path, start: int, column: str, batch: Any, dim: int | None = None) -> npt.NDArray[Any]:
    """A batch of lists as rows; DatasetError names the row of the first that is none, or of another length."""
    import pyarrow as pa
    import pyarrow.compute

    pc: Any = pyarrow.compute  # its functions are made when it is imported
    lists = batch.column(column)
    lengths = np.asarray(pc.fill_null(pc.list_value_length(lists), -1))
    wanted = int(lengths[0]) if dim is None and len(lengths) else dim
    if (wrong := lengths != wanted).any() or not wanted:
        row = int(np.argmax(wrong))
        what = "is null" if lengths[row] < 0 else f"has {lengths[row]} values, {wanted} are expected"
        raise DatasetError(f"{path}: row {start + row} of {column!r} {what}")
    values = lists.flatten()
    if values.null_count:
        row = int(np.argmax(np.asarray(values.is_null()))) // wanted
        raise DatasetError(f"{path}: row {start + row} of {column!r} holds null")
    if not (pa.types.is_floating(values.type) or pa.types.is_integer(values.type)):
        raise DatasetError(f"{path}: {column!r} holds {values.type}; vectors are of numbers")
    return np.asarray(values.to_numpy(zero_copy_only=False)).reshape(-1, wanted)


def _ids(files: Sequence[Path], rows: int) -> Sequence[str]:
    """The id column, whole numbers kept as numbers; empty where the first file has none."""
    import pyarrow as pa

    with _open(files[0]) as file:
        kinds = {field.name: field.type for field in file.schema_arrow}
    column = next((name for name in _IDS if name in kinds), None)
    if column is None:
        return ()
    if not (pa.types.is_integer(kinds[column]) or _is_text(kinds[column])):
        raise DatasetError(f"{files[0]}: {column!r} holds {kinds[column]}; ids are strings or whole numbers")
    whole = pa.types.is_integer(kinds[column])
    numbers = np.empty(rows if whole else 0, np.int64)
    names: list[str] = []
    at = 0
    for path in files:
        for batch in _batches(path, [column], 1 << 16):
            part = batch.column(column)
            if part.null_count:
                raise DatasetError(f"{path}: {column!r} holds null; every row needs an id")
            if not (pa.types.is_integer(part.type) if whole else _is_text(part.type)):
                raise DatasetError(f"{path}: {column!r} holds {part.type}, that of {files[0].name} {kinds[column]}")
            try:
                if whole:
                    numbers[at : at + len(part)] = part.cast(pa.int64()).to_numpy()
                else:
                    names.extend(part.to_pylist())
            except ValueError as e:  # a number beyond 2^63, bytes that are no UTF-8
                raise DatasetError(f"{path}: {column!r} holds an id that cannot be used: {e}") from e
            at += len(part)
    return RowNames(numbers) if whole else names


def _is_text(kind: Any) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _neighbours(path: Path, ids: Sequence[str], queries: int) -> Neighbours:
    """`neighbors_id`, ids of base rows, as row numbers; the rows of the file belong to the queries in order."""
    blocks = [_matrix(path, 0, "neighbors_id", batch) for batch in _batches(path, ["neighbors_id"], 1 << 20)]
    named = np.concatenate(blocks).astype(np.int64)
    if len(named) != queries:
        raise DatasetError(f"{path} has {len(named)} rows for {queries} queries")
    if not isinstance(ids, RowNames):
        raise DatasetError(f"{path} names base rows by number, but the base has no numbers as ids")
    numbers = np.asarray(ids.numbers, np.int64)
    order = np.argsort(numbers, kind="stable")
    place = np.searchsorted(numbers, named, sorter=order)
    rows: Neighbours = order[np.minimum(place, len(order) - 1)]
    if not (numbers[rows] == named).all():
        raise DatasetError(f"{path}: id {int(named[numbers[rows] != named][0])} is in no row of the base")
    return rows
