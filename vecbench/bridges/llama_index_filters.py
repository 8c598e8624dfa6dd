"""LlamaIndex's metadata filters as filters of ours."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from vecbench.bridges.shared import HIDDEN, all_of, any_of
from vecbench.errors import MissingDependency, UnsupportedFilter
from vecbench.filters import Contains, Eq, Exists, Filter, Gt, Gte, In, Lt, Lte, Ne, Not, NotIn

try:
    from llama_index.core.vector_stores.types import FilterCondition, FilterOperator, MetadataFilter, MetadataFilters
except ImportError as error:
    raise MissingDependency("The bridge to LlamaIndex", module="llama_index.core", extra="llama-index") from error

__all__ = ["DOCUMENT", "EMPTY", "from_llama_index_filters"]

DOCUMENT = f"{HIDDEN}ref_doc"
"""The key of the document that a node is from."""

EMPTY = f"{HIDDEN}empty"
"""The key of a list of those keys of the node that hold empty lists, which no operator of ours can tell."""

# Under these names LlamaIndex writes a node's document into the metadata of its own stores, over what was there.
_DOCUMENT_NAMES = frozenset({"doc_id", "ref_doc_id", "document_id"})

_COMPARE: dict[FilterOperator, Callable[[str, Any], Filter]] = {
    FilterOperator.EQ: Eq,
    FilterOperator.NE: Ne,
    FilterOperator.GT: Gt,
    FilterOperator.GTE: Gte,
    FilterOperator.LT: Lt,
    FilterOperator.LTE: Lte,
    FilterOperator.IN: In,
    FilterOperator.NIN: NotIn,
}


def from_llama_index_filters(given: MetadataFilters | None) -> Filter | None:
    """The filters, nested ones too, as one of ours; None where there are none.

    `contains`, `any` and `all` test lists of strings, as LlamaIndex defines them; a single string counts as a list of
    one, and nothing searches inside it (LlamaIndex's SimpleVectorStore does). NOT means that none of its filters holds.
    `doc_id`, `ref_doc_id` and `document_id` mean the document that the node is from. `is_empty` finds a missing key, ""
    and, of nodes written by this bridge, []. Text matching has no counterpart: `UnsupportedFilter`.
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
    value, operator = part.value, part.operator
    key = DOCUMENT if part.key in _DOCUMENT_NAMES else part.key
    if operator in _COMPARE:
        return _COMPARE[operator](key, value)
    if operator is FilterOperator.CONTAINS:
        return _holds(key, value)
    if operator in {FilterOperator.ANY, FilterOperator.ALL}:
        if not isinstance(value, list) or not value:
            raise UnsupportedFilter(f"field {part.key!r}: {operator.value} takes a list of strings, got {value!r}")
        parts = [_holds(key, item) for item in value]
        return any_of(parts) if operator is FilterOperator.ANY else all_of(parts)
    if operator is FilterOperator.IS_EMPTY:
        return any_of([Not(Exists(key)), Eq(key, ""), Contains(EMPTY, key)])
    raise UnsupportedFilter(
        f"field {part.key!r}: the operator {operator.value!r} searches inside text, which a metadata filter cannot"
    )


def _holds(key: str, value: Any) -> Filter:
    return any_of([Contains(key, value), Eq(key, value)])
