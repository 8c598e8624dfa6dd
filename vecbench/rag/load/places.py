"""Where in a document an offset stands: its page, and the headings above it."""

from __future__ import annotations

from bisect import bisect_right

from vecbench.rag.types import Document

__all__ = ["headings_at", "page_at"]


def headings_at(document: Document, offset: int) -> list[str]:
    """The headings that enclose a character, highest first: the last of each level that no higher one has ended."""
    path: list[str] = []
    level: int | None = None
    for heading in reversed(document.headings[: bisect_right(document.headings, offset, key=lambda h: h.start)]):
        if level is None or heading.level < level:
            path.append(heading.title)
            level = heading.level
            if level <= 1:
                break
    return path[::-1]


def page_at(document: Document, offset: int) -> int | None:
    """The page of a character, from 1; None where the document has no pages."""
    return max(1, bisect_right(document.pages, offset)) if document.pages else None
