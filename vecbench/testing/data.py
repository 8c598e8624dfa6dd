"""What the suite writes and asks: records, filters, and helpers that hold answers against the definition."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from hypothesis import strategies as st

from vecbench.capabilities import Tolerance
from vecbench.distance import paired_distances
from vecbench.filters import And, Contains, Eq, Exists, Filter, Gt, Gte, In, Lt, Lte, Ne, Not, NotIn, Or
from vecbench.types import Metric, Records, Vectors

__all__ = ["HOSTILE", "assert_distances", "field_values", "filters", "metadata_rows", "raw_vectors", "records"]

HOSTILE = (
    "'; drop table x; --",
    '" or ""="',
    "a) or (1=1",
    "{x}",
    "%s",
    "$ne",
    "* | @f:[0 1]",
    "\\",
    "`",
    "a.b",
    'a"b',
    "a[0]",
    "[]",
    "new\nline",
    "tab\t\x07\x1f",
    "ünïcödé 漢字 🙂",
    "0",
    "true",
    "null",
    " ",
    "-inf",
    "<script>",
    "../../etc",
)

_NAMES = ("a", "b.c", 'd"e', "漢")


def raw_vectors(n: int, dim: int, seed: int = 1) -> Vectors:
    """Vectors of very different lengths, so that the metrics rank differently; float32 (n, dim)."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, dim)) * rng.uniform(0.5, 2.0, size=(n, 1)) + rng.normal(size=dim) * 0.3
    return x.astype(np.float32)


def records(n: int, dim: int, seed: int = 1, *, prefix: str = "id") -> Records:
    """n records with every kind of value."""
    metadata: list[dict[str, Any]] = [
        {"n": i, "x": i / 7, "even": i % 2 == 0, "word": f"w{i % 5}", "tags": [f"t{i % 3}", "all"]} for i in range(n)
    ]
    return Records(
        [f"{prefix}{i}" for i in range(n)], raw_vectors(n, dim, seed), metadata, [f"text {i}" for i in range(n)]
    )


_numbers = st.one_of(
    st.integers(-3, 3),
    st.sampled_from([2**53, 2**53 + 1, -(2**53) - 1, 2**62, 2**63 - 1, -(2**63)]),
    st.floats(-3, 3, allow_nan=False).map(lambda x: round(x, 1)),
    st.sampled_from([1e300, -1e-300, 0.5, 9007199254740993.0]),
)
_words = st.one_of(st.sampled_from(["", "a", "A", "b c", "1", "true"]), st.sampled_from(HOSTILE))
_scalars = st.one_of(_numbers, _words, st.booleans())
field_values = st.one_of(_scalars, st.lists(_words, max_size=3))
metadata_rows = st.lists(st.dictionaries(st.sampled_from(_NAMES), field_values, max_size=4), min_size=25, max_size=25)
_name = st.sampled_from(_NAMES)
_leaves: st.SearchStrategy[Filter] = st.one_of(
    st.builds(Eq, _name, _scalars),
    st.builds(Ne, _name, _scalars),
    st.builds(Lt, _name, _numbers),
    st.builds(Lte, _name, _numbers),
    st.builds(Gt, _name, _numbers),
    st.builds(Gte, _name, _numbers),
    st.builds(In, _name, st.lists(_scalars, max_size=3)),
    st.builds(NotIn, _name, st.lists(_scalars, max_size=3)),
    st.builds(Contains, _name, _words),
    st.builds(Exists, _name),
)


def _wider(inner: st.SearchStrategy[Filter]) -> st.SearchStrategy[Filter]:
    parts = st.lists(inner, max_size=3).map(tuple)
    return st.one_of(st.builds(Not, inner), st.builds(And, parts), st.builds(Or, parts))


filters: st.SearchStrategy[Filter] = st.recursive(_leaves, _wider, max_leaves=6)


def assert_distances(
    queries: Vectors, vectors: Vectors, found: npt.NDArray[Any], metric: Metric, tolerance: Tolerance
) -> None:
    """Each distance found is the float64 one, within the tolerance that the store declares."""
    true = paired_distances(queries, vectors, metric)
    allowed = tolerance.absolute + tolerance.relative * np.abs(true)
    if metric is Metric.DOT:  # a dot product near zero is a difference of large terms
        allowed += tolerance.relative * np.linalg.norm(queries, axis=1) * np.linalg.norm(vectors, axis=1)
    wrong = np.abs(np.asarray(found, np.float64) - true) > allowed
    if metric is Metric.EUCLIDEAN:
        scale = np.square(queries).sum(axis=1) + np.square(vectors).sum(axis=1)
        wrong &= np.abs(np.square(found) - np.square(true)) > (
            tolerance.squared_euclidean * scale + tolerance.squared_absolute
        )
    assert not wrong.any(), f"{metric}: got {found[wrong][:3]}, true {true[wrong][:3]}"
