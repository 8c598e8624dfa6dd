"""Load: the figures of known arrays, and runs from data to table."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from vecbench.bench.clients import How
from vecbench.bench.figures import verify
from vecbench.bench.load import Load, drive, shares
from vecbench.bench.load_figures import load_result, null_load
from vecbench.bench.plan import Plan
from vecbench.bench.press import Pass
from vecbench.bench.recall import FAILED
from vecbench.bench.report import load_cells, markdown_table, rows
from vecbench.bench.result import LoadResult, NullLoad, Report
from vecbench.bench.runner import Event, run
from vecbench.cli.tables import footnotes
from vecbench.dataset import Dataset
from vecbench.errors import BenchmarkError, ConfigError
from vecbench.index import DEFAULT_SEARCH
from vecbench.registry import StoreRef
from vecbench.truth import ground_truth
from vecbench.types import Metric, SearchResult

from .answering import MS, ROWS, answer

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
            return answer()

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
    events: list[Event] = []
    report = run(plan, dataset=tiny, on_event=events.append)
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
    # The harness's own cost is measured by the kind of clients that it is compared with, and in one setting.
    assert [(n.clients, n.rate, n.how) for n in report.null_loads] == [(a.clients, a.rate, "threads") for a in loads]
    assert {e.total for e in events if (e.case, e.phase) == ("null, euclidean", "round 1")} == {2, 1 + len(loads)}
    report.save(tmp_path / "r.json")
    read = Report.load(tmp_path / "r.json")
    verify(read, tiny)
    assert "under load" in markdown_table(read)
    assert [len(load_cells(row, first=True)) for row in rows(read)] == [3, 3]
    assert any(key == "clients" and "threads of the process" in text for key, text in footnotes(read))
    assert not read.failed
    failed = read.model_copy(deep=True)
    failed.cases[0].settings[1].loads[2].failed, failed.cases[0].settings[1].loads[2].error = 7, "StoreTimeout: late"
    assert failed.failed
    assert list(failed.failures()) == [
        "memory, euclidean, exact, 3 clients, 900/s: 7 of 120 requests failed, the first with StoreTimeout: late"
    ]
    read.cases[0].notes.append("something was left out")
    assert ("note", "memory, euclidean: something was left out") in footnotes(read)
    read.cases[0].settings[1].loads[2].p99_ns += 1000
    with pytest.raises(BenchmarkError, match=r"exact, 3. load: p99_ns is"):
        verify(read, tiny)


def test_a_local_engine_is_asked_by_processes_and_each_kind_of_clients_is_compared(tiny: Dataset) -> None:
    stores = StoreRef("pgvector"), StoreRef("null")
    plan = Plan(stores=stores, metrics=(Metric.COSINE,), ef=(), rounds=1, loads=(Load(2),), requests=24)
    report = run(plan, dataset=tiny)
    assert [(case.status, case.error) for case in report.cases] == [("ok", None)] * 2
    (under,), (beside,) = (case.settings[0].loads for case in report.cases)
    assert (under.how, under.recall_mean, under.failed) == ("processes", 1.0, 0)
    assert under.max_distance_error < 1e-6
    assert (beside.how, beside.failed) == ("threads", 0)
    assert [n.how for n in report.null_loads] == ["processes", "threads"]


def test_a_case_that_cannot_be_compared_has_failed(tiny: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(path: Path) -> Pass:
        raise BenchmarkError("no clients today")

    monkeypatch.setattr(Pass, "load", broken)  # the null store's are the first to be read
    plan = Plan(stores=(StoreRef("memory"),), metrics=(Metric.EUCLIDEAN,), ef=(), rounds=1, loads=(Load(1),))
    report = run(plan, dataset=tiny)
    assert [(case.status, case.error) for case in report.cases] == [("failed", "no clients today")]
    assert report.failed
    assert list(report.failures()) == ["memory, euclidean: failed: no clients today"]


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
