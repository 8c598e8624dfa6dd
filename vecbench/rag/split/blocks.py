"""The blocks of a text by the form of their lines: headings, paragraphs, list items, table rows, code and rules."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias

__all__ = ["PLAIN_HEADING", "Block", "Kind", "blocks"]

Kind: TypeAlias = Literal["heading", "paragraph", "item", "row", "verbatim"]
PLAIN_HEADING = 7
"""The level of a heading that is one by its shortness only, below Markdown's six."""


@dataclass(slots=True)
class Block:
    """`text[start:end]`, whole lines. level: of a heading, 1 for the highest. bullet: length of a list item's mark."""

    kind: Kind
    start: int
    end: int
    level: int = 0
    bullet: int = 0


_ATX = re.compile(r" {0,3}(#{1,6})(?:[ \t]|$)")
_SETEXT = re.compile(r" {0,3}(?:(=+)|-+)[ \t]*$")
_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})")
_ITEM = re.compile(r"[ \t]*(?:[-*+•·][ \t]+|\(?\d{1,3}[.)][ \t]+|\d{1,3}、)(?=\S)")
_RULE = re.compile(r"[ \t]*([-*_])[ \t]*(?:\1[ \t]*){2,}$")
_CJK = re.compile(r"[\u3400-\u9fff]")
_NO_HEADING_END = ".!?。！？;；:：,，…"


def blocks(text: str) -> Iterator[Block]:
    """The blocks, in order; between them there is whitespace only.

    Blank lines part paragraphs. Markdown's headings (`#`, or underlined), fenced code, list items (with what is
    indented under them) and table rows (lines that begin with `|`) are known; everything else is a paragraph. A
    paragraph of one short line that ends in no punctuation, with a longer paragraph after it, is a heading.
    """
    last: Block | None = None
    for block in _by_line(text):
        if last is not None:
            if _is_plain_heading(text, last, block):
                last.kind, last.level = "heading", PLAIN_HEADING
            yield last
        last = block
    if last is not None:
        yield last


def _by_line(text: str) -> Iterator[Block]:
    block: Block | None = None  # that may still grow
    fence = ""
    blank = True
    at = 0
    for raw in text.splitlines(keepends=True):
        start, at = at, at + len(raw)
        line = raw.rstrip()
        if fence and block is not None:
            block.end = at
            if line.strip().startswith(fence) and not line.strip().strip(fence[0]):
                yield block
                block, fence = None, ""
        elif not line:
            if block is not None and block.kind != "item":  # an item goes on where the next line is indented
                yield block
                block = None
        elif mark := _FENCE.match(line):
            if block is not None:
                yield block
            block, fence = Block("verbatim", start, at), mark[1]
        elif block is not None and not blank and block.kind == "paragraph" and (under := _underline(text, block, line)):
            block.kind, block.level, block.end = "heading", under, at
            yield block
            block = None
        elif block is not None and _goes_on(block, line, blank):
            block.end = at
        else:
            if block is not None:
                yield block
            block = _open(line, start, at)
        blank = not line
    if block is not None:
        yield block


def _underline(text: str, block: Block, line: str) -> int:
    """The level that `line` gives to a paragraph of one line above it; 0 for none."""
    mark = _SETEXT.match(line)
    if not mark or len(text[block.start : block.end].splitlines()) > 1:
        return 0
    return 1 if mark[1] else 2


def _goes_on(block: Block, line: str, blank: bool) -> bool:
    if block.kind not in ("paragraph", "item"):
        return False
    opens_other = _ATX.match(line) or _RULE.match(line) or _ITEM.match(line) or line.lstrip().startswith("|")
    if block.kind == "item" and blank:
        return line[0] in " \t" and not opens_other
    return not opens_other


def _open(line: str, start: int, end: int) -> Block:
    if mark := _ATX.match(line):
        return Block("heading", start, end, len(mark[1]))
    if _RULE.match(line):
        return Block("verbatim", start, end)
    if mark := _ITEM.match(line):
        return Block("item", start, end, bullet=mark.end())
    if line.lstrip().startswith("|"):
        return Block("row", start, end)
    return Block("paragraph", start, end)


def _is_plain_heading(text: str, block: Block, after: Block) -> bool:
    if block.kind != "paragraph" or after.kind != "paragraph" or block.end - block.start > 80:
        return False
    line, body = text[block.start : block.end].strip(), text[after.start : after.end].strip()
    wide = len(_CJK.findall(line))
    return (
        len(line.splitlines()) == 1
        and (wide <= 25 if wide else len(line.split()) <= 10)
        and line[0].isalnum()
        and not line[0].islower()
        and line[-1] not in _NO_HEADING_END
        and len(body) > 2 * len(line)
        and body[-1] in '.!?。！？…”"」』)）'
    )
