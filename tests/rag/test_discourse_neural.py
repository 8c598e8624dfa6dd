"""The adapter of the neural parser, on hand-made trees of the package's shape; the neural model itself is not run."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Any

import pytest

from vecbench.errors import ConfigError, ModelError
from vecbench.rag.split.discourse import DiscourseSplitter
from vecbench.rag.split.neural import NeuralRstParser, RstUnit
from vecbench.rag.split.tree import DiscourseParser, Leaf, Node, check_tree, draw, leaves


class Unit:
    """The attributes of isanlp.annotation_rst.DiscourseUnit as isanlp-rst 3.2 leaves them: offsets into the text."""

    def __init__(  # as long as the original's
        self,
        text: str,
        start: int,
        end: int,
        *,
        left: Unit | None = None,
        right: Unit | None = None,
        relation: str = "elementary",
        nuclearity: str = "",
    ) -> None:
        self.id, self.left, self.right, self.start, self.end = 0, left, right, start, end
        self.relation, self.nuclearity, self.text = relation, nuclearity, text[start:end]
        self.proba, self.entropy = 1.0, 0.0


TEXT = "\nAnn stayed because it rained. Bob left, Cid slept ,  Dan ate.\n"


def leaf(words: str) -> Unit:
    at = TEXT.index(words)
    return Unit(TEXT, at, at + len(words))


def pair(left: Unit, right: Unit, relation: str, nuclearity: str) -> Unit:
    return Unit(TEXT, left.start, right.end, left=left, right=right, relation=relation, nuclearity=nuclearity)


def tree() -> Unit:
    rain = pair(leaf("Ann stayed"), leaf("because it rained."), "cause", "NS")
    equals = pair(leaf("Bob left,"), pair(leaf("Cid slept"), leaf("Dan ate."), "joint", "NN"), "joint", "NN")
    return pair(rain, equals, "background", "SN")


def parser(*units: RstUnit) -> NeuralRstParser:
    return NeuralRstParser(lambda text: {"rst": units}, name="planted")


def test_the_tree_is_converted() -> None:
    found = parser(tree()).parse(TEXT)
    assert found is not None
    check_tree(found, TEXT, "planted")
    assert draw(found, TEXT) == (
        "[background]\n"
        "  S [cause]\n"
        "    N Ann stayed\n"
        "    S because it rained.\n"
        "  N [joint]\n"  # three equals, which the binary tree nests
        "    N Bob left,\n"
        "    N Cid slept ,\n"  # with the comma that no unit of the parser holds
        "    N Dan ate."
    )


def test_several_trees_stand_side_by_side() -> None:
    rain = pair(leaf("Ann stayed"), leaf("because it rained."), "cause", "NS")
    found = parser(rain, leaf("Bob left, Cid slept ,  Dan ate.")).parse(TEXT)
    assert isinstance(found, Node)
    assert (found.relation, found.nuclei) == ("joint", (0, 1))
    assert len(list(leaves(found))) == 3


def test_a_single_unit_is_a_leaf_and_an_empty_one_is_left_out() -> None:
    assert parser(Unit("  ab ", 2, 4)).parse("  ab ") == Leaf(2, 4)
    empty = Unit("ab cd", 2, 2)
    two = Unit("ab cd", 0, 2, left=Unit("ab cd", 0, 2), right=empty, relation="joint", nuclearity="NN")
    assert parser(two, Unit("ab cd", 3, 5)).parse("ab cd") == Node((Leaf(0, 2), Leaf(3, 5)), (0, 1), "joint")


def test_a_deep_tree_needs_no_recursion() -> None:
    text = "a " * 5000
    unit = Unit(text, 9998, 9999)
    for at in range(9996, -1, -2):
        unit = Unit(text, at, 9999, left=Unit(text, at, at + 1), right=unit, relation="x", nuclearity="NS")
    found = parser(unit).parse(text)
    assert found is not None
    assert [one.start for one in leaves(found)] == list(range(0, 10_000, 2))


def test_it_serves_the_splitter() -> None:
    neural = parser(tree())
    assert isinstance(neural, DiscourseParser)
    chunks = DiscourseSplitter(neural, chunk_size=32).split(TEXT)
    assert [chunk.text for chunk in chunks] == ["Ann stayed because it rained.", "Bob left, Cid slept ,  Dan ate."]


def broken(**changes: Any) -> Unit:
    unit = tree()
    for name, value in changes.items():
        setattr(unit, name, value)
    return unit


def elsewhere() -> Unit:
    unit = tree()
    assert unit.right is not None
    assert unit.right.left is not None
    unit.right.left.start -= 3
    return unit


@pytest.mark.parametrize(
    ("units", "message"),
    [
        ([], "no tree"),
        ([broken(right=None)], "one child"),
        ([broken(left=None)], "one child"),
        ([broken(nuclearity="SS")], "nuclearity 'SS'"),
        ([elsewhere()], "not what stands in the text"),
        ([leaf("Bob left,"), leaf("Ann stayed")], "not what stands in the text"),
        ([Unit(TEXT, 0, 900)], "not what stands in the text"),
        ([None], "no tree as isanlp-rst"),
    ],
)
def test_what_is_no_tree_of_the_text_is_refused(units: Sequence[Any], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        parser(*units).parse(TEXT)


def test_a_failure_of_the_parser_is_told() -> None:
    def fails(text: str) -> Mapping[str, Sequence[RstUnit]]:
        raise RuntimeError("CUDA out of memory")

    with pytest.raises(ModelError, match=r"neural\(big\): parsing failed \(RuntimeError: CUDA out of memory\)"):
        NeuralRstParser(fails, name="big").parse("a b")
    with pytest.raises(ModelError, match="KeyError"):
        NeuralRstParser(lambda text: {}, name="big").parse("a b")
    assert NeuralRstParser(fails, name="big").parse(" \n") is None


def test_the_message_where_it_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "isanlp_rst", None)
    with pytest.raises(ModelError, match=r"isanlp_rst.* is not installed: pip install isanlp-rst .*No extra.*torch"):
        NeuralRstParser.load()


def test_the_package_s_parser_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[dict[str, Any]] = []

    class Parser:
        def __init__(self, model_dir: str | None = None, **options: Any) -> None:
            made.append({"model_dir": model_dir, **options})
            if model_dir == "nowhere":
                raise OSError("no best_weights.pt")

        def __call__(self, text: str) -> dict[str, list[Unit]]:
            return {"rst": [tree()]}

    module = ModuleType("isanlp_rst.parser")
    module.__dict__["Parser"] = Parser
    monkeypatch.setitem(sys.modules, "isanlp_rst", ModuleType("isanlp_rst"))
    monkeypatch.setitem(sys.modules, "isanlp_rst.parser", module)
    loaded = NeuralRstParser.load("rstdt", cuda_device=0)
    assert isinstance(loaded.parse(TEXT), Node)
    assert loaded.fingerprint == "neural(isanlp-rst rstdt)" != NeuralRstParser.load().fingerprint
    with pytest.raises(ModelError, match="OSError: no best_weights"):
        NeuralRstParser.load(model_dir="nowhere")
    hub = "tchewik/isanlp_rst_v3"
    assert made == [
        {"model_dir": None, "hf_model_name": hub, "hf_model_version": "rstdt", "cuda_device": 0},
        {"model_dir": None, "hf_model_name": hub, "hf_model_version": "gumrrg", "cuda_device": -1},
        {"model_dir": "nowhere", "hf_model_version": "gumrrg", "cuda_device": -1},
    ]


@pytest.mark.parametrize("version", ["unirst", "", "v1"])
def test_a_version_that_unpickles_or_is_unknown_is_refused(version: str) -> None:
    with pytest.raises(ConfigError, match="version"):
        NeuralRstParser.load(version)


def test_a_model_without_a_name_is_refused() -> None:
    with pytest.raises(ConfigError, match="name"):
        NeuralRstParser(lambda text: {}, name="")
