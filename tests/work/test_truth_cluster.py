"""Exact neighbours by other workers: the same bits as here, also when a node is killed with its work in hand."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import psutil
import pytest
from typer.testing import CliRunner

from vecbench import distributed, truth
from vecbench.cli.main import app
from vecbench.dataset import Dataset
from vecbench.errors import DatasetError
from vecbench.truth import GroundTruth, ground_truth
from vecbench.types import Metric
from vecbench.work import Here, Workers, open_workers

_Work = TypeVar("_Work")
_Result = TypeVar("_Result")

QUIET = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning", "ignore::FutureWarning")


def made(rows: int = 3000) -> Dataset:
    """Every vector occurs twice, far apart, so that ties are between parts."""
    rng = np.random.default_rng(4)
    half = rng.normal(size=(rows // 2, 12)).astype(np.float32)
    return Dataset.from_arrays("twice", np.concatenate([half, half]), rng.normal(size=(40, 12)))


def third(rows: int) -> npt.NDArray[np.bool_]:
    return np.random.default_rng(5).random(rows) < 0.3


def same(a: GroundTruth, b: GroundTruth) -> bool:
    return np.array_equal(a.rows, b.rows) and a.distances.tobytes() == b.distances.tobytes() and a.sha256 == b.sha256


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distributed, "_PART_BYTES", 4 * 12 * 170)  # 170 rows, so 18 parts


@pytest.mark.usefixtures("small_parts")
@pytest.mark.parametrize("metric", list(Metric))
@pytest.mark.parametrize("k", [1, 25, 400])
def test_parts_give_the_bits_of_the_whole(metric: Metric, k: int) -> None:
    """Of 400 neighbours no part has so many."""
    data = made()
    for mask in (None, third(3000), np.arange(3000) == 2999):
        whole = ground_truth(data, metric, k, mask=mask, cache=None)
        assert same(ground_truth(data, metric, k, mask=mask, cache=None, workers=Here()), whole)


@pytest.mark.usefixtures("small_parts")
def test_what_has_no_distance_is_named_by_its_number_in_the_whole() -> None:
    base, queries = np.ones((3000, 12)), np.ones((10, 12))
    base[1703] = 0
    mask = np.arange(3000) % 2 == 1
    for which in (None, mask):
        with pytest.raises(DatasetError, match="data set zero: row 1703 of base is zero"):
            ground_truth(
                Dataset.from_arrays("zero", base, queries), Metric.COSINE, 3, mask=which, cache=None, workers=Here()
            )
    queries[7] = 0
    with pytest.raises(DatasetError, match="data set zero: row 7 of queries is zero"):
        ground_truth(Dataset.from_arrays("zero", base, queries), Metric.COSINE, 3, cache=None, workers=Here())


@pytest.mark.usefixtures("small_parts")
def test_what_was_cut_off_goes_on_and_is_not_taken_for_a_search_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(truth, "_PART_SECONDS", 0.0)
    data, seen = made(), list[int]()

    def cut(done: int, total: int) -> None:
        seen.append(done)
        if len(seen) == 12:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ground_truth(data, Metric.EUCLIDEAN, 25, cache=tmp_path, workers=Here(), progress=cut)
    assert [path.name for path in tmp_path.rglob("*-*.*") if path.is_file()] == ["0-40.merged"]
    rest: list[int] = []
    whole = ground_truth(data, Metric.EUCLIDEAN, 25, cache=None)
    found = ground_truth(
        data, Metric.EUCLIDEAN, 25, cache=tmp_path, workers=Here(), progress=lambda done, _: rest.append(done)
    )
    assert same(found, whole)
    assert rest[0] > seen[-1]
    assert not list(tmp_path.rglob("*.merged"))


def test_parts_are_read_when_they_are_sent() -> None:
    read: list[int] = []

    class Counted(Here):
        def map(self, function: Callable[[_Work], _Result], parts: Iterable[_Work]) -> Iterator[_Result]:
            for part in parts:
                read.append(len(read))
                yield function(part)

    data = made()
    search = distributed.SearchOn(data.queries, data.base, 5, Metric.DOT, Counted(), memory_bytes=1)
    step, distributed_bytes = 1000, distributed._PART_BYTES
    try:
        distributed._PART_BYTES = 4 * 12 * step
        for number, done in enumerate(search.scan()):
            assert (len(read), done) == (number + 1, (number + 1) * step)
    finally:
        distributed._PART_BYTES = distributed_bytes
    assert len(read) == 3


class Held(Workers):
    """Workers that mark the parts they have begun, and wait with them until they may go on."""

    def __init__(self, inner: Workers, folder: Path) -> None:
        self._inner, self._folder = inner, folder

    def map(self, function: Callable[[_Work], _Result], parts: Iterable[_Work]) -> Iterator[_Result]:
        numbered = ((function, part, number, str(self._folder)) for number, part in enumerate(parts))
        return self._inner.map(held, numbered)

    def share(self, value: _Work) -> Callable[[], _Work]:
        return self._inner.share(value)

    def close(self) -> None:
        self._inner.close()


def held(work: tuple[Callable[[_Work], _Result], _Work, int, str]) -> _Result:
    function, part, number, folder = work
    Path(folder, f"begun-{number}-{os.getpid()}").touch()
    wait_until(Path(folder, "go").exists)
    return function(part)


def wait_until(true: Callable[[], bool]) -> None:
    for _ in range(3000):
        if true():
            return
        threading.Event().wait(0.02)
    raise TimeoutError("it did not come to that in a minute")


def begun(folder: Path) -> list[tuple[int, int]]:
    """Part and process, as often as one was begun."""
    return [(int(part), int(pid)) for _, part, pid in (path.name.split("-") for path in folder.glob("begun-*"))]


@QUIET
@pytest.mark.slow
def test_the_command_line_computes_on_a_cluster(cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    np.save(tmp_path / "mine.npy", made().base)
    arguments = ["truth", str(tmp_path / "mine.npy"), "--metric", "cosine", "--k", "7", "--json"]
    there = CliRunner().invoke(app, [*arguments, "--on", cluster.url])
    assert there.exit_code == 0, there.output
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "other"))
    here = CliRunner().invoke(app, arguments)
    there_said, here_said = json.loads(there.stdout)[0], json.loads(here.stdout)[0]
    assert there_said["sha256"] == here_said["sha256"]
    assert (there_said["cluster"], here_said["cluster"]) == (True, False)
    assert there_said["gflops"] > 0


@QUIET
@pytest.mark.slow
@pytest.mark.usefixtures("small_parts")
def test_a_cluster_gives_the_same_bits_though_a_node_is_killed(cluster: Any, tmp_path: Path) -> None:
    data = made()
    with open_workers(cluster.url) as workers:
        for metric, mask in ((Metric.EUCLIDEAN, None), (Metric.COSINE, third(3000))):
            whole = ground_truth(data, metric, 25, mask=mask, cache=None)
            assert same(ground_truth(data, metric, 25, mask=mask, cache=None, workers=workers), whole)
        found: list[GroundTruth] = []
        reader = threading.Thread(
            target=lambda: found.append(
                ground_truth(data, Metric.COSINE, 25, cache=None, workers=Held(workers, tmp_path))
            )
        )
        reader.start()
        wait_until(lambda: len({pid for _, pid in begun(tmp_path)}) == 2)  # both nodes are at work
        cluster.remove_node(cluster.workers.pop(), allow_graceful=False)
        wait_until(lambda: not all(psutil.pid_exists(pid) for _, pid in begun(tmp_path)))  # and one no longer
        (tmp_path / "go").touch()
        reader.join(120)
    parts = [part for part, _ in begun(tmp_path)]
    assert sorted(set(parts)) == list(range(18))
    assert len(parts) > 18  # what the dead node had begun was begun again
    assert same(found[0], ground_truth(data, Metric.COSINE, 25, cache=None))


def test_threads_are_not_for_a_cluster() -> None:
    refused = CliRunner().invoke(app, ["truth", "glosses-10k", "--on", "ray://127.0.0.2:9", "--threads", "2"])
    assert refused.exit_code == 2
    assert "--threads is for this machine" in refused.stderr
