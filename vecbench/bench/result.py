"""The result file: typed, versioned JSON in which every figure can be recomputed from the raw values beside it."""

from __future__ import annotations

import base64
import itertools
import json
import math
import os
import uuid
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, ValidationError

from vecbench.bench.load import Load
from vecbench.bench.machine import Machine
from vecbench.errors import BenchmarkError

__all__ = [
    "CaseResult",
    "Column",
    "LoadResult",
    "NullLoad",
    "Phases",
    "Quality",
    "Report",
    "SettingResult",
    "StoreVersions",
]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Column(_Model):
    """An integer array: little-endian int64 bytes, zlib, base64. `decode` gives it back."""

    shape: list[int]
    zlib_base64: str

    @classmethod
    def encode(cls, array: npt.NDArray[np.int64]) -> Column:
        """The array as text."""
        packed = zlib.compress(np.ascontiguousarray(array, "<i8").tobytes(), 6)
        return cls(shape=list(array.shape), zlib_base64=base64.b64encode(packed).decode("ascii"))

    def decode(self) -> npt.NDArray[np.int64]:
        """The array, int64; `BenchmarkError` where the text is damaged."""
        try:
            size = 8 * int(np.prod(self.shape))
            raw = zlib.decompressobj().decompress(base64.b64decode(self.zlib_base64, validate=True), size + 1)
            return np.frombuffer(raw, "<i8").reshape(self.shape).astype(np.int64)
        except (ValueError, zlib.error) as e:
            raise BenchmarkError(f"a column of the result is damaged: {e}") from e


class StoreVersions(_Model):
    """Who answered."""

    label: str
    deployment: str
    engine: str
    engine_version: str
    client: str
    client_version: str


class Phases(_Model):
    """Four clocks, in nanoseconds, and what they cost. `first_query_ns` is the cold one.

    memory_*: resident bytes of the engine's processes before the collection is made and after it is loaded, None where
    the engine is not here to be looked at; the peak includes what the harness held. disk_bytes: allocated, after flush.
    cpu_seconds: of the process that was measured, from its start to its last round.
    """

    create_ns: int
    ingest_ns: int
    optimize_ns: int
    first_query_ns: int
    memory_before_bytes: int | None
    memory_after_bytes: int | None
    memory_peak_bytes: int | None = None
    disk_bytes: int | None
    cpu_seconds: float


class Quality(_Model):
    """How good the answers are by what people judged relevant, not by distance: means over the queries judged.

    None where fewer answers were asked for than the figure looks at. Of the first round.
    """

    queries_judged: int
    ndcg_at_10: float | None
    mrr_at_10: float | None
    recall_at_100: float | None


class LoadResult(_Model):
    """One setting under one load: raw values of every round, and the figures taken from them.

    clients, rate: see `vecbench.bench.load.Load`. how: threads of the store's own process, processes of this machine,
    or actors on a Ray cluster (then clock_ns is how far the clients' clocks may be apart). sent_ns, service_ns:
    (rounds, clients, n), after the common start, and from there to the answer. answers: (rounds, clients, n, k), as in
    `SettingResult`, −3 in the first place of a request that failed. cpu_seconds: of each client in each round; of
    threads, that of the whole process, engine included, and the same for all.

    Figures are of the time in which all clients were at work. qps: answers a second, the median over rounds, and their
    range. Latencies count from the intended instant where there is one, from sending otherwise; service_p50_ns always
    from sending. late_p99_ns: how late a client that was free sent. in_flight: requests under way on average, by
    Little's law rate times service time. verdict: `client-bound` where that is less than nine tenths of the clients,
    where a client's process computed all the time, or where the null store is not twice as fast by the same way: then
    the figures are of the clients. `behind` where answers came slower than requests were due: then latencies grow for
    as long as one measures.
    """

    clients: int
    rate: float | None
    how: Literal["threads", "processes", "ray"]
    clock_ns: int
    sent_ns: Column
    service_ns: Column
    answers: Column
    cpu_seconds: list[list[float]]
    qps: float
    qps_range: tuple[float, float]
    p50_ns: float
    p95_ns: float
    p99_ns: float
    service_p50_ns: float
    late_p99_ns: float
    in_flight: float
    recall_mean: float
    failed: int
    error: str | None
    max_distance_error: float
    verdict: Literal["ok", "client-bound", "behind"]


class NullLoad(_Model):
    """What the harness itself reaches under a load: the same clients on a store that does nothing."""

    clients: int
    rate: float | None
    how: Literal["threads", "processes", "ray"]
    qps: float
    p50_ns: float


class SettingResult(_Model):
    """One search setting: raw values of every round, and the figures taken from them.

    latencies_ns: (rounds, q). warmup_ns: of the pass before, in none of the figures. answers: row numbers of the base,
    (rounds, q, k), −1 for none, −2 for an id that was never sent. qps_serial: queries per second of one client asking
    one at a time, the median over rounds. Intervals are 95 %, over queries. max_distance_error: relative to float64.
    """

    name: str
    params: dict[str, Any]
    latencies_ns: Column
    warmup_ns: Column | None = None
    answers: Column
    recall_mean: float
    recall_interval: tuple[float, float]
    recall_by_id: float
    recall_p10: float
    recall_p5: float
    recall_min: float
    recall_under_half: float
    duplicates: int
    missing: int
    unknown: int = 0
    p50_ns: float
    p50_interval_ns: tuple[float, float]
    p95_ns: float
    p99_ns: float
    qps_serial: float
    qps_interval: tuple[float, float] | None = None
    max_distance_error: float
    quality: Quality | None = None
    loads: list[LoadResult] = []


class CaseResult(_Model):
    """One store under one metric. void: it ran, but a check failed, so its numbers do not count.

    effective: what the store said of its index. notes: what could not be checked or set, in sentences.
    """

    store: str
    metric: str
    status: Literal["ok", "failed", "void"]
    error: str | None = None
    versions: StoreVersions | None = None
    effective: dict[str, Any] = {}
    notes: list[str] = []
    phases: Phases | None = None
    settings: list[SettingResult] = []


class Report(_Model):
    """A whole run. exact_quality: by metric, of the exact neighbours: the most that the vectors themselves give."""

    format: Literal["vecbench-report"] = "vecbench-report"
    version: Literal[1] = 1
    vecbench_version: str
    started_utc: str
    plan: dict[str, Any]
    dataset: dict[str, Any]
    machine: Machine
    null_cost_ns: float | None = None
    null_loads: list[NullLoad] = []
    exact_quality: dict[str, Quality] = {}
    cases: list[CaseResult] = []
    interrupted: bool = False

    @property
    def failed(self) -> bool:
        """Whether anything did: see `failures`."""
        return next(self.failures(), None) is not None

    def failures(self) -> Iterator[str]:
        """A sentence on each case that has no valid numbers, and on each load in which requests failed."""
        for case in self.cases:
            name = f"{case.store}, {case.metric}"
            if case.status != "ok":
                yield f"{name}: {case.status}: {case.error}"
            for setting in case.settings:
                for under in setting.loads:
                    if under.failed:
                        load, sent = Load(under.clients, under.rate), math.prod(under.sent_ns.shape)
                        yield (
                            f"{name}, {setting.name}, {load.name}: {under.failed:,} of {sent:,} requests failed, "
                            f"the first with {under.error}"
                        )

    def save(self, path: Path, *, replace: bool = False) -> Path:
        """Write the file whole or not at all; returns where.

        replace: in place of one that is there; else beside it, under a name with a number: another run may have made it
        meanwhile, and neither is lost.
        """
        temporary = path.with_name(f".vecbench-{uuid.uuid4().hex}.tmp")
        try:
            with temporary.open("x", encoding="utf-8") as f:
                f.write(self.model_dump_json(indent=1))
                f.flush()
                os.fsync(f.fileno())
            if replace:
                temporary.replace(path)
                return path
            return _put_beside(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)

    @classmethod
    def load(cls, path: Path) -> Report:
        """Read a file; `BenchmarkError` names the field that is wrong."""
        try:
            return cls.model_validate(json.loads(path.read_text("utf-8")))
        except OSError as e:
            raise BenchmarkError(f"{path} cannot be read: {e}") from e
        except ValidationError as e:
            first = e.errors()[0]
            where = ".".join(map(str, first["loc"]))
            raise BenchmarkError(f"{path} is no result of this version: {where}: {first['msg']}") from e
        except ValueError as e:
            raise BenchmarkError(f"{path} is no JSON: {e}") from e


def _put_beside(temporary: Path, path: Path) -> Path:
    """Give a file the first name that is free: path, then path-2 and so on."""
    for number in itertools.count(1):
        free = path if number == 1 else path.with_stem(f"{path.stem}-{number}")
        try:
            free.hardlink_to(temporary)  # unlike a rename, it never replaces
        except FileExistsError:
            continue
        except OSError:  # a file system without links
            if free.exists():
                continue
            temporary.replace(free)
        return free
    raise AssertionError  # the numbers do not end
