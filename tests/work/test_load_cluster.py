"""Clients of a load on the nodes of a cluster: the same requests and answers as here, also when a node is killed."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import psutil
import pytest

from vecbench import CollectionSpec, Flat, Metric, Records, connect
from vecbench.bench import ray_actors
from vecbench.bench.client import Connection
from vecbench.bench.clients import ProcessClients
from vecbench.bench.load import Driven, Load, shares
from vecbench.bench.plan import Plan
from vecbench.bench.ray_clients import RayClients
from vecbench.bench.runner import run
from vecbench.dataset import Dataset
from vecbench.errors import ConnectionFailed
from vecbench.index import DEFAULT_SEARCH
from vecbench.registry import StoreRef
from vecbench.store import VectorStore
from vecbench.work import RayCluster, open_workers

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning", "ignore::FutureWarning"),
]
ROWS, DIM, K = 300, 16, 10


@pytest.fixture(scope="module")
def data() -> Dataset:
    random = np.random.default_rng(5)
    return Dataset.from_arrays("d", random.normal(size=(ROWS, DIM)), random.normal(size=(40, DIM)), synthetic=True)


@pytest.fixture(scope="module")
def store() -> Iterator[VectorStore]:
    with connect("pgvector") as store:
        yield store


@pytest.fixture(scope="module")
def workers(cluster: Any) -> Iterator[RayCluster]:
    with open_workers(cluster.url) as workers:
        assert isinstance(workers, RayCluster)
        yield workers


def _connection(store: VectorStore, data: Dataset) -> Connection:
    made = store.create_collection(CollectionSpec("c", DIM, Metric.EUCLIDEAN, Flat()), exist_ok=True)
    made.upsert(Records([str(i) for i in range(ROWS)], data.base))
    made.flush()
    found = store.reached_at()
    assert found is not None
    url, secrets = found
    return Connection(StoreRef("pgvector", url=url), "c", Metric.EUCLIDEAN, K, ROWS, secrets)


def _same_answers(ones: list[Driven], others: list[Driven]) -> bool:
    return len(ones) == len(others) and all(
        np.array_equal(a.rows, b.rows) and a.distances.tobytes() == b.distances.tobytes()
        for a, b in zip(ones, others, strict=True)
    )


def _raylets(cluster: Any) -> list[psutil.Process]:
    return [psutil.Process(node.all_processes["raylet"][0].process.pid) for node in cluster.workers]


def _has_clients(raylet: psutil.Process) -> bool:
    for process in raylet.children():
        with contextlib.suppress(psutil.NoSuchProcess):
            if "Client" in "".join(process.cmdline()[:1]):
                return True
    return False


def test_a_run_whose_clients_are_on_a_cluster(cluster: Any, store: VectorStore, data: Dataset) -> None:
    found = store.reached_at()
    assert found is not None
    address = found[0].replace("@", f":{found[1]['password']}@", 1)
    plan = Plan(
        stores=(StoreRef("pgvector", url=address),), metrics=(Metric.EUCLIDEAN,), ef=(), rounds=1,
        loads=(Load(2),), requests=40, on=cluster.url,
    )  # fmt: skip
    report = run(plan, dataset=data)
    (case,) = report.cases
    assert (case.status, case.error) == ("ok", None)
    (under,) = case.settings[0].loads
    assert (under.how, under.recall_mean, under.failed) == ("ray", 1.0, 0)
    assert [n.how for n in report.null_loads] == ["ray"]


def test_a_store_that_the_nodes_cannot_reach_is_said_at_once(cluster: Any, workers: RayCluster, data: Dataset) -> None:
    to = Connection(StoreRef("redisearch", url="redis://127.0.0.1:1"), "c", Metric.EUCLIDEAN, K, ROWS)
    with (
        RayClients(workers, to, data.queries) as there,
        pytest.raises(ConnectionFailed, match="redisearch"),
    ):
        there.ask(shares(Load(1), len(data.queries), 4, [1, 0, 0]), DEFAULT_SEARCH)


def test_clients_are_not_put_on_a_node_that_does_not_answer(
    cluster: Any, workers: RayCluster, store: VectorStore, data: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which is what a node that has just died looks like: it is listed, and what is put there waits."""
    to = _connection(store, data)
    with RayClients(workers, to, data.queries) as there:
        there.ask(shares(Load(1), len(data.queries), 4, [1, 0, 0]), DEFAULT_SEARCH)
        (other,) = [raylet for raylet in _raylets(cluster) if not _has_clients(raylet)]
        monkeypatch.setattr(ray_actors, "UP_SECONDS", 5.0)
        other.suspend()
        try:
            found = there.ask(shares(Load(2), len(data.queries), 40, [1, 0, 0]), DEFAULT_SEARCH)
        finally:
            other.resume()
        assert [one.error for one in found] == [None] * 2
        assert len(there.notes) == 1
        assert "brought up no client in 5 s; it was left out" in there.notes[0]
        assert not _has_clients(other)
    for _ in range(500):
        if not any(map(_has_clients, _raylets(cluster))):
            return
        threading.Event().wait(0.02)
    pytest.fail("the clients are still there")


def test_the_same_answers_on_a_cluster_also_when_a_node_dies(
    cluster: Any, workers: RayCluster, store: VectorStore, data: Dataset
) -> None:
    to = _connection(store, data)
    quick, slow = Load(3), Load(3, 20.0)  # the slow one takes some three seconds
    asked = {load: shares(load, len(data.queries), 60, [1, 0, 0]) for load in (quick, slow)}
    with ProcessClients(to, data.queries) as here:
        expected = {load: here.ask(asked[load], DEFAULT_SEARCH) for load in (quick, slow)}
    with RayClients(workers, to, data.queries) as there:
        found = there.ask(asked[quick], DEFAULT_SEARCH)
        assert _same_answers(found, expected[quick])
        assert all((one.sent_ns >= 0).all() for one in found)
        assert 0 < there.clock_ns < 1e9
        assert there.notes == []

        victim = next(raylet for raylet in _raylets(cluster) if _has_clients(raylet))

        def lose_power() -> None:
            for process in (victim, *victim.children(recursive=True)):
                process.kill()

        killer = threading.Timer(1.5, lose_power)  # it begins after one second
        killer.start()
        found = there.ask(asked[slow], DEFAULT_SEARCH)
        killer.join()
        assert _same_answers(found, expected[slow])
        assert "was lost under load" in there.notes[0]
        assert all("left out" in note for note in there.notes[1:])  # while it was still listed
