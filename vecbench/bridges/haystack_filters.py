"""Haystack's filter dictionaries as filters of ours, and its nested metadata as flat metadata."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from vecbench.bridges.shared import HIDDEN, all_of, any_of, visible
from vecbench.checks import check_ids
from vecbench.errors import InvalidId, MissingDependency, VecbenchError
from vecbench.filters import And, Eq, Exists, Filter, Gt, Gte, In, Lt, Lte, Not, Or
from vecbench.types import Metadata, MetadataValue

try:
    from haystack.document_stores.errors import DocumentStoreError
    from haystack.errors import FilterError
except ImportError as error:
    raise MissingDependency("The bridge to Haystack", module="haystack", extra="haystack") from error

__all__ = ["flat_meta", "from_haystack_filters", "ids_asked", "nested_meta", "updated_meta"]

_META = f"{HIDDEN}meta"  # the whole meta as JSON, where it is not flat
_HELD = f"{HIDDEN}held:"  # the field has a value that is not under its own key: a dictionary, a mixed list
# Of a field that holds a time: seconds since 1970, a time without zone taken as UTC's; the same again where it has no
# zone; what the clock shows there, as if it were UTC, where it has another zone than UTC.
_TIME, _NAIVE, _WALL = f"{HIDDEN}time:", f"{HIDDEN}naive:", f"{HIDDEN}wall:"
_OWN_FIELDS = {"id", "content", "blob", "score", "embedding", "sparse_embedding", "meta"}
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}(?:[Tt ].*)?", re.ASCII | re.DOTALL)
_Test = Callable[[str, float], Filter]
_RANGE: dict[str, _Test] = {">": Gt, ">=": Gte, "<": Lt, "<=": Lte}


def ids_asked(given: Mapping[str, Any] | None) -> list[str] | None:
    """The ids that a filter asks for which is nothing but a test of the document's id by == or in; None for another.

    What cannot be an id is left out: no document has it.
    """
    if not isinstance(given, Mapping) or given.get("field") != "id" or "value" not in given:
        return None
    operator, value = given.get("operator"), given["value"]
    if operator == "==":
        value = [value]
    elif operator != "in" or not isinstance(value, list):
        return None
    return [item for item in value if _is_id(item)]


def _is_id(value: object) -> bool:
    try:
        check_ids([value])  # type: ignore[list-item]  # it tells what is none
    except InvalidId:
        return False
    return True


def from_haystack_filters(given: Mapping[str, Any] | None) -> Filter | None:
    """A filter of ours for Haystack's; None for none. FilterError names the part that is malformed or has no like.

    Times in ISO 8601 are compared as times, of equality too where the date is written YYYY-MM-DD; one without zone is
    taken in the zone of the other, as Haystack does. Fields are metadata, `meta.year` or `year`; the document's own
    fields (id, content, score) cannot be filtered by, see `ids_asked` for the one use of an id.
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
    name, operator, value = str(given["field"]), given["operator"], given["value"]
    if name in _OWN_FIELDS:
        raise FilterError(
            f"the document's own field {name!r} cannot be filtered by; metadata can, and `id` as the whole of a filter "
            "that is no search's, by == or in"
        )
    field = name.removeprefix("meta.")
    if operator in {"==", "!="}:
        found = _equal(field, value)
        return found if operator == "==" else Not(found)
    if operator in {"in", "not in"}:
        if not isinstance(value, list):
            raise FilterError(f"field {field!r}: {operator!r} takes a list, got {type(value).__name__}")
        plain = [item for item in value if item is not None and _date(item) is None]
        others = [_equal(field, item) for item in value if item is None or _date(item) is not None]
        found = any_of([*([In(field, plain)] if plain or not others else []), *others])
        return found if operator == "in" else Not(found)
    if operator in _RANGE:
        if value is None:
            return In(field, ())  # Haystack: nothing can be compared with None, so nothing matches
        if isinstance(value, str | datetime):
            time = _time(value)
            if time is None:
                raise FilterError(f"field {field!r}: {operator} compares numbers or ISO 8601 times, got {value!r}")
            return _timed(_RANGE[operator], field, time)
        return _RANGE[operator](field, value)
    raise FilterError(f"field {field!r}: unknown operator {operator!r}; known: == != > >= < <= in, not in")


def _equal(field: str, value: Any) -> Filter:
    if value is None:
        return Not(Or((Exists(field), Exists(_HELD + field))))
    time = _date(value)
    if time is None:
        return Eq(field, value)
    same = _timed(Eq, field, time)
    return same if isinstance(value, datetime) else any_of([Eq(field, value), same])


def _timed(test: _Test, field: str, time: datetime) -> Filter:
    """Compare with times that were written with a zone or without; only one without takes the other's."""
    seconds, clock = _seconds(time), _seconds(time.replace(tzinfo=UTC))
    if time.tzinfo is None:
        return Or((test(_WALL + field, clock), And((test(_TIME + field, clock), Not(Exists(_WALL + field))))))
    if seconds == clock:
        return test(_TIME + field, seconds)
    return Or((test(_NAIVE + field, clock), And((test(_TIME + field, seconds), Not(Exists(_NAIVE + field))))))


def flat_meta(meta: Mapping[str, Any], where: str) -> dict[str, MetadataValue]:
    """Flat metadata for Haystack's: nested keys joined by dots, times also as numbers, so that they can be compared.

    What is not flat (None, lists of other things than strings, nesting) is kept whole as JSON under a hidden key, and
    that such a field has a value under another. DocumentStoreError, naming `where`, for what JSON cannot hold and for
    keys that begin as the hidden ones do.
    """
    out: dict[str, MetadataValue] = {}
    for key in meta:
        if str(key).startswith(HIDDEN):
            raise DocumentStoreError(f"{where}: the meta key {key!r} cannot be used; take another")
    lossless = _flatten("", meta, out)
    for key, value in list(out.items()):
        if isinstance(value, str) and (time := _time(value)) is not None:
            out[_TIME + key] = seconds = _seconds(time)
            if time.tzinfo is None:
                out[_NAIVE + key] = seconds
            elif (clock := _seconds(time.replace(tzinfo=UTC))) != seconds:
                out[_WALL + key] = clock
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


def updated_meta(metadata: Metadata, changes: Mapping[str, Any], where: str) -> dict[str, MetadataValue]:
    """The flat metadata with these keys of Haystack's meta set; what other bridges hide in it stays."""
    ours = (_HELD, _TIME, _NAIVE, _WALL)
    hidden = {key: value for key, value in metadata.items() if key.startswith(HIDDEN)}
    others = {key: value for key, value in hidden.items() if key != _META and not key.startswith(ours)}
    return {**others, **flat_meta({**nested_meta(metadata), **changes}, where)}


def _flatten(prefix: str, meta: Mapping[str, Any], out: dict[str, MetadataValue]) -> bool:
    lossless = not prefix
    for key, value in meta.items():
        name = f"{prefix}{key}"
        if type(value) in {str, int, float, bool} or (type(value) is list and all(type(item) is str for item in value)):
            out[name] = value
            continue
        lossless = False
        if value is not None:
            out[_HELD + name] = True
        if isinstance(value, Mapping):
            _flatten(f"{name}.", value, out)
    return lossless


def _date(value: object) -> datetime | None:
    """The time that equality compares as one: a datetime, or ISO 8601 that begins with YYYY-MM-DD."""
    if isinstance(value, datetime):
        return value
    return _time(value) if isinstance(value, str) and _DATE.fullmatch(value) else None


def _time(value: str | datetime) -> datetime | None:
    """The time that a string in ISO 8601 is; None for what is none."""
    if isinstance(value, datetime):
        return value
    if len(value) < 10 or not value[:4].isdigit():  # "100" is a page, not a year
        return None
    try:
        return datetime.fromisoformat(value)
    except ValueError:
        return None


def _seconds(time: datetime) -> float:
    """Seconds since 1970, UTC where it names no zone."""
    return (time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp()
