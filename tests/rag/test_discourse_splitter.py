"""Cuts against every possible partition of small texts: none is better than the one that is taken."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations, pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vecbench.errors import ConfigError, ModelError
from vecbench.rag.split.discourse import DiscourseSplitter
from vecbench.rag.split.tree import DiscourseParser, Leaf, Node, Tree, draw, join, layout, leaves, support
from vecbench.rag.types import Chunk, Splitter


@dataclass
class Planted:
    """A parser that knows the tree already."""

    tree: Tree | None
    fingerprint: str = "planted"

    def parse(self, text: str) -> Tree | None:
        return self.tree


def words(*lengths: int) -> tuple[str, list[Tree]]:
    """A text of words of these lengths, and a leaf for each."""
    text = " ".join(chr(97 + n % 26) * length for n, length in enumerate(lengths))
    found: list[Tree] = []
    at = 0
    for length in lengths:
        found.append(Leaf(at, at + length))
        at += length + 1
    return text, found


def cut(text: str, tree: Tree, size: int) -> list[str]:
    return [chunk.text for chunk in DiscourseSplitter(Planted(tree), chunk_size=size).split(text)]


@st.composite
def texts(draw: st.DrawFn, longest: int = 8) -> tuple[str, Tree]:
    text, row = words(*draw(st.lists(st.integers(1, longest), min_size=1, max_size=9)))

    def tree(spans: list[Tree]) -> Tree:
        if len(spans) == 1:
            return spans[0]
        count = draw(st.integers(2, min(3, len(spans))))
        edges = sorted(draw(st.permutations(range(1, len(spans))))[: count - 1])
        children = tuple(tree(spans[a:b]) for a, b in pairwise([0, *edges, len(spans)]))
        nucleus = draw(st.integers(-1, count - 1))
        return Node(children, tuple(range(count)) if nucleus < 0 else (nucleus,), "some")

    return text, tree(row)


# What follows is told by the definitions, slowly, and shares no code with what it judges.


def heads(tree: Tree) -> list[Leaf]:
    if isinstance(tree, Leaf):
        return [tree]
    return [head for index in tree.nuclei for head in heads(tree.children[index])]


def bonds(tree: Tree) -> Iterator[tuple[Leaf, Leaf]]:
    if isinstance(tree, Leaf):
        return
    for index, child in enumerate(tree.children):
        yield from bonds(child)
        if index not in tree.nuclei:
            nucleus = heads(tree.children[tree.nuclei[0]])
            pairs = [(own, other) for own in heads(child) for other in nucleus]
            yield min(pairs, key=lambda pair: abs(pair[0].start - pair[1].start))


def nodes(tree: Tree) -> Iterator[Node]:
    if isinstance(tree, Node):
        yield tree
        for child in tree.children:
            yield from nodes(child)


def worth(tree: Tree, ranges: list[tuple[int, int]], size: int) -> tuple[int, int, int, int]:
    """How bad it is to cut the text into these pieces: less is better."""

    def parted(start: int, end: int) -> bool:
        return not any(first <= start and end <= last for first, last in ranges)

    return (
        sum(parted(min(a.start, b.start), max(a.end, b.end)) for a, b in bonds(tree)),
        sum(parted(node.start, node.end) for node in nodes(tree) if node.end - node.start <= size),
        len(ranges),
        sum((end - start) ** 2 for start, end in ranges),
    )


def partitions(tree: Tree, size: int) -> Iterator[list[tuple[int, int]]]:
    row = list(leaves(tree))
    for count in range(len(row)):
        for edges in combinations(range(1, len(row)), count):
            spans = [(row[a].start, row[b - 1].end) for a, b in pairwise([0, *edges, len(row)])]
            if all(end - start <= size for start, end in spans):
                yield spans


@settings(max_examples=400, deadline=None)
@given(texts(), st.integers(8, 40))
def test_no_partition_is_better(given_text: tuple[str, Tree], size: int) -> None:
    text, tree = given_text
    chunks = DiscourseSplitter(Planted(tree), chunk_size=size).split(text)
    ranges = [(chunk.start, chunk.end) for chunk in chunks]
    possible = list(partitions(tree, size))
    assert ranges in possible
    assert worth(tree, ranges, size) == min(worth(tree, other, size) for other in possible)


@settings(max_examples=60, deadline=None)
@given(texts(longest=30), st.integers(1, 25))
def test_offsets_order_cover_and_sizes(given_text: tuple[str, Tree], size: int) -> None:
    text, tree = given_text
    at = 0
    for chunk in DiscourseSplitter(Planted(tree), chunk_size=size).split(text):
        assert text[chunk.start : chunk.end] == chunk.text == chunk.text.strip() != ""
        assert len(chunk.text) <= size
        assert not text[at : chunk.start].strip()
        at = chunk.end
    assert not text[at:].strip()


@settings(max_examples=60, deadline=None)
@given(texts())
def test_layout_says_what_the_definitions_say(given_text: tuple[str, Tree]) -> None:
    _, tree = given_text
    plan = layout(tree)
    assert plan.leaves == list(leaves(tree))
    expected = [sorted((a.start, b.start)) for a, b in bonds(tree)]
    assert sorted([plan.leaves[a].start, plan.leaves[b].start] for a, b in plan.arcs) == sorted(expected)
    spans = sorted((plan.leaves[a].start, plan.leaves[b].end) for a, b in plan.units)
    assert spans == sorted((node.start, node.end) for node in nodes(tree))


def test_a_satellite_stays_with_its_nucleus_though_fewer_chunks_would_do() -> None:
    text, (a, b, c, d) = words(4, 5, 4, 4)
    tree = join([a, support(c, b, "cause"), d], "joint")
    assert cut(text, tree, 10) == ["aaaa", "bbbbb cccc", "dddd"]
    assert cut(text, join([a, b, c, d], "joint"), 10) == ["aaaa bbbbb", "cccc dddd"]


def test_a_heading_stays_with_the_first_paragraph_under_it() -> None:
    text, (heading, first, second, third) = words(3, 6, 6, 6)
    tree = support(heading, join([first, second, third], "joint"), "preparation")
    assert cut(text, tree, 13) == ["aaa bbbbbb", "cccccc dddddd"]


def test_a_chain_longer_than_a_chunk_is_parted_once_and_in_the_middle() -> None:
    text, row = words(4, 4, 4, 4)
    tree = row[-1]
    for leaf in row[-2::-1]:
        tree = support(tree, leaf, "elaboration")
    assert cut(text, tree, 10) == ["aaaa bbbb", "cccc dddd"]  # of three arcs one


def test_where_two_depend_on_one_the_nearer_stays() -> None:
    text, (a, b, c) = words(4, 4, 4)
    assert cut(text, support(c, support(b, a, "cause"), "elaboration"), 9) == ["aaaa bbbb", "cccc"]
    assert cut(text, support(a, support(b, c, "cause"), "elaboration"), 9) == ["aaaa", "bbbb cccc"]


def test_of_two_dependencies_the_one_higher_in_the_tree_is_parted() -> None:
    text, (a, b, c) = words(4, 4, 4)  # b depends on a and c on b, or a on b and b on c: either can be parted
    assert cut(text, support(support(c, b, "cause"), a, "elaboration"), 9) == ["aaaa", "bbbb cccc"]
    assert cut(text, support(support(a, b, "cause"), c, "elaboration"), 9) == ["aaaa bbbb", "cccc"]


def test_a_paragraph_that_fits_stays_whole_though_chunks_stay_emptier() -> None:
    text, (a, b, c, d, e, f) = words(3, 3, 3, 3, 3, 3)
    tree = join([join([a, b], "joint"), join([c, d, e, f], "joint")], "joint")
    assert cut(text, tree, 15) == ["aaa bbb", "ccc ddd eee fff"]  # not three and three


def test_equals_are_spread_evenly() -> None:
    text, row = words(*[3] * 6)
    assert cut(text, join(row, "list"), 19) == ["aaa bbb ccc", "ddd eee fff"]  # not five and one


def test_what_depends_on_a_long_unit_depends_on_its_nearest_piece() -> None:
    text = "aaaa bbbb cccc dd ee"
    tree = join([support(Leaf(15, 17), Leaf(0, 14), "cause"), Leaf(18, 20)], "joint")
    assert cut(text, tree, 9) == ["aaaa bbbb", "cccc dd", "ee"]


def test_a_nested_list_of_a_hundred_thousand_characters_needs_no_recursion() -> None:
    text, row = words(*[4] * 5000)
    tree = row[-1]
    for number, leaf in enumerate(row[-2::-1]):
        tree = support(tree, leaf, "elaboration") if number % 2 else join([leaf, tree], "joint")
    chunks = cut(text, tree, 49)
    assert " ".join(chunks) == text
    assert max(map(len, chunks)) <= 49
    assert len(draw(tree, text)) > len(text)


def test_chunks_keep_the_size_where_the_length_shrinks_as_the_text_grows() -> None:
    text, row = words(*[2] * 12)
    merged = {"dd ee ff": 9, "cc dd ee ff": 8}  # as if "cc" and "dd" made one token together

    def length(piece: str) -> int:
        return merged.get(piece, len(piece))

    even = DiscourseSplitter(Planted(join(row, "list")), chunk_size=8)
    assert "dd ee ff" in [chunk.text for chunk in even.split(text)]
    chunks = DiscourseSplitter(Planted(join(row, "list")), chunk_size=8, length=length).split(text)
    assert " ".join(chunk.text for chunk in chunks) == text
    assert max(length(chunk.text) for chunk in chunks) <= 8


def test_a_text_that_fits_is_not_parsed_and_whitespace_has_no_chunks() -> None:
    splitter = DiscourseSplitter(Planted(None), chunk_size=5)
    assert splitter.split("  ab c\n") == [Chunk("ab c", 2, 6)]
    assert splitter.split("") == splitter.split(" \r\n\t ") == []
    with pytest.raises(ModelError, match="no tree"):
        splitter.split("ab cd ef")


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        (Leaf(0, 2), "no unit holds 'bb', after 2"),
        (Leaf(3, 5), "no unit holds 'aa', between 0 and 3"),
        (Leaf(0, 9), "ends at 9, the text at 5"),
        (Node((Leaf(0, 3), Leaf(3, 5)), (0, 1), "joint"), "begins or ends with whitespace"),
    ],
)
def test_a_tree_of_another_text_is_refused(tree: Tree, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        DiscourseSplitter(Planted(tree), chunk_size=4).split("aa bb")


@pytest.mark.parametrize(
    ("children", "nuclei", "message"),
    [
        ((Leaf(0, 1),), (0,), "joins 1 spans"),
        ((Leaf(0, 3), Leaf(2, 5)), (0,), "ends at 3, the next starts at 2"),
        ((Leaf(2, 5), Leaf(0, 1)), (0,), "ends at 5, the next starts at 0"),
        ((Leaf(0, 1), Leaf(2, 3)), (), "nuclei"),
        ((Leaf(0, 1), Leaf(2, 3)), (2,), "nuclei"),
        ((Leaf(0, 1), Leaf(2, 3)), (-1,), "nuclei"),
        ((Leaf(0, 1), Leaf(2, 3)), (1, 0), "nuclei"),
        ((Leaf(0, 1), Leaf(2, 3), Leaf(4, 5)), (0, 1), "nuclei"),
    ],
)
def test_a_node_that_cannot_be_is_refused(children: tuple[Tree, ...], nuclei: tuple[int, ...], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Node(children, nuclei, "some")


@pytest.mark.parametrize(("start", "end"), [(0, 0), (3, 2), (-1, 2)])
def test_a_leaf_that_cannot_be_is_refused(start: int, end: int) -> None:
    with pytest.raises(ConfigError):
        Leaf(start, end)


@pytest.mark.parametrize("size", [0, -1, True, 1.5, "9"])
def test_a_size_that_cannot_be_is_refused(size: int) -> None:
    with pytest.raises(ConfigError, match="chunk_size"):
        DiscourseSplitter(Planted(None), chunk_size=size)


def test_the_fingerprint_names_every_parameter() -> None:
    def of(name: str = "planted", size: int = 1000) -> str:
        return DiscourseSplitter(Planted(None, name), chunk_size=size).fingerprint

    assert len({of(), of("other"), of(size=9)}) == 3
    assert of() == DiscourseSplitter(Planted(None)).fingerprint
    assert "planted" in of()
    assert "characters" in of()
    local = DiscourseSplitter(Planted(None), length=lambda text: 1)
    with pytest.raises(ConfigError, match="cannot be named"):
        _ = local.fingerprint


def test_the_classes_follow_the_protocols() -> None:
    assert isinstance(DiscourseSplitter(), Splitter)
    assert isinstance(DiscourseSplitter().parser, DiscourseParser)
    assert not isinstance(DiscourseSplitter(), DiscourseParser)


def test_importing_brings_no_optional_library() -> None:
    script = (
        "import sys; import vecbench.rag.split.discourse, vecbench.rag.split.neural;"
        "print([m for m in ('pysbd', 'torch', 'isanlp_rst', 'onnxruntime', 'tokenizers') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_ten_thousand_leaves_are_cut_exactly_where_runs_of_ten_allow_it() -> None:
    shuffled = random.Random(4)  # noqa: S311 - an order, no secret
    text, row = words(*[4] * 10_000)
    runs: list[Tree] = []
    for first in range(0, 10_000, 10):
        nucleus = shuffled.randrange(10)
        runs.append(Node(tuple(row[first : first + 10]), (nucleus,), "some"))
    assert cut(text, join(runs, "joint"), 49) == [text[at : at + 49] for at in range(0, len(text), 50)]
