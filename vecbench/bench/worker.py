"""The child process that measures one store under one metric: its memory and its crashes are the store's alone.

    python -P -m vecbench.bench.worker REQUEST.json

It loads, answers with a line of JSON, and then obeys the lines on its standard input: `round N` measures one round,
`finish` ends. The end of its input ends it too, and on Linux so does the death of its parent.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NoReturn, TextIO

import numpy as np
import numpy.typing as npt

from vecbench.bench.answers import decode
from vecbench.bench.load import without_collection
from vecbench.bench.press import Press, Pressing
from vecbench.bench.probes import check_loaded
from vecbench.bench.recall import NO_ANSWER
from vecbench.bench.rows import HELD_BYTES, batches, drop_pages, open_rows
from vecbench.bench.usage import disk_bytes, peak_bytes, resident_bytes
from vecbench.capabilities import StoreInfo
from vecbench.collection import Collection
from vecbench.errors import ConfigError, RunVoid, UnsupportedOperation, VecbenchError, redact
from vecbench.index import SearchParams, index_from_dict
from vecbench.registry import StoreRef
from vecbench.services.target import open_target
from vecbench.spec import CollectionSpec
from vecbench.store import VectorStore
from vecbench.types import Metric, Records, SearchResult, Vectors

__all__ = ["BUCKETS", "Worker", "main", "serve", "timed_pass"]

BUCKETS = 100
_WARMUP_QUERIES = 50
_Ints = npt.NDArray[np.int64]


def timed_pass(
    search: Callable[..., SearchResult], rows: list[Vectors], k: int, params: SearchParams
) -> tuple[_Ints, list[SearchResult]]:
    """Ask every row once, one at a time: nanoseconds of each call, int64 (q,), and the very answers that were timed."""
    latencies = np.empty(len(rows), np.int64)
    answers: list[Any] = [None] * len(rows)
    clock = time.perf_counter_ns
    with without_collection():
        for i, row in enumerate(rows):
            start = clock()
            answers[i] = search(row, k, params=params)
            latencies[i] = clock() - start
    return latencies, answers


class Worker:
    """One case: load, check, warm up, rounds, close."""

    def __init__(self, request: dict[str, Any], emit: Callable[[dict[str, Any]], None]) -> None:
        self._emit = emit
        self._folder = Path(request["folder"])
        self._ref = StoreRef(**request["store"])
        self._metric = Metric(request["metric"])
        self._k: int = request["k"]
        self._seed: int = request["seed"]
        self._index = index_from_dict(request["index"])
        self._settings = [(s["name"], SearchParams(**s["params"])) for s in request["settings"]]
        self._pressing = Pressing.from_dict(request["load"])
        self._base: Vectors = open_rows(request["base"])
        self._queries: Vectors = np.array(open_rows(request["queries"]))
        self._rows = [np.ascontiguousarray(q)[None, :] for q in self._queries]
        self._null = self._ref.name == "null"
        self._usable: list[str] = []
        self._notes: list[str] = []
        self._store: VectorStore | None = None
        self._collection: Collection | None = None
        self._press: Press | None = None

    def load(self) -> dict[str, Any]:
        """Connect, create, ingest, optimize, flush, and check that all of it is there."""
        self._data = Path(tempfile.mkdtemp(prefix="store-", dir=self._folder))  # goes with the parent's folder
        self._data.chmod(0o711)  # an engine that runs under another account must get to its own folder
        # Where the rows fit, they are made at once and held until memory is read for the second time, so that they
        # stand on both sides of the difference; of a larger base a window is in memory at a time.
        windows: Iterable[list[Records]] = batches(self._base, self._seed, BUCKETS)
        if self._base.nbytes <= HELD_BYTES:
            windows = list(windows)
        self._target = open_target(self._ref, self._data / "data")
        store, info = self._target.store, self._target.info
        self._store = store
        if not info.benchmarkable:
            raise RunVoid(f"{self._ref.label} is not measured: {info.why_not}")
        self._usable = self._usable_settings(store)
        self._press = Press(
            self._pressing, seed=self._seed, queries=self._queries, base=self._base, k=self._k,
            collection=self._measured, again=self._target.again,
        )  # fmt: skip
        memory_before = self._resident(info)
        # A name of its own: on a server nothing that is the user's is touched.
        name = f"vecbench-{uuid.uuid4().hex[:12]}"
        spec = CollectionSpec(name, self._base.shape[1], self._metric, self._index, fields={"bucket": "int"})
        start = time.perf_counter_ns()
        self._collection = collection = store.create_collection(spec)
        created = time.perf_counter_ns()
        ingest_ns = self._ingest(collection, windows)
        self._emit({"event": "phase", "phase": "index", "done": 0, "total": 1})
        before = time.perf_counter_ns()
        collection.optimize()
        collection.flush()
        optimized = time.perf_counter_ns()
        collection.search(self._rows[0], self._k)
        first_query_ns = time.perf_counter_ns() - optimized
        memory_after = self._resident(info)
        effective = {} if self._null else dict(collection.describe())
        if not self._null:
            self._notes = check_loaded(collection, self._base, self._rows[0], self._k, BUCKETS)
        del windows
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
                "memory_after_bytes": memory_after,
                "memory_peak_bytes": peak_bytes() if info.deployment == "embedded" else None,
                "disk_bytes": self._disk(store, effective),
            },
            "effective": effective,
        }

    def _disk(self, store: VectorStore, effective: dict[str, Any]) -> int | None:
        if not store.capabilities.persistent:
            return None
        told = effective.get("disk_bytes")
        return disk_bytes(self._data) or (told if isinstance(told, int) else None)

    def _usable_settings(self, store: VectorStore) -> list[str]:
        can = store.capabilities
        usable = []
        for name, params in self._settings:
            wanted = ("ef_search", params.ef_search, can.ef_search), ("nprobe", params.nprobe, can.nprobe)
            # A store that sets nothing still has what its collections are created with.
            if all(v is None or scope != "none" or v == getattr(self._index, what) for what, v, scope in wanted) and (
                not params.exact or can.exact_search or self._index.kind == "flat"
            ):
                usable.append(name)
        if not usable:
            names = ", ".join(name for name, _ in self._settings)
            raise ConfigError(f"{self._ref.label} can set none of {names}: there is nothing to measure")
        return usable

    def _prepare(self, params: SearchParams) -> None:
        """Outside the clock: put in force what the store sets per collection, and touch the index once more."""
        assert self._store is not None  # noqa: S101  `load` comes first
        can, changes = self._store.capabilities, {}
        if params.ef_search is not None and can.ef_search == "collection":
            changes["ef_search"] = params.ef_search
        if params.nprobe is not None and can.nprobe == "collection":
            changes["nprobe"] = params.nprobe
        held = self._measured().spec.index
        if any(getattr(held, name) != value for name, value in changes.items()):
            self._measured().reconfigure(**changes)
            timed_pass(self._measured().search, self._rows[:_WARMUP_QUERIES], self._k, params)

    def _resident(self, info: StoreInfo) -> int | None:
        drop_pages(self._base)
        return resident_bytes(info)

    def _ingest(self, collection: Collection, windows: Iterable[list[Records]]) -> int:
        """Nanoseconds inside the store's calls; what is prepared between two windows is outside the clock."""
        spent = sent = 0
        for window in windows:
            for batch in window:
                self._emit({"event": "phase", "phase": "ingest", "done": sent, "total": len(self._base)})
                start = time.perf_counter_ns()
                collection.upsert(batch)
                spent += time.perf_counter_ns() - start
                sent += len(batch)
            drop_pages(self._base)
        start = time.perf_counter_ns()
        collection.flush()
        return spent + time.perf_counter_ns() - start

    def _measured(self) -> Collection:
        assert self._collection is not None  # noqa: S101  `load` comes first
        return self._collection

    def warm_up(self) -> dict[str, Any]:
        """Ask the first queries once with each setting; the latencies are kept, but count in no figure.

        Returns which settings can be measured, and notes on those that cannot.
        """
        for at, (name, params) in enumerate(self._settings):
            if name not in self._usable:
                continue
            try:
                self._prepare(params)
            except UnsupportedOperation:  # this server's collections keep what they were created with
                self._usable.remove(name)
                continue
            latencies, _ = timed_pass(self._measured().search, self._rows[:_WARMUP_QUERIES], self._k, params)
            np.save(self._folder / f"{at}-warmup.npy", latencies)
        unusable = [name for name, _ in self._settings if name not in self._usable]
        if unusable:
            self._notes.append(f"not measured, because the store cannot set it: {', '.join(unusable)}")
        if not self._usable:
            raise ConfigError(f"{self._ref.label} can set none of {', '.join(unusable)}: there is nothing to measure")
        return {"settings": self._usable, "notes": self._notes}

    def round(self, number: int) -> None:
        """Measure every setting once alone and once under each load, in an order of this round; results go to files."""
        passes = [(at, load) for load in (None, *range(len(self._pressing.loads))) for at in range(len(self._settings))]
        order = np.random.default_rng([self._seed, number]).permutation(len(passes)).tolist()
        for done, picked in enumerate(order):
            at, load = passes[picked]
            name, params = self._settings[at]
            self._emit({"event": "phase", "phase": f"round {number + 1}", "done": done, "total": len(order)})
            if name not in self._usable:
                continue
            self._prepare(params)
            if load is None:
                self._alone(f"{at}-{number}", params)
            else:
                assert self._press is not None  # noqa: S101  `load` comes first
                for measured in self._press.measure(number, load, params):
                    how = f"-{measured.how}" if self._pressing.each_how else ""
                    measured.save(self._folder / f"{at}-{number}-load{load}{how}")

    def _alone(self, name: str, params: SearchParams) -> None:
        """One client, one query at a time."""
        latencies, answers = timed_pass(self._measured().search, self._rows, self._k, params)
        rows, error = np.full((len(answers), self._k), NO_ANSWER, np.int64), 0.0
        if not self._null:
            rows, error = decode(answers, self._k, self._queries, self._base, self._metric)
        np.save(self._folder / f"{name}-latencies.npy", latencies)
        np.save(self._folder / f"{name}-answers.npy", rows)
        (self._folder / f"{name}-error.json").write_text(json.dumps(error), "utf-8")

    def close(self) -> None:
        """Leave nothing on a server, and end the connection."""
        store, self._store = self._store, None
        if store is None:
            return
        try:
            if self._press is not None:
                self._press.close()
            if self._collection is not None and self._target.outlives:
                store.drop_collection(self._collection.spec.name, missing_ok=True)
        finally:
            store.close()


def serve(request: dict[str, Any], commands: TextIO, emit: Callable[[dict[str, Any]], None]) -> None:
    """Load, then obey the commands; every failure becomes one `error` event."""
    try:
        worker = Worker(request, emit)
        try:
            loaded = worker.load()
            emit({"event": "loaded", **loaded, **worker.warm_up()})
            for line in commands:
                verb, _, argument = line.strip().partition(" ")
                if verb == "finish":
                    break
                worker.round(int(argument))
                emit({"event": "measured", "cpu_seconds": time.process_time()})
        finally:
            worker.close()
        emit({"event": "finished"})
    except VecbenchError as e:
        status = "void" if isinstance(e, RunVoid) else "failed"
        emit({"event": "error", "status": status, "error": redact(str(e))})
    except Exception as e:
        emit({"event": "error", "status": "failed", "error": redact(f"unexpected {type(e).__name__}: {e}")})


def main() -> None:
    """Entry point of the child; events go to the original standard output, a store's own prints to standard error."""
    signal.signal(signal.SIGTERM, _leave)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: a long native call never sees its input end
    request = json.loads(Path(sys.argv[1]).read_text("utf-8"))
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as events:
        os.dup2(2, 1)

        def emit(event: dict[str, Any]) -> None:
            events.write(json.dumps(event) + "\n")
            events.flush()

        serve(request, sys.stdin, emit)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # it ends by itself; a late SIGTERM would only print a traceback


def _leave(_signal: int, _frame: object) -> NoReturn:
    raise SystemExit(128 + signal.SIGTERM)  # so that what was put on a server is removed on the way out


if __name__ == "__main__":
    main()
