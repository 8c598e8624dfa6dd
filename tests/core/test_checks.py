"""What is refused at the border, with the row named, and what is let through unchanged."""

from __future__ import annotations

import enum
from typing import Any

import numpy as np
import pytest

from vecbench import Metric
from vecbench.checks import as_vectors, check_documents, check_ids, check_metadata
from vecbench.errors import DimensionMismatch, InvalidId, InvalidMetadata, InvalidVector

GOOD = np.ones((5, 3), np.float32)


def with_row(row: int, vector: list[float], n: int = 5) -> Any:
    array = np.ones((n, 3), np.float32)
    array[row] = vector
    return array


@pytest.mark.parametrize("metric", Metric)
@pytest.mark.parametrize("n", [1, 5])
@pytest.mark.parametrize("bad", [[1, np.nan, 1], [np.inf, 1, 1], [1, 1, -np.inf], [3e38, 3e38, 0], [1e19, 0, 0]])
def test_what_no_engine_can_compare_is_refused(metric: Metric, n: int, bad: list[float]) -> None:
    with pytest.raises(InvalidVector, match=f"row {n - 1}"):
        as_vectors(with_row(n - 1, bad, n), 3, metric)


@pytest.mark.parametrize("n", [1, 5])
@pytest.mark.parametrize("bad", [[0, 0, 0], [0, -0.0, 0], [1e-30, 0, 0]])
def test_zero_has_no_cosine_but_has_a_place(n: int, bad: list[float]) -> None:
    vectors = with_row(n - 1, bad, n)
    with pytest.raises(InvalidVector, match=f"row {n - 1}"):
        as_vectors(vectors, 3, Metric.COSINE)
    assert as_vectors(vectors, 3, Metric.EUCLIDEAN).tobytes() == vectors.tobytes()


@pytest.mark.parametrize("magnitude", [1e-18, 1e-6, 1e6, 1e18])
def test_ordinary_magnitudes_pass(magnitude: float) -> None:
    vectors = GOOD * np.float32(magnitude)
    assert np.shares_memory(as_vectors(vectors, 3, Metric.COSINE), vectors)


@pytest.mark.parametrize(
    "vectors",
    [np.ones((2, 4)), np.ones(4), np.ones((1, 1, 3)), [[1, 2, 3], [1, 2]], np.ones(()), [[1, 2]]],
)
def test_a_wrong_shape_is_a_dimension_mismatch(vectors: Any) -> None:
    with pytest.raises(DimensionMismatch):
        as_vectors(vectors, 3, Metric.EUCLIDEAN)


@pytest.mark.parametrize(
    "vectors", [["a", "b", "c"], np.array([["1", "2", "3"]]), [[1, 2, None]], np.ones((1, 3)) * 1j]
)
def test_what_is_no_number_is_refused(vectors: Any) -> None:
    with pytest.raises(InvalidVector):
        as_vectors(vectors, 3, Metric.EUCLIDEAN)


def test_vectors_are_cast_once_and_made_contiguous() -> None:
    for given in (
        np.ones((2, 3)),
        np.ones((2, 3), np.int8),
        [[1, 1, 1], [1, 1, 1]],
        np.ones((2, 6), np.float32)[:, ::2],
    ):
        out = as_vectors(given, 3, Metric.EUCLIDEAN)
        assert out.dtype == np.float32
        assert out.flags.c_contiguous
        assert out.tolist() == [[1, 1, 1], [1, 1, 1]]
    assert as_vectors([1, 2, 3], 3, Metric.EUCLIDEAN).shape == (1, 3)
    assert as_vectors(np.empty((0, 3)), 3, Metric.COSINE).shape == (0, 3)
    assert as_vectors([], 3, Metric.COSINE).shape == (0, 3)


@pytest.mark.parametrize("id_", ["", "x" * 513, "é" * 257, "a\0", "\ud800", 7, None, b"a"])
def test_bad_ids_name_their_row(id_: Any) -> None:
    with pytest.raises(InvalidId, match="row 1"):
        check_ids(["ok", id_])


def test_ids_at_the_limit_pass() -> None:
    check_ids(["x" * 512, "é" * 256, "'; drop table", "\n", " "])
    check_ids(["a", "a"], unique=False)
    check_ids([])
    with pytest.raises(InvalidId, match="rows 0 and 2"):
        check_ids(["a", "b", "a"])
    with pytest.raises(InvalidId, match="rows 0 and 1"):
        check_ids(["é", "é"])
    with pytest.raises(InvalidId, match="the string"):
        check_ids("abc")


class Colour(enum.IntEnum):
    RED = 1


@pytest.mark.parametrize(
    "value",
    [
        None,
        np.int64(1),
        np.float64(1),
        Colour.RED,
        {"a": 1},
        (1,),
        [1],
        ["a", None],
        2**63,
        -(2**63) - 1,
        float("nan"),
        float("inf"),
        "a\0",
        "\udc00",
        b"x",
        ["a\0"],
    ],
)
def test_bad_values_name_row_and_field(value: Any) -> None:
    with pytest.raises(InvalidMetadata, match="row 1, field 'x'"):
        check_metadata([{"x": 1}, {"x": value}])


@pytest.mark.parametrize("key", ["", 3, "a\0", "\ud800"])
def test_bad_keys_name_their_row(key: Any) -> None:
    with pytest.raises(InvalidMetadata, match="row 1"):
        check_metadata([{}, {key: 1}])


def test_good_metadata_passes() -> None:
    check_metadata([{"s": "é\n", "i": 2**63 - 1, "j": -(2**63), "f": -0.0, "b": True, "l": [], "m": ["", "x"]}, {}])
    with pytest.raises(InvalidMetadata, match="row 0"):
        check_metadata([None])  # type: ignore[list-item]  # the refusal is the point
    check_documents([None, "", "text"])
    for bad in (3, "a\0", b"x"):
        with pytest.raises(InvalidMetadata, match="row 1"):
            check_documents([None, bad])  # type: ignore[list-item]  # the refusal is the point
