"""From a row of spans, and what opens each of them, to one tree; the same for clauses, sentences and paragraphs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from vecbench.rag.split.markers import Satellite
from vecbench.rag.split.tree import Tree, join, support

__all__ = ["Opening", "compose"]


@dataclass(frozen=True, slots=True)
class Opening:
    """How a span relates to what stands before it. satellite: "marked" is the span itself, "other" what is before."""

    relation: str
    satellite: Satellite
    series: bool = False


def compose(spans: Sequence[Tree], openings: Sequence[Opening | None]) -> Tree:
    """One tree of all spans; `openings[0]` is of no account, for nothing stands before it.

    Two or more spans that open as members of a series ("First, …", "Second, …") begin the members of a list, each of
    which reaches to the next. A span without an opening is joined to what stands before as an equal ("joint").
    """
    members = [index for index, opening in enumerate(openings) if opening and opening.series]
    if len(members) < 2:
        return _joint(spans, openings)
    ends = [*members[1:], len(spans)]
    listed = join([_joint(spans[a:b], openings[a:b]) for a, b in zip(members, ends, strict=True)], "list")
    if not members[0]:
        return listed
    return _joint([*spans[: members[0]], listed], [*openings[: members[0]], None])


def _joint(spans: Sequence[Tree], openings: Sequence[Opening | None]) -> Tree:
    """Runs of spans that refer to each other, side by side."""
    starts = [0, *(index for index in range(1, len(spans)) if _no_link(openings[index]))]
    ends = [*starts[1:], len(spans)]
    return join([_run(spans[a:b], openings[a:b]) for a, b in zip(starts, ends, strict=True)], "joint")


def _no_link(opening: Opening | None) -> bool:
    return opening is None or opening.series


def _run(spans: Sequence[Tree], openings: Sequence[Opening | None]) -> Tree:
    """Spans of which each refers back.

    A satellite refers to the span just before it, with all that refers to itself in turn. A nucleus ("therefore") and
    an equal ("on the other hand") refer to all that stands before them in the run.
    """
    groups: list[tuple[Opening, Tree]] = []  # the last first, each with what it refers back by
    tree = spans[-1]
    for span, opening in zip(reversed(spans[:-1]), reversed(openings[1:]), strict=True):
        if opening is None:
            raise AssertionError("a run is of spans that refer back")
        if opening.satellite == "marked":
            tree = support(tree, span, opening.relation)
        else:
            groups.append((opening, tree))
            tree = span
    equals: list[Tree] = [tree]
    relation = ""
    for opening, group in reversed(groups):
        if opening.satellite == "other":
            equals = [support(join(equals, relation), group, opening.relation)]
            relation = ""
            continue
        if relation not in ("", opening.relation):
            equals = [join(equals, relation)]
        relation = opening.relation
        equals.append(group)
    return join(equals, relation)
