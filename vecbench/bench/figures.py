"""From raw values to figures, and back: a report is checked by making its figures again from what was measured."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel

from vecbench.bench.load_figures import remade
from vecbench.bench.recall import recall_at_k
from vecbench.bench.result import Column, LoadResult, Quality, Report, SettingResult
from vecbench.bench.stats import bootstrap_interval, percentile_ns, serial_qps
from vecbench.dataset import Dataset
from vecbench.errors import BenchmarkError
from vecbench.relevance import mrr, ndcg, recall
from vecbench.truth import GroundTruth, ground_truth
from vecbench.types import Metric

__all__ = ["quality", "setting_result", "truth_depth", "verify", "with_queries"]

_Ints = npt.NDArray[np.int64]
_NOT_RECOMPUTED = {"name", "params", "latencies_ns", "warmup_ns", "answers", "max_distance_error", "loads"}
_RAW_OF_LOADS = {"sent_ns", "service_ns", "answers", "cpu_seconds"}


def with_queries(data: Dataset, queries: int | None) -> Dataset:
    """The data set with its first so many queries; its card stays, so that licence and origin stay with it."""
    if queries is None or queries >= len(data.queries):
        return data
    card = dataclasses.replace(data.card, n_queries=queries)
    return dataclasses.replace(
        data,
        card=card,
        queries=data.queries[:queries],
        query_ids=data.query_ids[:queries],
        judgements=None if data.judgements is None else data.judgements[:queries],
    )


def truth_depth(k: int, data: Dataset) -> int:
    """How many exact neighbours a run needs: what it asks for, and 100 where there are so many."""
    return min(max(100, k), len(data.base))


def setting_result(
    name: str,
    params: dict[str, Any],
    *,
    latencies: _Ints,
    answers: _Ints,
    max_distance_error: float,
    data: Dataset,
    truth: GroundTruth,
    warmup: _Ints | None = None,
    loads: Sequence[LoadResult] = (),
) -> SettingResult:
    """All figures of a setting from its raw values: latencies in ns (rounds, q), answers as row numbers (rounds, q, k).

    Recall is the mean over the rounds of each query, and then over queries; percentiles are of all latencies together.
    """
    rounds = [
        recall_at_k(a, data.queries, data.base, truth.rows, truth.distances, metric=truth.metric) for a in answers
    ]
    found = np.mean([r.by_distance for r in rounds], axis=0)
    return SettingResult(
        name=name,
        params=params,
        latencies_ns=Column.encode(latencies),
        warmup_ns=None if warmup is None else Column.encode(warmup),
        answers=Column.encode(answers),
        recall_mean=float(found.mean()),
        recall_interval=bootstrap_interval(found),
        recall_by_id=float(np.mean([r.by_id for r in rounds])),
        recall_p10=float(np.percentile(found, 10)),
        recall_p5=float(np.percentile(found, 5)),
        recall_min=float(found.min()),
        recall_under_half=float((found < 0.5).mean()),
        duplicates=sum(r.duplicates for r in rounds),
        missing=sum(r.missing for r in rounds),
        unknown=sum(r.unknown for r in rounds),
        p50_ns=percentile_ns(latencies, 50),
        p50_interval_ns=bootstrap_interval(np.median(latencies, axis=0), np.median),
        p95_ns=percentile_ns(latencies, 95),
        p99_ns=percentile_ns(latencies, 99),
        qps_serial=float(np.median(serial_qps(latencies))),
        qps_interval=bootstrap_interval(latencies.T, _qps_of_resamples),
        max_distance_error=max_distance_error,
        quality=quality(answers[0], data),
        loads=list(loads),
    )


def quality(rows: _Ints, data: Dataset) -> Quality | None:
    """How good rankings are by what people judged relevant; None where nobody did. rows: (q, k), as in answers.

    A figure at a depth that was not asked for is None. Means are over the queries for which something is relevant.
    """
    if data.judgements is None:
        return None
    ranked = [[data.ids[row] for row in dict.fromkeys(given.tolist()) if row >= 0] for given in rows]
    deep = rows.shape[1]

    def mean(figure: Callable[..., npt.NDArray[np.float64]], k: int) -> float | None:
        scores = figure(data.judgements, ranked, k)
        return float(np.nanmean(scores)) if deep >= min(k, len(data.base)) and not np.isnan(scores).all() else None

    return Quality(
        queries_judged=int(sum(any(g >= 1 for g in judged.values()) for judged in data.judgements)),
        ndcg_at_10=mean(ndcg, 10),
        mrr_at_10=mean(mrr, 10),
        recall_at_100=mean(recall, 100),
    )


def _qps_of_resamples(picked: _Ints, axis: int) -> npt.NDArray[np.float64]:
    """Of resampled latencies (resamples, q, rounds): the median over rounds of the serial rate."""
    return np.asarray(np.median(serial_qps(np.moveaxis(picked, axis, -1)), axis=-1))


def verify(report: Report, dataset: Dataset) -> None:
    """Make every figure of a report again from its raw values; `BenchmarkError` names those that differ.

    dataset: the one that the report names, whole. The error of the returned distances is the one figure that cannot be
    made again: the distances themselves are not kept.
    """
    data = with_queries(dataset, report.plan.get("queries"))
    if data.sha256 != report.dataset.get("vectors_sha256"):
        raise BenchmarkError(
            f"the report was measured on {report.dataset.get('name')!r} with vectors of sha256 "
            f"{report.dataset.get('vectors_sha256')}; the data set given, {data.name!r}, has {data.sha256}"
        )
    if report.dataset.get("judgements_sha256", data.judgements_sha256) != data.judgements_sha256:
        raise BenchmarkError(
            f"the report was measured with judgements of sha256 {report.dataset['judgements_sha256']}; those of "
            f"{data.name!r} have {data.judgements_sha256}"
        )
    wrong: list[str] = []
    for case in report.cases:
        if not case.settings:
            continue
        truth = ground_truth(data, Metric(case.metric), truth_depth(report.plan["k"], data))
        for kept in case.settings:
            where = f"{case.store}, {case.metric}, {kept.name}"
            latencies, answers = kept.latencies_ns.decode(), kept.answers.decode()
            shape = (len(latencies), len(data.queries), report.plan["k"])
            if answers.shape != shape or latencies.shape != shape[:2] or answers.max() >= len(data.base):
                raise BenchmarkError(f"{where}: latencies {latencies.shape} and answers {answers.shape} do not fit")
            made = setting_result(
                kept.name,
                kept.params,
                latencies=latencies,
                answers=answers,
                max_distance_error=kept.max_distance_error,
                data=data,
                truth=truth,
            )
            wrong += _differences(where, kept, made, _NOT_RECOMPUTED)
            for at, under in enumerate(kept.loads):
                again = remade(
                    under, requests=report.plan["requests"], seed=report.plan["seed"], at=at,
                    data=data, truth=truth, null=report.null_loads,
                )  # fmt: skip
                wrong += _differences(f"{where}, {at + 1}. load", under, again, _RAW_OF_LOADS)
    if wrong:
        raise BenchmarkError("the report does not follow from its raw values: " + "; ".join(sorted(wrong)))


def _differences(where: str, kept: BaseModel, made: BaseModel, but: set[str]) -> list[str]:
    return [
        f"{where}: {name} is {getattr(kept, name)}, its raw values give {getattr(made, name)}"
        for name in type(kept).model_fields.keys() - but
        if not _same(getattr(kept, name), getattr(made, name))
    ]


def _same(a: Any, b: Any) -> bool:
    if a is None or b is None or isinstance(a, str):
        return bool(a == b)
    if isinstance(a, Quality):
        return isinstance(b, Quality) and _same(tuple(a.model_dump().values()), tuple(b.model_dump().values()))
    if isinstance(a, tuple):
        return isinstance(b, tuple) and len(a) == len(b) and all(map(_same, a, b))
    return math.isclose(float(a), float(b), rel_tol=1e-9, abs_tol=1e-12)
