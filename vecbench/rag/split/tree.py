"""Discourse trees: what rhetorical structure theory says of a text, as far as cutting the text needs it.

The terms are Mann and Thompson's (Rhetorical Structure Theory, Text 8, 1988). An *elementary discourse unit* is a
clause or so. A *nucleus* is what the writer wants to say, a *satellite* supports it and says little without it. A
*mononuclear* relation (cause, condition, concession, elaboration, …) joins one nucleus and its satellites; a
*multinuclear* one (joint, list, sequence, contrast) joins equals.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol, TypeAlias, runtime_checkable

from vecbench.errors import ConfigError, ModelError

__all__ = [
    "DiscourseParser",
    "Layout",
    "Leaf",
    "Node",
    "Tree",
    "check_tree",
    "draw",
    "join",
    "layout",
    "leaves",
    "support",
]


@dataclass(frozen=True, slots=True)
class Leaf:
    """An elementary discourse unit: `text[start:end]`, which neither begins nor ends with whitespace."""

    start: int
    end: int

    def __post_init__(self) -> None:
        if not 0 <= self.start < self.end:
            raise ConfigError(
                f"leaf from {self.start} to {self.end}: a leaf has a start of 0 or more and an end after it"
            )


@dataclass(frozen=True, slots=True)
class Node:
    """A relation between two or more spans that follow each other.

    children: in order of the text, apart at most by whitespace. nuclei: indices of the children that are nuclei,
    ascending: one (mononuclear) or all (multinuclear). relation: its name, "elaboration" for one. start, end: from the
    first child to the last.
    """

    children: tuple[Tree, ...]
    nuclei: tuple[int, ...]
    relation: str
    start: int = field(init=False)
    end: int = field(init=False)

    def __post_init__(self) -> None:
        count = len(self.children)
        if count < 2:
            raise ConfigError(f"relation {self.relation!r} joins {count} spans; it takes two or more")
        for before, after in zip(self.children, self.children[1:], strict=False):
            if before.end > after.start:
                raise ConfigError(
                    f"relation {self.relation!r}: a span ends at {before.end}, the next starts at {after.start} already"
                )
        one = len(self.nuclei) == 1 and 0 <= self.nuclei[0] < count
        if not one and self.nuclei != tuple(range(count)):
            raise ConfigError(
                f"relation {self.relation!r} of {count} spans has the nuclei {self.nuclei}; "
                "it takes one of them or all, by index, ascending"
            )
        object.__setattr__(self, "start", self.children[0].start)
        object.__setattr__(self, "end", self.children[-1].end)

    @property
    def multinuclear(self) -> bool:
        """True where all children are nuclei."""
        return len(self.nuclei) > 1


Tree: TypeAlias = Leaf | Node


def support(satellite: Tree, nucleus: Tree, relation: str) -> Node:
    """The mononuclear relation between two spans, in the order in which they stand."""
    if satellite.start < nucleus.start:
        return Node((satellite, nucleus), (1,), relation)
    return Node((nucleus, satellite), (0,), relation)


def join(spans: Sequence[Tree], relation: str) -> Tree:
    """The multinuclear relation between spans; a single one stays as it is."""
    return spans[0] if len(spans) == 1 else Node(tuple(spans), tuple(range(len(spans))), relation)


@runtime_checkable
class DiscourseParser(Protocol):
    """Finds the discourse tree of a text."""

    @property
    def fingerprint(self) -> str:
        """A line that names the parser and every parameter; parsers of equal fingerprint see equal trees."""
        ...

    def parse(self, text: str) -> Tree | None:
        """The tree whose leaves hold, in order, all of `text` but whitespace; None for a text of whitespace."""
        ...


def leaves(tree: Tree) -> Iterator[Leaf]:
    """The elementary discourse units, in order."""
    stack = [tree]
    while stack:
        node = stack.pop()
        if isinstance(node, Leaf):
            yield node
        else:
            stack.extend(reversed(node.children))


def check_tree(tree: Tree, text: str, parser: str) -> None:
    """Raise ModelError where the leaves of `tree` do not hold all of `text` but whitespace, or hold its edges.

    parser: the parser's fingerprint, for the message.
    """
    at = 0
    for leaf in leaves(tree):
        if leaf.end > len(text):
            raise ModelError(f"{parser}: a unit ends at {leaf.end}, the text at {len(text)}")
        if gap := text[at : leaf.start].strip():
            raise ModelError(f"{parser}: no unit holds {gap[:40]!r}, between {at} and {leaf.start}")
        if text[leaf.start].isspace() or text[leaf.end - 1].isspace():
            raise ModelError(f"{parser}: the unit from {leaf.start} to {leaf.end} begins or ends with whitespace")
        at = leaf.end
    if gap := text[at:].strip():
        raise ModelError(f"{parser}: no unit holds {gap[:40]!r}, after {at}")


class Layout(NamedTuple):
    """A tree as pairs of leaves, by index; that is all that cutting needs.

    leaves: in order. arcs: for every satellite, the leaf of its nucleus that it depends on and its own head, the
    earlier first. units: for every node, its first leaf and its last.
    """

    leaves: list[Leaf]
    arcs: list[tuple[int, int]]
    units: list[tuple[int, int]]


class _Span(NamedTuple):
    first: int
    last: int
    head_first: int  # the first and the last leaf of what Marcu calls the promotion set
    head_last: int


def layout(tree: Tree) -> Layout:
    """The dependencies between the leaves of a tree.

    A leaf is its own head; a mononuclear node's heads are those of its nucleus, a multinuclear node's those of all its
    children (Marcu's promotion set, 2000). A satellite depends on its nucleus, which makes a dependency tree of the
    leaves as in Hirao et al. (2013); where either side has several heads, the two that stand nearest to each other are
    bound, so that a heading is bound to the first paragraph beneath it and not to all.
    """
    units: list[Leaf] = []
    arcs: list[tuple[int, int]] = []
    nodes: list[tuple[int, int]] = []
    done: list[_Span] = []
    stack: list[tuple[Tree, bool]] = [(tree, False)]
    while stack:  # not recursive: a chain of ten thousand elaborations is ten thousand deep
        node, children_done = stack.pop()
        if isinstance(node, Leaf):
            index = len(units)
            units.append(node)
            done.append(_Span(index, index, index, index))
        elif not children_done:
            stack.append((node, True))
            stack.extend((child, False) for child in reversed(node.children))
        else:
            spans = done[-len(node.children) :]
            del done[-len(node.children) :]
            if not node.multinuclear:
                nucleus = spans[node.nuclei[0]]
                for span in spans:
                    if span.first < nucleus.first:
                        arcs.append((span.head_last, nucleus.head_first))
                    elif span.first > nucleus.first:
                        arcs.append((nucleus.head_last, span.head_first))
                head = nucleus
            else:
                head = _Span(0, 0, spans[0].head_first, spans[-1].head_last)
            nodes.append((spans[0].first, spans[-1].last))
            done.append(_Span(spans[0].first, spans[-1].last, head.head_first, head.head_last))
    return Layout(units, arcs, nodes)


def draw(tree: Tree, text: str) -> str:
    """The tree as an outline for people: one line for each node and leaf, `N` and `S` for nucleus and satellite."""
    lines = []
    stack = [(tree, 0, "")]
    while stack:
        node, depth, role = stack.pop()
        if isinstance(node, Leaf):
            lines.append(f"{'  ' * depth}{role}{' '.join(text[node.start : node.end].split())}")
            continue
        lines.append(f"{'  ' * depth}{role}[{node.relation}]")
        roles = ["N " if node.multinuclear or index in node.nuclei else "S " for index in range(len(node.children))]
        below = [(child, depth + 1, role) for child, role in zip(node.children, roles, strict=True)]
        stack += reversed(below)
    return "\n".join(lines)
