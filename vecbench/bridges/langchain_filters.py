"""LangChain's dictionary filters, as its stores for MongoDB, PGVector and Pinecone take them, as filters of ours."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from vecbench.bridges.shared import all_of, any_of
from vecbench.errors import UnsupportedFilter
from vecbench.filters import Contains, Eq, Exists, Filter, Gt, Gte, In, Lt, Lte, Ne, Not, NotIn

__all__ = ["from_langchain_filter"]

_COMPARE: dict[str, Callable[[str, Any], Filter]] = {
    "$eq": Eq,
    "$ne": Ne,
    "$gt": Gt,
    "$gte": Gte,
    "$lt": Lt,
    "$lte": Lte,
    "$in": In,
    "$nin": NotIn,
    "$contains": Contains,
}


def from_langchain_filter(given: object) -> Filter:
    """A dictionary filter as a filter of ours; `UnsupportedFilter`, naming the part, for anything that it is not.

    `{"year": 2020}` is equality; `{"year": {"$gte": 2020, "$lt": 2024}}` takes $eq $ne $gt $gte $lt $lte $in $nin
    $contains $exists; `$and`, `$or` take lists and `$not` a filter. Several keys must all hold.
    """
    if not isinstance(given, Mapping) or not given:
        raise UnsupportedFilter(f"a filter is a dictionary with at least one key, got {given!r}")
    return all_of([_part(key, value) for key, value in given.items()])


def _part(key: object, value: Any) -> Filter:
    if key in {"$and", "$or"}:
        if not isinstance(value, list | tuple) or not value:
            raise UnsupportedFilter(f"{key} takes a list of filters, at least one, got {value!r}")
        parts = [from_langchain_filter(part) for part in value]
        return all_of(parts) if key == "$and" else any_of(parts)
    if key == "$not":
        return Not(from_langchain_filter(value))
    if not isinstance(key, str) or key.startswith("$"):
        raise UnsupportedFilter(f"unknown operator {key!r}; known are $and, $or and $not beside fields")
    if not isinstance(value, Mapping):
        return Eq(key, value)
    if not value:
        raise UnsupportedFilter(f"field {key!r}: an empty condition says nothing; leave the field out")
    return all_of([_condition(key, operator, operand) for operator, operand in value.items()])


def _condition(field: str, operator: object, operand: Any) -> Filter:
    if operator == "$exists":
        if not isinstance(operand, bool):
            raise UnsupportedFilter(f"field {field!r}: $exists takes true or false, got {operand!r}")
        return Exists(field) if operand else Not(Exists(field))
    if operator == "$not":
        return Not(_part(field, operand))
    if not isinstance(operator, str) or operator not in _COMPARE:
        known = ", ".join([*_COMPARE, "$exists", "$not"])
        raise UnsupportedFilter(f"field {field!r}: unknown operator {operator!r}; known are {known}")
    if operator in {"$in", "$nin"} and not isinstance(operand, list | tuple | set | frozenset):
        raise UnsupportedFilter(f"field {field!r}: {operator} takes a list of values, got {operand!r}")
    return _COMPARE[operator](field, list(operand) if operator in {"$in", "$nin"} else operand)
