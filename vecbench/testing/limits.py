"""Known gaps, as data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["Limit"]


@dataclass(frozen=True)
class Limit:
    """One test of the suite that a store is known to fail.

    test: its name, or with its parameters as pytest shows them ("test_each_operator[gt]"). kind: "notimpl" (the adapter
    does not do it yet), "notyet" (the engine will), "never" (the engine cannot). raises: the error with which it fails,
    when known.
    """

    test: str
    kind: Literal["notimpl", "notyet", "never"]
    reason: str
    raises: type[BaseException] | None = None
