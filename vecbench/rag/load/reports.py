"""What a loader says of a file, a row or a page that it cannot read."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Unreadable", "UnreadableWarning"]


@dataclass(frozen=True, slots=True)
class Unreadable:
    """What was left out, and why: a file, a folder, or a part of a file (`a.jsonl#line=7`).

    unknown_kind: a file whose suffix no loader knows.
    """

    source: str
    reason: str
    unknown_kind: bool = False


class UnreadableWarning(UserWarning):
    """Something was left out; the message names it and says why."""
