"""A discourse parser without a model: the form of the text, and the connectives of a table."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import groupby, pairwise
from typing import TypeAlias, get_args

from vecbench.errors import ConfigError
from vecbench.rag.split.blocks import Block, blocks
from vecbench.rag.split.clauses import Language, Sentence, read_sentence, trimmed
from vecbench.rag.split.compose import Opening, compose
from vecbench.rag.split.lengths import function_name
from vecbench.rag.split.markers import ANAPHORA, MARKERS
from vecbench.rag.split.tree import Leaf, Tree, join, support

__all__ = ["FindSentences", "MarkerParser"]

FindSentences: TypeAlias = Callable[[str], list[tuple[int, int]]]
"""Where the sentences of a text stand, (start, end) in order."""

_RULES = 1  # counted up when the same table gives other trees
_PREPARES = Opening("preparation", "other")
_ROWS = ("item", "row")  # blocks that are members of one list when they follow each other


class MarkerParser:
    """Discourse trees of English and Chinese by simple rules, in time linear to the text; no model, no download.

    Headings are satellites of what stands under them, down to the next heading of their level or above. Paragraphs,
    list items and table rows are equals. A paragraph that ends in a colon is a satellite of what it announces.
    Sentences are equals too, unless one opens with a connective ("However", "因此") or with a word that points back
    ("This", "这"). Connectives cut sentences into clauses; quotes, brackets and code are never cut.

    language: whose connectives count, "auto" for both. sentences: finds them in a paragraph; those of
    `vecbench.rag.split.sentences` where None is given.

    Do not take the relations for more than they are: no word is looked at but the connectives, a clause is what stands
    between a connective and a comma, and most relations between sentences are marked by no word at all.
    """

    def __init__(self, language: Language = "auto", *, sentences: FindSentences | None = None) -> None:
        if language not in get_args(Language):
            raise ConfigError(f"marker parser: language is {language!r}; it must be one of {get_args(Language)}")
        self.language: Language = language
        self.sentences = sentences

    @property
    def fingerprint(self) -> str:
        """The language, the sentence finder, the rules and a digest of the table of connectives."""
        table = hashlib.sha256(repr((MARKERS, sorted(ANAPHORA.items()))).encode()).hexdigest()[:8]
        find = "own" if self.sentences is None else function_name(self.sentences, "function of sentences")
        return f"markers(language={self.language}, sentences={find}, rules={_RULES}, table={table})"

    def parse(self, text: str) -> Tree | None:
        """The tree of `text`; None for a text of whitespace."""
        sections = [_Section(0)]
        announced = False
        for _, group in groupby(blocks(text), key=lambda block: block.kind if block.kind in _ROWS else block.start):
            row = list(group)
            first = row[0]
            if first.kind == "heading":
                while sections[-1].level >= first.level:
                    _close(sections)
                sections.append(_Section(first.level, trimmed(text, first.start, first.end)))
                announced = False
                continue
            if first.kind in _ROWS:
                span, opening = join([self._paragraph(text, block).tree for block in row], "list"), None
            else:
                span, opening = self._paragraph(text, first)
            sections[-1].spans.append(span)
            sections[-1].openings.append(_PREPARES if announced else opening)
            announced = first.kind == "paragraph" and text[first.start : first.end].rstrip().endswith((":", "："))
        while len(sections) > 1:
            _close(sections)
        return compose(sections[0].spans, sections[0].openings) if sections[0].spans else None

    def _paragraph(self, text: str, block: Block) -> Sentence:
        """A block's sentences as one tree, with the opening of the first."""
        if block.kind in ("verbatim", "row"):
            return Sentence(trimmed(text, block.start, block.end), None)
        found = [read_sentence(text, a, b, self.language) for a, b in self._edges(text, block)]
        return Sentence(compose([one.tree for one in found], [one.opening for one in found]), found[0].opening)

    def _edges(self, text: str, block: Block) -> Iterator[tuple[int, int]]:
        """Where the sentences of a block stand, each up to the next, so that nothing falls between two."""
        content = block.start + block.bullet
        inside = text[content : block.end]
        starts = sorted({content + start for start, _ in self._find(inside)})
        edges = [block.start, *starts[1:], block.end]
        for start, end in pairwise(edges):
            if not text[start:end].isspace():
                yield start, end

    def _find(self, text: str) -> list[tuple[int, int]]:
        if self.sentences is not None:
            return self.sentences(text)
        from vecbench.rag.split.sentences import sentences

        return sentences(text, self.language)


@dataclass(slots=True)
class _Section:
    """A heading and what stands under it so far; level 0 is the text itself."""

    level: int
    heading: Leaf | None = None
    spans: list[Tree] = field(default_factory=list)
    openings: list[Opening | None] = field(default_factory=list)


def _close(sections: list[_Section]) -> None:
    """The last section becomes a span of the one that it is in."""
    section = sections.pop()
    body = compose(section.spans, section.openings) if section.spans else None
    if section.heading is not None:
        body = section.heading if body is None else support(section.heading, body, _PREPARES.relation)
    if body is not None:
        sections[-1].spans.append(body)
        sections[-1].openings.append(None)
