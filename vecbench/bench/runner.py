"""Runs a plan: one child process per store and metric, rounds interleaved over the stores."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np

import vecbench
from vecbench.bench.machine import describe_machine, sgemm_gflops
from vecbench.bench.plan import Plan, Setting
from vecbench.bench.recall import recall_at_k
from vecbench.bench.result import CaseResult, Column, Phases, Report, SettingResult, StoreVersions
from vecbench.bench.stats import bootstrap_interval, percentile_ns
from vecbench.dataset import Dataset
from vecbench.errors import redact
from vecbench.geometry import measure
from vecbench.index import index_to_dict
from vecbench.registry import StoreRef, dataset_source
from vecbench.truth import GroundTruth, ground_truth
from vecbench.types import Metric

__all__ = ["Event", "run"]


@dataclass(frozen=True, slots=True)
class Event:
    """Something to show while a run goes on: `done` of `total` steps of a phase of a case."""

    case: str
    phase: str
    done: int
    total: int
    note: str = ""


_OnEvent = Callable[[Event], None]


@dataclass
class _Child:
    """One case in its process."""

    store: StoreRef
    metric: Metric
    folder: Path
    process: subprocess.Popen[str]
    on_event: _OnEvent
    result: CaseResult
    loaded: dict[str, Any] = field(default_factory=dict)
    finished: dict[str, Any] = field(default_factory=dict)
    rounds: int = 0

    @property
    def case(self) -> str:
        return f"{self.store.label}, {self.metric.value}"

    @property
    def alive(self) -> bool:
        return self.result.status == "ok"

    def send(self, line: str) -> None:
        assert self.process.stdin is not None  # noqa: S101  opened as a pipe
        # A child that is gone is noticed when its answer is read.
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.write(line + "\n")
            self.process.stdin.flush()

    def wait_for(self, wanted: str) -> dict[str, Any]:
        """Read events up to the wanted one; a failure or the child's death ends the case."""
        assert self.process.stdout is not None  # noqa: S101  opened as a pipe
        for line in self.process.stdout:
            event = json.loads(line)
            if event["event"] == "phase":
                self.on_event(Event(self.case, event["phase"], event["done"], event["total"]))
            elif event["event"] == "error":
                self.fail(event["status"], event["error"])
                return {}
            elif event["event"] == wanted:
                return dict(event)
        self.fail("failed", f"the store's process died: {_death(self.process.wait())}")
        return {}

    def fail(self, status: Literal["failed", "void"], error: str) -> None:
        self.result.status, self.result.error = status, redact(error)
        self.on_event(Event(self.case, status, 1, 1, self.result.error))

    def stop(self) -> None:
        """End the process, whatever it does."""
        if self.process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self.process.stdin.close()
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(timeout=5)
            except subprocess.TimeoutExpired:
                self.process.kill()
        self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()


def _death(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"signal {signal.Signals(-code).name}"
    except ValueError:
        return f"signal {-code}"


def run(plan: Plan, *, on_event: _OnEvent | None = None, dataset: Dataset | None = None) -> Report:
    """Measure what the plan says and return the report, failed cases included.

    A store that fails leaves its error in its case; the others go on. On KeyboardInterrupt what was measured so far is
    kept and the report says `interrupted`. dataset: use this one instead of the plan's name. Raises `DatasetError`.
    """
    tell = on_event or (lambda _event: None)
    tell(Event("data set", "loading", 0, 1, plan.dataset))
    data = dataset if dataset is not None else dataset_source(plan.dataset).load()
    if plan.queries is not None and plan.queries < len(data.queries):
        data = Dataset.from_arrays(data.name, data.base, data.queries[: plan.queries], notes=data.card.notes)
    report = Report(
        vecbench_version=vecbench.__version__,
        started_utc=datetime.now(UTC).isoformat(timespec="seconds"),
        plan=_plan_to_dict(plan),
        dataset={**data.card.to_dict(), "vectors_sha256": data.sha256, "geometry": measure(data).to_dict()},
        machine=describe_machine(),
    )
    try:
        with tempfile.TemporaryDirectory(prefix="vecbench-") as folder:
            bench = _Bench(plan, data, report, folder=Path(folder), tell=tell)
            bench.null()
            for metric in plan.metrics:
                bench.metric(metric)
    except KeyboardInterrupt:
        report.interrupted = True
    report.machine.sgemm_gflops_after = sgemm_gflops()
    return report


class _Bench:
    def __init__(self, plan: Plan, data: Dataset, report: Report, *, folder: Path, tell: _OnEvent) -> None:
        self.plan, self.data, self.report, self.folder, self.tell = plan, data, report, folder, tell
        np.save(folder / "base.npy", data.base)
        np.save(folder / "queries.npy", data.queries)

    def start(self, store: StoreRef, metric: Metric, plan: Plan) -> _Child:
        folder = Path(tempfile.mkdtemp(prefix=f"{store.name}-", dir=self.folder))
        request = {
            "store": dataclasses.asdict(store),
            "metric": metric.value,
            "k": plan.k,
            "seed": plan.seed,
            "index": index_to_dict(plan.index),
            "settings": [{"name": s.name, "params": _params(s)} for s in plan.settings(exact=True)],
            "base": str(self.folder / "base.npy"),
            "queries": str(self.folder / "queries.npy"),
            "folder": str(folder),
        }
        (folder / "request.json").write_text(json.dumps(request), "utf-8")
        process = subprocess.Popen(  # noqa: S603  our own module, no shell
            [sys.executable, "-m", "vecbench.bench.worker", str(folder / "request.json")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            start_new_session=True,  # Ctrl-C is for the parent, which then asks the children for what they have
        )
        result = CaseResult(store=store.label, metric=metric.value, status="ok")
        return _Child(store, metric, folder, process, self.tell, result)

    def null(self) -> None:
        """The harness's own cost: the same loop on a store that does nothing."""
        settings = dataclasses.replace(self.plan, stores=(StoreRef("null"),), exact=False)
        child = self.start(StoreRef("null"), self.plan.metrics[0], settings)
        try:
            child.wait_for("loaded")
            child.send("round 0")
            child.wait_for("measured")
            if child.alive:
                files = sorted(child.folder.glob("*-latencies.npy"))
                self.report.null_cost_ns = float(np.median([np.median(np.load(f)) for f in files]))
        finally:
            child.stop()

    def metric(self, metric: Metric) -> None:
        """All stores under one metric: loaded one after the other, then rounds in a shuffled order."""
        self.tell(Event(f"exact neighbours, {metric.value}", "ground truth", 0, 1))
        truth = ground_truth(self.data, metric, max(self.plan.k, min(100, len(self.data.base))))
        children: list[_Child] = []
        try:
            for store in self.plan.stores:
                child = self.start(store, metric, self.plan)
                children.append(child)
                self.report.cases.append(child.result)
                child.loaded = child.wait_for("loaded")
            random = np.random.default_rng([self.plan.seed, list(Metric).index(metric)])
            for number in range(self.plan.rounds):
                for at in random.permutation(len(children)).tolist():
                    child = children[at]
                    if child.alive:
                        child.send(f"round {number}")
                        if child.wait_for("measured"):
                            child.rounds = number + 1
        finally:
            for child in children:
                self.collect(child, truth)

    def collect(self, child: _Child, truth: GroundTruth) -> None:
        """End a child and turn what it wrote into figures."""
        try:
            if child.alive and child.rounds:
                child.send("finish")
                child.finished = child.wait_for("finished")
        finally:
            child.stop()
        result = child.result
        if child.loaded:
            result.versions = StoreVersions(**child.loaded["versions"])
            cpu = float(child.finished.get("cpu_seconds", 0.0))
            result.phases = Phases(**child.loaded["phases"], cpu_seconds=cpu)
            result.effective = child.finished.get("effective", {})
        if child.alive and not child.rounds:
            child.fail("failed", "interrupted before the first round was complete")
        if child.alive:
            for at, setting in enumerate(self.plan.settings(exact=True)):
                if setting.name in child.loaded["settings"]:
                    result.settings.append(self.figures(child, at, setting, truth))
        self.tell(Event(child.case, "done", 1, 1))

    def figures(self, child: _Child, at: int, setting: Setting, truth: GroundTruth) -> SettingResult:
        """One setting's figures from the raw arrays of all complete rounds."""
        names = [f"{at}-{number}" for number in range(child.rounds)]
        latencies = np.stack([np.load(child.folder / f"{n}-latencies.npy", allow_pickle=False) for n in names])
        answers = np.stack([np.load(child.folder / f"{n}-answers.npy", allow_pickle=False) for n in names])
        errors = [json.loads((child.folder / f"{n}-error.json").read_text("utf-8")) for n in names]
        return setting_result(setting, latencies, answers, max(errors), data=self.data, truth=truth)


def setting_result(
    setting: Setting,
    latencies: np.ndarray[Any, np.dtype[np.int64]],
    answers: np.ndarray[Any, np.dtype[np.int64]],
    distance_error: float,
    *,
    data: Dataset,
    truth: GroundTruth,
) -> SettingResult:
    """All figures of a setting from its raw values: latencies (rounds, q), answers (rounds, q, k)."""
    rounds = [
        recall_at_k(a, data.queries, data.base, truth.rows, truth.distances, metric=truth.metric) for a in answers
    ]
    recall = np.mean([r.by_distance for r in rounds], axis=0)
    flat = latencies.ravel()
    return SettingResult(
        name=setting.name,
        params=_params(setting),
        latencies_ns=Column.encode(latencies),
        answers=Column.encode(answers),
        recall_mean=float(recall.mean()),
        recall_interval=bootstrap_interval(recall),
        recall_by_id=float(np.mean([r.by_id for r in rounds])),
        recall_p10=float(np.percentile(recall, 10)),
        recall_p5=float(np.percentile(recall, 5)),
        recall_min=float(recall.min()),
        recall_under_half=float((recall < 0.5).mean()),
        duplicates=sum(r.duplicates for r in rounds),
        missing=sum(r.missing for r in rounds),
        p50_ns=percentile_ns(flat, 50),
        p50_interval_ns=bootstrap_interval(np.median(latencies, axis=0), np.median),
        p95_ns=percentile_ns(flat, 95),
        p99_ns=percentile_ns(flat, 99),
        qps_serial=float(np.median(latencies.shape[1] / (latencies.sum(axis=1) / 1e9))),
        max_distance_error=distance_error,
    )


def _params(setting: Setting) -> dict[str, Any]:
    p = setting.params
    return {"ef_search": p.ef_search, "nprobe": p.nprobe, "exact": p.exact, "native": dict(p.native)}


def _plan_to_dict(plan: Plan) -> dict[str, Any]:
    return {
        "stores": [s.label for s in plan.stores],
        "dataset": plan.dataset,
        "metrics": [m.value for m in plan.metrics],
        "k": plan.k,
        "index": index_to_dict(plan.index),
        "ef": list(plan.ef),
        "exact": plan.exact,
        "rounds": plan.rounds,
        "seed": plan.seed,
        "queries": plan.queries,
        "clients": 1,
        "clock": f"{time.get_clock_info('perf_counter').implementation}",
    }
