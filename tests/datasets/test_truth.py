"""Exact neighbours against whole-number arithmetic, and a cache that cannot lie."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from vecbench import neighbours, truth
from vecbench.dataset import Dataset
from vecbench.errors import ChecksumMismatch, DatasetError, GroundTruthMissing
from vecbench.threads import Threads
from vecbench.truth import GroundTruth, ground_truth
from vecbench.types import Metric

METRICS = list(Metric)


def four_copies(seed: int = 1) -> Dataset:
    """Small integers, each vector occurring four times at scattered places: every neighbour is a tie."""
    random = np.random.default_rng(seed)
    base = np.repeat(random.integers(-3, 4, (200, 6)) * 2 + 1, 4, axis=0)
    return Dataset.from_arrays("four", random.permutation(base), random.integers(-9, 10, (40, 6)) * 2 + 1)


def whole_number_order(dataset: Dataset, metric: Metric, query: int) -> list[int]:
    """All rows by (distance, row), in exact arithmetic: no root and no quotient is rounded."""
    q, x = dataset.queries[query].astype(np.int64), dataset.base.astype(np.int64)
    if metric is Metric.EUCLIDEAN:
        keys: list[Fraction | int] = ((x - q) ** 2).sum(1).tolist()
    elif metric is Metric.DOT:
        keys = (-(x @ q)).tolist()
    else:  # cos · |cos|, which ascends with cos, so no root is needed; negated, because distances ascend
        dots, squares = (x @ q).tolist(), (x * x).sum(1).tolist()
        keys = [-Fraction(d * abs(d), s) for d, s in zip(dots, squares, strict=True)]
    return sorted(range(len(x)), key=lambda row: (keys[row], row))


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("k", [1, 10, 100])
def test_neighbours_are_those_of_whole_number_arithmetic_where_every_vector_occurs_four_times(
    metric: Metric, k: int
) -> None:
    dataset = four_copies()
    found = ground_truth(dataset, metric, k, cache=None)
    x, q = dataset.base.astype(np.int64), dataset.queries.astype(np.int64)
    for query in range(len(q)):
        expected = whole_number_order(dataset, metric, query)[:k]
        rows = found.rows[query].tolist()
        if metric is not Metric.COSINE:
            assert rows == expected
        # Parallel vectors of other lengths have one cosine, but float64 may see them an ulp apart: compare the values.
        assert [_key(x, q[query], metric, r) for r in rows] == [_key(x, q[query], metric, r) for r in expected]
        assert len(set(rows)) == k
        assert (np.diff(found.distances[query]) >= 0).all()


def _key(x: npt.NDArray[np.int64], q: npt.NDArray[np.int64], metric: Metric, row: int) -> Fraction:
    dot = int(x[row] @ q)
    if metric is Metric.EUCLIDEAN:
        return Fraction(int(((x[row] - q) ** 2).sum()))
    return Fraction(-dot) if metric is Metric.DOT else -Fraction(dot * abs(dot), int(x[row] @ x[row]))


@pytest.mark.parametrize("metric", METRICS)
def test_more_equal_rows_than_candidates_still_come_in_the_order_of_their_numbers(metric: Metric) -> None:
    random = np.random.default_rng(6)
    base = random.normal(size=(3000, 16)) + 3
    copies = np.sort(random.choice(3000, 500, replace=False))
    base[copies] = random.normal(size=16) + 3
    if metric is Metric.DOT:
        base[copies] *= 9  # nearest under dot is the longest
    found = ground_truth(Dataset.from_arrays("copies", base, base[copies[:1]]), metric, 10, cache=None)
    assert found.rows.tolist() == [copies[:10].tolist()]


def test_distances_are_in_the_unit_of_the_metric() -> None:
    dataset = Dataset.from_arrays("axes", [[3, 0], [0, 4], [-5, 0]], [[1, 0]])
    expected = {
        Metric.EUCLIDEAN: ([0, 1, 2], [2.0, 17**0.5, 6.0]),
        Metric.COSINE: ([0, 1, 2], [0.0, 1.0, 2.0]),
        Metric.DOT: ([0, 1, 2], [-3.0, 0.0, 5.0]),
    }
    for metric, (rows, distances) in expected.items():
        found = ground_truth(dataset, metric, 3, cache=None)
        assert found.rows.tolist() == [rows]
        np.testing.assert_allclose(found.distances, [distances], rtol=1e-15, atol=1e-15)


def test_k_is_cut_to_the_base_and_must_be_positive() -> None:
    dataset = Dataset.from_arrays("axes", [[3, 0], [0, 4]], [[1, 0]])
    found = ground_truth(dataset, Metric.EUCLIDEAN, 100, cache=None)
    assert found.k == 2
    assert found.rows.shape == (1, 2)
    with pytest.raises(DatasetError, match="k is 0"):
        ground_truth(dataset, Metric.EUCLIDEAN, 0, cache=None)


def test_a_zero_vector_has_no_cosine_distance() -> None:
    dataset = Dataset.from_arrays("zero", [[3, 0], [0, 0]], [[1, 0]])
    with pytest.raises(DatasetError, match="row 1 of base is zero"):
        ground_truth(dataset, Metric.COSINE, 1, cache=None)


def test_progress_counts_queries_up_to_all() -> None:
    dataset = Dataset.from_arrays("many", np.eye(3), np.ones((150, 3)))
    seen: list[tuple[int, int]] = []
    ground_truth(dataset, Metric.EUCLIDEAN, 1, cache=None, progress=lambda done, total: seen.append((done, total)))
    assert [total for _, total in seen] == [150] * len(seen)
    assert [done for done, _ in seen] == sorted({done for done, _ in seen})
    assert seen[-1] == (150, 150)


@pytest.fixture
def no_computing(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> GroundTruth:
        raise AssertionError("computed, though it was kept")

    monkeypatch.setattr(truth, "_compute", refuse)


def test_what_was_kept_is_not_computed_again(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    dataset = four_copies()
    first = ground_truth(dataset, Metric.EUCLIDEAN, 20, cache=tmp_path)
    request.getfixturevalue("no_computing")
    again = ground_truth(four_copies(), Metric.EUCLIDEAN, 20, cache=tmp_path)
    assert again.sha256 == first.sha256
    np.testing.assert_array_equal(again.rows, first.rows)
    np.testing.assert_array_equal(again.distances, first.distances)


def test_a_larger_k_serves_a_smaller_one_and_not_the_reverse(tmp_path: Path) -> None:
    dataset = four_copies()
    ground_truth(dataset, Metric.EUCLIDEAN, 20, cache=tmp_path)
    served = ground_truth(dataset, Metric.EUCLIDEAN, 7, cache=tmp_path, compute=False)
    direct = ground_truth(dataset, Metric.EUCLIDEAN, 7, cache=None)
    assert served.k == 7
    assert served.sha256 == direct.sha256
    with pytest.raises(GroundTruthMissing, match="21 nearest"):
        ground_truth(dataset, Metric.EUCLIDEAN, 21, cache=tmp_path, compute=False)
    with pytest.raises(DatasetError, match="holds 7"):
        served.first(8)


def test_another_metric_or_other_vectors_find_nothing(tmp_path: Path) -> None:
    ground_truth(four_copies(), Metric.EUCLIDEAN, 5, cache=tmp_path)
    for dataset, metric in ((four_copies(), Metric.COSINE), (four_copies(seed=2), Metric.EUCLIDEAN)):
        with pytest.raises(GroundTruthMissing):
            ground_truth(dataset, metric, 5, cache=tmp_path, compute=False)
    with pytest.raises(GroundTruthMissing, match="none was named"):
        ground_truth(four_copies(), Metric.EUCLIDEAN, 5, cache=None, compute=False)


def _swap_two_rows(folder: Path) -> None:
    rows = np.load(folder / "k5.rows.npy")
    np.save(folder / "k5.rows.npy", rows[:, ::-1])


def _shrink_a_distance(folder: Path) -> None:
    distances = np.load(folder / "k5.distances.npy")
    distances[3, 4] = np.nextafter(distances[3, 4], 0)
    np.save(folder / "k5.distances.npy", distances)


def _cut(folder: Path) -> None:
    path = folder / "k5.rows.npy"
    path.write_bytes(path.read_bytes()[:-8])


def _empty(folder: Path) -> None:
    (folder / "k5.distances.npy").write_bytes(b"")


def _remove(folder: Path) -> None:
    (folder / "k5.rows.npy").unlink()


def _other_hash(folder: Path) -> None:
    manifest = json.loads((folder / "k5.json").read_text())
    (folder / "k5.json").write_text(json.dumps({**manifest, "sha256": "0" * 64}))


def _no_json(folder: Path) -> None:
    (folder / "k5.json").write_text("{")


def _pickle(folder: Path) -> None:
    np.save(folder / "k5.rows.npy", np.array([{"a": 1}], object), allow_pickle=True)


@pytest.mark.parametrize(
    "damage", [_swap_two_rows, _shrink_a_distance, _cut, _empty, _remove, _other_hash, _no_json, _pickle]
)
def test_damage_is_refused_or_computed_anew(tmp_path: Path, damage: object) -> None:
    dataset = four_copies()
    good = ground_truth(dataset, Metric.EUCLIDEAN, 5, cache=tmp_path)
    (folder,) = tmp_path.iterdir()
    assert callable(damage)
    damage(folder)
    with pytest.raises(ChecksumMismatch, match="damaged"):
        ground_truth(dataset, Metric.EUCLIDEAN, 5, cache=tmp_path, compute=False)
    with pytest.warns(UserWarning, match="damaged.*computing it anew"):
        again = ground_truth(dataset, Metric.EUCLIDEAN, 5, cache=tmp_path)
    assert again.sha256 == good.sha256
    repaired = ground_truth(dataset, Metric.EUCLIDEAN, 5, cache=tmp_path, compute=False)
    assert repaired.sha256 == good.sha256


def test_a_write_that_was_cut_off_leaves_nothing_that_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    dataset = four_copies()
    with monkeypatch.context() as patched:
        patched.setattr("os.fsync", full)
        with pytest.warns(UserWarning, match="could not be kept.*No space left"):
            found = ground_truth(dataset, Metric.EUCLIDEAN, 5, cache=tmp_path)
    assert found.rows.shape == (40, 5)
    assert not [p for p in tmp_path.rglob("*") if p.is_file()]
    with pytest.raises(GroundTruthMissing):
        ground_truth(dataset, Metric.EUCLIDEAN, 5, cache=tmp_path, compute=False)


def test_the_users_cache_is_the_default_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(truth, "default_truth_dir", lambda: tmp_path / "truth")
    ground_truth(four_copies(), Metric.EUCLIDEAN, 5)
    ground_truth(four_copies(), Metric.EUCLIDEAN, 5, cache=tmp_path / "truth", compute=False)


def test_a_mask_says_which_rows_may_be_found_and_has_a_place_of_its_own(tmp_path: Path) -> None:
    dataset = four_copies()
    mask = np.random.default_rng(4).random(len(dataset.base)) < 0.1
    everything = ground_truth(dataset, Metric.EUCLIDEAN, 300, cache=tmp_path)
    found = ground_truth(dataset, Metric.EUCLIDEAN, 300, mask=mask, cache=tmp_path)
    assert found.k == mask.sum()
    for query in range(len(dataset.queries)):
        expected = [row for row in whole_number_order(dataset, Metric.EUCLIDEAN, query) if mask[row]]
        assert found.rows[query].tolist() == expected
    assert found.sha256 != everything.sha256
    again = ground_truth(dataset, Metric.EUCLIDEAN, 20, mask=mask.copy(), cache=tmp_path, compute=False)
    assert again.sha256 == found.first(20).sha256
    for other in (~mask, None):
        with pytest.raises(GroundTruthMissing):
            ground_truth(dataset, Metric.EUCLIDEAN, 301, mask=other, cache=tmp_path, compute=False)


@pytest.mark.parametrize(
    ("mask", "said"),
    [
        (np.ones(799, np.bool_), r"the mask is bool \(799,\); it must be bool, one for each of the 800 base rows"),
        (np.ones(800, np.int64), "the mask is int64"),
        (np.zeros(800, np.bool_), "lets no row through"),
    ],
)
def test_a_mask_that_fits_nothing_is_refused(tmp_path: Path, mask: npt.NDArray[np.bool_], said: str) -> None:
    with pytest.raises(DatasetError, match=said):
        ground_truth(four_copies(), Metric.EUCLIDEAN, 5, mask=mask, cache=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_zero_query_is_named_by_its_own_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbours, "_TILE", 4)
    queries = np.ones((10, 2))
    queries[9] = 0
    with pytest.raises(DatasetError, match="data set zero: row 9 of queries is zero"):
        ground_truth(Dataset.from_arrays("zero", np.eye(2), queries), Metric.COSINE, 1, cache=None, memory_bytes=1)


LONG = """
import os, signal, sys
from pathlib import Path
import numpy as np
from vecbench import neighbours, truth
from vecbench.dataset import Dataset
from vecbench.types import Metric

neighbours._TILE, neighbours._BLOCK, neighbours._CHUNK, truth._PART_SECONDS = 16, 64, 1, 0.0
random = np.random.default_rng(8)
dataset = Dataset.from_arrays("long", random.normal(size=(3000, 8)), random.normal(size=(40, 8)))

def progress(done, total):
    print(done, flush=True)
    if done >= int(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)

found = truth.ground_truth(
    dataset, Metric.EUCLIDEAN, 50, cache=Path(sys.argv[1]), progress=progress, threads=2, memory_bytes=1
)
print(found.sha256)
"""


def _long(cache: Path, until: int) -> tuple[int, list[str]]:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", LONG, str(cache), str(until)], capture_output=True, check=False, text=True
    )
    assert done.stderr == ""
    return done.returncode, done.stdout.split()


def test_a_computation_that_was_killed_goes_on_where_it_was(tmp_path: Path) -> None:
    code, whole = _long(tmp_path / "whole", 99)
    assert (code, whole[-2]) == (0, "40")
    cut = tmp_path / "cut"
    for until in (5, 23, 36):  # in the first, the second and the third turn of 16 queries
        code, seen = _long(cut, until)
        assert code == -signal.SIGKILL
        assert int(seen[-1]) == until
    assert [p.suffix for p in sorted(cut.rglob("*")) if p.is_file()] == [".part"] * 3
    code, rest = _long(cut, 99)
    assert code == 0
    assert rest[-1] == whole[-1]
    assert int(rest[0]) > 30  # nothing before the last cut was read again
    assert not list(cut.rglob("*.part"))


def test_a_part_says_on_what_hope_rows_were_left_out(tmp_path: Path) -> None:
    """Here on one so high that none was kept: all are read again, those before the cut too."""
    dataset = Dataset.from_arrays("part", *(np.random.default_rng(9).normal(size=(n, 4)) for n in (3000, 10)))
    folder = tmp_path / f"{dataset.sha256[:32]}-dot-v1" / "k50.parts"
    with Threads(1, limit=False) as workers:
        search = neighbours.Search(dataset.queries, dataset.base, 50, Metric.DOT, workers)
        search.known(np.full((10, 50), -1), np.full(10, 1e30))
        truth._Part(folder / "0-10.part", truth._Wanted(dataset, Metric.DOT, 50, None).part((0, 10))).write(
            search, 2000
        )
    seen: list[int] = []
    found = ground_truth(dataset, Metric.DOT, 50, cache=tmp_path, progress=lambda done, _: seen.append(done))
    assert found.sha256 == ground_truth(dataset, Metric.DOT, 50, cache=None).sha256
    assert seen == [10]  # it went on from the part


def _of_another(head: dict[str, object], body: bytes) -> tuple[dict[str, object], bytes]:
    return {**head, "k": 49}, body


def _further(head: dict[str, object], body: bytes) -> tuple[dict[str, object], bytes]:
    return {**head, "read": 2900}, body


def _other_rows(head: dict[str, object], body: bytes) -> tuple[dict[str, object], bytes]:
    return head, body[8:] + body[:8]


@pytest.mark.parametrize("change", [_of_another, _further, _other_rows, None])
def test_a_part_that_is_not_what_was_written_is_not_believed(tmp_path: Path, change: object) -> None:
    dataset = Dataset.from_arrays("part", *(np.random.default_rng(9).normal(size=(n, 4)) for n in (3000, 10)))
    good = ground_truth(dataset, Metric.DOT, 50, cache=None)
    folder = tmp_path / f"{dataset.sha256[:32]}-dot-v1" / "k50.parts"
    key = truth._Wanted(dataset, Metric.DOT, 50, None).part((0, 10))
    with Threads(1, limit=False) as workers:
        search = neighbours.Search(dataset.queries, dataset.base[:1000], 50, Metric.DOT, workers)
        list(search.scan())
        truth._Part(folder / "0-10.part", key).write(search, 1000)
    head, _, body = (folder / "0-10.part").read_bytes().partition(b"\n")
    if change is None:
        (folder / "0-10.part").write_bytes(b"{")
    else:
        assert callable(change)
        changed, body = change(json.loads(head), body)
        (folder / "0-10.part").write_bytes(json.dumps(changed).encode() + b"\n" + body)
    with pytest.warns(UserWarning, match="part .* is damaged .*computing it anew"):
        found = ground_truth(dataset, Metric.DOT, 50, cache=tmp_path)
    assert found.sha256 == good.sha256
    assert not folder.exists()
