"""Where in a document an offset stands: its page, and the headings above it."""

from __future__ import annotations

from bisect import bisect_right

from vecbench.rag.types import Document, Heading

__all__ = ["headings_at", "page_at"]


_last: tuple[tuple[Heading, ...], list[int]] = ((), [])  # of the document that was asked about last


def headings_at(document: Document, offset: int) -> list[str]:
    """The headings that enclose a character, highest first: the last of each level that no higher one has ended.

    Where the headings are a tuple, as loaders make them, it costs O(log n) for each chunk of a document.
    """
    headings = document.headings
    at = bisect_right(headings, offset, key=lambda h: h.start) - 1
    above = _above(headings) if isinstance(headings, tuple) else None  # what can change is looked through anew
    path: list[str] = []
    while at >= 0:
        path.append(headings[at].title)
        level = headings[at].level
        at = next((i for i in range(at - 1, -1, -1) if headings[i].level < level), -1) if above is None else above[at]
    return path[::-1]


def _above(headings: tuple[Heading, ...]) -> list[int]:
    """For each heading the nearest one before it of a higher level, -1 where there is none."""
    global _last  # noqa: PLW0603 - one pair, replaced as a whole: threads may work it out twice, never wrongly
    known, above = _last
    if known is headings:
        return above
    above = []
    open_: list[int] = []
    for i, heading in enumerate(headings):
        while open_ and headings[open_[-1]].level >= heading.level:
            open_.pop()
        above.append(open_[-1] if open_ else -1)
        open_.append(i)
    _last = headings, above
    return above


def page_at(document: Document, offset: int) -> int | None:
    """The page of a character, from 1; None where the document has no pages."""
    return max(1, bisect_right(document.pages, offset)) if document.pages else None
