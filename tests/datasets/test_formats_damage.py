"""Damage that only reading on shows, and values that no row can have: always a DatasetError, and of the right file."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from vecbench.errors import DatasetError
from vecbench.formats.arrays import open_vectors, read_neighbours
from vecbench.formats.convert import converted
from vecbench.formats.layout import DocumentsFound, open_set

ROWS = np.random.default_rng(5).standard_normal((300, 8)).astype(np.float32)


def headed(header: str, data: int) -> bytes:
    """A .npy of this header and so many bytes."""
    line = header.ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(line)) + line.encode() + bytes(data)


@pytest.mark.parametrize(("shape", "values"), [("(-20, -8)", 160), ("(True, 8)", 8), ("(20, True)", 20)])
@pytest.mark.parametrize("dtype", ["<f4", "<f8", "<i8"])
@pytest.mark.parametrize("read", [open_vectors, read_neighbours])
def test_axes_that_no_array_has(
    read: Callable[[Path], object], dtype: str, shape: str, values: int, tmp_path: Path
) -> None:
    """The product of two negative axes is the size of the file, and True is 1: neither gives it away."""
    path = tmp_path / "v.npy"
    header = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}}}"
    path.write_bytes(headed(header, values * np.dtype(dtype).itemsize))
    with pytest.raises(DatasetError, match=r"v\.npy: its header says that the array has shape"):
        read(path)


@pytest.mark.parametrize(
    "header",
    [
        "{'descr': (), 'fortran_order': False, 'shape': (2, 2)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 2)",
        "{'descr': [('a',)], 'fortran_order': False, 'shape': (2, 2)}",
        "(" * 100,
        "{[]: 1}",
    ],
)
def test_headers_that_cannot_be_evaluated(header: str, tmp_path: Path) -> None:
    (tmp_path / "v.npy").write_bytes(headed(header, 16))
    with pytest.raises(DatasetError, match=r"v\.npy is no \.npy file that can be read"):
        open_vectors(tmp_path / "v.npy")


def test_neighbours_of_no_column(tmp_path: Path) -> None:
    np.save(tmp_path / "n.npy", np.zeros((20, 0), np.int64))
    with pytest.raises(DatasetError, match=r"n\.npy: neighbours are a matrix of row numbers; it holds int64 \(20, 0\)"):
        read_neighbours(tmp_path / "n.npy")


@pytest.mark.parametrize("dtype", [np.float64, np.longdouble])
def test_a_row_that_would_become_zero_is_refused(dtype: Any, home: Path, tmp_path: Path) -> None:
    rows = ROWS.astype(dtype)
    rows[7] = 0  # it is zero, and stays so
    rows[8, 1:] = 1e-60  # one value is large enough to tell the row by
    rows[9] *= 1e-40  # float32 has it, with fewer digits
    np.save(tmp_path / "v.npy", rows)
    found = open_vectors(tmp_path / "v.npy")
    assert [row for row in range(300) if not found[row].any()] == [7]
    rows[11] = 1e-60
    np.save(tmp_path / "w.npy", rows)
    with pytest.raises(DatasetError, match=r"w\.npy: row 11 is so small that float32 has it as zero"):
        open_vectors(tmp_path / "w.npy")


def test_what_cannot_be_read_is_not_said_of_the_copy(home: Path, tmp_path: Path) -> None:
    def failing() -> Iterator[npt.NDArray[Any]]:
        yield ROWS[:1]
        raise OSError(5, "Input/output error")

    (tmp_path / "v.bin").touch()
    with pytest.raises(DatasetError, match=r"v\.bin \(train\) cannot be read: Input/output error") as caught:
        converted([tmp_path / "v.bin"], "train", 8, 300, failing)
    assert "written" not in str(caught.value)
    assert not list((home / "cache").rglob("*.npy"))


def test_a_damaged_chunk_of_hdf5(home: Path, tmp_path: Path) -> None:
    path = tmp_path / "v.hdf5"
    with h5py.File(path, "w") as file:
        made = file.create_dataset("train", data=ROWS, compression="gzip")
        file["test"] = ROWS[:2]
        at = made.id.get_chunk_info(0).byte_offset
    overwrite(path, at + 40)
    with pytest.raises(DatasetError, match=r"v\.hdf5 is no HDF5 file that can be read, or is .*damaged"):
        open_set(path)


def test_every_damaged_byte_of_an_hdf5_header_is_a_data_set_error(home: Path, tmp_path: Path) -> None:
    """h5py makes OSError, RuntimeError, KeyError or ValueError of it."""
    path = tmp_path / "v.hdf5"
    with h5py.File(path, "w") as file:
        file["train"], file["test"] = ROWS[:20], ROWS[:2]
    whole = path.read_bytes()
    refused = 0
    for at in range(0, 1600, 4):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1 :])
        try:
            open_set(path)
        except DatasetError:
            refused += 1
    assert refused > 20


def overwrite(path: Path, at: int) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        old = file.read(40)
        file.seek(at)
        file.write(bytes(byte ^ 0x5A for byte in old))


def parquet(path: Path, ids: Any, rows: npt.NDArray[np.float32] = ROWS) -> Path:
    pq.write_table(pa.table({"id": ids, "emb": pa.array(list(rows))}), path, use_dictionary=False)
    return path


def test_a_damaged_page_of_parquet(home: Path, tmp_path: Path) -> None:
    path = parquet(tmp_path / "v.parquet", list(range(300)))
    overwrite(path, pq.read_metadata(path).row_group(0).column(1).data_page_offset)
    with pytest.raises(DatasetError, match=r"v\.parquet is no Parquet file that can be read, or is .*damaged"):
        open_set(path)


def test_a_damaged_name_in_the_schema_of_parquet(home: Path, tmp_path: Path) -> None:
    path = parquet(tmp_path / "v.parquet", list(range(300)))
    path.write_bytes(path.read_bytes().replace(b"emb", b"em\xff"))
    with pytest.raises(DatasetError, match=r"v\.parquet is no Parquet file|which column holds the vectors"):
        open_set(path)


@pytest.mark.parametrize(
    ("ids", "complaint"),
    [
        (pa.array(range(2**63, 2**63 + 300), pa.uint64()), "9223372036854775808"),
        (pa.array([b"\xff"] * 300, pa.binary()).view(pa.string()), "utf-8"),
    ],
    ids=["beyond int64", "no UTF-8"],
)
def test_ids_that_cannot_be_used(ids: Any, complaint: str, home: Path, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=f"v.parquet: 'id' holds an id that cannot be used: .*{complaint}"):
        open_set(parquet(tmp_path / "v.parquet", ids))


@pytest.mark.parametrize("numbers_first", [True, False])
def test_parts_whose_ids_are_of_different_kinds(numbers_first: bool, home: Path, tmp_path: Path) -> None:
    kinds: list[list[Any]] = [list(range(150)), [f"s{row}" for row in range(150)]]
    for part, ids in enumerate(kinds if numbers_first else kinds[::-1]):
        parquet(tmp_path / f"train-{part:02d}-of-02.parquet", ids, ROWS[part * 150 : part * 150 + 150])
    with pytest.raises(DatasetError, match=r"train-01-of-02\.parquet: 'id' holds \w+, that of train-00-of-02\.parquet"):
        open_set(tmp_path)


def test_an_id_of_the_base_among_the_rows_held_out(home: Path, tmp_path: Path) -> None:
    ids = [*range(299), 4]
    with pytest.raises(DatasetError, match=r"v\.parquet: row 299 has id '4', which an earlier row has"):
        open_set(parquet(tmp_path / "v.parquet", ids))
    lines = [json.dumps({"id": id_, "vector": row.tolist()}) for id_, row in zip(ids, ROWS, strict=True)]
    (tmp_path / "v.jsonl").write_text("\n".join(lines) + "\n")
    with pytest.raises(DatasetError, match=r"v\.jsonl: row 299 has id '4', which an earlier row has"):
        open_set(tmp_path / "v.jsonl")


def test_a_folder_of_vectors_is_not_taken_for_documents(home: Path, tmp_path: Path) -> None:
    for name in ("a.npy", "b.npy"):
        np.save(tmp_path / name, ROWS)
    (tmp_path / ".hidden").touch()
    with pytest.raises(DatasetError, match=r"known layouts \(corpus\.jsonl; .*name one of its files") as caught:
        open_set(tmp_path)
    assert not isinstance(caught.value, DocumentsFound)
    (tmp_path / "notes.md").write_text("A text.")
    with pytest.raises(DocumentsFound):
        open_set(tmp_path)
