"""Splitting by discourse: what supports a statement stays with it, cuts fall between equals."""

from __future__ import annotations

from typing import Any

from vecbench.errors import ConfigError, ModelError
from vecbench.rag.split.cuts import Range, best_cuts
from vecbench.rag.split.lengths import Ruler, length_name, ruler
from vecbench.rag.split.marker_parser import MarkerParser
from vecbench.rag.split.sentences import SentenceSplitter
from vecbench.rag.split.tree import DiscourseParser, Layout, Leaf, check_tree, layout
from vecbench.rag.types import Chunk, CountTokens, Splitter

__all__ = ["DiscourseSplitter"]


class DiscourseSplitter:
    """Cuts a text along its discourse tree, into chunks of up to `chunk_size`, without overlap.

    parser: finds the tree; `MarkerParser()` where None is given. chunk_size: in the unit of `length`: `len`, a
    `TokenLength`, or a function of a text. long: cuts an elementary unit that is itself longer than a chunk, into
    pieces within the size; where None is given a `SentenceSplitter` of that size, which cuts recursively within
    sentences.

    A chunk is a row of whole elementary units. No satellite is parted from its nucleus where sizes allow that: where
    any partition into chunks within the size keeps all dependent units together, the result does; where none does, it
    parts as few as possible. What comes next (whole units of the tree, few chunks, even chunks) is told by `best_cuts`.

    length should grow with the text. Where it shrinks by a token, as pieces merge, chunks still keep the size, but a
    slightly fuller chunk may have been missed.
    """

    def __init__(
        self,
        parser: DiscourseParser | None = None,
        *,
        chunk_size: int = 1000,
        length: CountTokens = len,
        long: Splitter | None = None,
    ) -> None:
        given: Any = chunk_size
        if not isinstance(given, int) or isinstance(given, bool) or given < 1:
            raise ConfigError(f"discourse splitter: chunk_size is {given!r}; it must be a whole number from 1 up")
        if not callable(length):
            raise ConfigError(f"discourse splitter: length is {length!r}; it must be a function of a text")
        self.parser: DiscourseParser = MarkerParser() if parser is None else parser
        self.chunk_size, self.length = chunk_size, length
        self.long: Splitter = SentenceSplitter(chunk_size, length=length) if long is None else long

    @property
    def fingerprint(self) -> str:
        """The splitter, its parser and every parameter; ConfigError when the length function has no name."""
        return (
            f"discourse(chunk_size={self.chunk_size}, length={length_name(self.length)}, "
            f"parser={self.parser.fingerprint}, long={self.long.fingerprint})"
        )

    def split(self, text: str) -> list[Chunk]:
        """The chunks of `text`, without the whitespace around them; none for a text of whitespace.

        Raises ModelError where the parser's tree does not hold the text.
        """
        start, end = len(text) - len(text.lstrip()), len(text.rstrip())
        if start >= end:
            return []
        measured = ruler(self.length, text)
        if self._fits(measured, start, end):
            return [Chunk(text[start:end], start, end)]
        tree = self.parser.parse(text)
        if tree is None:
            raise ModelError(f"{self.parser.fingerprint}: no tree for a text that is not whitespace")
        check_tree(tree, text, self.parser.fingerprint)
        plan = self._cut_long(layout(tree), text, measured)
        lowest = self._lowest(plan.leaves, measured)
        refused: set[Range] = set()
        while True:
            ranges = best_cuts(plan, lowest, refused)
            spans = [(plan.leaves[a].start, plan.leaves[b - 1].end) for a, b in ranges]
            above = {
                (a, b)
                for (a, b), span in zip(ranges, spans, strict=True)
                if b - a > 1 and not self._fits(measured, *span)
            }
            if not above:  # at once, unless `length` shrank where the text grew
                return [Chunk(text[start:end], start, end) for start, end in spans]
            refused |= above

    def _fits(self, measured: Ruler, start: int, end: int) -> bool:
        return measured.measure(start, end) <= self.chunk_size

    def _cut_long(self, plan: Layout, text: str, measured: Ruler) -> Layout:
        """The same leaves, those longer than a chunk in pieces; what depended on one depends on its nearest piece."""
        pieces: list[Leaf] = []
        first, last = [], []
        for leaf in plan.leaves:
            first.append(len(pieces))
            if self._fits(measured, leaf.start, leaf.end):
                pieces.append(leaf)
            else:
                found = self.long.split(text[leaf.start : leaf.end])
                pieces += [Leaf(leaf.start + piece.start, leaf.start + piece.end) for piece in found]
            last.append(len(pieces) - 1)
        return Layout(
            pieces,
            [(last[before], first[after]) for before, after in plan.arcs],
            [(first[begin], last[end]) for begin, end in plan.units],
        )

    def _lowest(self, leaves: list[Leaf], measured: Ruler) -> list[int]:
        """For every leaf the first one with which it still fits in a chunk: two measurements a leaf at most."""
        lowest, low = [], 0
        for index, leaf in enumerate(leaves):
            while low < index and not self._fits(measured, leaves[low].start, leaf.end):
                low += 1
            lowest.append(low)
        return lowest
