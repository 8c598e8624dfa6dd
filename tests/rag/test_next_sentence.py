"""Merging by next-sentence probability, with scores made by hand."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vecbench.errors import ConfigError, RagError
from vecbench.rag.split.next_sentence import NextSentenceScorer, NextSentenceSplitter, PairScorer
from vecbench.rag.types import Chunk, Splitter

Scores = npt.NDArray[np.float64]


class ByHand:
    """Takes the probability from the second text, `B0.7` is 0.7 likely to follow; remembers what it was asked."""

    fingerprint = "by-hand"

    def __init__(self) -> None:
        self.asked: list[list[tuple[str, str]]] = []

    def score(self, pairs: Sequence[tuple[str, str]]) -> Scores:
        self.asked.append(list(pairs))
        return np.array([float(second[1:4]) for _, second in pairs])


class Pieces:
    """Chunks of three characters, each overlapping the one before by so many."""

    def __init__(self, overlap: int) -> None:
        self.overlap = overlap

    @property
    def fingerprint(self) -> str:
        return f"pieces(overlap={self.overlap})"

    def split(self, text: str) -> list[Chunk]:
        starts = range(0, len(text), 3 - self.overlap)
        return [Chunk(text[start : start + 3], start, min(start + 3, len(text))) for start in starts]


def words(text: str) -> list[tuple[int, int]]:
    return [match.span() for match in re.finditer(r"\S+", text)]


def count(text: str) -> int:
    return len(text)


def split(text: str, **options: Any) -> list[str]:
    chunks = NextSentenceSplitter(ByHand(), **{"units": words, **options}).split(text)
    assert all(text[chunk.start : chunk.end] == chunk.text for chunk in chunks)
    return [chunk.text for chunk in chunks]


@pytest.mark.parametrize(
    ("text", "options", "expected"),
    [
        ("A0.0 B0.6  C0.4\nD0.9", {}, ["A0.0 B0.6", "C0.4\nD0.9"]),
        ("A0.9 B0.5 C0.6", {}, ["A0.9", "B0.5 C0.6"]),  # 0.5 is not above 0.5, and the first follows nothing
        ("A0.0 B0.5 C0.6", {"threshold": 0.49}, ["A0.0 B0.5 C0.6"]),
        ("A0.0 B1.0 C1.0", {"threshold": 1.0}, ["A0.0", "B1.0", "C1.0"]),
        ("A0.0 B0.0 C0.1", {"threshold": 0.0}, ["A0.0", "B0.0 C0.1"]),
        ("A0.0 B0.9 C0.9 D0.9 E0.9", {"chunk_size": 14}, ["A0.0 B0.9 C0.9", "D0.9 E0.9"]),
        ("A0.0 B0.9 C0.9 D0.9 E0.9", {"chunk_size": 13}, ["A0.0 B0.9", "C0.9 D0.9", "E0.9"]),
        (
            "A0.0 B0.9 C0.9 D0.9",
            {"chunk_size": 2, "length": lambda text: len(text.split())},
            ["A0.0 B0.9", "C0.9 D0.9"],
        ),
        (" \n A0.0 \t", {}, ["A0.0"]),
        ("", {}, []),
        (" \n", {}, []),
    ],
)
def test_merges_while_likely_and_within_the_size(text: str, options: dict[str, Any], expected: list[str]) -> None:
    assert split(text, **options) == expected


def test_each_unit_is_scored_against_the_one_before_it_all_at_once() -> None:
    scorer = ByHand()
    NextSentenceSplitter(scorer, units=words).split("A0.0 B0.9 C0.9 D0.1")
    assert scorer.asked == [[("A0.0", "B0.9"), ("B0.9", "C0.9"), ("C0.9", "D0.1")]]


def test_pairs_that_cannot_be_merged_are_not_scored() -> None:
    scorer = ByHand()
    text = f"A0.0 B0.9 C0.9{'c' * 10} D0.9 E0.9"
    chunks = NextSentenceSplitter(scorer, units=words, chunk_size=14).split(text)
    assert [chunk.text for chunk in chunks] == ["A0.0 B0.9", f"C0.9{'c' * 10}", "D0.9 E0.9"]
    assert scorer.asked == [[("A0.0", "B0.9"), ("D0.9", "E0.9")]]
    NextSentenceSplitter(scorer, units=words, chunk_size=8).split("A0.0 B0.9")
    assert len(scorer.asked) == 1  # and where there is nothing to ask, nobody is asked


def test_a_unit_that_is_too_long_is_cut_and_joins_nobody() -> None:
    long = "C0.9 " + "one two three four five six seven"
    text = f"A0.0 {long} D0.9"

    def units(_: str) -> list[tuple[int, int]]:
        return [(0, 4), (5, 5 + len(long)), (6 + len(long), len(text))]

    found = NextSentenceSplitter(ByHand(), units=units, chunk_size=15).split(text)
    assert [chunk.text for chunk in found[:1] + found[-1:]] == ["A0.0", "D0.9"]
    assert len(found) > 3
    assert all(text[chunk.start : chunk.end] == chunk.text and len(chunk.text) <= 15 for chunk in found)
    inside = [chunk for chunk in found[1:-1] if 5 <= chunk.start <= chunk.end <= 5 + len(long)]
    assert len(inside) == len(found) - 2
    assert " ".join(chunk.text.strip() for chunk in inside) == long


def test_sentences_are_the_units_when_none_are_given() -> None:
    class Always:
        fingerprint = "always"

        def score(self, pairs: Sequence[tuple[str, str]]) -> Scores:
            return np.array([float(second.startswith("It")) for _, second in pairs])

    text = "The cat sat on the mat. It was warm. Prices rose again. It hurt."
    found = [chunk.text for chunk in NextSentenceSplitter(Always()).split(text)]
    assert found == ["The cat sat on the mat. It was warm.", "Prices rose again. It hurt."]


def test_another_splitter_gives_the_units() -> None:
    class Never:
        fingerprint = "never"

        def score(self, pairs: Sequence[tuple[str, str]]) -> Scores:
            return np.zeros(len(pairs))

    chunks = NextSentenceSplitter(Never(), units=Pieces(0)).split("ab cde\n\nfg")
    assert chunks == [Chunk("ab", 0, 2), Chunk("cde", 3, 6), Chunk("f", 8, 9), Chunk("g", 9, 10)]
    with pytest.raises(RagError, match=r"unit \[2:5\] begins before 3"):
        NextSentenceSplitter(Never(), units=Pieces(1)).split("abcdefg")


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.text("xyß語😀", max_size=6), st.integers(0, 10), st.sampled_from([" ", "\n\n", "  ", ""]))),
    st.integers(4, 30),
    st.sampled_from([0.0, 0.3, 0.5]),
)
def test_every_chunk_has_its_place_and_size(
    units: list[tuple[str, int, str]], chunk_size: int, threshold: float
) -> None:
    pieces, spans, text = [], [], ""
    for letters, tenths, gap in units:
        piece = f"A{tenths / 10:.1f}{letters}"[: max(4, chunk_size)]
        spans.append((len(text), len(text) + len(piece)))
        pieces.append(piece)
        text += piece + gap
    splitter = NextSentenceSplitter(ByHand(), threshold=threshold, chunk_size=chunk_size, units=lambda _: spans)
    chunks = splitter.split(text)
    assert all(text[chunk.start : chunk.end] == chunk.text for chunk in chunks)
    assert all(0 < len(chunk.text) <= chunk_size for chunk in chunks)
    assert {chunk.start for chunk in chunks} <= {start for start, _ in spans}  # cuts fall between units only
    covered = "".join(chunk.text for chunk in chunks)
    assert re.sub(r"\s", "", covered) == "".join(pieces)
    # Greedy, so that at each cut the next unit either is unlikely or would not have fitted.
    ends = dict(spans)
    for chunk, after in pairwise(chunks):
        unlikely = float(after.text[1:4]) <= threshold
        assert unlikely or ends[after.start] - chunk.start > chunk_size


@pytest.mark.parametrize(
    ("spans", "message"),
    [
        ([(0, 2), (1, 4)], r"unit \[1:4\] begins before 2"),
        ([(2, 5), (0, 2)], r"leave out 'ab'"),
        ([(0, 6)], "outside the text of 5"),
        ([(3, 2)], r"unit \[3:2\]"),
        ([(0, 2), (3, 5)], "leave out 'c' between 2 and 3"),
        ([(0, 4)], "leave out 'e' between 4 and 5"),
        ([], "leave out 'abcde'"),
    ],
)
def test_units_that_do_not_hold_the_text_are_refused(spans: list[tuple[int, int]], message: str) -> None:
    with pytest.raises(RagError, match=message):
        NextSentenceSplitter(ByHand(), units=lambda _: spans).split("abcde")


@pytest.mark.parametrize("scores", [[0.5], [0.5, float("nan")], [0.5, 1.1], [-0.1, 0.5], [[0.5], [0.5]]])
def test_what_is_no_probability_is_refused(scores: list[Any]) -> None:
    class Wrong:
        fingerprint = "wrong"

        def score(self, pairs: Sequence[tuple[str, str]]) -> Scores:
            return np.array(scores)

    with pytest.raises(RagError, match="the scorer wrong gave no 2 probabilities"):
        NextSentenceSplitter(Wrong(), units=words).split("a b c")


def test_wrong_parameters_are_refused() -> None:
    for threshold in (-0.1, 1.1, float("nan")):
        with pytest.raises(ConfigError, match="threshold is"):
            NextSentenceSplitter(ByHand(), threshold=threshold)
    with pytest.raises(ConfigError, match="chunk_size is 0"):
        NextSentenceSplitter(ByHand(), chunk_size=0)


def test_fingerprints_name_every_parameter() -> None:
    def made(**options: Any) -> str:
        return NextSentenceSplitter(ByHand(), **options).fingerprint

    other = ByHand()
    other.fingerprint = "other"
    distinct = [
        made(),
        made(threshold=0.6),
        made(chunk_size=999),
        made(length=count),
        made(units=words),
        made(units=Pieces(0)),
        made(units=Pieces(1)),
        NextSentenceSplitter(other).fingerprint,
    ]
    assert len(set(distinct)) == len(distinct)
    assert made(threshold=0.5, chunk_size=1000, length=len) == made()
    assert "by-hand" in made()
    assert "pieces(overlap=1)" in made(units=Pieces(1))
    assert isinstance(NextSentenceSplitter(ByHand()), Splitter)
    nameless: list[dict[str, Any]] = [
        {"length": lambda text: len(text) + 1},
        {"units": lambda text: words(text)[:]},
        {"units": Pieces(0).split},
    ]
    for options in nameless:
        with pytest.raises(ConfigError, match="cannot be named"):
            made(**options)


class Logits:
    """An encoder of given logits."""

    head, fingerprint = "next_sentence", "logits"

    def __init__(self, *rows: tuple[float, float]) -> None:
        self.rows = np.array(rows, np.float32)

    def logits(self, pairs: Sequence[tuple[str, str]]) -> npt.NDArray[np.float32]:
        return self.rows[: len(pairs)]


def test_probabilities_from_logits() -> None:
    encoder: Any = Logits((0, 0), (3, 0), (0, 3), (500, -500), (-500, 500))
    scorer = NextSentenceScorer(encoder)
    third = 1 / (1 + np.exp(-3))
    np.testing.assert_allclose(scorer.score([("a", "b")] * 5), [0.5, third, 1 - third, 1, 0], rtol=1e-12, atol=1e-300)
    assert isinstance(scorer, PairScorer)
    assert scorer.fingerprint == "next-sentence(logits)"
    encoder.head = "classifier"
    with pytest.raises(ConfigError, match="has the head 'classifier'"):
        NextSentenceScorer(encoder)
