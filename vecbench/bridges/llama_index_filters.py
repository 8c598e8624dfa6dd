"""LlamaIndex's metadata filters as filters of ours."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from vecbench.bridges.shared import all_of, any_of
from vecbench.errors import MissingDependency, UnsupportedFilter
from vecbench.filters import Contains, Eq, Exists, Filter, Gt, Gte, In, Lt, Lte, Ne, Not, NotIn

try:
    from llama_index.core.vector_stores.types import FilterCondition, FilterOperator, MetadataFilter, MetadataFilters
except ImportError as error:
    raise MissingDependency("The bridge to LlamaIndex", module="llama_index.core", extra="llama-index") from error

__all__ = ["from_llama_index_filters"]

_COMPARE: dict[FilterOperator, Callable[[str, Any], Filter]] = {
    FilterOperator.EQ: Eq,
    FilterOperator.NE: Ne,
    FilterOperator.GT: Gt,
    FilterOperator.GTE: Gte,
    FilterOperator.LT: Lt,
    FilterOperator.LTE: Lte,
    FilterOperator.IN: In,
    FilterOperator.NIN: NotIn,
    FilterOperator.CONTAINS: Contains,
}


def from_llama_index_filters(given: MetadataFilters | None) -> Filter | None:
    """The filters, nested ones too, as one of ours; None where there are none.

    `any` and `all` test lists of strings; NOT means that none of its filters holds. Text matching and `is_empty` on
    anything but a missing key have no counterpart: `UnsupportedFilter`.
    """
    if given is None or not given.filters:
        return None
    parts = [
        _single(part) if isinstance(part, MetadataFilter) else from_llama_index_filters(part) for part in given.filters
    ]
    kept = [part for part in parts if part is not None]
    if not kept:
        return None
    match given.condition:
        case FilterCondition.OR:
            return any_of(kept)
        case FilterCondition.NOT:
            return Not(any_of(kept))
        case FilterCondition.AND | None:
            return all_of(kept)
    raise UnsupportedFilter(f"unknown filter condition {given.condition!r}")


def _single(part: MetadataFilter) -> Filter:
    key, value, operator = part.key, part.value, part.operator
    if operator in _COMPARE:
        return _COMPARE[operator](key, value)
    if operator in {FilterOperator.ANY, FilterOperator.ALL}:
        if not isinstance(value, list) or not value:
            raise UnsupportedFilter(f"field {key!r}: {operator.value} takes a list of strings, got {value!r}")
        parts = [Contains(key, item) for item in value]  # type: ignore[arg-type]  # checked by Contains
        return any_of(parts) if operator is FilterOperator.ANY else all_of(parts)
    if operator is FilterOperator.IS_EMPTY:
        # A list without items cannot be told from one with some by any operator of ours, a missing key can.
        return any_of([Not(Exists(key)), Eq(key, "")])
    raise UnsupportedFilter(
        f"field {key!r}: the operator {operator.value!r} searches inside text, which a metadata filter cannot"
    )
