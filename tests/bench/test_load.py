"""Load: who asks what and when, one client, and several of them."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from vecbench import CollectionSpec
from vecbench.bench.client import Client, Connection
from vecbench.bench.clients import ProcessClients, ThreadClients
from vecbench.bench.load import Driven, Load, Share, drive, requests_each, shares
from vecbench.bench.recall import FAILED, NO_ANSWER
from vecbench.collection import Collection
from vecbench.dataset import Dataset
from vecbench.errors import BenchmarkError, ConfigError, ConnectionFailed, StoreTimeout
from vecbench.index import DEFAULT_SEARCH
from vecbench.memory import MemoryStore, NullStore
from vecbench.registry import StoreRef
from vecbench.truth import ground_truth
from vecbench.types import Metric, Records, SearchResult, Vectors

from .answering import MS, ROWS, answer

# Who asks what, and when ----------------------------------------------------------------------------------------------


def test_each_query_is_asked_as_often_as_any_other_in_an_order_of_the_seed() -> None:
    made = shares(Load(4), 30, 100, [1, 0, 0])
    order = np.concatenate([share.order for share in made])
    assert [len(share.order) for share in made] == [25] * 4
    assert set(np.bincount(order, minlength=30).tolist()) == {3, 4}
    assert all(share.intended is None for share in made)
    again = shares(Load(4), 30, 100, [1, 0, 0])
    assert all(np.array_equal(a.order, b.order) for a, b in zip(made, again, strict=True))
    assert not np.array_equal(order, np.concatenate([s.order for s in shares(Load(4), 30, 100, [1, 1, 0])]))


@pytest.mark.parametrize(
    ("clients", "queries", "requests", "each"),
    [(1, 1000, None, 2000), (8, 1000, None, 250), (100, 1000, None, 100), (3, 5, 10, 4), (7, 5, 1, 1)],
)
def test_how_many_requests_a_client_sends(clients: int, queries: int, requests: int | None, each: int) -> None:
    assert requests_each(Load(clients), queries, requests) == each


def test_a_rate_is_that_of_all_clients_and_its_gaps_are_exponential() -> None:
    made = shares(Load(5, 200.0), 100, 20_000, [3, 0, 0])
    due = np.sort(np.concatenate([share.intended for share in made if share.intended is not None]))
    assert all((np.diff(s.intended) >= 0).all() for s in made if s.intended is not None)
    # Up to where the first client ends, 200 a second: a Poisson count, within five standard deviations.
    end = min(s.intended[-1] for s in made if s.intended is not None)
    expected = 200 * end / 1e9
    assert abs((due <= end).sum() - expected) < 5 * np.sqrt(expected)
    gaps = np.diff(due[due <= end])
    assert gaps.std() / gaps.mean() == pytest.approx(1, abs=0.05)  # of constant gaps it would be 0


@pytest.mark.parametrize(("clients", "rate"), [(0, None), (513, None), (1, 0.0), (1, -5.0), (1, float("nan"))])
def test_a_load_that_cannot_be_is_refused(clients: int, rate: float | None) -> None:
    with pytest.raises(ConfigError):
        Load(clients, rate)


# One client -----------------------------------------------------------------------------------------------------------


def _drive(search: Callable[..., SearchResult], share: Share, **options: Any) -> Driven:
    return drive(search, ROWS, share, k=2, params=DEFAULT_SEARCH, start=time.perf_counter_ns, n_base=5, **options)


def test_a_client_asks_its_share_in_order_with_collection_off() -> None:
    asked: list[Any] = []

    def search(row: Vectors, k: int, *, params: Any) -> SearchResult:
        asked.append((int(row[0, 0]), k, params, gc.isenabled()))
        return answer()

    driven = _drive(search, Share(np.array([4, 4, 1]), None))
    assert [a[0] for a in asked] == [4, 4, 1, 4, 4, 1]  # warmed up first
    assert [a[1:] for a in asked[3:]] == [(2, DEFAULT_SEARCH, False)] * 3
    assert gc.isenabled()
    assert driven.rows.tolist() == [[3, NO_ANSWER]] * 3
    assert driven.distances[:, 0].tolist() == [0.5] * 3
    assert (driven.sent_ns >= 0).all()
    assert (driven.sent_ns[1:] >= (driven.sent_ns + driven.service_ns)[:-1]).all()


def test_what_fails_under_load_is_counted_and_the_rest_goes_on() -> None:
    calls = iter(range(100))

    def search(*_a: Any, **_o: Any) -> SearchResult:
        if next(calls) in {6, 8}:  # after five of the warm-up
            raise StoreTimeout("no answer from http://user:hunter2@host")
        return answer()

    driven = _drive(search, Share(np.arange(6), None))
    assert driven.rows[:, 0].tolist() == [3, FAILED, 3, FAILED, 3, 3]
    assert driven.error is not None
    assert "StoreTimeout: no answer" in driven.error
    assert "hunter2" not in driven.error


@pytest.mark.parametrize("awake_ns", [0, 2 * MS])
def test_nothing_is_sent_before_it_is_due(awake_ns: int) -> None:
    due = np.array([5, 6, 30]) * MS
    driven = _drive(answer, Share(np.array([0, 1, 2]), due), awake_ns=awake_ns)
    assert (driven.sent_ns >= due).all()


# Several --------------------------------------------------------------------------------------------------------------


def _collection(data: Dataset) -> Collection:
    made = MemoryStore().create_collection(CollectionSpec("c", data.dim, Metric.EUCLIDEAN))
    made.upsert(Records([str(i) for i in range(len(data.base))], data.base))
    return made


def test_threads_begin_together_and_ask_at_once(tiny: Dataset) -> None:
    collection, under_way, most = _collection(tiny), 0, 0
    lock, all_there = threading.Lock(), threading.Barrier(3)
    calls = iter(range(1000))

    class Watched:
        @staticmethod
        def search(*arguments: Any, **options: Any) -> SearchResult:
            nonlocal under_way, most
            with lock:
                under_way += 1
                most = max(most, under_way)
                first = next(calls) < 3
            if first:  # not before all three clients have a request under way
                all_there.wait(20)
            with lock:
                under_way -= 1
            return collection.search(*arguments, **options)

    clients = ThreadClients(lambda: Watched, tiny.queries, 5, len(tiny.base))  # type: ignore[arg-type,return-value]
    made = shares(Load(3), len(tiny.queries), 12, [1, 0, 0])
    driven = clients.ask(made, DEFAULT_SEARCH)
    assert most == 3
    truth = ground_truth(tiny, Metric.EUCLIDEAN, 5, cache=None)
    for one, share in zip(driven, made, strict=True):
        assert np.array_equal(one.rows, truth.rows[share.order])
        assert (one.sent_ns >= 0).all()


def test_no_garbage_is_collected_until_the_last_thread_is_through() -> None:
    collecting: list[bool] = []
    first_is_through = threading.Event()

    class Watched:
        @staticmethod
        def search(row: Vectors, *_arguments: Any, **_options: Any) -> SearchResult:
            collecting.append(gc.isenabled())
            if row[0, 0] == 1 and len(collecting) > 6:  # after the warm-up, which is not waited for
                first_is_through.wait(0.05)
            return answer()

    queries = np.array([[0, 0], [1, 1]], np.float32)
    clients = ThreadClients(lambda: Watched, queries, 2, 5)  # type: ignore[arg-type,return-value]
    clients.ask([Share(np.array([0]), None), Share(np.ones(8, np.int64), None)], DEFAULT_SEARCH)
    assert len(collecting) == 1 + 1 + 5 + 8
    assert not any(collecting)
    assert gc.isenabled()


def test_a_thread_that_fails_ends_the_pass_and_holds_nobody_up(tiny: Dataset) -> None:
    calls = iter(range(100))

    class Broken:
        @staticmethod
        def search(*arguments: Any, **options: Any) -> SearchResult:
            if next(calls) == 0:
                raise StoreTimeout("not even warm")
            return answer(*arguments, **options)

    clients = ThreadClients(lambda: Broken, tiny.queries, 5, 250)  # type: ignore[arg-type,return-value]
    with pytest.raises(StoreTimeout, match="not even warm"):
        clients.ask(shares(Load(3), 12, 12, [1, 0, 0]), DEFAULT_SEARCH)


def test_processes_are_clients_of_their_own_and_are_kept(tiny: Dataset) -> None:
    to = Connection(StoreRef("null"), "c", Metric.EUCLIDEAN, 5, 250)
    with ProcessClients(to, tiny.queries) as clients:
        for count in (1, 2, 2):
            made = shares(Load(count), len(tiny.queries), 12, [1, 0, 0])
            driven = clients.ask(made, DEFAULT_SEARCH)
            assert [d.rows.shape for d in driven] == [(12 // count, 5)] * count
            assert all((d.sent_ns >= 0).all() and d.error is None for d in driven)
        pids = [process.pid for process, _ in clients._started]
        assert len(set(pids)) == 2
        clients._started[1][0].kill()
        with pytest.raises(BenchmarkError, match="a client of the load died"):
            clients.ask(made, DEFAULT_SEARCH)


def test_a_process_that_cannot_connect_says_why(tiny: Dataset) -> None:
    to = Connection(StoreRef("redisearch", url="redis://127.0.0.1:1"), "c", Metric.COSINE, 5, 250, {"password": "x"})
    with ProcessClients(to, tiny.queries) as clients, pytest.raises(ConnectionFailed, match="redisearch"):
        clients.ask(shares(Load(1), 12, 12, [1, 0, 0]), DEFAULT_SEARCH)
    assert "password" not in repr(to)


def test_a_client_heeds_what_was_set_since(tiny: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    get = NullStore.get_collection

    def noted(self: NullStore, name: str) -> Collection:
        opened.append(name)
        return get(self, name)

    monkeypatch.setattr(NullStore, "get_collection", noted)
    client = Client(Connection(StoreRef("null"), "c", Metric.COSINE, 5, 250), tiny.queries)
    for _ in range(2):
        client.ask(Share(np.arange(2), None), DEFAULT_SEARCH, client.now)
    client.close()
    assert opened == ["c", "c"]
