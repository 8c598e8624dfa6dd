"""HDF5, Parquet and JSON lines: layouts that others made, damage, and files that reach for other files."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from vecbench.errors import DatasetError
from vecbench.formats.blocks import mapped_file
from vecbench.formats.found import VectorSet
from vecbench.formats.layout import open_set
from vecbench.formats.rows import RowNames
from vecbench.registry import dataset_source
from vecbench.sources import path_source
from vecbench.types import Metric

RNG = np.random.default_rng(11)
BASE = RNG.standard_normal((50, 4)).astype(np.float32)
QUERIES = RNG.standard_normal((3, 4)).astype(np.float32)
NEAR = np.array([[1, 2], [3, 4], [49, 0]], np.int32)


def ann(path: Path, **arrays: Any) -> Path:
    """As ann-benchmarks writes it; `arrays` replaces parts, None leaves one out."""
    with h5py.File(path, "w") as file:
        file.attrs["distance"] = "angular"
        for name, content in {"train": BASE, "test": QUERIES, "neighbors": NEAR, **arrays}.items():
            if content is not None:
                file[name] = content
    return path


def opened(path: Path, queries: Path | None = None) -> VectorSet:
    found = open_set(path, queries=queries)
    assert isinstance(found, VectorSet)
    return found


def test_an_ann_benchmarks_file_is_mapped_where_it_lies(home: Path, tmp_path: Path) -> None:
    path = ann(tmp_path / "glove.hdf5")
    found = opened(path)
    np.testing.assert_array_equal(found.base, BASE)
    np.testing.assert_array_equal(found.queries, QUERIES)
    np.testing.assert_array_equal(found.neighbours, NEAR)
    assert found.metric is Metric.COSINE
    place = mapped_file(found.base)
    assert place is not None
    assert place[0] == path
    assert not (home / "cache" / "vecbench" / "converted").exists()
    assert dataset_source(str(path)).load().card.metric is Metric.COSINE


@pytest.mark.parametrize(
    "how",
    [
        {"chunks": (7, 4), "compression": "gzip", "dtype": "<f4"},
        {"dtype": "<f8"},
        {"dtype": ">f4"},
        {"dtype": "<f4", "chunks": (50, 4), "shuffle": True, "fletcher32": True},
    ],
)
def test_other_storage_is_converted(how: dict[str, Any], home: Path, tmp_path: Path) -> None:
    path = ann(tmp_path / "v.h5", train=None)
    with h5py.File(path, "a") as file:
        file.create_dataset("train", data=BASE.astype(how.pop("dtype")), **how)
    np.testing.assert_array_equal(opened(path).base, BASE)


def test_a_user_block_before_the_file_does_not_shift_the_rows(home: Path, tmp_path: Path) -> None:
    with h5py.File(tmp_path / "v.h5", "w", userblock_size=512) as file:
        file["train"], file["test"] = BASE, QUERIES
    np.testing.assert_array_equal(opened(tmp_path / "v.h5").base, BASE)


def test_hdf5_that_reaches_for_other_files_is_refused(home: Path, tmp_path: Path) -> None:
    secret = ann(tmp_path / "secret.h5")
    cases: list[tuple[str, Any, str]] = [
        ("external", h5py.ExternalLink(str(secret), "/train"), "link to elsewhere"),
        ("soft", h5py.SoftLink("/test"), "link to elsewhere"),
    ]
    for name, link, complaint in cases:
        path = ann(tmp_path / f"{name}.h5", train=link)
        with pytest.raises(DatasetError, match=complaint):
            open_set(path)
    layout = h5py.VirtualLayout(BASE.shape, np.float32)
    layout[:] = h5py.VirtualSource(str(secret), "train", BASE.shape)
    path = ann(tmp_path / "virtual.h5", train=None)
    with h5py.File(path, "a") as file:
        file.create_virtual_dataset("train", layout)
    with pytest.raises(DatasetError, match="stored in other files"):
        open_set(path)
    BASE.tofile(tmp_path / "raw")
    path = ann(tmp_path / "raw.h5", train=None)
    with h5py.File(path, "a") as file:
        file.create_dataset("train", BASE.shape, "<f4", external=[(str(tmp_path / "raw"), 0, BASE.nbytes)])
    with pytest.raises(DatasetError, match="stored in other files"):
        open_set(path)


def test_hdf5_of_objects_is_refused(home: Path, tmp_path: Path) -> None:
    path = ann(tmp_path / "v.h5", train=None)
    with h5py.File(path, "a") as file:
        made = file.create_dataset("train", (2, 2), h5py.vlen_dtype(np.float32))
        made[0, 0] = [1.0, 2.0]
    with pytest.raises(DatasetError, match="object"):
        open_set(path)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"train": None}, "no array 'train'"),
        ({"train": BASE[0]}, "a matrix of numbers"),
        ({"train": np.zeros((3, 4), "S2")}, "a matrix of numbers"),
        ({"neighbors": BASE}, "a matrix of numbers"),
    ],
)
def test_hdf5_without_what_is_needed(change: dict[str, Any], complaint: str, home: Path, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=complaint):
        open_set(ann(tmp_path / "v.hdf5", **change))


def test_damaged_hdf5(home: Path, tmp_path: Path) -> None:
    path = ann(tmp_path / "v.hdf5")
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(DatasetError, match="truncated"):
        open_set(path)
    path.write_bytes(b"no HDF5")
    with pytest.raises(DatasetError, match="no HDF5 file"):
        open_set(path)
    nan = BASE.copy()
    nan[7, 2] = np.nan
    with pytest.raises(DatasetError, match="row 7 of base"):
        dataset_source(str(ann(tmp_path / "nan.hdf5", train=nan))).load()
    with h5py.File(ann(path), "a") as file:
        file.attrs["distance"] = "jaccard"
    with pytest.raises(DatasetError, match="'jaccard'"):
        open_set(path)


def vdb(folder: Path, ids: Any, parts: int = 1, **arrays: Any) -> Path:
    """As VectorDBBench lays it out."""
    folder.mkdir()
    for part in range(parts):
        rows = slice(part * len(BASE) // parts, (part + 1) * len(BASE) // parts)
        name = "shuffle_train.parquet" if parts == 1 else f"shuffle_train-{part:02d}-of-{parts:02d}.parquet"
        table = pa.table({"id": ids[rows], "emb": pa.array(list(arrays.get("train", BASE)[rows]))})
        pq.write_table(table, folder / name, row_group_size=7)
    pq.write_table(pa.table({"id": [0, 1, 2], "emb": pa.array(list(QUERIES))}), folder / "test.parquet")
    near = pa.array([[int(ids[i]) for i in row] for row in NEAR])
    pq.write_table(pa.table({"id": [0, 1, 2], "neighbors_id": near}), folder / "neighbors.parquet")
    return folder


@pytest.mark.parametrize("parts", [1, 5])
def test_a_vectordbbench_folder(parts: int, home: Path, tmp_path: Path) -> None:
    ids = RNG.permutation(len(BASE)) + 1000
    source = dataset_source(str(vdb(tmp_path / "cohere", ids, parts)))
    data = source.load()
    np.testing.assert_array_equal(data.base, BASE)
    np.testing.assert_array_equal(data.queries, QUERIES)
    assert isinstance(data.ids, RowNames)
    assert data.ids == [str(id_) for id_ in ids]
    assert data.query_ids == ["q0", "q1", "q2"]
    assert source.neighbours is not None
    np.testing.assert_array_equal(source.neighbours(), NEAR)  # ids have become rows
    if parts > 1:
        (tmp_path / "cohere" / "shuffle_train-03-of-05.parquet").unlink()
        with pytest.raises(DatasetError, match="4 of the 05 parts"):
            open_set(tmp_path / "cohere")


def test_the_plain_file_is_taken_where_the_shuffled_one_lies_beside_it(home: Path, tmp_path: Path) -> None:
    folder = vdb(tmp_path / "both", np.arange(50))
    pq.write_table(pa.table({"id": range(50), "emb": pa.array(list(BASE[::-1]))}), folder / "train.parquet")
    np.testing.assert_array_equal(opened(folder).base, BASE[::-1])


KINDS = [
    pa.list_(pa.float32()), pa.list_(pa.float64()), pa.large_list(pa.float32()), pa.list_(pa.float32(), 4),
    pa.list_(pa.float16()),
]  # fmt: skip


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_every_kind_of_list_column(kind: pa.DataType, home: Path, tmp_path: Path) -> None:
    rows = np.round(BASE * 4) / 4  # float16 has them too
    array = pa.array(list(rows.astype(np.float16) if kind.value_type == pa.float16() else rows), kind)
    pq.write_table(pa.table({"text": ["t"] * 50, "v": array}), tmp_path / "v.parquet", row_group_size=9)
    found = opened(tmp_path / "v.parquet")
    np.testing.assert_array_equal(found.base, rows[:45])
    np.testing.assert_array_equal(found.queries, rows[45:])


def table(path: Path, rows: list[Any], **columns: Any) -> Path:
    pq.write_table(pa.table({"emb": pa.array(rows, pa.list_(pa.float32())), **columns}), path, row_group_size=2)
    return path


@pytest.mark.parametrize(
    ("rows", "columns", "complaint"),
    [
        ([[1, 2], [3, 4], [5]], {}, "row 2 of 'emb' has 1 values, 2 are expected"),
        ([[1, 2], None, [3, 4]], {}, "row 1 of 'emb' is null"),
        ([[1, 2], [3, 4], [5, None]], {}, "row 2 of 'emb' holds null"),
        ([[1, 2], [3, 4], [5, float("nan")]], {}, "row 2 holds NaN"),
        ([[1, 2], [3, 4]], {"id": ["a", None]}, "'id' holds null"),
        ([[1, 2], [3, 4]], {"id": [0.5, 1.5]}, "strings or whole numbers"),
        ([[], []], {}, r"row 0 of .emb. has 0 values"),
        ([], {}, "no rows"),
    ],
)
def test_damaged_columns(rows: list[Any], columns: dict[str, Any], complaint: str, home: Path, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=complaint) as caught:
        open_set(table(tmp_path / "v.parquet", rows, **columns))
    assert "v.parquet" in str(caught.value)


def test_ids_twice_are_refused_and_strings_are_kept(home: Path, tmp_path: Path) -> None:
    for ids in (["a", "b", "b"], [1, 2, 2]):
        path = table(tmp_path / f"v{ids[0]}.parquet", [[1, 2]] * 3, id=ids)
        queries = table(tmp_path / "q.parquet", [[1, 2]])
        with pytest.raises(DatasetError, match="2 distinct"):
            path_source(path, queries=queries).load()
    found = opened(table(tmp_path / "s.parquet", [[1, 2]] * 3, id=["x", "y", "z"]))
    assert (list(found.ids), list(found.query_ids)) == (["x", "y"], ["z"])


def test_files_that_are_no_parquet_or_have_no_vectors(home: Path, tmp_path: Path) -> None:
    path = table(tmp_path / "v.parquet", [[1, 2]] * 9)
    path.write_bytes(path.read_bytes()[:-7])
    with pytest.raises(DatasetError, match="no Parquet file"):
        open_set(path)
    pq.write_table(pa.table({"a": [[1.0]], "b": [[2.0]]}), path)
    with pytest.raises(DatasetError, match=r"which column.*'a', 'b'"):
        open_set(path)
    pq.write_table(pa.table({"a": ["x"]}), path)
    with pytest.raises(DatasetError, match="which column holds the vectors"):
        open_set(path)


MEMORY = """
import resource, sys
from pathlib import Path
import numpy as np, pyarrow as pa, pyarrow.compute, pyarrow.parquet as pq
from vecbench.formats.layout import open_set
open_set(Path(sys.argv[1]))  # what importing and a first use take is not counted
def peak():
    status = Path("/proc/self/status")  # elsewhere a child begins with the peak of its parent, or knows no other figure
    if status.exists():
        return int(status.read_text().partition("VmHWM:")[2].split()[0]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
before = peak()
found = open_set(Path(sys.argv[2]))
print(len(found.base) + len(found.queries), peak() - before)
"""


def test_a_large_row_group_is_streamed(home: Path, tmp_path: Path) -> None:
    n, dim = 150_000, 256  # 154 MB, in one row group
    flat = pa.array(np.random.default_rng(1).standard_normal(n * dim, np.float32))
    rows = pa.FixedSizeListArray.from_arrays(flat, dim)
    pq.write_table(pa.table({"emb": rows}), tmp_path / "v.parquet", row_group_size=n, use_dictionary=False)
    del flat, rows
    table(tmp_path / "small.parquet", [[1, 2]] * 9)
    done = subprocess.run(
        [sys.executable, "-c", MEMORY, str(tmp_path / "small.parquet"), str(tmp_path / "v.parquet")],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "XDG_CACHE_HOME": str(home / "cache")},
    )
    assert done.returncode == 0, done.stderr
    found, grown = map(int, done.stdout.split())
    assert found == n
    assert grown < 110e6, f"{grown / 1e6:.0f} MB"


def lines(path: Path, *rows: object) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_vectors_in_json_lines(home: Path, tmp_path: Path) -> None:
    path = lines(tmp_path / "v.jsonl", *({"id": f"r{i}", "embedding": row.tolist()} for i, row in enumerate(BASE)))
    found = opened(path)
    np.testing.assert_array_equal(found.base, BASE[:45])
    assert found.ids[44] == "r44"
    assert found.query_ids[0] == "r45"
    asked = lines(tmp_path / "q.jsonl", *({"vector": row.tolist()} for row in QUERIES))
    np.testing.assert_array_equal(opened(path, asked).queries, QUERIES)


@pytest.mark.parametrize(
    ("second", "complaint"),
    [
        ('{"id": 1, "vector": [1]}', r":2: 'vector' has 1 values; 2 numbers"),
        ('{"id": 1, "vector": [1, "2"]}', r":2: 'vector' holds something that is no number"),
        ('{"id": 1, "vector": [1, true]}', "no number"),
        ('{"id": 1, "vector": [1, NaN]}', "row 1 holds NaN"),
        ('{"id": 1}', r":2: 'vector' has NoneType"),
        ('{"vector": [1, 2]}', r":2: there is no id"),
        ("[1, 2]", r":2: a JSON object is expected"),
        ('{"id": 1, "vector": [1, 2]', r":2: not a JSON object"),
        ("", r":2: not a JSON object"),
        ('{"id": {}, "vector": [1, 2]}', "an id is a string"),
        ('{"id": "\\ud800", "vector": [1, 2]}', "lone surrogate"),
        ('{"id": 1, "vector": [1, 1e400]}', "row 1 holds NaN or infinity"),
        ("[" * 100_000, r":2: not"),
    ],
)
def test_damaged_lines(second: str, complaint: str, home: Path, tmp_path: Path) -> None:
    path = tmp_path / "v.jsonl"
    path.write_text('{"id": 0, "vector": [1, 2]}\n' + second + "\n", encoding="utf-8")
    with pytest.raises(DatasetError, match=complaint) as caught:
        open_set(path)
    assert "v.jsonl" in str(caught.value)


def test_an_empty_file(tmp_path: Path) -> None:
    (tmp_path / "v.jsonl").touch()
    with pytest.raises(DatasetError, match="is empty"):
        open_set(tmp_path / "v.jsonl")
