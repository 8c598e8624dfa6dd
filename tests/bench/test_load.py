"""Load: who asks what and when, what is measured, and what the figures of known arrays are."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from vecbench import CollectionSpec
from vecbench.bench.client import Client, Connection
from vecbench.bench.clients import How, ProcessClients, ThreadClients
from vecbench.bench.figures import verify
from vecbench.bench.load import Driven, Load, Share, drive, requests_each, shares
from vecbench.bench.load_figures import load_result, null_load
from vecbench.bench.plan import Plan
from vecbench.bench.press import Pass
from vecbench.bench.recall import FAILED, NO_ANSWER
from vecbench.bench.report import load_cells, markdown_table, rows
from vecbench.bench.result import LoadResult, NullLoad, Report
from vecbench.bench.runner import run
from vecbench.cli.tables import footnotes
from vecbench.collection import Collection
from vecbench.dataset import Dataset
from vecbench.errors import BenchmarkError, ConfigError, ConnectionFailed, StoreTimeout
from vecbench.index import DEFAULT_SEARCH
from vecbench.memory import MemoryStore, NullStore
from vecbench.registry import StoreRef
from vecbench.truth import ground_truth
from vecbench.types import Metric, Records, SearchResult, Vectors

MS = 1_000_000
ROWS = [np.full((1, 2), i, np.float32) for i in range(6)]


def _answer(*_arguments: Any, **_options: Any) -> SearchResult:
    return SearchResult([["3"]], [np.array([0.5])], Metric.EUCLIDEAN)


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
        return _answer()

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
        return _answer()

    driven = _drive(search, Share(np.arange(6), None))
    assert driven.rows[:, 0].tolist() == [3, FAILED, 3, FAILED, 3, 3]
    assert driven.error is not None
    assert "StoreTimeout: no answer" in driven.error
    assert "hunter2" not in driven.error


@pytest.mark.parametrize("awake_ns", [0, 2 * MS])
def test_nothing_is_sent_before_it_is_due(awake_ns: int) -> None:
    due = np.array([5, 6, 30]) * MS
    driven = _drive(_answer, Share(np.array([0, 1, 2]), due), awake_ns=awake_ns)
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
            return _answer()

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
            return _answer(*arguments, **options)

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


# Figures --------------------------------------------------------------------------------------------------------------


def _pass(
    sent: npt.ArrayLike, service: npt.ArrayLike, how: How = "processes", cpu: float = 0.0, failed: tuple[int, ...] = ()
) -> Pass:
    sent_ns, service_ns = (np.asarray(np.multiply(ms, MS), np.int64) for ms in (sent, service))
    rows_ = np.zeros((*sent_ns.shape, 10), np.int64)
    rows_.reshape(-1, 10)[list(failed), 0] = FAILED
    error = "E: x" if failed else None
    return Pass(how, sent_ns, service_ns, rows_, [cpu] * len(sent_ns), error=error)


def _figures(data: Dataset, load: Load, one: Pass, null: tuple[NullLoad, ...] = ()) -> LoadResult:
    truth = ground_truth(data, Metric.EUCLIDEAN, 10, cache=None)
    return load_result(load, [one], requests=one.sent_ns.size, seed=1, at=0, data=data, truth=truth, null=null)


def test_figures_are_of_the_time_in_which_all_clients_are_at_work(tiny: Dataset) -> None:
    # One client from 0 to 40 ms without a pause, the other from 10 to 100: only what lies in 10..40 counts.
    found = _figures(tiny, Load(2), _pass([[0, 10, 20, 30], [10, 40, 60, 80]], [[10, 10, 10, 10], [30, 20, 20, 20]]))
    assert found.qps == pytest.approx(4 / 0.030)  # three of the first client, one of the second
    assert found.in_flight == pytest.approx(2)
    assert (found.p50_ns, found.p99_ns) == (10 * MS, 30 * MS)  # of 10, 10, 10, 30: those sent then
    assert found.verdict == "ok"
    # Of the 8 answers, all of row 0 ten times over: right once, where row 0 is among the ten nearest.
    truth = ground_truth(tiny, Metric.EUCLIDEAN, 10, cache=None)
    order = np.concatenate([s.order for s in shares(Load(2), len(tiny.queries), 8, [1, 0, 0])])
    assert found.recall_mean == pytest.approx(np.mean([0 in truth.rows[q] for q in order]) / 10)


def test_clients_that_are_seldom_waiting_are_the_bottleneck(tiny: Dataset) -> None:
    idle = _pass([[0, 20, 40], [0, 20, 40]], [[10, 10, 10], [10, 10, 10]])
    found = _figures(tiny, Load(2), idle)
    assert found.in_flight == pytest.approx(2 * 3 * 10 / 50)
    assert found.verdict == "client-bound"
    assert found.late_p99_ns == 10 * MS
    busy = [[0, 10, 20], [0, 10, 20]], [[10, 10, 10], [10, 10, 10]]
    assert _figures(tiny, Load(2), _pass(*busy)).verdict == "ok"
    assert _figures(tiny, Load(2), _pass(*busy, cpu=0.029)).verdict == "client-bound"
    assert _figures(tiny, Load(2), _pass(*busy, cpu=0.029, how="threads")).verdict == "ok"
    for qps, verdict in ((399, "client-bound"), (401, "ok")):  # 200 a second were measured
        null = NullLoad(clients=2, rate=None, how="processes", qps=qps, p50_ns=1)
        assert _figures(tiny, Load(2), _pass(*busy), (null,)).verdict == verdict
        other = NullLoad(clients=2, rate=None, how="threads", qps=1, p50_ns=1)
        assert _figures(tiny, Load(2), _pass(*busy), (null, other)).verdict == verdict


def test_what_failed_is_in_no_latency_and_no_rate(tiny: Dataset) -> None:
    times = [[0, 10, 20, 30]], [[10, 10, 10, 1]]
    found = _figures(tiny, Load(1), _pass(*times, failed=(3,)))
    assert (found.failed, found.error, found.p50_ns) == (1, "E: x", 10 * MS)
    assert found.qps == pytest.approx(3 / 0.031)
    assert _figures(tiny, Load(1), _pass(*times)).recall_mean >= found.recall_mean
    none = _figures(tiny, Load(1), _pass(*times, failed=(0, 1, 2, 3)))
    assert (none.qps, none.p50_ns, none.recall_mean) == (0, -1, 0)


def test_a_stall_is_in_the_latencies_of_an_open_loop_only(tiny: Dataset) -> None:
    """One answer takes 200 ms: to a closed loop that is one slow request, to those who were due meanwhile all are."""

    def figures(rate: float | None) -> LoadResult:
        calls = iter(range(1000))

        def search(*_a: Any, **_o: Any) -> SearchResult:
            if next(calls) == 25:
                time.sleep(0.2)
            return _answer()

        load = Load(1, rate)
        (share,) = shares(load, 12, 100, [1, 0, 0])
        d = drive(search, ROWS * 2, share, k=10, params=DEFAULT_SEARCH, start=time.perf_counter_ns, n_base=250)
        one = Pass("threads", d.sent_ns[None], d.service_ns[None], d.rows[None], [0.0])
        return _figures(tiny, load, one)

    closed, opened = figures(None), figures(400.0)
    assert closed.p95_ns < 100 * MS < opened.p95_ns
    assert opened.service_p50_ns < 100 * MS


def test_a_store_that_does_not_keep_up_is_behind(tiny: Dataset) -> None:
    (share,) = shares(load := Load(1, 1000.0), 12, 60, [1, 0, 0])
    assert share.intended is not None
    due = share.intended / MS
    slow = np.arange(60) * 5.0
    assert _figures(tiny, load, _pass([np.maximum(slow, due)], [[5] * 60])).verdict == "behind"
    assert _figures(tiny, load, _pass([np.ceil(due)], [[0] * 60])).verdict == "ok"


def test_null_is_measured_in_the_same_window() -> None:
    found = null_load(Load(2), _pass([[0, 10], [10, 20]], [[10, 10], [10, 10]]))
    assert found.qps == pytest.approx(2 / 0.01)
    assert found.p50_ns == 10 * MS


def test_a_pass_is_read_as_it_was_written(tmp_path: Path) -> None:
    one = _pass([[0, 10]], [[10, 20]], cpu=0.5, failed=(1,))
    one.notes.append("a node was lost")
    one.save(tmp_path / "0-1-load2")
    read = Pass.load(tmp_path / "0-1-load2")
    for name in ("sent_ns", "service_ns", "rows"):
        assert np.array_equal(getattr(read, name), getattr(one, name))
    assert (read.how, read.cpu_seconds, read.error, read.notes) == ("processes", [0.5], "E: x", ["a node was lost"])


# A run ----------------------------------------------------------------------------------------------------------------


def test_a_run_under_load_from_data_to_table(tiny: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load_pass = Pass.load

    def with_note(path: Path) -> Pass:
        one = load_pass(path)
        one.notes += ["a node was lost"] * (path.name == "1-1-load2")
        return one

    monkeypatch.setattr(Pass, "load", with_note)
    loads = (Load(1), Load(3), Load(3, 900.0))
    plan = Plan(stores=(StoreRef("memory"),), metrics=(Metric.EUCLIDEAN,), ef=(16,), rounds=2, loads=loads, requests=60)
    report = run(plan, dataset=tiny)
    (case,) = report.cases
    assert (case.status, case.error) == ("ok", None)
    assert case.notes == ["exact, 3 clients, 900/s: a node was lost"]
    for setting in case.settings:
        assert setting.latencies_ns.decode().shape == (2, 12)  # alone, as without loads
        assert [(under.clients, under.rate, under.how) for under in setting.loads] == [
            (1, None, "threads"), (3, None, "threads"), (3, 900.0, "threads")
        ]  # fmt: skip
        for under in setting.loads:
            assert under.sent_ns.decode().shape == (2, under.clients, 60 // under.clients)
            assert (under.recall_mean, under.failed) == (1.0, 0)
            assert under.max_distance_error < 1e-9
            assert under.qps > 0
    assert {(n.clients, n.rate, n.how) for n in report.null_loads} == {
        (load.clients, load.rate, how) for load in loads for how in ("threads", "processes")
    }
    report.save(tmp_path / "r.json")
    read = Report.load(tmp_path / "r.json")
    verify(read, tiny)
    assert "under load" in markdown_table(read)
    assert [len(load_cells(row, first=True)) for row in rows(read)] == [3, 3]
    assert any(key == "clients" and "threads of the process" in text for key, text in footnotes(read))
    read.cases[0].notes.append("something was left out")
    assert ("note", "memory, euclidean: something was left out") in footnotes(read)
    read.cases[0].settings[1].loads[2].p99_ns += 1000
    with pytest.raises(BenchmarkError, match=r"exact, 3. load: p99_ns is"):
        verify(read, tiny)


def test_a_local_engine_is_asked_by_processes(tiny: Dataset) -> None:
    plan = Plan(
        stores=(StoreRef("pgvector"),), metrics=(Metric.COSINE,), ef=(), rounds=1, loads=(Load(2),), requests=24
    )
    (case,) = run(plan, dataset=tiny).cases
    assert (case.status, case.error) == ("ok", None)
    (under,) = case.settings[0].loads
    assert (under.how, under.recall_mean, under.failed) == ("processes", 1.0, 0)
    assert under.max_distance_error < 1e-6


def test_a_load_that_cannot_be_measured_is_refused() -> None:
    server = StoreRef("qdrant", url="http://host")
    Plan(stores=(server,), loads=(Load(1),), on="ray://h:1")
    for wrong, said in (
        ({"loads": (Load(1), Load(1))}, "each load once"),
        ({"requests": 0}, "requests must be"),
        ({"on": "ray://h:1"}, "--clients"),
        ({"on": "http://u:hunter2@h", "loads": (Load(1),)}, "ray://host:port"),
        ({"on": "ray://h:1", "loads": (Load(1),), "stores": (server, StoreRef("faiss"))}, "faiss has none"),
    ):
        with pytest.raises(ConfigError, match=said) as caught:
            Plan(**{"stores": (server,), **wrong})  # type: ignore[arg-type]  # the values are wrong on purpose
        assert "hunter2" not in str(caught.value)
