from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

from vecbench.bench.child import Child
from vecbench.bench.figures import verify
from vecbench.bench.plan import Plan
from vecbench.bench.report import cells, markdown_table, rows
from vecbench.bench.result import CaseResult, Column, Report
from vecbench.bench.runner import Event, run
from vecbench.dataset import Dataset
from vecbench.errors import BenchmarkError, ConfigError, DatasetError
from vecbench.index import Flat, Index, IVFFlat, NativeIndex
from vecbench.registry import StoreRef
from vecbench.types import Metric

MEMORY, NULL = StoreRef("memory"), StoreRef("null")
EUCLIDEAN = (Metric.EUCLIDEAN,)


def _workers() -> list[psutil.Process]:
    return [p for p in psutil.Process().children() if "vecbench.bench.worker" in p.cmdline()]


def test_a_run_from_data_to_table(tiny: Dataset, tmp_path: Path) -> None:
    events: list[Event] = []
    plan = Plan(stores=(MEMORY,), ef=(16,), rounds=2, queries=9)
    report = run(plan, on_event=events.append, dataset=tiny)
    assert [(c.store, c.metric, c.status, c.error) for c in report.cases] == [
        ("memory", "euclidean", "ok", None),
        ("memory", "cosine", "ok", None),
    ]
    assert not report.failed
    assert not report.interrupted
    assert report.null_cost_ns is not None
    assert report.null_cost_ns > 0
    assert next(e.case for e in events if e.phase == "ingest") == "null, euclidean"  # the null store runs first
    for case in report.cases:
        assert [s.name for s in case.settings] == ["ef=16", "exact"]
        assert case.phases is not None
        assert min(case.phases.create_ns, case.phases.ingest_ns, case.phases.first_query_ns) > 0
        assert case.phases.cpu_seconds > 0
        assert case.effective["indexed_rows"] == 250
        for setting in case.settings:
            assert setting.recall_mean == setting.recall_min == setting.recall_by_id == 1.0
            assert setting.max_distance_error < 1e-9
            assert setting.latencies_ns.decode().shape == (2, 9)
            assert setting.warmup_ns is not None
            assert setting.answers.decode().shape == (2, 9, 10)
            latencies = setting.latencies_ns.decode()
            assert setting.p50_ns in latencies
            assert setting.qps_serial == pytest.approx(np.median(9 / (latencies.sum(axis=1) / 1e9)))
            assert setting.qps_interval is not None
            assert setting.qps_interval[0] <= setting.qps_serial <= setting.qps_interval[1]
    assert report.plan["dataset"] == report.dataset["name"] == "tiny"
    assert report.dataset["n_queries"] == 9

    path = tmp_path / "r.json"
    report.save(path)
    assert Report.load(path) == report
    assert list(tmp_path.glob(".r.json*")) == []
    verify(Report.load(path), tiny)

    lines = rows(report)
    assert [(r.metric, r.setting and r.setting.name) for r in lines[:2]] == [
        ("euclidean", "ef=16"),
        ("euclidean", "exact"),
    ]
    assert cells(lines[0], first=True)[:3] == ["memory (exact)", "ef=16", "1.0000 ±0.0000"]
    assert markdown_table(report).count("| memory (exact) | ef=16 |") == 2


def test_verify_detects_a_figure_that_was_touched(tiny: Dataset) -> None:
    report = run(Plan(stores=(MEMORY,), metrics=EUCLIDEAN, ef=(16,), rounds=1, exact=False), dataset=tiny)
    verify(report, tiny)
    setting = report.cases[0].settings[0]
    for field in ("p99_ns", "recall_mean", "qps_serial", "recall_by_id", "unknown"):
        touched = report.model_copy(deep=True)
        value = getattr(setting, field)
        setattr(touched.cases[0].settings[0], field, value * 1.01 + 1)
        with pytest.raises(BenchmarkError, match=f"memory, euclidean, ef=16: {field} is"):
            verify(touched, tiny)
    touched = report.model_copy(deep=True)
    touched.cases[0].settings[0].answers = Column.encode(np.roll(setting.answers.decode(), 1, axis=1))
    with pytest.raises(BenchmarkError, match="recall_mean"):
        verify(touched, tiny)
    touched.cases[0].settings[0].answers = Column.encode(setting.answers.decode() + 250)
    with pytest.raises(BenchmarkError, match="do not fit"):
        verify(touched, tiny)
    other = Dataset.from_arrays("tiny", tiny.base * 2, tiny.queries)
    with pytest.raises(BenchmarkError, match="sha256"):
        verify(report, other)


def test_a_store_that_is_not_there_fails_alone(tiny: Dataset) -> None:
    plan = Plan(stores=(StoreRef("memoryy"), MEMORY), metrics=EUCLIDEAN, ef=(16,), rounds=1, exact=False)
    report = run(plan, dataset=tiny)
    assert [c.status for c in report.cases] == ["failed", "ok"]
    assert report.cases[0].error is not None
    assert "no store is called 'memoryy'" in report.cases[0].error
    assert report.failed
    failed, fine = sorted(rows(report), key=lambda r: r.case.status == "ok")
    assert failed.setting is None
    assert cells(failed, first=True)[:2] == ["memoryy", "failed"]
    assert fine.setting is not None


def test_a_store_whose_process_is_killed_fails_alone_and_the_signal_is_named(tiny: Dataset) -> None:
    def kill(event: Event) -> None:
        if (event.case, event.phase, event.done) == ("memory, euclidean", "round 2", 0):
            (victim,) = [p for p in _workers() if "memory-" in p.cmdline()[-1]]
            victim.kill()

    plan = Plan(stores=(MEMORY, NULL), metrics=EUCLIDEAN, ef=(16,), rounds=2)
    report = run(plan, dataset=tiny, on_event=kill)
    assert [c.status for c in report.cases] == ["failed", "ok"]
    assert report.cases[0].error is not None
    assert "the store's process died: signal SIGKILL" in report.cases[0].error
    assert report.cases[0].settings == []
    assert _workers() == []


@pytest.mark.parametrize("when", [("null, euclidean", "ingest", 0), ("memory, euclidean", "round 1", 0)])
def test_a_data_set_that_changes_while_it_is_measured_gives_no_figures(
    when: tuple[str, str, int], tmp_path: Path
) -> None:
    file = tmp_path / "mine.npy"
    np.save(file, np.random.default_rng(1).normal(size=(500, 8)).astype(np.float32))

    def change(event: Event) -> None:
        if (event.case, event.phase, event.done) == when:
            np.save(tmp_path / "other.npy", np.random.default_rng(2).normal(size=(500, 8)).astype(np.float32))
            (tmp_path / "other.npy").replace(file)

    report = run(Plan(stores=(MEMORY,), dataset=str(file), metrics=EUCLIDEAN, ef=(16,)), on_event=change)
    assert [(c.status, c.settings) for c in report.cases] == [("void", [])]
    assert "mine.npy was changed or replaced" in (report.cases[0].error or "")


def test_ctrl_c_keeps_the_complete_rounds_and_leaves_no_process(tiny: Dataset) -> None:
    def interrupt(event: Event) -> None:
        if (event.phase, event.done) == ("round 3", 1):
            assert len(_workers()) == 2
            signal.raise_signal(signal.SIGINT)

    plan = Plan(stores=(MEMORY, NULL), ef=(16,), rounds=5)
    report = run(plan, dataset=tiny, on_event=interrupt)
    assert report.interrupted
    assert [(c.metric, c.status) for c in report.cases] == [("euclidean", "ok")] * 2
    kept = {len(c.settings[0].latencies_ns.decode()) for c in report.cases}
    assert kept in ({2}, {2, 3})
    assert _workers() == []
    verify(report, tiny)


def test_ctrl_c_while_loading_says_that_nothing_was_measured(tiny: Dataset) -> None:
    def interrupt(event: Event) -> None:
        if (event.case, event.phase) == ("memory, euclidean", "ingest"):
            signal.raise_signal(signal.SIGINT)

    report = run(Plan(stores=(MEMORY,), ef=(16,)), dataset=tiny, on_event=interrupt)
    assert report.interrupted
    assert [c.error for c in report.cases] == ["interrupted before the first round was complete"]
    assert _workers() == []


def test_a_store_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", "input()"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    result = CaseResult(store="slow", metric="euclidean", status="ok")
    child = Child(StoreRef("slow"), Metric.EUCLIDEAN, tmp_path, process, lambda _event: None, 0.5, result)
    assert child.wait_for("loaded") == {}
    assert (result.status, result.error) == ("failed", "not ready after 0.5 s, and ended")
    child.stop()


def test_no_child_outlives_its_parent(tmp_path: Path) -> None:
    script = tmp_path / "parent.py"
    script.write_text(
        textwrap.dedent("""
        import numpy as np, psutil, sys
        from vecbench.bench.plan import Plan
        from vecbench.bench.runner import run
        from vecbench.dataset import Dataset
        from vecbench.registry import StoreRef

        def show(event):
            if event.case.startswith("memory") and event.phase == "round 1":
                print(psutil.Process().children()[0].pid, flush=True)
                sys.stdin.read()

        vectors = np.random.default_rng(1).normal(size=(50, 4))
        data = Dataset.from_arrays("x", vectors, vectors)
        run(Plan(stores=(StoreRef("memory"),), ef=(16,)), on_event=show, dataset=data)
        """),
        "utf-8",
    )
    parent = subprocess.Popen([sys.executable, str(script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    assert parent.stdin is not None
    child = psutil.Process(int(parent.stdout.readline()))
    parent.kill()
    parent.communicate()
    deadline = time.monotonic() + 60
    while child.is_running() and child.status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline, "the child goes on without its parent"


@pytest.mark.parametrize("index", [Flat(), IVFFlat(nlist=8, nprobe=2), NativeIndex("PQ8")])
def test_the_harness_cost_is_measured_under_every_kind_of_index(tiny: Dataset, index: Index) -> None:
    plan = Plan(stores=(MEMORY,), metrics=EUCLIDEAN, index=index, ef=(4, 8, 16), rounds=1, exact=False)
    report = run(plan, dataset=tiny)
    assert report.null_cost_ns is not None
    (case,) = report.cases
    if isinstance(index, NativeIndex):
        assert case.status == "failed"
        assert case.error is not None
        assert case.error == "memory has no native index; it has flat, hnsw, ivf_flat"
    else:
        names = ["default"] if isinstance(index, Flat) else ["nprobe=4", "nprobe=8"]
        assert [s.name for s in case.settings] == names


def test_wrong_data_is_said_before_anything_is_measured(tiny: Dataset) -> None:
    base = tiny.base.copy()
    base[3] = 0
    seen: list[str] = []
    with pytest.raises(DatasetError, match="row 3 of base is zero"):
        run(
            Plan(stores=(MEMORY,)),
            dataset=Dataset.from_arrays("zero", base, tiny.queries),
            on_event=lambda e: seen.append(e.phase),
        )
    assert "ingest" not in seen


@pytest.mark.parametrize(
    "wrong",
    [
        {"stores": ()},
        {"stores": (MEMORY, MEMORY)},
        {"metrics": ()},
        {"k": 1001},
        {"k": 0},
        {"rounds": 0},
        {"queries": 0},
        {"ef": (16, 16)},
        {"ef": (0,)},
        {"ef": (), "exact": False},
        {"index": IVFFlat(nlist=4, nprobe=1), "ef": (8,), "exact": False},
        {"timeout_seconds": 0},
        {"seed": -1},
    ],
)
def test_a_plan_that_cannot_be_measured_is_refused(wrong: dict[str, object]) -> None:
    Plan(stores=(MEMORY,))
    with pytest.raises(ConfigError):
        Plan(**{"stores": (MEMORY,), **wrong})  # type: ignore[arg-type]  # the values are wrong on purpose
