"""The parser and the splitter on texts of the real kind and of the unkind."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vecbench.rag.split.blocks import blocks
from vecbench.rag.split.discourse import DiscourseSplitter
from vecbench.rag.split.marker_parser import MarkerParser
from vecbench.rag.split.markers import MARKERS
from vecbench.rag.split.tree import Node, Tree, check_tree

ROOT = Path(__file__).resolve().parents[2]


def parsed(text: str) -> Tree:
    tree = MarkerParser().parse(text)
    assert tree is not None
    check_tree(tree, text, "rules")
    return tree


HARD = {
    "one word": "word",
    "one sign": "。",
    "no end": "because word " * 8000,
    "no space": "a" * 100_000,
    "chinese without a sign": "如果天下雨但" * 16_000,
    "commas": "，如果有空就" * 16_000,
    "pointing back": "It is so. " * 10_000,
    "brackets": "((「“" * 25_000,
    "closed brackets": "))」”" * 25_000,
    "spaces": "as " + " " * 100_000 + "long as x",
    "headings": "# \n" * 10_000,
    "fences": "```\n" * 9_999,
    "bars": "|\n" * 10_000,
    "unusual capitals": "ſo it is, ſo that is, BECAUSE İt iſ, aſ ſoon aſ it is.",
    "null": "a\x00b. \x1c\x85c\u2028d",
    "lone surrogate": "if \ud800 is, then \udfff is.",
}


@pytest.mark.parametrize("text", HARD.values(), ids=HARD.keys())
def test_hard_texts_are_covered(text: str) -> None:
    tree = parsed(text)
    splitter = DiscourseSplitter(chunk_size=400)
    chunks = splitter.split(text)
    assert "".join("".join(chunk.text for chunk in chunks).split()) == "".join(text.split())
    assert all(len(chunk.text) <= 400 and text[chunk.start : chunk.end] == chunk.text for chunk in chunks)
    assert tree.end <= len(text)


def test_whitespace_has_no_tree() -> None:
    assert MarkerParser().parse("") is MarkerParser().parse(" \r\n\t\u3000") is None


SIGNS = [
    ", ",
    "，",
    ". ",
    "。",
    "\n",
    "\n\n",
    "# ",
    "- ",
    "```",
    "“",
    "」",
    "(",
    '"',
    "one two ",
    "天下大雨",
    "\r\n",
    "  ",
]
PIECES = st.sampled_from([*(word for marker in MARKERS for word in marker.words), *SIGNS, "1. ", "---", ":", "；", "|"])


@settings(max_examples=150, deadline=None)
@given(st.lists(PIECES, max_size=25).map("".join) | st.text(max_size=60))
def test_any_text_is_covered(text: str) -> None:
    tree = MarkerParser().parse(text)
    assert (tree is None) == (not text.strip())
    if tree is not None:
        check_tree(tree, text, "rules")


def texts() -> Iterator[str]:
    for name in ("README.md", "CONTRIBUTING.md", "adapters/README.md"):
        yield (ROOT / name).read_text("utf-8")


def test_the_project_s_own_pages() -> None:
    for text in texts():
        tree = parsed(text)
        chunks = DiscourseSplitter(chunk_size=800).split(text)
        assert all(len(chunk.text) <= 800 for chunk in chunks)
        headings = [block for block in blocks(text) if block.kind == "heading" and block.level < 7]
        assert len(headings) >= 2
        ends = {chunk.end for chunk in chunks}
        alone = [block for block in headings if block.start + len(text[block.start : block.end].rstrip()) in ends]
        assert not alone  # no chunk ends with a heading
        assert isinstance(tree, Node)


def test_chinese_paragraphs(real_data: Path) -> None:
    data = json.loads((real_data / "drcd" / "DRCD_dev.json").read_text("utf-8"))
    paragraphs = [paragraph["context"] for article in data["data"] for paragraph in article["paragraphs"]][:300]
    text = "\n\n".join(paragraphs)
    tree = parsed(text)
    relations = set()
    stack = [tree]
    while stack:
        node = stack.pop()
        if isinstance(node, Node):
            relations.add(node.relation)
            stack += node.children
    assert {"cause", "concession", "condition", "elaboration", "joint"} <= relations
    at = 0
    for chunk in DiscourseSplitter(chunk_size=200).split(text):
        assert len(chunk.text) <= 200
        assert not text[at : chunk.start].strip()
        assert text[chunk.start : chunk.end] == chunk.text
        at = chunk.end
    assert not text[at:].strip()
