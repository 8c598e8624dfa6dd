"""Figures from raw values: percentiles, and intervals by the bootstrap."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["bootstrap_interval", "percentile_ns", "serial_qps"]

_RESAMPLES = 1000
_PICKS_AT_ONCE = 4_000_000  # 32 MB of positions


def percentile_ns(latencies_ns: npt.NDArray[np.int64], percent: float) -> float:
    """The percentile of raw latencies: a value that was measured, not an interpolation between two."""
    return float(np.percentile(latencies_ns, percent, method="higher"))


def serial_qps(latencies_ns: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Queries per second of one client that asks one query at a time, over the last axis: n / Σ latencies."""
    return np.asarray(latencies_ns.shape[-1] / (latencies_ns.sum(axis=-1) / 1e9))


def bootstrap_interval(
    values: npt.NDArray[Any], figure: Callable[..., Any] = np.mean, *, seed: int = 1
) -> tuple[float, float]:
    """The 95 % percentile-bootstrap interval of a figure over `values` (Efron and Tibshirani, 1993, chapter 13).

    values: (n,) or (n, …); what is drawn with replacement is the first axis. figure: takes an array (resamples, n, …)
    and `axis=1`, and gives one figure a resample. NaN where there are no values.
    """
    n = len(values)
    if n == 0:
        return float("nan"), float("nan")
    random = np.random.default_rng(seed)
    step = max(1, _PICKS_AT_ONCE // values.size)
    parts = [
        figure(values[random.integers(0, n, (min(step, _RESAMPLES - start), n))], axis=1)
        for start in range(0, _RESAMPLES, step)
    ]
    low, high = np.percentile(np.concatenate(parts), [2.5, 97.5])
    return float(low), float(high)
