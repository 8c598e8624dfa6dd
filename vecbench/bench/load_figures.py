"""From the raw values of a load to its figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from vecbench.bench.load import Load, Share, shares
from vecbench.bench.press import Pass
from vecbench.bench.recall import FAILED, recall_at_k
from vecbench.bench.result import Column, LoadResult, NullLoad
from vecbench.bench.stats import percentile_ns
from vecbench.dataset import Dataset
from vecbench.truth import GroundTruth

__all__ = ["load_result", "null_load", "remade"]

_BUSY = 0.9  # of the clients that must have a request under way, and of its time that a client's process may compute
_NULL_FACTOR = 2.0  # the harness alone must be so much faster, or it is a good part of what was measured
_LEFT_WAITING = 0.05  # of what was due, beyond what is just under way: a queue, not chance
_Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class _Window:
    """One round, while all clients were at work. taken: requests sent then and answered, bool (clients, n)."""

    qps: float
    in_flight: float
    taken: npt.NDArray[np.bool_]


def load_result(
    load: Load,
    rounds: Sequence[Pass],
    *,
    requests: int | None,
    seed: int,
    at: int,
    data: Dataset,
    truth: GroundTruth,
    null: Sequence[NullLoad] = (),
) -> LoadResult:
    """All figures of one setting under one load, the `at`-th of the plan. requests, seed: the plan's; see `shares`."""
    first = rounds[0]
    asked = [shares(load, len(data.queries), requests, [seed, i, at]) for i in range(len(rounds))]
    windows = [_window(one) for one in rounds]
    service = np.concatenate([one.service_ns[w.taken] for one, w in zip(rounds, windows, strict=True)])
    waited = np.concatenate([_latency(one, its)[w.taken] for one, its, w in zip(rounds, asked, windows, strict=True)])
    if not len(service):  # all failed: there is no latency, and nothing that could look like one
        service = waited = np.array([-1], np.int64)
    late = np.concatenate([_late(one, its).ravel() for one, its in zip(rounds, asked, strict=True)])
    rates = [window.qps for window in windows]
    in_flight = float(np.median([window.in_flight for window in windows]))
    return LoadResult(
        clients=load.clients,
        rate=load.rate,
        how=first.how,
        clock_ns=max(one.clock_ns for one in rounds),
        sent_ns=Column.encode(np.stack([one.sent_ns for one in rounds])),
        service_ns=Column.encode(np.stack([one.service_ns for one in rounds])),
        answers=Column.encode(np.stack([one.rows for one in rounds])),
        cpu_seconds=[one.cpu_seconds for one in rounds],
        qps=float(np.median(rates)),
        qps_range=(min(rates), max(rates)),
        p50_ns=percentile_ns(waited, 50),
        p95_ns=percentile_ns(waited, 95),
        p99_ns=percentile_ns(waited, 99),
        service_p50_ns=percentile_ns(service, 50),
        late_p99_ns=percentile_ns(late, 99),
        in_flight=in_flight,
        recall_mean=float(np.mean([_recall(one, its, data, truth) for one, its in zip(rounds, asked, strict=True)])),
        failed=int(sum((one.rows[:, :, 0] == FAILED).sum() for one in rounds)),
        error=next((one.error for one in rounds if one.error is not None), None),
        max_distance_error=max(one.max_distance_error for one in rounds),
        verdict=_verdict(load, rounds, asked, windows, null),
    )


def remade(
    kept: LoadResult,
    *,
    requests: int | None,
    seed: int,
    at: int,
    data: Dataset,
    truth: GroundTruth,
    null: Sequence[NullLoad],
) -> LoadResult:
    """The figures of a report made again from its raw values."""
    sent, service, answers = kept.sent_ns.decode(), kept.service_ns.decode(), kept.answers.decode()
    rounds = [
        Pass(kept.how, sent[i], service[i], answers[i], cpu, kept.clock_ns, kept.error, kept.max_distance_error)
        for i, cpu in enumerate(kept.cpu_seconds)
    ]
    return load_result(
        Load(kept.clients, kept.rate), rounds, requests=requests, seed=seed, at=at, data=data, truth=truth, null=null
    )


def null_load(load: Load, one: Pass) -> NullLoad:
    """What the harness itself does under a load."""
    window = _window(one)
    p50 = percentile_ns(one.service_ns[window.taken], 50)
    return NullLoad(clients=load.clients, rate=load.rate, how=one.how, qps=window.qps, p50_ns=p50)


def _window(one: Pass) -> _Window:
    """From when the last client had begun until the first one was through."""
    sent, done = one.sent_ns, one.sent_ns + one.service_ns
    begin, end = int(sent[:, 0].max()), int(done[:, -1].min())
    if end <= begin:  # a pass so short that some were through before others began: all of it, with its tails
        begin, end = int(sent.min()), int(done.max())
    seconds, answered = max(end - begin, 1) / 1e9, one.rows[:, :, 0] != FAILED
    finished = (done > begin) & (done <= end) & answered
    under_way = np.clip(np.minimum(done, end) - np.maximum(sent, begin), 0, None).sum() / 1e9
    taken = (sent >= begin) & (sent < end) & answered
    return _Window(float(finished.sum() / seconds), float(under_way / seconds), taken)


def _latency(one: Pass, asked: Sequence[Share]) -> _Ints:
    """From when each request was due; from when it was sent, where it was due whenever the last one was back."""
    due = _due(asked)
    return one.service_ns if due is None else one.sent_ns + one.service_ns - due


def _late(one: Pass, asked: Sequence[Share]) -> _Ints:
    """How long each client was free and yet did not send what was due: the harness's own delay."""
    free = np.zeros_like(one.sent_ns)
    free[:, 1:] = (one.sent_ns + one.service_ns)[:, :-1]
    due = _due(asked)
    return one.sent_ns - (free if due is None else np.maximum(free, due))


def _due(asked: Sequence[Share]) -> _Ints | None:
    if any(share.intended is None for share in asked):
        return None
    return np.stack([share.intended for share in asked if share.intended is not None])


def _recall(one: Pass, asked: Sequence[Share], data: Dataset, truth: GroundTruth) -> float:
    """Of the very answers that were timed, failed ones counting nothing."""
    order = np.concatenate([share.order for share in asked])
    answers = one.rows.reshape(len(order), -1)
    found = recall_at_k(
        answers, data.queries[order], data.base, truth.rows[order], truth.distances[order], metric=truth.metric
    )
    return float(found.by_distance.mean())


def _verdict(
    load: Load,
    rounds: Sequence[Pass],
    asked: Sequence[Sequence[Share]],
    windows: Sequence[_Window],
    null: Sequence[NullLoad],
) -> Literal["ok", "client-bound", "behind"]:
    """See `LoadResult`; what holds in more than half of the rounds."""
    how = rounds[0].how
    if how != "threads":  # of a client beside its engine nobody can tell whose the computing was
        lasted = [(one.sent_ns + one.service_ns).max() / 1e9 for one in rounds]
        if np.median([max(one.cpu_seconds) / took for one, took in zip(rounds, lasted, strict=True)]) > _BUSY:
            return "client-bound"
    if load.rate is not None:
        late = [_left_waiting(one, its) for one, its in zip(rounds, asked, strict=True)]
        return "behind" if np.median(late) > 0 else "ok"
    if np.median([window.in_flight for window in windows]) < _BUSY * load.clients:
        return "client-bound"
    rate = float(np.median([window.qps for window in windows]))
    alone = [n.qps for n in null if (n.clients, n.rate, n.how) == (load.clients, load.rate, how)]
    return "client-bound" if alone and min(alone) < _NULL_FACTOR * rate else "ok"


def _left_waiting(one: Pass, asked: Sequence[Share]) -> int:
    """How many more requests were due and not answered, when the first client's last was due, than just under way."""
    due = _due(asked)
    assert due is not None  # noqa: S101  asked of loads with a rate only
    end = due[:, -1].min()
    wanted = int((due <= end).sum())
    waiting = wanted - int((one.sent_ns + one.service_ns <= end).sum())
    return waiting - max(2 * len(due), int(_LEFT_WAITING * wanted))
