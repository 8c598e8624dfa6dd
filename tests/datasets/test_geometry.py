"""Figures on constructions whose answers are known."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from vecbench import geometry
from vecbench.dataset import Dataset
from vecbench.geometry import duplicate_rate, local_dimensions, measure


def ball(random: np.random.Generator, n: int, d: int) -> npt.NDArray[np.float64]:
    """n points uniform in the d-dimensional unit ball."""
    points: npt.NDArray[np.float64] = random.normal(size=(n, d))
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    points *= random.random((n, 1)) ** (1 / d)
    return points


@pytest.mark.parametrize("d", [1, 2, 4, 8])
def test_lid_of_points_in_a_ball_is_its_dimension(d: int) -> None:
    random = np.random.default_rng(d)
    turn, _ = np.linalg.qr(random.normal(size=(16, 16)))  # the ball lies askew in 16 dimensions
    base = ball(random, 20_000, d) @ turn[:d]
    queries = ball(random, 100, d) @ turn[:d] * 0.3  # far from the edge, where the balls around a query are whole
    figures = measure(Dataset.from_arrays("ball", base, queries))
    assert figures.lid_median is not None
    assert figures.lid_median == pytest.approx(d, rel=0.1)
    assert figures.lid_k == 100
    assert figures.lid_undefined == 0
    assert figures.lid_p10 is not None
    assert figures.lid_p90 is not None
    assert figures.lid_p10 < figures.lid_median < figures.lid_p90


def test_lid_is_exact_where_distances_are_given() -> None:
    # Radii e^-3, e^-2, e^-1, 1: the mean of ln(r/r_k) is −2, so the dimension is one half.
    radii = np.exp([-3.0, -2.0, -1.0, 0.0])
    assert local_dimensions(radii[None, :] * 7)[0] == pytest.approx(0.5, rel=1e-12)


def test_copies_of_the_query_do_not_count_as_dimension() -> None:
    radii = np.exp([-3.0, -2.0, -1.0, 0.0])
    with_copies = np.concatenate([[0.0, 0.0, 0.0], radii])
    assert local_dimensions(with_copies[None, :])[0] == pytest.approx(0.5, rel=1e-12)


@pytest.mark.parametrize("row", [[0.0, 0.0, 0.0], [0.0, 0.0, 1.0], [2.0, 2.0, 2.0], [1.0]])
def test_lid_is_undefined_where_radii_do_not_differ(row: list[float]) -> None:
    assert np.isnan(local_dimensions(np.array([row]))[0])


def test_undefined_queries_are_counted_and_left_out() -> None:
    base = np.concatenate([np.tile([[5.0, 5.0]], (150, 1)), [[np.exp(i), 0.0] for i in range(10)]])
    figures = measure(Dataset.from_arrays("copies", base, [[5.0, 5.0], [0.0, 0.0]]), k=10)
    assert figures.lid_undefined == 1
    # From the origin: radii e^0 … e^9, but the 150 copies at 7.07 push all beyond e^1 out of the ten nearest.
    expected = -1 / np.mean([np.log(1 / 50**0.5), np.log(np.e / 50**0.5), *[0.0] * 7])
    assert figures.lid_median == pytest.approx(expected, rel=1e-6)


def test_figures_of_a_base_of_copies_only_are_undefined_not_wrong() -> None:
    figures = measure(Dataset.from_arrays("same", np.ones((20, 3)), np.ones((2, 3))))
    assert (figures.lid_median, figures.contrast_1, figures.contrast_10) == (None, None, None)
    assert figures.lid_undefined == 2
    assert figures.duplicate_rate == 19 / 20
    assert "LID –" in figures.describe()


def test_contrast_is_the_mean_distance_over_the_nearest() -> None:
    # From the origin: one row at 1, eight at 2, one at 3, ten at 9.
    base = [[1.0, 0], *[[0, 2.0]] * 8, [3.0, 0], *[[-9.0, 0]] * 10]
    figures = measure(Dataset.from_arrays("contrast", base, [[0.0, 0.0]]))
    mean = (1 + 8 * 2 + 3 + 10 * 9) / 20
    assert figures.contrast_1 == pytest.approx(mean, rel=1e-6)
    assert figures.contrast_10 == pytest.approx(mean / 3, rel=1e-6)
    assert figures.overlap_10 is None, "the query is zero and has no cosine distance"
    assert measure(Dataset.from_arrays("few", base[:9], [[0.0, 0.0]])).contrast_10 is None


def test_norms() -> None:
    base = np.zeros((101, 2))
    base[:, 1] = np.arange(101)
    figures = measure(Dataset.from_arrays("norms", base, [[1.0, 0.0]]))
    assert (figures.norm_p5, figures.norm_median, figures.norm_p95) == pytest.approx((5, 50, 95), rel=1e-6)
    assert figures.norm_cv == pytest.approx((850**0.5) / 50, rel=1e-6)  # Var of 0 … 100 is (101² − 1)/12 = 850


def test_overlap_is_one_on_a_sphere_and_none_of_ten_where_length_decides() -> None:
    random = np.random.default_rng(3)
    sphere = random.normal(size=(500, 8))
    sphere /= np.linalg.norm(sphere, axis=1, keepdims=True)
    assert measure(Dataset.from_arrays("sphere", sphere, sphere[:20] * 3)).overlap_10 == 1.0
    # Ten rows point as the query does but are far; ten are near but point elsewhere.
    base = [*[[100.0 + i, 0.0] for i in range(10)], *[[1.0, 1.0 + i / 100] for i in range(10)]]
    assert measure(Dataset.from_arrays("apart", base, [[1.0, 0.0]])).overlap_10 == 0.0


def test_duplicate_rate_is_exact() -> None:
    random = np.random.default_rng(4)
    distinct = random.normal(size=(250, 5)).astype(np.float32)
    assert duplicate_rate(distinct) == 0.0
    assert duplicate_rate(random.permutation(np.repeat(distinct, 4, axis=0))) == 0.75
    assert duplicate_rate(np.concatenate([distinct, distinct[:7]])) == 7 / 257
    swapped = np.array([[1, 2], [2, 1], [-1, -2], [0.0, 1], [-0.0, 1]], np.float32)
    assert duplicate_rate(swapped) == 1 / 5, "0 and −0 are equal"


def test_rows_whose_hashes_meet_are_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(geometry, "_multipliers", lambda dim: np.ones(dim, np.uint64))
    rows = np.array([[1, 2, 3], [3, 2, 1], [2, 1, 3], [3, 2, 1]], np.float32)
    assert duplicate_rate(rows) == 1 / 4


@pytest.mark.parametrize(("n", "used"), [(100, 500), (5_000, 200), (50_000, 50)])
def test_of_a_larger_data_set_fewer_queries_are_used(n: int, used: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(geometry, "_BUDGET", 1_000_000)
    base = np.random.default_rng(5).normal(size=(n, 2)).astype(np.float32)
    figures = measure(Dataset.from_arrays("large", base, base[:1] + np.ones((600, 1), np.float32)))
    assert figures.queries_used == used
    assert figures.n_base == n
