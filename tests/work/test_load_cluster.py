"""Clients of a load on the nodes of a cluster: the same requests and answers as here, also when a node is killed."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import psutil
import pytest

from vecbench import CollectionSpec, Flat, Metric, Records, connect
from vecbench.bench.client import Connection
from vecbench.bench.clients import ProcessClients
from vecbench.bench.load import Driven, Load, shares
from vecbench.bench.plan import Plan
from vecbench.bench.ray_clients import RayClients
from vecbench.bench.runner import run
from vecbench.dataset import Dataset
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


def test_the_same_answers_on_a_cluster_also_when_a_node_dies(cluster: Any, store: VectorStore, data: Dataset) -> None:
    to = _connection(store, data)
    quick, slow = Load(3), Load(3, 20.0)  # the slow one takes some three seconds
    asked = {load: shares(load, len(data.queries), 60, [1, 0, 0]) for load in (quick, slow)}
    with ProcessClients(to, data.queries) as here:
        expected = {load: here.ask(asked[load], DEFAULT_SEARCH) for load in (quick, slow)}
    with open_workers(cluster.url) as workers:
        assert isinstance(workers, RayCluster)
        with RayClients(workers, to, data.queries) as there:
            found = there.ask(asked[quick], DEFAULT_SEARCH)
            assert _same_answers(found, expected[quick])
            assert all((one.sent_ns >= 0).all() for one in found)
            assert 0 < there.clock_ns < 1e9
            assert there.notes == []

            raylets = [psutil.Process(node.all_processes["raylet"][0].process.pid) for node in cluster.workers]
            victim = next(r for r in raylets if any("Client" in p.cmdline()[0] for p in r.children()))

            def lose_power() -> None:
                for process in (victim, *victim.children(recursive=True)):
                    process.kill()

            killer = threading.Timer(1.5, lose_power)  # it begins after one second
            killer.start()
            found = there.ask(asked[slow], DEFAULT_SEARCH)
            killer.join()
            assert _same_answers(found, expected[slow])
            assert len(there.notes) == 1
            assert "was lost under load" in there.notes[0]
