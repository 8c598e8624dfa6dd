"""Haystack's filter dictionaries as filters of ours, and its nested metadata as flat metadata."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from vecbench.bridges.shared import HIDDEN, all_of, any_of, visible
from vecbench.errors import MissingDependency, VecbenchError
from vecbench.filters import Eq, Exists, Filter, Gt, Gte, In, Lt, Lte, Not
from vecbench.types import Metadata, MetadataValue

try:
    from haystack.document_stores.errors import DocumentStoreError
    from haystack.errors import FilterError
except ImportError as error:
    raise MissingDependency("The bridge to Haystack", module="haystack", extra="haystack") from error

__all__ = ["flat_meta", "from_haystack_filters", "nested_meta"]

_META, _TIME = f"{HIDDEN}meta", f"{HIDDEN}time:"
_RANGE: dict[str, Callable[[str, float], Filter]] = {">": Gt, ">=": Gte, "<": Lt, "<=": Lte}


def from_haystack_filters(given: Mapping[str, Any] | None) -> Filter | None:
    """A filter of ours for Haystack's; None for none. FilterError names the part that is malformed or has no like.

    Comparisons of times need ISO 8601 on both sides, as in Haystack's own; equality compares strings as they are.
    Fields are metadata, `meta.year` or `year`; the document's own fields (id, content, score) cannot be filtered by.
    """
    if not given:
        return None
    try:
        return _filter(given)
    except VecbenchError as e:  # what our own algebra refuses: an operand of the wrong type
        raise FilterError(str(e)) from e


def _filter(given: Any) -> Filter:
    if not isinstance(given, Mapping):
        raise FilterError(f"a filter is a dictionary, got {given!r}")
    if "field" in given:
        return _comparison(given)
    for key in ("operator", "conditions"):
        if key not in given:
            raise FilterError(f"{key!r} is missing in {dict(given)!r}")
    operator, conditions = given["operator"], given["conditions"]
    if not isinstance(conditions, list | tuple) or operator not in {"AND", "OR", "NOT"}:
        raise FilterError(f"a logical filter has operator AND, OR or NOT and a list of conditions, got {dict(given)!r}")
    parts = [_filter(part) for part in conditions]
    if operator == "OR":
        return any_of(parts)
    return Not(all_of(parts)) if operator == "NOT" else all_of(parts)


def _comparison(given: Mapping[str, Any]) -> Filter:
    for key in ("operator", "value"):
        if key not in given:
            raise FilterError(f"{key!r} is missing in {dict(given)!r}")
    field, operator, value = str(given["field"]).removeprefix("meta."), given["operator"], given["value"]
    if field in {"id", "content", "blob", "score", "embedding", "sparse_embedding", "meta"}:
        raise FilterError(f"the document's own field {field!r} cannot be filtered by; metadata can")
    if operator in {"==", "!="}:
        found: Filter = Not(Exists(field)) if value is None else Eq(field, value)
        return found if operator == "==" else Not(found)
    if operator in {"in", "not in"}:
        if not isinstance(value, list):
            raise FilterError(f"field {field!r}: {operator!r} takes a list, got {type(value).__name__}")
        parts: list[Filter] = [In(field, [item for item in value if item is not None])]
        if None in value:
            parts.append(Not(Exists(field)))
        found = any_of(parts)
        return found if operator == "in" else Not(found)
    if operator in _RANGE:
        if value is None:
            return In(field, ())  # Haystack: nothing can be compared with None, so nothing matches
        if isinstance(value, str | datetime):
            seconds = _seconds(value)
            if seconds is None:
                raise FilterError(f"field {field!r}: {operator} compares numbers or ISO 8601 times, got {value!r}")
            return _RANGE[operator](_TIME + field, seconds)
        return _RANGE[operator](field, value)
    raise FilterError(f"field {field!r}: unknown operator {operator!r}; known: == != > >= < <= in, not in")


def flat_meta(meta: Mapping[str, Any], where: str) -> dict[str, MetadataValue]:
    """Flat metadata for Haystack's: nested keys joined by dots, times also as numbers, so that they can be compared.

    What is not flat (None, lists of other things than strings, nesting) is kept whole as JSON under a hidden key.
    DocumentStoreError, naming `where`, for what JSON cannot hold.
    """
    out: dict[str, MetadataValue] = {}
    lossless = _flatten("", meta, out)
    for key, value in list(out.items()):
        if isinstance(value, str) and (seconds := _seconds(value)) is not None:
            out[_TIME + key] = seconds
    if not lossless:
        try:
            out[_META] = json.dumps(meta)
        except TypeError as e:
            raise DocumentStoreError(f"{where}: its meta cannot be kept as JSON: {e}") from e
    return out


def nested_meta(metadata: Metadata | None) -> dict[str, Any]:
    """The metadata as Haystack gave it."""
    kept = (metadata or {}).get(_META)
    return dict(json.loads(kept)) if isinstance(kept, str) else visible(metadata)


def _flatten(prefix: str, meta: Mapping[str, Any], out: dict[str, MetadataValue]) -> bool:
    lossless = not prefix
    for key, value in meta.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            _flatten(f"{name}.", value, out)
            lossless = False
        elif type(value) in {str, int, float, bool} or (
            type(value) is list and all(type(item) is str for item in value)
        ):
            out[name] = value
        else:
            lossless = False
    return lossless


def _seconds(value: str | datetime) -> float | None:
    """Seconds since 1970 of an ISO 8601 time, UTC where it names no zone; None for what is none."""
    if isinstance(value, str):
        if len(value) < 10 or not value[:4].isdigit():  # "100" is a page, not a year
            return None
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            return None
    return (value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp()
