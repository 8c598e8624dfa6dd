"""The rules of measuring, each against the mistake that it comes from."""

from __future__ import annotations

import json
import os
import signal
import threading
from pathlib import Path

import numpy as np
import numpy.typing as npt
import psutil
import pytest

from vecbench import HNSW, Flat, Metric
from vecbench.bench.plan import Plan
from vecbench.bench.recall import recall_at_k
from vecbench.bench.report import markdown_table, rows
from vecbench.bench.result import Column, Report
from vecbench.bench.runner import Event, run
from vecbench.bench.stats import bootstrap_interval, percentile_ns
from vecbench.bench.worker import Worker, timed_pass
from vecbench.dataset import Dataset
from vecbench.distance import top_k
from vecbench.errors import BenchmarkError, ConfigError, RunVoid
from vecbench.index import SearchParams
from vecbench.memory import MemoryCollection
from vecbench.registry import StoreRef

RNG = np.random.default_rng(1)


def small(n: int = 300, queries: int = 12) -> Dataset:
    vectors = RNG.normal(size=(n + queries, 16)).astype(np.float32)
    return Dataset.from_arrays("small", vectors[:n], vectors[n:])


def measured(
    base: npt.NDArray[np.float32], queries: npt.NDArray[np.float32], answers: npt.NDArray[np.int64]
) -> tuple[float, float]:
    truth_rows, truth_distances = top_k(queries, base, answers.shape[1], Metric.EUCLIDEAN)
    got = recall_at_k(answers, queries, base, truth_rows, truth_distances, metric=Metric.EUCLIDEAN)
    return float(got.by_distance.mean()), float(got.by_id.mean())


def test_exact_search_scores_one_where_every_vector_occurs_four_times() -> None:
    """Ties: any of the equal rows is right. Counting ids would punish an exact search."""
    base = np.tile(RNG.normal(size=(200, 8)).astype(np.float32), (4, 1))
    queries = RNG.normal(size=(50, 8)).astype(np.float32)
    truth, _ = top_k(queries, base, 10, Metric.EUCLIDEAN)
    other_copies = (truth + 200) % 800
    by_distance, by_id = measured(base, queries, other_copies)
    assert by_distance == 1.0
    assert by_id == pytest.approx(0.9)  # two vectors with all copies, and one of the two copies of the third


def test_random_answers_do_not_score_on_a_tight_cluster() -> None:
    """An absolute tolerance calls everything right where all distances are small."""
    base = (1 + RNG.normal(size=(1000, 8)) * 1e-5).astype(np.float32)
    queries = (1 + RNG.normal(size=(50, 8)) * 1e-5).astype(np.float32)
    answers = np.stack([RNG.permutation(1000)[:10] for _ in range(50)])
    assert measured(base, queries, answers)[0] < 0.1


def test_duplicates_and_absent_answers_are_misses() -> None:
    base, queries = small().base, small().queries
    truth_rows, distances = top_k(queries, base, 4, Metric.EUCLIDEAN)
    answers = truth_rows.copy()
    answers[0] = [truth_rows[0, 0]] * 4
    answers[1, 2:] = -1
    got = recall_at_k(answers, queries, base, truth_rows, distances, metric=Metric.EUCLIDEAN)
    assert got.by_distance.tolist()[:3] == [0.25, 0.5, 1.0]
    assert (got.duplicates, got.missing) == (3, 2)


def test_a_percentile_is_a_value_that_was_measured() -> None:
    values = np.array([10, 20, 30, 1000])
    assert percentile_ns(values, 50) in values
    assert percentile_ns(values, 99) == 1000


def test_the_interval_holds_the_figure_and_shrinks_with_more_queries() -> None:
    few, many = RNG.uniform(size=50), RNG.uniform(size=5000)
    low, high = bootstrap_interval(few)
    assert low < few.mean() < high
    narrow = bootstrap_interval(many)
    assert narrow[1] - narrow[0] < (high - low) / 3


def test_the_answers_are_those_that_were_timed() -> None:
    asked: list[int] = []

    def search(row: npt.NDArray[np.float32], k: int, *, params: SearchParams) -> object:
        asked.append(int(row[0, 0]))
        return ("answer", int(row[0, 0]), k)

    rows_ = [np.full((1, 4), i, np.float32) for i in range(5)]
    latencies, answers = timed_pass(search, rows_, 3, SearchParams())  # type: ignore[arg-type]  # a stand-in
    assert asked == [0, 1, 2, 3, 4]
    assert list[object](answers) == [("answer", i, 3) for i in range(5)]
    assert latencies.dtype == np.int64
    assert (latencies > 0).all()


def test_columns_survive_text() -> None:
    array = RNG.integers(-(2**62), 2**62, (3, 4, 5))
    column = Column.encode(array)
    assert (Column.model_validate_json(column.model_dump_json()).decode() == array).all()
    with pytest.raises(BenchmarkError):
        Column(shape=[2], zlib_base64="AAAA").decode()


@pytest.fixture(scope="module")
def report() -> Report:
    """memory and a store that does not exist, under both metrics, in child processes."""
    plan = Plan(stores=(StoreRef("memory"), StoreRef("no-such-store")), index=HNSW(), ef=(4, 8), rounds=2)
    return run(plan, dataset=small())


def test_a_failed_store_keeps_its_error_and_the_others_go_on(report: Report) -> None:
    assert report.failed
    by_store = {(c.store, c.metric): c for c in report.cases}
    assert len(by_store) == 4
    for metric in ("euclidean", "cosine"):
        bad = by_store["no-such-store", metric]
        assert bad.status == "failed"
        assert "no-such-store" in (bad.error or "")
        good = by_store["memory", metric]
        assert good.status == "ok"
        assert [s.name for s in good.settings] == ["ef=4", "ef=8", "exact"]
        for setting in good.settings:
            assert setting.recall_mean == setting.recall_by_id == 1.0
            assert setting.max_distance_error < 1e-9
            assert setting.latencies_ns.decode().shape == (2, 12)
            assert setting.answers.decode().shape == (2, 12, 10)


def test_the_harness_measures_itself_first(report: Report) -> None:
    slowest = min(s.p50_ns for c in report.cases for s in c.settings)
    assert report.null_cost_ns is not None
    assert 0 < report.null_cost_ns < slowest


def test_a_report_survives_its_file(report: Report, tmp_path: Path) -> None:
    report.save(tmp_path / "r.json")
    assert Report.load(tmp_path / "r.json") == report
    text = (tmp_path / "r.json").read_text("utf-8")
    assert str(Path.home()) not in text
    data = json.loads(text)
    assert os.uname().nodename not in data["machine"].values()
    data["version"] = 99
    (tmp_path / "r.json").write_text(json.dumps(data))
    with pytest.raises(BenchmarkError, match="version"):
        Report.load(tmp_path / "r.json")
    (tmp_path / "r.json").write_text("not json")
    with pytest.raises(BenchmarkError, match="JSON"):
        Report.load(tmp_path / "r.json")
    with pytest.raises(BenchmarkError, match="cannot be read"):
        Report.load(tmp_path / "missing.json")


def test_tables_name_every_case(report: Report) -> None:
    assert len(rows(report)) == 2 * (3 + 1)
    table = markdown_table(report)
    assert table.count("no-such-store") == 2
    assert "1.0000" in table


def test_a_killed_store_fails_alone() -> None:
    """The engine's process dies in the middle: its case says by which signal, the other store's numbers stand."""
    killed = threading.Event()

    def kill_once(event: Event) -> None:
        if event.case == "memory, euclidean" and event.phase == "round 1" and not killed.is_set():
            killed.set()
            for child in psutil.Process().children():
                if "worker" in " ".join(child.cmdline()) and "memory" in " ".join(child.cmdline()):
                    child.send_signal(signal.SIGKILL)

    plan = Plan(stores=(StoreRef("memory"), StoreRef("faiss")), metrics=(Metric.EUCLIDEAN,), index=Flat(), rounds=2)
    done = run(plan, on_event=kill_once, dataset=small())
    assert killed.is_set()
    by_store = {c.store: c for c in done.cases}
    assert by_store["memory"].status == "failed"
    assert "SIGKILL" in (by_store["memory"].error or "")
    assert by_store["faiss"].status == "ok"
    assert by_store["faiss"].settings[0].recall_mean == 1.0


def test_an_interrupted_run_keeps_what_it_measured() -> None:
    pressed: list[Event] = []

    def interrupt(event: Event) -> None:
        if event.phase == "round 3" and not pressed:
            pressed.append(event)
            raise KeyboardInterrupt

    plan = Plan(stores=(StoreRef("memory"),), metrics=(Metric.EUCLIDEAN,), index=Flat(), rounds=5)
    done = run(plan, on_event=interrupt, dataset=small())
    assert done.interrupted
    (case,) = done.cases
    assert case.status == "ok"
    assert case.settings[0].latencies_ns.decode().shape == (2, 12)


def worker(tmp_path: Path, store: str = "memory") -> Worker:
    data = small()
    np.save(tmp_path / "base.npy", data.base)
    np.save(tmp_path / "queries.npy", data.queries)
    return Worker(
        {
            "store": {"name": store, "mode": None, "url": None},
            "metric": "euclidean",
            "k": 5,
            "seed": 1,
            "index": {"kind": "flat", "native": {}},
            "settings": [{"name": "default", "params": {}}],
            "load": {"loads": []},
            "base": {"npy": str(tmp_path / "base.npy")},
            "queries": {"npy": str(tmp_path / "queries.npy")},
            "folder": str(tmp_path),
        },
        lambda _event: None,
    )


def test_missing_rows_void_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MemoryCollection, "_count", lambda _self, _where: 299)
    with pytest.raises(RunVoid, match="299"):
        worker(tmp_path).load()


def test_a_filter_that_never_ran_voids_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    unfiltered = MemoryCollection._select
    monkeypatch.setattr(MemoryCollection, "_select", lambda self, _where: unfiltered(self, None))
    with pytest.raises(RunVoid, match="filter"):
        worker(tmp_path).load()


def test_an_imitation_is_not_measured(tmp_path: Path) -> None:
    imitation = worker(tmp_path, "qdrant")
    imitation._ref = StoreRef("qdrant", "memory")
    with pytest.raises(RunVoid, match="is not measured"):
        imitation.load()


@pytest.mark.parametrize(
    "change",
    [
        {"k": 0},
        {"k": 1001},
        {"stores": ()},
        {"metrics": ()},
        {"ef": (1, 1)},
        {"ef": (0,)},
        {"rounds": 0},
        {"queries": 0},
    ],
)
def test_a_plan_that_cannot_be_measured_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        Plan(**{"stores": (StoreRef("memory"),), **change})  # type: ignore[arg-type]  # the refusal is the point
