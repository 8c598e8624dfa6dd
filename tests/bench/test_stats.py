from __future__ import annotations

import numpy as np
import pytest

from vecbench.bench.stats import bootstrap_interval, percentile_ns, serial_qps


def test_a_percentile_is_a_value_that_was_measured() -> None:
    latencies = np.arange(1, 101, dtype=np.int64) ** 2
    assert percentile_ns(latencies, 50) == 51**2
    assert percentile_ns(latencies, 99) == 100**2
    assert percentile_ns(latencies.reshape(4, 25), 50) == 51**2  # of all rounds together


def test_serial_rate_is_queries_by_their_total_time() -> None:
    assert serial_qps(np.array([[1_000_000, 3_000_000], [500_000, 500_000]])).tolist() == [500.0, 2000.0]


def test_the_interval_of_a_mean_is_two_standard_errors_wide() -> None:
    values = np.random.default_rng(1).normal(10, 2, 400)
    low, high = bootstrap_interval(values)
    standard_error = values.std() / 20
    assert (high - low) / (2 * 1.96 * standard_error) == pytest.approx(1, abs=0.1)
    assert low < values.mean() < high
    assert bootstrap_interval(values) == (low, high)  # the same each time, so that a report can be verified


def test_about_95_of_100_intervals_hold_the_truth() -> None:
    random = np.random.default_rng(2)
    held = 0
    for _ in range(100):
        low, high = bootstrap_interval(random.exponential(1.0, 200))
        held += low <= 1.0 <= high
    assert 88 <= held <= 99


def test_many_values_are_resampled_in_parts() -> None:
    values = np.random.default_rng(3).normal(size=9000)
    low, high = bootstrap_interval(values, np.mean)
    assert (high - low) == pytest.approx(2 * 1.96 / np.sqrt(9000), rel=0.15)


def test_nothing_has_no_interval() -> None:
    assert np.isnan(bootstrap_interval(np.empty(0))).all()
