"""vecbench filters as Qdrant filters, over the typed keys of `vecbench_qdrant.payload`.

Every operator becomes a positive condition or `must_not` around one, so a negation is the exact complement. Values
enter as values of condition objects and field names in hexadecimal: neither can become query syntax.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from vecbench.filters import (
    And,
    Contains,
    Eq,
    Exists,
    Filter,
    Gt,
    Gte,
    In,
    Lt,
    Lte,
    Ne,
    Not,
    NotIn,
    Or,
)
from vecbench_qdrant.payload import HAS, field_key, scalar_text, split_number

__all__ = ["ClientDialect", "Dialect", "EdgeDialect", "translate"]

_EXACT = 2.0**53  # integers beyond this are rounded to a float64


class Dialect(Protocol):
    """How a client spells the three things that every filter is made of."""

    def any_of(self, key: str, values: Sequence[str]) -> Any:
        """The key holds one of these texts, or a list with one of them."""

    def range(self, key: str, **bounds: float) -> Any:
        """The key holds a number within gt, gte, lt and lte."""

    def group(self, **clauses: list[Any]) -> Any:
        """A nested filter of must, should and must_not."""


class EdgeDialect:
    """The spelling of qdrant_edge."""

    def __init__(self, module: Any) -> None:
        self._qe = module

    def any_of(self, key: str, values: Sequence[str]) -> Any:
        """One value is matched as such: the engine plans it better than a list of one."""
        match = self._qe.MatchValue(values[0]) if len(values) == 1 else self._qe.MatchAny(list(values))
        return self._qe.FieldCondition(key=key, match=match)

    def range(self, key: str, **bounds: float) -> Any:
        """See `Dialect`."""
        return self._qe.FieldCondition(key=key, range=self._qe.RangeFloat(**bounds))

    def group(self, **clauses: list[Any]) -> Any:
        """See `Dialect`."""
        return self._qe.Filter(**clauses)


class ClientDialect:
    """The spelling of qdrant_client.models."""

    def __init__(self, models: Any) -> None:
        self._models = models

    def any_of(self, key: str, values: Sequence[str]) -> Any:
        """One value is matched as such: the engine plans it better than a list of one."""
        m = self._models
        match = m.MatchValue(value=values[0]) if len(values) == 1 else m.MatchAny(any=list(values))
        return m.FieldCondition(key=key, match=match)

    def range(self, key: str, **bounds: float) -> Any:
        """See `Dialect`."""
        return self._models.FieldCondition(key=key, range=self._models.Range(**bounds))

    def group(self, **clauses: list[Any]) -> Any:
        """See `Dialect`."""
        return self._models.Filter(**clauses)


def translate(where: Filter, to: Dialect) -> Any:
    """The client's filter object that selects exactly what `where` matches."""
    return to.group(must=[_condition(where, to)])


def _condition(where: Filter, to: Dialect) -> Any:  # noqa: PLR0911, PLR0912  one line per operator
    match where:
        case And(parts):
            return to.group(must=[_condition(p, to) for p in parts]) if parts else _everything(to)
        case Or(parts):
            return to.group(should=[_condition(p, to) for p in parts]) if parts else _nothing(to)
        case Not(part):
            return _without(_condition(part, to), to)
        case Eq(field, value):
            return to.any_of(field_key("e", field), [scalar_text(value)])
        case Ne(field, value):
            return _without(to.any_of(field_key("e", field), [scalar_text(value)]), to)
        case In(field, values):
            return _among(field, values, to)
        case NotIn(field, values):
            return _without(_among(field, values, to), to)
        case Contains(field, value):
            return to.any_of(field_key("l", field), [value])
        case Exists(field):
            return to.any_of(HAS, [field.encode().hex()])
        case Lt(field, value):
            return _range(field, "lt", value, to)
        case Lte(field, value):
            return _range(field, "lte", value, to)
        case Gt(field, value):
            return _range(field, "gt", value, to)
        case Gte(field, value):
            return _range(field, "gte", value, to)


def _among(field: str, values: Sequence[str | int | float | bool], to: Dialect) -> Any:
    texts = list(dict.fromkeys(map(scalar_text, values)))
    return to.any_of(field_key("e", field), texts) if texts else _nothing(to)


def _everything(to: Dialect) -> Any:
    return to.group(must_not=[_nothing(to)])


def _nothing(to: Dialect) -> Any:
    # Both a condition and its complement: true of no point, whatever an engine makes of an empty list.
    impossible = to.any_of(HAS, [""])  # a field name is never empty
    return to.group(must=[impossible], must_not=[impossible])


def _without(condition: Any, to: Dialect) -> Any:
    return to.group(must_not=[condition])


def _range(field: str, op: str, bound: int | float, to: Dialect) -> Any:
    """Numbers held as (nearest float64, rest) compare first by the float64, then by the rest."""
    key = field_key("n", field)
    try:
        nearest, rest = split_number(bound)
    except OverflowError:  # an integer beyond float64 is greater, or smaller, than every number a record can hold
        held = to.range(key, gte=-1.7976931348623157e308)
        return held if (bound > 0) == op.startswith("l") else _nothing(to)
    if abs(nearest) < _EXACT:
        return to.range(key, **{op: nearest})
    strict = op[:2]
    same = to.range(key, gte=nearest, lte=nearest)
    beyond_rest = _rest(field, op, rest, to)
    return to.group(should=[to.range(key, **{strict: nearest}), to.group(must=[same, beyond_rest])])


def _rest(field: str, op: str, rest: int, to: Dialect) -> Any:
    """The rest is within the bound, where a record without one has 0."""
    key = field_key("r", field)
    complement = {"lt": "gte", "lte": "gt", "gt": "lte", "gte": "lt"}[op]
    compare: dict[str, Callable[[int, int], bool]] = {
        "lt": int.__lt__, "lte": int.__le__, "gt": int.__gt__, "gte": int.__ge__
    }  # fmt: skip
    if compare[op](0, rest):  # a missing rest passes: select by what must not be
        return _without(to.range(key, **{complement: float(rest)}), to)
    return to.range(key, **{op: float(rest)})
