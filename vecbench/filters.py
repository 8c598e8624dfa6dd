"""The filter algebra over metadata, and the reference evaluator that every store's translation is tested against.

    F("year") >= 2020
    (F("lang") == "en") & ~F("tags").contains("draft")

The meaning is the same everywhere:
* a record that lacks the key, or holds another type under it, fails every positive test (Eq, Lt, Lte, Gt, Gte, In,
  Contains, Exists) and passes its negation; Ne is the negation of Eq, NotIn of In, Not of anything: exact complements;
* a bool is not a number: `Eq("n", 1)` matches 1 and 1.0 but not True;
* Lt, Lte, Gt and Gte compare numbers with numbers only; Eq, Ne, In and NotIn test a single value, Contains tests lists;
* In of nothing matches nothing, NotIn of nothing matches everything.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, TypeAlias

from vecbench.errors import UnsupportedFilter
from vecbench.types import Metadata, MetadataValue

__all__ = [
    "OPERATORS",
    "And",
    "Contains",
    "Eq",
    "Exists",
    "F",
    "Filter",
    "Gt",
    "Gte",
    "In",
    "Lt",
    "Lte",
    "Ne",
    "Not",
    "NotIn",
    "Or",
    "Scalar",
    "fields",
    "matches",
    "operators",
]

Scalar: TypeAlias = str | int | float | bool


def _field(name: object) -> None:
    if not isinstance(name, str) or not name:
        raise UnsupportedFilter(f"a filter's field is a non-empty string, got {name!r}")


def _scalar(op: str, field: str, value: object) -> None:
    if not isinstance(value, str | int | float):  # bool is an int
        raise UnsupportedFilter(
            f"{op} on field {field!r} takes a str, int, float or bool, got {type(value).__name__}; "
            "use Contains to test lists and Exists to test for a missing key"
        )
    if isinstance(value, float) and not math.isfinite(value):
        raise UnsupportedFilter(f"{op} on field {field!r}: {value} cannot be compared")


@dataclass(frozen=True, slots=True)
class _Base:
    op: ClassVar[str]

    def __and__(self, other: Filter) -> And:
        return And((self, other))  # type: ignore[arg-type]  # every subclass is one of Filter's members

    def __or__(self, other: Filter) -> Or:
        return Or((self, other))  # type: ignore[arg-type]  # every subclass is one of Filter's members

    def __invert__(self) -> Not:
        return Not(self)  # type: ignore[arg-type]  # every subclass is one of Filter's members


@dataclass(frozen=True, slots=True)
class _Comparison(_Base):
    field: str
    value: Scalar

    def __post_init__(self) -> None:
        _field(self.field)
        _scalar(self.op, self.field, self.value)


@dataclass(frozen=True, slots=True)
class _Range(_Base):
    field: str
    value: int | float

    def __post_init__(self) -> None:
        _field(self.field)
        _scalar(self.op, self.field, self.value)
        if isinstance(self.value, str | bool):
            raise UnsupportedFilter(
                f"{self.op} on field {self.field!r} compares numbers, got {type(self.value).__name__}"
            )


@dataclass(frozen=True, slots=True)
class _Membership(_Base):
    field: str
    values: tuple[Scalar, ...]

    def __init__(self, field: str, values: Sequence[Scalar]) -> None:
        _field(field)
        if isinstance(values, str):
            raise UnsupportedFilter(f"{self.op} on field {field!r} takes a list of values, got the string {values!r}")
        for value in values:
            _scalar(self.op, field, value)
        object.__setattr__(self, "field", field)
        object.__setattr__(self, "values", tuple(values))


class Eq(_Comparison):
    """The field holds this single value."""

    __slots__ = ()
    op: ClassVar[str] = "eq"


class Ne(_Comparison):
    """Not Eq: the field holds another value, or none."""

    __slots__ = ()
    op: ClassVar[str] = "ne"


class Lt(_Range):
    """The field holds a smaller number."""

    __slots__ = ()
    op: ClassVar[str] = "lt"


class Lte(_Range):
    """The field holds a smaller or equal number."""

    __slots__ = ()
    op: ClassVar[str] = "lte"


class Gt(_Range):
    """The field holds a greater number."""

    __slots__ = ()
    op: ClassVar[str] = "gt"


class Gte(_Range):
    """The field holds a greater or equal number."""

    __slots__ = ()
    op: ClassVar[str] = "gte"


class In(_Membership):
    """The field holds one of these values."""

    __slots__ = ()
    op: ClassVar[str] = "in"


class NotIn(_Membership):
    """Not In: the field holds none of these values, or nothing."""

    __slots__ = ()
    op: ClassVar[str] = "nin"


@dataclass(frozen=True, slots=True)
class Contains(_Base):
    """The field holds a list of strings with this one among them."""

    op: ClassVar[str] = "contains"
    field: str
    value: str

    def __post_init__(self) -> None:
        _field(self.field)
        if not isinstance(self.value, str):
            raise UnsupportedFilter(f"contains on field {self.field!r} takes a str, got {type(self.value).__name__}")


@dataclass(frozen=True, slots=True)
class Exists(_Base):
    """The record has this key, whatever it holds."""

    op: ClassVar[str] = "exists"
    field: str

    def __post_init__(self) -> None:
        _field(self.field)


@dataclass(frozen=True, slots=True)
class And(_Base):
    """Every part matches; true of no parts."""

    op: ClassVar[str] = "and"
    parts: tuple[Filter, ...]


@dataclass(frozen=True, slots=True)
class Or(_Base):
    """Some part matches; false of no parts."""

    op: ClassVar[str] = "or"
    parts: tuple[Filter, ...]


@dataclass(frozen=True, slots=True)
class Not(_Base):
    """The exact complement of the part."""

    op: ClassVar[str] = "not"
    part: Filter


Filter: TypeAlias = Eq | Ne | Lt | Lte | Gt | Gte | In | NotIn | Contains | Exists | And | Or | Not

OPERATORS = frozenset({"eq", "ne", "lt", "lte", "gt", "gte", "in", "nin", "contains", "exists", "and", "or", "not"})


class F:
    """A metadata field in a filter expression: `F("year") >= 2020`, `F("lang").isin(["en", "fr"])`."""

    __slots__ = ("name",)
    __hash__ = None  # type: ignore[assignment]  # == builds a filter, so an F cannot be a key

    def __init__(self, name: str) -> None:
        _field(name)
        self.name = name

    def __eq__(self, value: object) -> Eq:  # type: ignore[override]  # an expression, as in every query builder
        return Eq(self.name, value)  # type: ignore[arg-type]  # checked by Eq

    def __ne__(self, value: object) -> Ne:  # type: ignore[override]  # an expression, as in every query builder
        return Ne(self.name, value)  # type: ignore[arg-type]  # checked by Ne

    def __lt__(self, value: int | float) -> Lt:
        return Lt(self.name, value)

    def __le__(self, value: int | float) -> Lte:
        return Lte(self.name, value)

    def __gt__(self, value: int | float) -> Gt:
        return Gt(self.name, value)

    def __ge__(self, value: int | float) -> Gte:
        return Gte(self.name, value)

    def isin(self, values: Sequence[Scalar]) -> In:
        """The field holds one of `values`."""
        return In(self.name, values)

    def notin(self, values: Sequence[Scalar]) -> NotIn:
        """The field holds none of `values`, or nothing."""
        return NotIn(self.name, values)

    def contains(self, value: str) -> Contains:
        """The field holds a list with `value` in it."""
        return Contains(self.name, value)

    def exists(self) -> Exists:
        """The record has the field."""
        return Exists(self.name)


def _equal(held: MetadataValue | None, value: Scalar) -> bool:
    if held is None or isinstance(held, list):
        return False
    if isinstance(held, bool) or isinstance(value, bool):
        return held is value
    return held == value


def _number(held: MetadataValue | None) -> int | float | None:
    return held if isinstance(held, int | float) and not isinstance(held, bool) else None


def matches(where: Filter, metadata: Metadata) -> bool:  # noqa: PLR0911, PLR0912  one line per operator
    """Whether a record with this metadata passes the filter: the definition that stores are held against."""
    match where:
        case And(parts):
            return all(matches(p, metadata) for p in parts)
        case Or(parts):
            return any(matches(p, metadata) for p in parts)
        case Not(part):
            return not matches(part, metadata)
        case Eq(field, value):
            return _equal(metadata.get(field), value)
        case Ne(field, value):
            return not _equal(metadata.get(field), value)
        case In(field, values):
            return any(_equal(metadata.get(field), v) for v in values)
        case NotIn(field, values):
            return not any(_equal(metadata.get(field), v) for v in values)
        case Contains(field, value):
            held = metadata.get(field)
            return isinstance(held, list) and value in held
        case Exists(field):
            return field in metadata
        case Lt(field, value):
            return (number := _number(metadata.get(field))) is not None and number < value
        case Lte(field, value):
            return (number := _number(metadata.get(field))) is not None and number <= value
        case Gt(field, value):
            return (number := _number(metadata.get(field))) is not None and number > value
        case Gte(field, value):
            return (number := _number(metadata.get(field))) is not None and number >= value


def _walk(where: Filter) -> Iterator[Filter]:
    yield where
    if isinstance(where, And | Or):
        for part in where.parts:
            yield from _walk(part)
    elif isinstance(where, Not):
        yield from _walk(where.part)


def operators(where: Filter) -> frozenset[str]:
    """The names of all operators in a filter, to hold against `Capabilities.filters`; refuses what is no filter."""
    found = set()
    for node in _walk(where):
        if not isinstance(node, _Base):
            raise UnsupportedFilter(f"a filter is built from vecbench.filters, got {type(node).__name__}: {node!r}")
        found.add(node.op)
    return frozenset(found)


def fields(where: Filter) -> frozenset[str]:
    """The names of all metadata fields that a filter tests."""
    return frozenset(node.field for node in _walk(where) if not isinstance(node, And | Or | Not))
