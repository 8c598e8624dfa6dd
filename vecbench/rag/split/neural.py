"""A neural discourse parser behind our protocol: IsaNLP RST (package isanlp-rst 3.2), where it is installed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from itertools import pairwise
from typing import Any, Protocol, TypeAlias

from vecbench.errors import ConfigError, ModelError
from vecbench.rag.split.clauses import trimmed
from vecbench.rag.split.tree import Leaf, Node, Tree, join

__all__ = ["NeuralRstParser", "RstUnit"]

_VERSIONS = ("gumrrg", "rstdt", "rstreebank")
_REPOSITORY = "tchewik/isanlp_rst_v3"
_INSTALL = (
    "pip install isanlp-rst 'isanlp @ git+https://github.com/IINemo/isanlp'. No extra of vecbench brings it: isanlp is "
    "on no package index, and it needs torch and a model that is downloaded. MarkerParser needs neither"
)


class RstUnit(Protocol):
    """A node of the parser's binary tree, as isanlp's DiscourseUnit has it; left and right are None for a leaf.

    nuclearity: "NS", "SN" or "NN". start, end: offsets into the text that was parsed.
    """

    left: Any
    right: Any
    relation: str
    nuclearity: str
    start: int
    end: int
    text: str


_Parse: TypeAlias = Callable[[str], Mapping[str, Sequence[RstUnit]]]


class NeuralRstParser:
    """Discourse trees by a neural parser.

    parse: an `isanlp_rst.parser.Parser` of your own making, or anything that gives {"rst": [tree]} for a text. name: of
    the model, for the fingerprint.
    """

    def __init__(self, parse: _Parse, *, name: str) -> None:
        if not name:
            raise ConfigError("neural parser: the name is empty; name the model")
        self._parse, self._model = parse, name

    @classmethod
    def load(cls, version: str = "gumrrg", *, cuda_device: int = -1, model_dir: str | None = None) -> NeuralRstParser:
        """The published parser; it fetches its model from the Hugging Face hub, unless `model_dir` holds it.

        version: "gumrrg" (English, Russian), "rstdt" (English) or "rstreebank" (Russian). cuda_device: -1 for the CPU.
        Chinese is known by "unirst" only, which unpickles a file that comes with the model and so is not offered here;
        who trusts that file passes a parser made with it to `NeuralRstParser`. Raises ModelError where the package is
        not installed, or its model cannot be loaded.
        """
        if version not in _VERSIONS:
            raise ConfigError(f"neural parser: version is {version!r}; it must be one of {_VERSIONS}")
        try:
            parser: Any = import_module("isanlp_rst.parser")
        except ImportError as error:
            raise ModelError(f"neural parser: {error.name or error} is not installed: {_INSTALL}") from error
        options = {"model_dir": model_dir} if model_dir else {"hf_model_name": _REPOSITORY}
        try:
            parse = parser.Parser(hf_model_version=version, cuda_device=cuda_device, **options)
        except Exception as error:
            raise ModelError(f"neural parser: {version} cannot be loaded ({type(error).__name__}: {error})") from error
        return cls(parse, name=f"isanlp-rst {version}")

    @property
    def fingerprint(self) -> str:
        """The model's name; the published weights of a version may change under it."""
        return f"neural({self._model})"

    def parse(self, text: str) -> Tree | None:
        """The tree of `text`; None for a text of whitespace.

        Raises ModelError where the parser fails, or gives no tree of this text.
        """
        if not text.strip():
            return None
        try:
            units = list(self._parse(text)["rst"])
        except Exception as error:
            raise ModelError(f"{self.fingerprint}: parsing failed ({type(error).__name__}: {error})") from error
        if not units:
            raise ModelError(f"{self.fingerprint}: no tree for a text of {len(text)} characters")
        try:
            return self._converted(units, text)
        except (AttributeError, TypeError) as error:
            raise ModelError(f"{self.fingerprint}: no tree as isanlp-rst 3.2 makes it ({error})") from error

    def _converted(self, units: Sequence[RstUnit], text: str) -> Tree:
        """The binary trees as one of ours; a unit that turns out to hold whitespace only is left out."""
        rows = self._postorder(units)
        leaves = iter(self._leaves([unit for unit in rows if unit.left is None], text))
        done: list[Tree | None] = []
        for unit in rows:
            if unit.left is None:
                done.append(next(leaves))
            else:
                right, left = done.pop(), done.pop()
                done.append(self._node(unit, left, right) if left and right else left or right)
        return join([tree for tree in done if tree is not None], "joint")

    def _postorder(self, units: Sequence[RstUnit]) -> list[RstUnit]:
        rows: list[RstUnit] = []
        stack = list(units)
        while stack:  # parents before children, the right child first; reversed at the end
            unit = stack.pop()
            if (unit.left is None) is not (unit.right is None):
                raise ModelError(f"{self.fingerprint}: the unit from {unit.start} to {unit.end} has one child")
            rows.append(unit)
            if unit.left is not None:
                stack += [unit.left, unit.right]
        return rows[::-1]

    def _leaves(self, units: Sequence[RstUnit], text: str) -> list[Leaf | None]:
        """The units' places, each up to where the next begins: the parser's ends do not hold all signs between two."""
        last = 0
        for unit in units:
            if not last <= unit.start <= unit.end <= len(text) or not _same(unit.text, text[unit.start : unit.end]):
                raise ModelError(
                    f"{self.fingerprint}: {unit.text[:40]!r} is not what stands in the text from {unit.start} to "
                    f"{unit.end}; isanlp-rst 3.2 gives offsets into the text, older versions do not"
                )
            last = unit.start
        edges = [0, *(unit.start for unit in units[1:]), len(text)]
        return [trimmed(text, a, b) if text[a:b].strip() else None for a, b in pairwise(edges)]

    def _node(self, unit: RstUnit, left: Tree, right: Tree) -> Node:
        if unit.nuclearity in ("NS", "SN"):
            return Node((left, right), (unit.nuclearity.index("N"),), unit.relation)
        if unit.nuclearity != "NN":
            raise ModelError(
                f"{self.fingerprint}: nuclearity {unit.nuclearity!r} from {unit.start} to {unit.end}; NS, SN or NN is "
                "known"
            )
        return _flat([left, right], unit.relation)


def _flat(spans: Sequence[Tree], relation: str) -> Node:
    """Equals side by side: a list of four, which a binary tree nests, is one relation of four spans."""
    flat: list[Tree] = []
    for span in spans:
        nested = isinstance(span, Node) and span.multinuclear and span.relation == relation
        flat += span.children if isinstance(span, Node) and nested else [span]
    return Node(tuple(flat), tuple(range(len(flat))), relation)


def _same(one: str, other: str) -> bool:
    return "".join(one.split()) == "".join(other.split())
