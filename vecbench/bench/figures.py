"""From raw values to figures, and back: a report is checked by making its figures again from what was measured."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import numpy.typing as npt

from vecbench.bench.recall import recall_at_k
from vecbench.bench.result import Column, Report, SettingResult
from vecbench.bench.stats import bootstrap_interval, percentile_ns, serial_qps
from vecbench.dataset import Dataset
from vecbench.errors import BenchmarkError
from vecbench.truth import GroundTruth, ground_truth
from vecbench.types import Metric

__all__ = ["setting_result", "verify", "with_queries"]

_Ints = npt.NDArray[np.int64]
_NOT_RECOMPUTED = {"name", "params", "latencies_ns", "warmup_ns", "answers", "max_distance_error"}


def with_queries(data: Dataset, queries: int | None) -> Dataset:
    """The data set with its first so many queries; its card stays, so that licence and origin stay with it."""
    if queries is None or queries >= len(data.queries):
        return data
    card = dataclasses.replace(data.card, n_queries=queries)
    return Dataset(card, data.base, data.queries[:queries], data.ids, data.query_ids[:queries])


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
) -> SettingResult:
    """All figures of a setting from its raw values: latencies in ns (rounds, q), answers as row numbers (rounds, q, k).

    Recall is the mean over the rounds of each query, and then over queries; percentiles are of all latencies together.
    """
    rounds = [
        recall_at_k(a, data.queries, data.base, truth.rows, truth.distances, metric=truth.metric) for a in answers
    ]
    recall = np.mean([r.by_distance for r in rounds], axis=0)
    return SettingResult(
        name=name,
        params=params,
        latencies_ns=Column.encode(latencies),
        warmup_ns=None if warmup is None else Column.encode(warmup),
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
        unknown=sum(r.unknown for r in rounds),
        p50_ns=percentile_ns(latencies, 50),
        p50_interval_ns=bootstrap_interval(np.median(latencies, axis=0), np.median),
        p95_ns=percentile_ns(latencies, 95),
        p99_ns=percentile_ns(latencies, 99),
        qps_serial=float(np.median(serial_qps(latencies))),
        qps_interval=bootstrap_interval(latencies.T, _qps_of_resamples),
        max_distance_error=max_distance_error,
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
    wrong: list[str] = []
    for case in report.cases:
        if not case.settings:
            continue
        truth = ground_truth(data, Metric(case.metric), min(100, len(data.base)))
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
            for field in SettingResult.model_fields.keys() - _NOT_RECOMPUTED:
                has, should = getattr(kept, field), getattr(made, field)
                if not _same(has, should):
                    wrong.append(f"{where}: {field} is {has}, its raw values give {should}")
    if wrong:
        raise BenchmarkError("the report does not follow from its raw values: " + "; ".join(sorted(wrong)))


def _same(a: Any, b: Any) -> bool:
    if a is None or b is None:
        return a is b
    if isinstance(a, tuple):
        return isinstance(b, tuple) and len(a) == len(b) and all(map(_same, a, b))
    return math.isclose(float(a), float(b), rel_tol=1e-9, abs_tol=1e-12)
