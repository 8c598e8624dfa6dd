"""Binary files of vectors: what was written comes back, and every damage is noticed, with file and row."""

from __future__ import annotations

import os
import pickle
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from vecbench.dataset import Dataset, array_sha256
from vecbench.errors import DatasetError
from vecbench.formats.arrays import open_vectors, read_neighbours
from vecbench.formats.blocks import array_sha256 as hashed
from vecbench.formats.blocks import blocks, file_sha256, mapped_file
from vecbench.formats.convert import write_npy
from vecbench.formats.found import VectorSet
from vecbench.formats.layout import DocumentsFound, open_set
from vecbench.formats.rows import RowNames, distinct
from vecbench.registry import dataset_source

BASE = np.array([[0, 1], [2, 3], [4, 250]], np.float32)
QUICK = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def vecs(rows: npt.NDArray[np.generic], dtype: str) -> bytes:
    """The texmex format, written out without the code under test."""
    return b"".join(struct.pack("<i", len(row)) + row.astype(dtype).tobytes() for row in rows)


def bins(rows: npt.NDArray[np.generic], dtype: str) -> bytes:
    return struct.pack("<II", *rows.shape) + rows.astype(dtype).tobytes()


WRITERS: dict[str, Callable[[npt.NDArray[np.generic]], bytes]] = {
    ".fvecs": lambda rows: vecs(rows, "<f4"),
    ".bvecs": lambda rows: vecs(rows, "u1"),
    ".fbin": lambda rows: bins(rows, "<f4"),
    ".f16bin": lambda rows: bins(rows, "<f2"),
    ".u8bin": lambda rows: bins(rows, "u1"),
    ".i8bin": lambda rows: bins(rows, "i1"),
}
VALUES = {
    ".fvecs": st.floats(width=32, allow_nan=False, allow_infinity=False),
    ".bvecs": st.integers(0, 255),
    ".fbin": st.floats(width=32, allow_nan=False, allow_infinity=False),
    ".f16bin": st.floats(width=16, allow_nan=False, allow_infinity=False),
    ".u8bin": st.integers(0, 255),
    ".i8bin": st.integers(-128, 127),
}


@pytest.mark.parametrize("suffix", WRITERS)
def test_what_was_written_comes_back(suffix: str, home: Path, tmp_path: Path) -> None:
    shapes = st.tuples(st.integers(1, 9), st.integers(1, 7))

    @QUICK
    @given(shapes.flatmap(lambda shape: arrays(np.float64, shape, elements=VALUES[suffix])))
    def check(rows: npt.NDArray[np.float64]) -> None:
        path = tmp_path / f"v{suffix}"
        path.unlink(missing_ok=True)  # another file each time, of whatever size and age
        path.write_bytes(WRITERS[suffix](rows))
        found = open_vectors(path)
        assert found.dtype == np.float32
        assert found.flags.c_contiguous
        assert not found.flags.writeable
        assert mapped_file(found) is not None
        np.testing.assert_array_equal(found, rows.astype(np.float32))

    check()


@pytest.mark.parametrize("dtype", ["<f4", ">f4", "<f2", "<f8", "u1", "i1", "<i2", "<i8"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_npy_of_every_number_and_order(dtype: str, order: str, home: Path, tmp_path: Path) -> None:
    rows = np.array([[0, 1, 2], [3, 4, 5], [6, 7, 100], [8, 9, 10]])
    np.save(tmp_path / "v.npy", np.array(rows, dtype, order="F" if order == "F" else "C"))
    found = open_vectors(tmp_path / "v.npy")
    np.testing.assert_array_equal(found, rows)
    assert found.dtype == np.float32
    place = mapped_file(found)
    assert place is not None
    assert (place[0] == tmp_path / "v.npy") == (dtype == "<f4" and order == "C")  # float32 rows stay where they lie


def test_the_rows_lie_where_the_mapping_says(tmp_path: Path) -> None:
    np.save(tmp_path / "v.npy", BASE)
    place = mapped_file(open_vectors(tmp_path / "v.npy")[1:])
    assert place is not None
    raw = (tmp_path / "v.npy").read_bytes()[place[1] :]
    assert raw == BASE[1:].tobytes()
    assert mapped_file(BASE) is None
    assert mapped_file(open_vectors(tmp_path / "v.npy")[:, 1:]) is None


def test_a_damaged_file_is_refused_with_name_and_row(home: Path, tmp_path: Path) -> None:
    good = vecs(BASE, "<f4")
    nan = BASE.copy()
    nan[2, 0] = np.nan
    cases: list[tuple[str, bytes, str]] = [
        ("a.fvecs", good[:-1], "3 bytes|2 rows of 2 dimensions and 11 bytes more"),
        ("b.fvecs", good[:12] + struct.pack("<i", 3) + good[16:], "row 1 says that it has 3 dimensions, row 0 has 2"),
        ("c.fvecs", struct.pack("<i", -5) + good[4:], "row 0 says that it has -5"),
        ("d.fvecs", b"", "0 bytes"),
        ("e.fvecs", vecs(nan, "<f4"), "row 2 holds NaN"),
        ("f.fbin", bins(BASE, "<f4")[:-4], "truncated"),
        ("g.fbin", bins(BASE, "<f4") + b"\0", "what follows is unknown"),
        ("h.fbin", b"\0\0\0", "its header alone has 8"),
        ("i.fbin", struct.pack("<II", 0, 4), "says 0 rows"),
        ("j.u8bin", bins(BASE, "u1")[:-1], "truncated"),
        ("k.npy", b"PK\x03\x04 not a npy", "no .npy file"),
        ("l.txt", b"1 2 3", "not from '.txt'"),
    ]
    for name, content, complaint in cases:
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(DatasetError, match=complaint) as caught:
            open_vectors(path)
        assert name in str(caught.value)
    assert not list((home / "cache").rglob("*.npy"))  # nothing half converted has a name


@pytest.mark.parametrize(
    ("array", "complaint"),
    [
        (np.zeros(3, np.float32), "rows × dimensions"),
        (np.zeros((0, 3), np.float32), "rows × dimensions"),
        (np.zeros((2, 2), np.complex64), "complex64"),
        (np.zeros((2, 2), bool), "bool"),
        (np.zeros((2, 2), "S3"), "S3"),
        (np.array([[1, 2], [3, 1e39]]), "row 1 holds NaN or infinity"),
        (np.array([[1, 2], [2**24 + 1, 0]]), "row 1 holds a whole number beyond"),
    ],
)
def test_an_array_that_is_no_vectors_is_refused(
    array: npt.NDArray[np.generic], complaint: str, home: Path, tmp_path: Path
) -> None:
    np.save(tmp_path / "v.npy", array)
    with pytest.raises(DatasetError, match=complaint):
        open_vectors(tmp_path / "v.npy")


class Bomb:
    """Leaves a mark when it is unpickled."""

    def __init__(self, mark: str) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (self.mark,)


def test_nothing_is_unpickled(home: Path, tmp_path: Path) -> None:
    mark = tmp_path / "exploded"
    bomb = np.empty((2, 2), object)
    bomb[:] = Bomb(str(mark))
    np.save(tmp_path / "v.npy", bomb, allow_pickle=True)
    (tmp_path / "w.npy").write_bytes(pickle.dumps(Bomb(str(mark))))
    for name in ("v.npy", "w.npy"):
        with pytest.raises(DatasetError):
            open_vectors(tmp_path / name)
        with pytest.raises(DatasetError):
            read_neighbours(tmp_path / name)
    assert not mark.exists()
    (tmp_path / "w.pkl").write_bytes(pickle.dumps(Bomb(str(mark))))
    with pytest.raises(DatasetError, match="not read"):
        open_set(tmp_path / "w.pkl")
    np.load(tmp_path / "v.npy", allow_pickle=True)
    assert mark.exists()  # the bomb was a real one


def test_truncated_and_overlong_npy(home: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "v.npy", BASE)
    whole = (tmp_path / "v.npy").read_bytes()
    (tmp_path / "v.npy").write_bytes(whole[:-1])
    with pytest.raises(DatasetError, match="truncated"):
        open_vectors(tmp_path / "v.npy")
    (tmp_path / "v.npy").write_bytes(whole + b"\0")
    with pytest.raises(DatasetError, match="what follows is unknown"):
        open_vectors(tmp_path / "v.npy")


def test_neighbours_in_every_format(tmp_path: Path) -> None:
    rows = np.array([[5, 1, 2], [7, 0, 3]])
    (tmp_path / "n.ivecs").write_bytes(vecs(rows, "<i4"))
    (tmp_path / "n.ibin").write_bytes(bins(rows, "<i4"))
    (tmp_path / "d.ibin").write_bytes(bins(rows, "<i4") + np.zeros((2, 3), "<f4").tobytes())  # distances behind
    np.save(tmp_path / "n.npy", np.asfortranarray(rows.astype(np.int32)))
    for name in ("n.ivecs", "n.ibin", "d.ibin", "n.npy"):
        found = read_neighbours(tmp_path / name)
        np.testing.assert_array_equal(found, rows)
        assert found.dtype == np.int64
    (tmp_path / "n.ivecs").write_bytes(vecs(rows, "<i4")[:-2])
    with pytest.raises(DatasetError, match="truncated"):
        read_neighbours(tmp_path / "n.ivecs")


def test_queries_and_neighbours_beside_the_base_are_taken(home: Path, tmp_path: Path) -> None:
    folder = tmp_path / "sift"
    folder.mkdir()
    (folder / "sift_base.fvecs").write_bytes(vecs(BASE, "<f4"))
    (folder / "sift_learn.fvecs").write_bytes(vecs(BASE, "<f4"))
    (folder / "sift_query.fvecs").write_bytes(vecs(BASE[:1], "<f4"))
    (folder / "sift_groundtruth.ivecs").write_bytes(vecs(np.array([[0, 1]]), "<i4"))
    for path in (folder, folder / "sift_base.fvecs"):
        found = open_set(path)
        assert isinstance(found, VectorSet)
        np.testing.assert_array_equal(found.base, BASE)
        np.testing.assert_array_equal(found.queries, BASE[:1])
        np.testing.assert_array_equal(found.neighbours, [[0, 1]])
    other = tmp_path / "q.npy"
    np.save(other, BASE[2:])
    given_own = open_set(folder, queries=other)
    assert isinstance(given_own, VectorSet)
    np.testing.assert_array_equal(given_own.queries, BASE[2:])
    assert given_own.neighbours is None  # they are of the other queries


def test_without_queries_the_last_rows_are_held_out(home: Path, tmp_path: Path) -> None:
    rows = np.arange(60, dtype=np.float32).reshape(30, 2)
    np.save(tmp_path / "My Vectors.npy", rows)
    source = dataset_source(str(tmp_path / "My Vectors.npy"))
    assert (source.name, source.card.n_base, source.card.n_queries, source.card.dim) == ("my-vectors", 27, 3, 2)
    data = source.load()
    np.testing.assert_array_equal(data.base, rows[:27])
    np.testing.assert_array_equal(data.queries, rows[27:])
    assert "last 3 rows" in data.card.notes[0]
    np.save(tmp_path / "one.npy", rows[:1])
    with pytest.raises(DatasetError, match="one vector"):
        dataset_source(str(tmp_path / "one.npy"))


def test_a_folder_of_something_else_says_how_documents_are_added(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("a text")
    with pytest.raises(DocumentsFound, match="vecbench datasets add"):
        open_set(tmp_path)
    with pytest.raises(DatasetError, match="does not exist"):
        open_set(tmp_path / "nothing.npy")


def test_a_changed_source_is_converted_anew_and_an_unchanged_one_is_not(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "v.bvecs"
    path.write_bytes(vecs(BASE, "u1"))
    open_vectors(path)
    assert "converting v.bvecs to float32 once, 3 × 2" in capsys.readouterr().err
    np.testing.assert_array_equal(open_vectors(path), BASE)
    assert capsys.readouterr().err == ""
    path.write_bytes(vecs(BASE + 1, "u1"))
    np.testing.assert_array_equal(open_vectors(path), BASE + 1)


def test_what_a_killed_conversion_left_is_written_over(home: Path, tmp_path: Path) -> None:
    target = tmp_path / "v.npy"
    target.with_name("v.npy.part").write_bytes(b"x" * 10_000)
    assert write_npy(target, "here", 2, [BASE[:2], BASE[2:]], rows=3) == 3
    np.testing.assert_array_equal(np.load(target), BASE)
    with pytest.raises(DatasetError, match="3 rows were found, 4"):
        write_npy(tmp_path / "w.npy", "here", 2, [BASE], rows=4)
    with pytest.raises(DatasetError, match="1 columns are expected"):
        write_npy(tmp_path / "w.npy", "here", 1, [BASE])
    assert not (tmp_path / "w.npy").exists()


def test_a_mapped_data_set_has_the_hash_of_the_same_arrays_in_memory(home: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    rows, asked = (rng.standard_normal((n, 8)).astype(np.float32) for n in (300, 5))
    np.save(tmp_path / "v.npy", rows)
    mapped = Dataset.from_arrays("mine", open_vectors(tmp_path / "v.npy"), asked)
    assert mapped_file(mapped.base) is not None
    assert mapped.sha256 == array_sha256(rows, asked) == Dataset.from_arrays("mine", rows, asked).sha256
    assert hashed(np.asfortranarray(rows)) == hashed(rows) == hashed(open_vectors(tmp_path / "v.npy"))
    assert [start for start, _ in blocks(mapped.base, 32 * 100)] == [0, 100, 200]


def test_a_file_that_has_not_changed_is_not_read_again(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.save(tmp_path / "v.npy", BASE)
    first = Dataset.from_arrays("mine", open_vectors(tmp_path / "v.npy"), BASE[:1])
    digest = file_sha256(tmp_path / "v.npy")

    def refuse(*args: object, **options: object) -> None:
        raise AssertionError("it was read again")

    with monkeypatch.context() as patched:
        patched.setattr(np, "fromfile", refuse)
        patched.setattr("hashlib.file_digest", refuse)
        again = Dataset.from_arrays("mine", open_vectors(tmp_path / "v.npy"), BASE[:1])
        assert again.sha256 == first.sha256
        assert file_sha256(tmp_path / "v.npy") == digest
    before = (tmp_path / "v.npy").stat()
    changed = BASE.copy()
    changed[1, 1] = np.inf
    with (tmp_path / "v.npy").open("r+b") as file:  # in place, and with its old time
        file.seek(-len(changed.tobytes()), os.SEEK_END)
        file.write(changed.tobytes())
    os.utime(tmp_path / "v.npy", ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(DatasetError, match="row 1 of base holds NaN or infinity"):
        Dataset.from_arrays("mine", open_vectors(tmp_path / "v.npy"), BASE[:1])
    assert file_sha256(tmp_path / "v.npy") != digest


def test_row_names_are_strings_made_when_asked_for() -> None:
    names = RowNames(range(10_000_000), "q")
    assert sys.getsizeof(names) < 100
    assert (len(names), names[3], names[-1], list(names[2:4])) == (10_000_000, "q3", "q9999999", ["q2", "q3"])
    own = RowNames(np.array([7, -1, 7]))
    assert own == ["7", "-1", "7"]
    assert own != ["7", "-1"]
    assert pickle.loads(pickle.dumps(own)) == own  # noqa: S301
    assert (distinct(own), distinct(names), distinct(["a", "a"])) == (2, 10_000_000, 1)
    with pytest.raises(IndexError):
        own[3]


MEMORY = """
import resource, sys
from pathlib import Path
import numpy as np
from vecbench.formats.arrays import open_vectors
from vecbench.dataset import Dataset
def peak():
    status = Path("/proc/self/status")  # elsewhere a child begins with the peak of its parent, or knows no other figure
    if status.exists():
        return int(status.read_text().partition("VmHWM:")[2].split()[0]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
before = peak()
base = open_vectors(Path(sys.argv[1]))
data = Dataset.from_arrays("large", base, np.ones((1, base.shape[1])))
data.verify()
print(len(data.base), len(data.ids), peak() - before)
"""


@pytest.mark.parametrize("suffix", [".bvecs", ".u8bin", ".fbin", ".npy"])
def test_reading_converting_and_hashing_take_little_memory(suffix: str, home: Path, tmp_path: Path) -> None:
    n, dim = 800_000, 64  # 205 MB of float32
    path = tmp_path / f"large{suffix}"
    if suffix == ".npy":
        np.save(path, np.ones((dim, n), np.float16).T)  # Fortran order: the rows lie all over the file
    else:
        rows = np.ones((n, dim), np.float32 if suffix == ".fbin" else np.uint8)
        with path.open("wb") as file:
            if suffix == ".bvecs":
                np.hstack([np.full((n, 4), [dim, 0, 0, 0], np.uint8), rows]).tofile(file)
            else:
                file.write(struct.pack("<II", n, dim))
                rows.tofile(file)
    done = subprocess.run(
        [sys.executable, "-c", MEMORY, str(path)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "XDG_CACHE_HOME": str(home / "cache")},
    )
    path.unlink()
    assert done.returncode == 0, done.stderr
    rows_found, names, grown = map(int, done.stdout.split())
    assert (rows_found, names) == (n, n)
    assert grown < 64e6, f"{grown / 1e6:.0f} MB"  # the vectors have more than three times as much
