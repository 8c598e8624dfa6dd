"""Rows on their way into a store: every one once, in the seed's order, with little of a large file in memory."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vecbench.bench import rows
from vecbench.dataset import Dataset
from vecbench.errors import RunVoid
from vecbench.formats.blocks import mapped_file
from vecbench.types import Records, Vectors


def flat(windows: list[list[Records]]) -> tuple[list[str], Vectors]:
    parts = [batch for window in windows for batch in window]
    assert all(len(batch) <= rows.BATCH for batch in parts)
    vectors = [batch.vectors for batch in parts if batch.vectors is not None]
    return [id_ for batch in parts for id_ in batch.ids], np.concatenate(vectors)


@pytest.mark.parametrize("limit", [rows.HELD_BYTES, 0])
@pytest.mark.parametrize("n", [1, 64, 70, 40_000])
def test_every_row_comes_once_with_its_own_vector(n: int, limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "HELD_BYTES", limit)
    base = np.arange(2 * n, dtype=np.float32).reshape(n, 2)
    windows = list(rows.batches(base, 3, 100))
    ids, vectors = flat(windows)
    assert sorted(map(int, ids)) == list(range(n))
    assert np.array_equal(vectors, base[[int(i) for i in ids]])
    assert all(
        m == {"bucket": int(i) % 100} for w in windows for b in w for i, m in zip(b.ids, b.metadata or (), strict=True)
    )
    assert len(windows) == (1 if limit or n <= 16_384 else 3)
    assert flat(list(rows.batches(base, 3, 100)))[0] == ids
    if n > 1:
        assert flat(list(rows.batches(base, 4, 100)))[0] != ids
        assert ids != list(map(str, range(n)))


def test_a_large_file_is_read_in_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """A window of 16,384 rows touches 256 runs of 64 neighbours, from all over the file."""
    order = next(rows.insertion_order(1_000_000, 1, whole=False))
    runs = np.unique(order // 64)
    assert len(order) == 16_384
    assert len(runs) == 256
    assert runs.max() - runs.min() > 10_000
    assert np.abs(np.diff(order)).min() > 0
    assert np.mean(np.diff(order) == 1) < 0.05  # and the neighbours are parted inside the window


def test_a_mapped_data_set_is_passed_on_by_its_file(tmp_path: Path) -> None:
    base = np.random.default_rng(1).normal(size=(50, 4)).astype(np.float32)
    np.save(tmp_path / "mine.npy", base)
    mapped = np.load(tmp_path / "mine.npy", mmap_mode="r")
    data = Dataset.from_arrays("x", base, base[:5])
    for vectors, at in ((mapped, 0), (mapped[10:], 10)):
        place = rows.save_rows(vectors, tmp_path / "copy.npy")
        assert place["raw"] == str((tmp_path / "mine.npy").resolve())
        assert np.array_equal(rows.open_rows(place), base[at:])
    assert not (tmp_path / "copy.npy").exists()
    assert mapped_file(data.base) is None
    place = rows.save_rows(mapped[:, :2], tmp_path / "copy.npy")  # not as it lies in the file
    assert np.array_equal(rows.open_rows(place), base[:, :2])
    assert (tmp_path / "copy.npy").exists()


_CHILD = """
import sys
import numpy as np
import psutil
from vecbench.bench import rows

def held():
    return psutil.Process().memory_info().rss

rows.HELD_BYTES = 0
base = np.memmap(sys.argv[1], np.float32, 'r', shape=(400_000, 128))
next(rows.batches(base[:20_000], 1, 100))
rows.drop_pages(base)
before = most = held()
for window in rows.batches(base, 1, 100):
    most = max(most, held())
    rows.drop_pages(base)
print(most - before)
"""


def test_memory_stays_at_some_windows_of_a_large_file(tmp_path: Path) -> None:
    base = np.memmap(tmp_path / "base.f32", np.float32, "w+", shape=(400_000, 128))  # 205 MB
    base.flush()
    done = subprocess.run(
        [sys.executable, "-c", _CHILD, str(tmp_path / "base.f32")], capture_output=True, text=True, check=True
    )
    window = 16_384 * 128 * 4
    assert int(done.stdout) < 8 * window  # two windows, their ids, and the pages that were read, but not 25 windows


def test_a_file_that_is_another_one_meanwhile_is_not_measured(tmp_path: Path) -> None:
    file = tmp_path / "mine.npy"
    base = np.random.default_rng(1).normal(size=(5000, 4)).astype(np.float32)

    def saved() -> tuple[dict[str, Any], Vectors]:
        np.save(tmp_path / "first.npy", base)
        (tmp_path / "first.npy").replace(file)
        mapped = np.load(file, mmap_mode="r")
        return rows.save_rows(mapped, tmp_path / "copy.npy"), mapped

    place, mapped = saved()
    rows.require_unchanged(place)
    with file.open("r+b") as written:  # in place
        written.seek(-4, 2)
        written.write(b"1234")
    with pytest.raises(RunVoid, match=r"mine\.npy was changed or replaced"):
        rows.require_unchanged(place)

    place, mapped = saved()
    np.save(tmp_path / "other.npy", -base)
    (tmp_path / "other.npy").replace(file)
    with pytest.raises(RunVoid, match=r"mine\.npy was changed or replaced"):
        rows.open_rows(place)
    place = rows.save_rows(mapped, tmp_path / "copy.npy")  # replaced before: the mapping is of the old one
    rows.require_unchanged(place)
    with pytest.raises(RunVoid, match=r"mine\.npy was changed or replaced"):
        rows.open_rows(place)
    file.unlink()
    with pytest.raises(RunVoid, match=r"mine\.npy was changed or replaced"):
        rows.require_unchanged(place)
