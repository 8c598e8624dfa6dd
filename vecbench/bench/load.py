"""Load: several clients that ask at once, as fast as they are answered or at a rate that is fixed in advance.

Every client knows before the clock runs what it asks and when; while it runs, it only asks, and writes into arrays that
are there already. All begin at one instant, which they are told beforehand.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from vecbench.bench.answers import rows_and_distances
from vecbench.bench.recall import FAILED, NO_ANSWER
from vecbench.errors import ConfigError, redact
from vecbench.index import SearchParams
from vecbench.types import SearchResult, Vectors

__all__ = ["MAX_CLIENTS", "Driven", "Load", "Share", "drive", "requests_each", "shares", "without_collection"]

MAX_CLIENTS = 512
_LEAST_EACH = 100  # requests of one client: fewer say little of its 99th percentile
_WARMUP_QUERIES = 5
_Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Load:
    """How the store is pressed. clients: how many ask at once, each one query at a time.

    rate: requests a second of all clients together, at random instants (Poisson), whether answers come or not (an open
    loop); None for each client to ask again as soon as it is answered (a closed loop).
    """

    clients: int
    rate: float | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.clients <= MAX_CLIENTS:
            raise ConfigError(f"clients must be 1 to {MAX_CLIENTS}, got {self.clients}")
        if self.rate is not None and not 0 < self.rate < 1e9:
            raise ConfigError(f"a rate must be more than 0 requests a second, got {self.rate}")

    @property
    def name(self) -> str:
        """In words, for tables."""
        clients = f"{self.clients} client{'s' * (self.clients > 1)}"
        return clients if self.rate is None else f"{clients}, {self.rate:g}/s"


@dataclass(frozen=True, slots=True)
class Share:
    """What one client asks. order: numbers of queries, int64 (n,).

    intended: when to send each, ns after the common start, int64 (n,), ascending; None to send when the last is back.
    """

    order: _Ints
    intended: _Ints | None


def requests_each(load: Load, queries: int, requests: int | None) -> int:
    """How many requests each client sends in one pass: its part of `requests`, by default of two for every query."""
    least = _LEAST_EACH if requests is None else 1
    return max(least, -(-(2 * queries if requests is None else requests) // load.clients))


def shares(load: Load, queries: int, requests: int | None, seed: list[int]) -> list[Share]:
    """What each client asks in one pass: the same for the same seed, wherever the clients run.

    The queries are dealt out in shuffled rounds, so that each is asked as often as any other, within one.
    """
    each = requests_each(load, queries, requests)
    random = np.random.default_rng(seed)
    decks = [random.permutation(queries) for _ in range(-(-each * load.clients // queries))]
    dealt = np.concatenate(decks)[: each * load.clients].reshape(load.clients, each)
    if load.rate is None:
        return [Share(order, None) for order in dealt]
    gaps = random.exponential(load.clients / load.rate * 1e9, dealt.shape)
    return [Share(order, np.cumsum(its).astype(np.int64)) for order, its in zip(dealt, gaps, strict=True)]


@dataclass(frozen=True, slots=True)
class Driven:
    """What one client measured. All of its n requests, in the order of its `Share`.

    sent_ns: when each was sent, after the common start, int64 (n,). service_ns: until it was answered, int64 (n,).
    rows: row numbers, int64 (n, k), as `rows_and_distances` gives them; `FAILED` in the first place of a request that
    raised; error: the first. distances: float64 (n, k).
    cpu_seconds: processor time of the client's process between start and end.
    """

    sent_ns: _Ints
    service_ns: _Ints
    rows: _Ints
    distances: npt.NDArray[np.float64]
    error: str | None
    cpu_seconds: float


def drive(
    search: Callable[..., SearchResult],
    rows: list[Vectors],
    share: Share,
    *,
    k: int,
    params: SearchParams,
    start: Callable[[], int],
    n_base: int,
    awake_ns: int = 0,
) -> Driven:
    """Be one client. rows: the queries, each (1, dim). n_base: how many rows the store was sent.

    start: called when everything is ready; it gives the instant, of this machine's `perf_counter_ns`, at which all
    clients begin, and may wait for the others. awake_ns: so long before an instant this client stops to sleep, as sleep
    comes back a little late; 0 where others need the same Python interpreter meanwhile.
    """
    asked = [rows[i] for i in share.order.tolist()]
    intended = None if share.intended is None else share.intended.tolist()
    sent, done = np.zeros(len(asked), np.int64), np.zeros(len(asked), np.int64)
    answers: list[Any] = [None] * len(asked)
    clock = time.perf_counter_ns
    for row in asked[:_WARMUP_QUERIES]:
        search(row, k, params=params)
    with without_collection():
        begin = start()
        _wait_until(begin, awake_ns)
        cpu = time.process_time()
        for i, row in enumerate(asked):
            if intended is not None:
                _wait_until(begin + intended[i], awake_ns)
            sent[i] = clock()
            try:
                answers[i] = search(row, k, params=params)
            except Exception as e:  # the others are still waiting for theirs; counted, and told
                answers[i] = e
            done[i] = clock()
        cpu = time.process_time() - cpu
    return _driven(sent - begin, done - sent, answers, k=k, n_base=n_base, cpu_seconds=cpu)


@contextmanager
def without_collection() -> Iterator[None]:
    """Python's garbage is collected now, and not again until the end: in the middle it would be somebody's latency."""
    collecting = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()


def _driven(sent: _Ints, service: _Ints, answers: list[Any], *, k: int, n_base: int, cpu_seconds: float) -> Driven:
    failed = np.array([isinstance(a, Exception) for a in answers])
    rows, distances = np.full((len(answers), k), NO_ANSWER, np.int64), np.full((len(answers), k), np.nan)
    rows[failed, 0] = FAILED
    rows[~failed], distances[~failed] = rows_and_distances([answers[i] for i in np.flatnonzero(~failed)], k, n_base)
    first = answers[int(failed.argmax())] if failed.any() else None
    error = None if first is None else redact(f"{type(first).__name__}: {first}")
    return Driven(sent, service, rows, distances, error, cpu_seconds)


def _wait_until(instant: int, awake_ns: int) -> None:
    left = instant - time.perf_counter_ns()
    if left > awake_ns:
        time.sleep((left - awake_ns) / 1e9)
    while time.perf_counter_ns() < instant:
        pass
