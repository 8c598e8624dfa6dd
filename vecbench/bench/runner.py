"""Runs a plan: one child process per store and metric, rounds interleaved over the stores."""

from __future__ import annotations

import dataclasses
import json
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

import vecbench
from vecbench.bench.child import Child, Event, OnEvent
from vecbench.bench.clients import How
from vecbench.bench.figures import quality, setting_result, truth_depth, with_queries
from vecbench.bench.load_figures import load_result, null_load
from vecbench.bench.machine import describe_machine, sgemm_gflops
from vecbench.bench.plan import Plan, Setting
from vecbench.bench.press import Pass, clients_for
from vecbench.bench.result import Phases, Report, SettingResult, StoreVersions
from vecbench.bench.rows import require_unchanged, save_rows
from vecbench.dataset import Dataset, DatasetSource
from vecbench.errors import BenchmarkError, RunVoid, redact
from vecbench.geometry import measure
from vecbench.index import Flat, NativeIndex, index_to_dict
from vecbench.registry import StoreRef, dataset_source
from vecbench.truth import GroundTruth, ground_truth
from vecbench.types import Metric

__all__ = ["Event", "run"]


def run(plan: Plan, *, on_event: OnEvent | None = None, dataset: Dataset | DatasetSource | None = None) -> Report:
    """Measure what the plan says and return the report, failed cases included.

    A store that fails leaves its error in its case; the others go on. On KeyboardInterrupt the complete rounds are kept
    and the report says `interrupted`. dataset: use, or load, this one instead of the plan's name. Raises
    `DatasetError`, and `BenchmarkError` where the harness's own cost cannot be measured.
    """
    tell = on_event or (lambda _event: None)
    tell(Event("data set", "loading", 0, 1, plan.dataset))
    found = dataset_source(plan.dataset) if dataset is None else dataset
    data = with_queries(found.load() if isinstance(found, DatasetSource) else found, plan.queries)
    report = Report(
        vecbench_version=vecbench.__version__,
        started_utc=datetime.now(UTC).isoformat(timespec="seconds"),
        plan={**_plan_to_dict(plan), "dataset": data.name},
        dataset={
            **data.card.to_dict(),
            "vectors_sha256": data.sha256,
            **({} if data.judgements is None else {"judgements_sha256": data.judgements_sha256}),
            "geometry": measure(data).to_dict(),
        },
        machine=describe_machine(),
    )
    try:
        with tempfile.TemporaryDirectory(prefix="vecbench-") as folder:
            Path(folder).chmod(0o711)
            bench = _Bench(plan, data, report, folder=Path(folder), tell=tell)
            bench.run()
    except KeyboardInterrupt:
        report.interrupted = True
    else:
        report.machine.sgemm_gflops_after = sgemm_gflops()
    return report


class _Bench:
    def __init__(self, plan: Plan, data: Dataset, report: Report, *, folder: Path, tell: OnEvent) -> None:
        self.plan, self.data, self.report, self.folder, self.tell = plan, data, report, folder, tell
        self.base = save_rows(data.base, folder / "base.npy")
        self.queries = save_rows(data.queries, folder / "queries.npy")

    def run(self) -> None:
        """The truth under every metric, the harness's own cost, then the stores."""
        truths: list[GroundTruth] = []
        for metric in self.plan.metrics:  # before anything is measured: what is wrong with the data is said at once
            self.tell(Event(f"exact neighbours, {metric.value}", "ground truth", 0, 1))
            truths.append(truth := ground_truth(self.data, metric, truth_depth(self.plan.k, self.data)))
            if (best := quality(truth.rows, self.data)) is not None:
                self.report.exact_quality[metric.value] = best
        self.null()
        if self.plan.on is not None:  # a cluster that cannot be reached is known before any store is loaded
            self.null_loads({"ray"})
        for truth in truths:
            self.metric(truth)

    def start(self, store: StoreRef, metric: Metric, plan: Plan, each_how: Sequence[How] = ()) -> Child:
        settings = list(plan.settings(exact=True))
        if each_how:
            settings = settings[:1]  # to the null store they are all the same
        folder = Path(tempfile.mkdtemp(prefix=f"{store.name}-", dir=self.folder))
        folder.chmod(0o711)  # see the worker's own folder below it
        request = {
            "store": dataclasses.asdict(store),
            "metric": metric.value,
            "k": plan.k,
            "seed": plan.seed,
            "index": index_to_dict(plan.index),
            "settings": [{"name": s.name, "params": _params(s)} for s in settings],
            "load": {
                "loads": [dataclasses.asdict(load) for load in plan.loads],
                "requests": plan.requests,
                "on": plan.on,
                "each_how": each_how,
            },
            "base": self.base,
            "queries": self.queries,
        }
        return Child.start(
            store, metric, folder=folder, request=request, on_event=self.tell, timeout_seconds=plan.timeout_seconds
        )

    def null(self) -> None:
        """The harness's own cost: the same loop on a store that does nothing."""
        child = self.on_null(loads=(), on=None)
        passes = [np.load(f, allow_pickle=False) for f in sorted(child.folder.glob("*-latencies.npy"))]
        self.report.null_cost_ns = float(np.median(np.concatenate(passes)))

    def null_loads(self, kinds: set[How]) -> None:
        """The same under load, by these kinds of clients, unless it is known; `BenchmarkError`."""
        new = sorted(kinds - {known.how for known in self.report.null_loads})
        if not self.plan.loads or not new:
            return
        child = self.on_null(each_how=new)
        for at, load in enumerate(self.plan.loads):
            found = sorted(child.folder.glob(f"0-0-load{at}-*.npz"))
            self.report.null_loads += [null_load(load, Pass.load(path.with_suffix(""))) for path in found]

    def on_null(self, *, each_how: Sequence[How] = (), **changes: Any) -> Child:
        """One round of the plan, so changed, on the null store."""
        # The null store has no vendor's index; what it is told to build makes no difference to it.
        index = Flat() if isinstance(self.plan.index, NativeIndex) else self.plan.index
        plan = dataclasses.replace(self.plan, stores=(StoreRef("null"),), index=index, **changes)
        child = self.start(StoreRef("null"), self.plan.metrics[0], plan, each_how)
        try:
            child.wait_for("loaded")
            if child.alive:
                child.send("round 0")
                child.wait_for("measured")
        finally:
            child.stop()
        if not child.alive:
            raise BenchmarkError(f"the harness's own cost could not be measured: {child.result.error}")
        return child

    def metric(self, truth: GroundTruth) -> None:
        """All stores under one metric: loaded one after the other, then rounds in a shuffled order."""
        metric = truth.metric
        children: list[Child] = []
        try:
            try:
                for store in self.plan.stores:
                    child = self.start(store, metric, self.plan)
                    children.append(child)
                    self.report.cases.append(child.result)
                    child.loaded = child.wait_for("loaded")
                self.compared(children)
                self.rounds(children, metric)
                for child in children:
                    if child.alive:
                        child.send("finish")
                        child.wait_for("finished")
            finally:
                for child in children:
                    child.stop()
        finally:
            for child in children:
                self.collect(child, truth)

    def compared(self, children: list[Child]) -> None:
        """The harness's own cost by the kinds of clients that these stores, now loaded, are asked by."""
        asked: list[tuple[Child, How]] = [(child, self.clients(child)) for child in children if child.alive]
        try:
            self.null_loads({how for _, how in asked})
        except BenchmarkError as error:  # what was measured before, under another metric, stays
            for child, how in asked:
                if how not in {known.how for known in self.report.null_loads}:
                    child.fail("failed", str(error))

    def clients(self, child: Child) -> How:
        """The kind of clients that a loaded store is asked by."""
        embedded = child.loaded["versions"]["deployment"] == "embedded"
        return clients_for(reachable=child.store.url is not None or not embedded, on=self.plan.on)

    def rounds(self, children: list[Child], metric: Metric) -> None:
        """Every store once a round, in an order of the seed: what drifts, drifts for all."""
        random = np.random.default_rng([self.plan.seed, list(Metric).index(metric)])
        for number in range(self.plan.rounds):
            for at in random.permutation(len(children)).tolist():
                child = children[at]
                if not child.alive:
                    continue
                child.send(f"round {number}")
                if done := child.wait_for("measured"):
                    child.rounds, child.cpu_seconds = number + 1, float(done["cpu_seconds"])

    def collect(self, child: Child, truth: GroundTruth) -> None:
        """Turn what an ended child wrote into figures, from its complete rounds."""
        result, loaded = child.result, child.loaded
        if loaded:
            result.versions = StoreVersions(**loaded["versions"])
            result.phases = Phases(**loaded["phases"], cpu_seconds=child.cpu_seconds)
            result.effective, result.notes = _plain(loaded["effective"], child.folder), loaded["notes"]
        if child.alive and not child.rounds:
            child.fail("failed", "interrupted before the first round was complete")
        if child.alive:
            try:
                for place in (self.base, self.queries):
                    require_unchanged(place)
            except RunVoid as error:
                child.fail("void", str(error))
        if child.alive:
            for at, setting in enumerate(self.plan.settings(exact=True)):
                if setting.name in loaded["settings"]:
                    result.settings.append(self.figures(child, at, setting, truth))
            self.tell(Event(child.case, "done", 1, 1))

    def figures(self, child: Child, at: int, setting: Setting, truth: GroundTruth) -> SettingResult:
        """One setting's figures from the raw arrays of all complete rounds."""
        files = [f"{at}-{number}" for number in range(child.rounds)]
        errors = [json.loads((child.folder / f"{f}-error.json").read_text("utf-8")) for f in files]
        loads = []
        for which, load in enumerate(self.plan.loads):
            passes = [Pass.load(child.folder / f"{at}-{number}-load{which}") for number in range(child.rounds)]
            child.result.notes += [f"{setting.name}, {load.name}: {note}" for one in passes for note in one.notes]
            loads.append(
                load_result(
                    load,
                    passes,
                    requests=self.plan.requests,
                    seed=self.plan.seed,
                    at=which,
                    data=self.data,
                    truth=truth,
                    null=self.report.null_loads,
                )
            )
        return setting_result(
            setting.name,
            _params(setting),
            latencies=np.stack([np.load(child.folder / f"{f}-latencies.npy", allow_pickle=False) for f in files]),
            answers=np.stack([np.load(child.folder / f"{f}-answers.npy", allow_pickle=False) for f in files]),
            warmup=np.load(child.folder / f"{at}-warmup.npy", allow_pickle=False),
            max_distance_error=max(errors),
            data=self.data,
            truth=truth,
            loads=loads,
        )


def _plain(value: Any, folder: Path) -> Any:
    """What a store said of itself, without secrets and without the temporary folder."""
    if isinstance(value, dict):
        return {key: _plain(item, folder) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item, folder) for item in value]
    return redact(value.replace(str(folder), "(its folder)")) if isinstance(value, str) else value


def _params(setting: Setting) -> dict[str, Any]:
    p = setting.params
    return {"ef_search": p.ef_search, "nprobe": p.nprobe, "exact": p.exact, "native": dict(p.native)}


def _plan_to_dict(plan: Plan) -> dict[str, Any]:
    return {
        "stores": [s.label for s in plan.stores],
        "metrics": [m.value for m in plan.metrics],
        "k": plan.k,
        "index": index_to_dict(plan.index),
        "ef": list(plan.ef),
        "exact": plan.exact,
        "rounds": plan.rounds,
        "seed": plan.seed,
        "queries": plan.queries,
        "timeout_seconds": plan.timeout_seconds,
        "loads": [dataclasses.asdict(load) for load in plan.loads],
        "requests": plan.requests,
        "on": None if plan.on is None else redact(plan.on),
        "clock": time.get_clock_info("perf_counter").implementation,
    }
