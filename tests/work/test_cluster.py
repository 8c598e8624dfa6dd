"""On a Ray cluster of several nodes: the same bits as here, also when a node is killed on the way."""

from __future__ import annotations

import functools
import importlib.metadata
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from vecbench import work
from vecbench.embed import MINILM_SPEC, fixed_model
from vecbench.embed.blocks import BlockEmbedder
from vecbench.errors import ClusterError, ClusterLost, ConfigError
from vecbench.work import Here, RayCluster, open_workers

from . import jobs

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning", "ignore::FutureWarning"),
]
MODEL = functools.partial(fixed_model, threads=1)


def test_results_come_in_order_and_errors_are_ours(cluster: Any) -> None:
    with open_workers(cluster.url) as workers:
        assert isinstance(workers, RayCluster)
        assert workers.cpus == 2
        assert list(workers.map(jobs.square, range(20))) == [x * x for x in range(20)]
        with pytest.raises(ConfigError, match="part 3 is refused"):
            list(workers.map(jobs.refuse, range(6)))
        with pytest.raises(ClusterError, match=r"a part of the work failed: .*division"):
            list(workers.map(jobs.break_down, range(6)))


def test_other_software_on_a_node_is_refused(cluster: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    version = importlib.metadata.version
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "0.1" if name == "numpy" else version(name))
    with pytest.raises(ClusterError, match=r"would not give the same bits: it has numpy .* \(here 0\.1\)"):
        open_workers(cluster.url)


def test_a_node_that_does_not_answer_is_named(cluster: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """As one that has just died looks."""
    monkeypatch.setattr(work, "_ANSWER_SECONDS", 2)
    raylet = psutil.Process(cluster.workers[0].all_processes["raylet"][0].process.pid)
    raylet.suspend()
    try:
        with pytest.raises(ClusterError, match=r"of the Ray cluster at ray://127\.0\.0\.2:\d+ did not answer in 2 s"):
            open_workers(cluster.url)
    finally:
        raylet.resume()


def test_work_that_no_node_is_left_for(cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(work, "_LOOK_SECONDS", 0.1)
    with open_workers(cluster.url) as workers:
        waiting = workers.map(jobs.where, [(0, str(tmp_path))])
        monkeypatch.setattr(workers, "_nodes", list)
        with pytest.raises(ClusterLost, match=r"no node of the Ray cluster at ray://127\.0\.0\.2:\d+ is left"):
            next(iter(waiting))
        (tmp_path / "go").touch()


def _pids(folder: Path) -> set[int]:
    return {int(p.name.rsplit("-", 1)[1]) for p in folder.glob("begun-*")}


def _wait_until(true: Callable[[], bool]) -> None:
    for _ in range(3000):
        if true():
            return
        threading.Event().wait(0.02)
    pytest.fail("it did not come to that in a minute")


def test_embedding_gives_the_same_bits_though_a_node_is_killed(cluster: Any, tmp_path: Path) -> None:
    texts = [f"Text number {i} is about {'word ' * (i % 23)}and ends." for i in range(1300)]
    here = BlockEmbedder(MODEL, MINILM_SPEC, Here()).embed_documents(texts)
    with open_workers(cluster.url) as workers:
        results: list[tuple[int, int]] = []
        waiting = workers.map(jobs.where, ((i, str(tmp_path)) for i in range(6)))
        reader = threading.Thread(target=lambda: results.extend(waiting))
        reader.start()
        _wait_until(lambda: len(_pids(tmp_path)) == 2)  # both nodes are at work
        cluster.remove_node(cluster.workers.pop(), allow_graceful=False)
        _wait_until(lambda: not all(map(psutil.pid_exists, _pids(tmp_path))))  # and one of them no longer
        (tmp_path / "go").touch()
        reader.join(120)
        assert [number for number, _ in results] == list(range(6))
        begun = [p.name.split("-")[1] for p in tmp_path.glob("begun-*")]
        assert len(begun) > len(set(begun))  # what the dead node had begun was begun again
        there = BlockEmbedder(MODEL, MINILM_SPEC, workers).embed_documents(texts)
    assert there.tobytes() == here.tobytes()
    assert np.isfinite(there).all()


def test_no_cluster_is_an_error_with_the_address() -> None:
    with pytest.raises(ClusterError, match=r"cluster at ray://127.0.0.2:9 cannot be reached"):
        open_workers("ray://127.0.0.2:9")
