"""The filter algebra's meaning, as laws that hold for any record and any filter."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vecbench import And, Contains, Eq, Exists, F, Gt, Gte, In, Lt, Lte, Ne, Not, NotIn, Or, VecbenchError
from vecbench.errors import UnsupportedFilter
from vecbench.filters import OPERATORS, Filter, fields, matches, operators

scalars = st.one_of(st.text(max_size=3), st.integers(-3, 3), st.floats(-3, 3, allow_nan=False), st.booleans())
values = st.one_of(scalars, st.lists(st.text(max_size=2), max_size=3))
records = st.dictionaries(st.sampled_from("abc"), values, max_size=3)
names = st.sampled_from("abc")
numbers = st.one_of(st.integers(-3, 3), st.floats(-3, 3, allow_nan=False))
leaves: st.SearchStrategy[Filter] = st.one_of(
    st.builds(Eq, names, scalars),
    st.builds(Ne, names, scalars),
    st.builds(Lt, names, numbers),
    st.builds(Lte, names, numbers),
    st.builds(Gt, names, numbers),
    st.builds(Gte, names, numbers),
    st.builds(In, names, st.lists(scalars, max_size=3)),
    st.builds(NotIn, names, st.lists(scalars, max_size=3)),
    st.builds(Contains, names, st.text(max_size=2)),
    st.builds(Exists, names),
)
filters: st.SearchStrategy[Filter] = st.recursive(
    leaves,
    lambda inner: st.one_of(st.builds(Not, inner), st.tuples(inner, inner).map(And), st.tuples(inner, inner).map(Or)),
)


@given(filters, records)
def test_not_is_the_exact_complement(where: Filter, record: dict[str, Any]) -> None:
    assert matches(Not(where), record) is not matches(where, record)


@given(filters, filters, records)
def test_de_morgan(a: Filter, b: Filter, record: dict[str, Any]) -> None:
    assert matches(~(a & b), record) == matches(~a | ~b, record)


@given(names, scalars, records)
def test_ne_and_nin_negate_eq_and_in(name: str, value: Any, record: dict[str, Any]) -> None:
    assert matches(Ne(name, value), record) is not matches(Eq(name, value), record)
    assert matches(NotIn(name, [value]), record) is not matches(In(name, [value]), record)
    assert matches(In(name, [value]), record) is matches(Eq(name, value), record)


@given(leaves)
def test_a_record_without_the_key_fails_every_positive_test(leaf: Filter) -> None:
    assert matches(leaf, {}) is isinstance(leaf, Ne | NotIn)


@pytest.mark.parametrize(
    ("where", "held", "expected"),
    [
        (F("x") == 1, True, False),
        (F("x") == True, 1, False),  # noqa: E712  the operator builds a filter
        (F("x") == 1, 1.0, True),
        (F("x") == 2**53, 2**53 + 1, False),
        (F("x") == "1", 1, False),
        (F("x") == "a", ["a"], False),
        (F("x") > 0, True, False),
        (F("x") > 0, "1", False),
        (~(F("x") > 0), "1", True),
        (F("x") >= 2, 2, True),
        (F("x") < 2, 2, False),
        (F("x") <= 2.5, 2, True),
        (F("x").contains("a"), ["b", "a"], True),
        (F("x").contains("a"), "a", False),
        (F("x").isin([]), 1, False),
        (F("x").notin([]), 1, True),
        (F("x").exists(), [], True),
        (F("y").exists(), 1, False),
        (And(()), 1, True),
        (Or(()), 1, False),
    ],
)
def test_pinned_cases(where: Filter, held: Any, expected: bool) -> None:
    assert matches(where, {"x": held}) is expected


@pytest.mark.parametrize(
    "make",
    [
        lambda: Eq("", 1),
        lambda: Eq("x", None),  # type: ignore[arg-type]  # the refusal is the point
        lambda: Eq("x", ["a"]),  # type: ignore[arg-type]  # the refusal is the point
        lambda: Eq("x", math.nan),
        lambda: Gt("x", "a"),  # type: ignore[arg-type]  # the refusal is the point
        lambda: Gt("x", True),
        lambda: In("x", "abc"),
        lambda: Contains("x", 1),  # type: ignore[arg-type]  # the refusal is the point
    ],
)
def test_what_cannot_be_meant_is_refused_when_it_is_written(make: Any) -> None:
    with pytest.raises(UnsupportedFilter):
        make()


def test_operators_and_fields_see_the_whole_tree() -> None:
    where = ((F("a") >= 1) & ~F("b").contains("x")) | F("c").isin([1]) | F("d").exists()
    assert fields(where) == {"a", "b", "c", "d"}
    assert operators(where) == {"or", "and", "gte", "not", "contains", "in", "exists"}
    assert operators(where) <= OPERATORS


def test_a_foreign_object_is_no_filter() -> None:
    with pytest.raises(VecbenchError, match="dict"):
        operators({"year": {"$gt": 3}})  # type: ignore[arg-type]  # the refusal is the point
