"""Filters over tokens and numbers select what the reference evaluator selects."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given, settings

from vecbench.filters import And, Contains, Eq, Exists, Filter, Gt, In, Lt, Lte, Not, Or, matches
from vecbench.testing.data import HOSTILE, filters, metadata_rows
from vecbench.typed import Bound, all_keys, dump_metadata, load_metadata, number_key, numbers, tokens, translate
from vecbench.types import Metadata

Test = Callable[[Metadata], bool]


class Plain:
    """The five conditions as Python functions."""

    def any_token(self, wanted: Sequence[str]) -> Test:
        assert wanted
        return lambda m: not set(wanted).isdisjoint(tokens(m))

    def no_token(self, wanted: Sequence[str]) -> Test:
        assert wanted
        return lambda m: set(wanted).isdisjoint(tokens(m))

    def number(self, key: str, bound: Bound, value: float) -> Test:
        compare = {"lt": float.__lt__, "lte": float.__le__, "gt": float.__gt__, "gte": float.__ge__}[bound]
        return lambda m: key in numbers(m) and compare(numbers(m)[key], value)

    def all_of(self, parts: Sequence[Test]) -> Test:
        assert len(parts) > 1
        return lambda m: all(part(m) for part in parts)

    def any_of(self, parts: Sequence[Test]) -> Test:
        assert len(parts) > 1
        return lambda m: any(part(m) for part in parts)


@settings(max_examples=400, deadline=None)
@given(metadata_rows, filters)
def test_a_translated_filter_selects_what_the_reference_selects(rows: list[dict[str, Any]], where: Filter) -> None:
    selects = translate(where, Plain())
    assert [selects(row) for row in rows] == [matches(where, row) for row in rows]


@pytest.mark.parametrize("bound", [2**53, 2**53 + 1, 2**62 + 1, 2**63 - 1, -(2**63), 10**400, -(10**400)])
def test_integers_beyond_float64_are_compared_whole(bound: int) -> None:
    rows: list[Metadata] = [
        {"x": v} for v in (2**53 - 1, 2**53, 2**53 + 1, 2**62, 2**62 + 1, 2**63 - 1, -(2**63), 0, 1e300, True, "1")
    ]
    for where in (Lt("x", bound), Lte("x", bound), Gt("x", bound), Not(Gt("x", bound)), Eq("x", bound)):
        selects = translate(where, Plain())
        assert [selects(row) for row in rows] == [matches(where, row) for row in rows]


def test_tokens_are_plain_text_and_tell_everything_apart() -> None:
    rows: list[Metadata] = [{text: other} for text in HOSTILE for other in HOSTILE]
    rows += [{"a": v} for v in (1, True, "1", "true", ["1"], 1.5)] + [{"a=b": "c"}, {"a": "b=c"}, {"a": "x" * 500}]
    equal = [next(t for t in tokens(row) if not t.startswith("has")) for row in rows]
    assert all(token.isascii() and token.isprintable() and len(token) <= 120 for row in rows for token in tokens(row))
    assert len({tuple(tokens(row)) for row in rows}) == len(rows)
    assert len(equal) == len(rows)
    assert tokens({"a": 5}) == tokens({"a": 5.0})


def test_empty_lists_mean_nothing_and_everything() -> None:
    row = {"a": 1}
    for where, expected in ((In("a", []), False), (Not(In("a", [])), True), (And(()), True), (Or(()), False)):
        assert translate(where, Plain())(row) is expected
    assert translate(Exists("a"), Plain())(row)
    assert not translate(Contains("a", "1"), Plain())(row)


def test_metadata_comes_back_with_its_types() -> None:
    row: Metadata = {"i": 3, "f": 3.0, "b": True, "s": "3", "l": ["a"], "big": 2**63 - 1}
    assert repr(load_metadata(dump_metadata(row))) == repr(row)
    assert load_metadata(None) == {}


def test_keys_of_numbers_are_letters_and_digits() -> None:
    assert number_key("n", "a.b c") == "n_612e622063"
    assert all_keys([{"a": 1}, {"b": "x"}, {"a": 2**53 + 1}]) == {number_key("n", "a"), number_key("r", "a")}
