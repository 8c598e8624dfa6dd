"""Figures from raw values: percentiles, and intervals by the bootstrap."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["bootstrap_interval", "percentile_ns"]

_RESAMPLES = 1000


def percentile_ns(latencies_ns: npt.NDArray[np.int64], percent: float) -> float:
    """The percentile of raw latencies: a value that was measured, not an interpolation between two."""
    return float(np.percentile(latencies_ns, percent, method="higher"))


def bootstrap_interval(
    values: npt.NDArray[Any], figure: Callable[..., Any] = np.mean, *, seed: int = 1
) -> tuple[float, float]:
    """The 95 % percentile-bootstrap interval of a figure over `values` (Efron and Tibshirani, 1993, chapter 13)."""
    if len(values) == 0:
        return float("nan"), float("nan")
    picks = np.random.default_rng(seed).integers(0, len(values), (_RESAMPLES, len(values)))
    low, high = np.percentile(figure(values[picks], axis=1), [2.5, 97.5])
    return float(low), float(high)
