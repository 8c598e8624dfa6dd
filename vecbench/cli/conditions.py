"""A filter as it is typed on the command line."""

from __future__ import annotations

import json
import operator
import re
from collections.abc import Callable, Sequence
from typing import Any

from vecbench.errors import ConfigError, UnsupportedFilter
from vecbench.filters import And, F, Filter

__all__ = ["conditions"]

_CONDITION = re.compile(r"\s*([^\s=!<>]+)\s*(!=|<=|>=|==?|<|>)\s*(.*?)\s*", re.DOTALL)
_OPERATORS: dict[str, Callable[[Any, Any], Filter]] = {
    "=": operator.eq, "==": operator.eq, "!=": operator.ne,
    "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
}  # fmt: skip


def conditions(texts: Sequence[str]) -> Filter | None:
    """All of conditions like `year>=2024`, None of none.

    A value is a number, `true` or `false` where it reads as one, else text; "in double quotes" it is text always.
    Raises `ConfigError` for what is no condition.
    """
    found = [_condition(text) for text in texts]
    return None if not found else found[0] if len(found) == 1 else And(tuple(found))


def _condition(text: str) -> Filter:
    parts = _CONDITION.fullmatch(text)
    if parts is None:
        raise ConfigError(f"{text!r} is no condition like year>=2024, source=contract.md or draft!=true")
    field, sign, value = parts.groups()
    try:
        return _OPERATORS[sign](F(field), _value(value))
    except UnsupportedFilter as error:
        raise ConfigError(f"{text!r}: {error}") from error


def _value(text: str) -> Any:
    try:
        value = json.loads(text)
    except ValueError:
        return text
    return value if isinstance(value, bool | int | float | str) else text
