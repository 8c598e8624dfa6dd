"""The child process that measures one store under one metric: its memory and its crashes are the store's alone.

    python -m vecbench.bench.worker REQUEST.json

It loads, answers with a line of JSON, and then obeys the lines on its standard input: `round N` measures one round,
`finish` describes what is in force and ends. The end of its input ends it too, so no child outlives its parent.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import numpy.typing as npt
import psutil

from vecbench.collection import Collection
from vecbench.distance import paired_distances
from vecbench.errors import RunVoid, VecbenchError, redact
from vecbench.filters import Eq
from vecbench.index import SearchParams, index_from_dict
from vecbench.registry import StoreRef
from vecbench.spec import CollectionSpec
from vecbench.store import VectorStore
from vecbench.types import Metric, Records, SearchResult, Vectors

__all__ = ["Worker", "main", "timed_pass"]

BUCKETS = 100
_BATCH = 1000
_PROBES = 5


def timed_pass(
    search: Callable[..., SearchResult], rows: list[Vectors], k: int, params: SearchParams
) -> tuple[npt.NDArray[np.int64], list[SearchResult]]:
    """Ask every row once, one at a time: nanoseconds of each call, int64 (q,), and the very answers that were timed."""
    latencies = np.empty(len(rows), np.int64)
    answers: list[Any] = [None] * len(rows)
    clock = time.perf_counter_ns
    collecting = gc.isenabled()
    gc.collect()
    gc.disable()  # a collection in the middle would be somebody's latency
    try:
        for i, row in enumerate(rows):
            start = clock()
            answers[i] = search(row, k, params=params)
            latencies[i] = clock() - start
    finally:
        if collecting:
            gc.enable()
    return latencies, answers


class Worker:
    """One case: load, check, rounds, finish."""

    def __init__(self, request: dict[str, Any], emit: Callable[[dict[str, Any]], None]) -> None:
        self._emit = emit
        self._folder = Path(request["folder"])
        self._ref = StoreRef(**request["store"])
        self._metric = Metric(request["metric"])
        self._k: int = request["k"]
        self._seed: int = request["seed"]
        self._index = index_from_dict(request["index"])
        self._settings = [(s["name"], SearchParams(**s["params"])) for s in request["settings"]]
        self._base = np.load(request["base"], mmap_mode="r", allow_pickle=False)
        self._queries: Vectors = np.load(request["queries"], allow_pickle=False)
        self._rows = [np.ascontiguousarray(q)[None, :] for q in self._queries]
        self._null = self._ref.name == "null"
        self._cpu_start = time.process_time()

    def load(self) -> dict[str, Any]:
        """Connect, create, ingest, optimize, flush, and check that all of it is there."""
        self._data = Path(tempfile.mkdtemp(prefix="store-", dir=self._folder))  # goes with the parent's folder
        store = self._connect()
        info = store.info
        if not info.benchmarkable:
            raise RunVoid(f"{self._ref.label} is not measured: {info.why_not}")
        memory_before = self._memory(info.pids)
        spec = CollectionSpec("vecbench", self._base.shape[1], self._metric, self._index, fields={"bucket": "int"})
        start = time.perf_counter_ns()
        store.drop_collection(spec.name, missing_ok=True)
        collection = store.create_collection(spec)
        created = time.perf_counter_ns()
        ingest_ns = self._ingest(collection)
        self._emit({"event": "phase", "phase": "index", "done": 0, "total": 1})
        before = time.perf_counter_ns()
        collection.optimize()
        collection.flush()
        optimized = time.perf_counter_ns()
        self._store, self._collection = store, collection
        first_query_ns = self._first_query()
        if not self._null:
            self._check()
        return {
            "versions": {
                "label": info.label,
                "deployment": info.deployment,
                "engine": info.engine,
                "engine_version": info.engine_version,
                "client": info.client,
                "client_version": info.client_version,
            },
            "phases": {
                "create_ns": created - start,
                "ingest_ns": ingest_ns,
                "optimize_ns": optimized - before,
                "first_query_ns": first_query_ns,
                "memory_before_bytes": memory_before,
                "memory_after_bytes": self._memory(info.pids),
                "disk_bytes": self._disk() if store.capabilities.persistent else None,
            },
            "settings": self._usable_settings(store),
        }

    def _connect(self) -> VectorStore:
        if self._ref.url is not None or self._ref.mode is not None or self._ref.name in {"memory", "null"}:
            return self._ref.connect()
        return self._ref.connect(path=self._data / "data")

    def _usable_settings(self, store: VectorStore) -> list[str]:
        can = store.capabilities
        usable = []
        for name, params in self._settings:
            wanted = (params.ef_search, can.ef_search), (params.nprobe, can.nprobe)
            if all(value is None or scope == "query" for value, scope in wanted) and (
                not params.exact or can.exact_search or self._index.kind == "flat"
            ):
                usable.append(name)
        return usable

    def _ingest(self, collection: Collection) -> int:
        order = np.random.default_rng(self._seed).permutation(len(self._base))
        batches = []
        for start in range(0, len(order), _BATCH):
            part = order[start : start + _BATCH]
            ids, metadata = [str(i) for i in part.tolist()], [{"bucket": i % BUCKETS} for i in part.tolist()]
            batches.append(Records(ids, np.ascontiguousarray(self._base[part], np.float32), metadata))
        spent = 0
        for i, batch in enumerate(batches):
            self._emit({"event": "phase", "phase": "ingest", "done": i, "total": len(batches)})
            start = time.perf_counter_ns()
            collection.upsert(batch)
            spent += time.perf_counter_ns() - start
        start = time.perf_counter_ns()
        collection.flush()
        return spent + time.perf_counter_ns() - start

    def _first_query(self) -> int:
        start = time.perf_counter_ns()
        self._collection.search(self._rows[0], self._k)
        return time.perf_counter_ns() - start

    def _check(self) -> None:
        """Void the run unless every row is there, a row finds itself, and a filter lets only matches through."""
        n = len(self._base)
        count = self._collection.count()
        if count != n:
            raise RunVoid(f"{n} rows were sent, {count} are there")
        exact = self._store.capabilities.exact_search or self._index.kind == "flat"
        params = SearchParams(exact=True) if exact else SearchParams()
        for row in np.linspace(0, n - 1, _PROBES).astype(int).tolist():
            vector = np.ascontiguousarray(self._base[row], np.float32)[None, :]
            found = self._collection.search(vector, 1 if exact else self._k, params=params)
            at = [int(i) for i in found.ids[0]]
            same = [i for i in at if np.array_equal(self._base[i], self._base[row])]
            nearest_is_itself = self._metric is not Metric.DOT
            if nearest_is_itself and not same:
                raise RunVoid(f"row {row} does not find itself: it got {at}")
        bucket, wanted = BUCKETS // 2, min(self._k, len(range(BUCKETS // 2, n, BUCKETS)))
        found = self._collection.search(self._rows[0], self._k, where=Eq("bucket", bucket))
        wrong = [i for i in found.ids[0] if int(i) % BUCKETS != bucket]
        if wrong or len(found.ids[0]) != wanted:
            raise RunVoid(
                f"a filter on 1 % of the rows gave {len(found.ids[0])} of {wanted} answers, {len(wrong)} wrong"
            )

    def warm_up(self) -> None:
        """Go once through the queries with each setting; not measured."""
        for name, params in self._settings:
            if name in self._usable_settings(self._store):
                timed_pass(self._collection.search, self._rows[:50], self._k, params)

    def round(self, number: int) -> None:
        """Measure every setting once, in an order of this round, and write latencies and answers as arrays."""
        usable = self._usable_settings(self._store)
        order = np.random.default_rng([self._seed, number]).permutation(len(self._settings)).tolist()
        for done, at in enumerate(order):
            name, params = self._settings[at]
            self._emit({"event": "phase", "phase": f"round {number + 1}", "done": done, "total": len(order)})
            if name not in usable:
                continue
            latencies, answers = timed_pass(self._collection.search, self._rows, self._k, params)
            rows, error = self._decode(answers)
            np.save(self._folder / f"{at}-{number}-latencies.npy", latencies)
            np.save(self._folder / f"{at}-{number}-answers.npy", rows)
            (self._folder / f"{at}-{number}-error.json").write_text(json.dumps(error), "utf-8")

    def _decode(self, answers: list[SearchResult]) -> tuple[npt.NDArray[np.int64], float]:
        """Row numbers (q, k), −1 for none, and the largest error of a returned distance, relative to the true one."""
        rows = np.full((len(answers), self._k), -1, np.int64)
        if self._null:
            return rows, 0.0
        worst = 0.0
        for i, answer in enumerate(answers):
            found = np.array([int(x) for x in answer.ids[0]], np.int64)[: self._k]
            rows[i, : len(found)] = found
            if len(found):
                true = paired_distances(
                    np.broadcast_to(self._queries[i], (len(found), self._queries.shape[1])),
                    self._base[found],
                    self._metric,
                )
                difference = np.abs(np.asarray(answer.distances[0], np.float64)[: self._k] - true)
                worst = max(worst, float((difference / np.maximum(np.abs(true), 1e-12)).max()))
        return rows, worst

    def finish(self) -> dict[str, Any]:
        """What is in force, and the processor time of this process."""
        effective = {} if self._null else dict(self._collection.describe())
        self._store.close()
        return {"effective": effective, "cpu_seconds": time.process_time() - self._cpu_start}

    def _memory(self, pids: tuple[int, ...]) -> int:
        gc.collect()
        return sum(psutil.Process(pid).memory_info().rss for pid in (os.getpid(), *pids))

    def _disk(self) -> int:
        return sum(p.stat().st_size for p in self._data.rglob("*") if p.is_file())


def serve(request: dict[str, Any], commands: TextIO, emit: Callable[[dict[str, Any]], None]) -> None:
    """Load, then obey the commands; every failure becomes one `error` event."""
    try:
        worker = Worker(request, emit)
        loaded = worker.load()
        worker.warm_up()
        emit({"event": "loaded", **loaded})
        for line in commands:
            verb, _, argument = line.strip().partition(" ")
            if verb == "round":
                worker.round(int(argument))
                emit({"event": "measured"})
            elif verb == "finish":
                emit({"event": "finished", **worker.finish()})
                return
    except VecbenchError as e:
        status = "void" if isinstance(e, RunVoid) else "failed"
        emit({"event": "error", "status": status, "error": redact(str(e))})
    except Exception as e:
        emit({"event": "error", "status": "failed", "error": redact(f"unexpected {type(e).__name__}: {e}")})


def main() -> None:
    """Entry point of the child; events go to the original standard output, a store's own prints to standard error."""
    events = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def emit(event: dict[str, Any]) -> None:
        events.write(json.dumps(event) + "\n")
        events.flush()

    request = json.loads(Path(sys.argv[1]).read_text("utf-8"))
    serve(request, sys.stdin, emit)


if __name__ == "__main__":
    main()
