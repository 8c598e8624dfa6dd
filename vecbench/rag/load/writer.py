"""A text that is put together from blocks."""

from __future__ import annotations

from vecbench.rag.types import Heading

__all__ = ["Writer"]


class Writer:
    """Collects blocks of text; knows the offset at which each stands."""

    def __init__(self) -> None:
        self.parts: list[str] = []
        self.size = 0
        self.headings: list[Heading] = []

    def block(self, text: str, level: int | None = None) -> None:
        """A block, set off by an empty line; with a level it is a heading."""
        if not text.strip():
            return
        if self.parts:
            self._put("\n\n")
        if level is not None:
            self.headings.append(Heading(self.size, level, " ".join(text.split())))
        self._put(text)

    def _put(self, text: str) -> None:
        self.parts.append(text)
        self.size += len(text)

    def text(self) -> str:
        """All of it."""
        return "".join(self.parts)
