"""Sentence boundaries in English, Chinese and mixtures, and chunks of whole sentences."""

from __future__ import annotations

import re
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vecbench.embed import MiniLM
from vecbench.errors import ConfigError, MissingDependency
from vecbench.rag.split import SentenceSplitter, TokenLength
from vecbench.rag.split import sentences as module
from vecbench.rag.split.sentences import is_chinese, sentences
from vecbench.rag.types import Chunk, Splitter

ROOT = Path(__file__).resolve().parents[2]


def found(text: str, language: str = "auto") -> list[str]:
    spans = sentences(text, language)
    check(text, spans)
    return [text[start:end] for start, end in spans]


def check(text: str, spans: list[tuple[int, int]]) -> None:
    """In order, not empty, without whitespace at their ends, and nothing but whitespace between them."""
    assert all(start < end for start, end in spans)
    gaps = (
        [(0, spans[0][0]), *((a[1], b[0]) for a, b in pairwise(spans)), (spans[-1][1], len(text))]
        if spans
        else [(0, len(text))]
    )
    assert all(start <= end and not text[start:end].strip() for start, end in gaps)
    assert all(text[start:end].strip() == text[start:end] for start, end in spans)


ENGLISH = [
    ["Dr. Smith went home at 5 p.m. on Monday.", "He paid $3.50 for it.", "Why?"],
    ["Yes.", "Yes.", "No, e.g. this one.", "Yes."],  # repeated sentences each at their own place
    ["The U.S. economy grew by 1.5 percent.", "See Fig. 3 for details!"],
    ['"Stop!" he said.', "She did not."],
    ["See https://example.org/?q=1 and <!-- this --> there.", "A sentence that ends nowhere"],
]


@pytest.mark.parametrize("parts", ENGLISH)
@pytest.mark.parametrize("between", [" ", "  ", "\n", "\r\n", " \t"])
def test_english(parts: list[str], between: str) -> None:
    assert found(between.join(parts)) == parts
    assert found(between.join(parts), "en") == parts


CHINESE = [
    ["我们今天去北京。", "你去吗？", "太好了！"],
    ["他说：“好！”", "然后走了。"],  # a sentence keeps its closing quote
    ["「真的嗎？」，她問。", "沒有人回答……", "大家都走了。"],  # a comma goes on with the sentence
    ["他买了苹果、香蕉……等水果。", "真贵!", "下次不买了."],  # half-width signs behind ideographs
    ["我读了《你好！世界》和一篇短文（很短。真的。），都不错。", "你呢？！"],  # nothing ends in titles and brackets
    ["版本3.5已发布。", "请看https://example.org/?q=1的说明。"],
]


@pytest.mark.parametrize("parts", CHINESE)
def test_chinese(parts: list[str]) -> None:
    for between in ("", "\n", "\u3000"):
        assert found(between.join(parts)) == parts
        assert found(between.join(parts), "zh") == parts


def test_mixed_text_is_read_part_by_part() -> None:
    parts = [
        "我们读了这篇文章。",
        "It was written by Dr. Smith in the U.S. last year.",
        "It is short.",
        "但是很好！",
        "Really?",
    ]
    assert found(" ".join(parts)) == parts
    assert found("\n\n".join(parts)) == parts
    assert is_chinese("我们用 Python 语言写程序") is True
    assert is_chinese("The word 书 means book.") is False
    assert is_chinese("12.") is False


def test_blocks_end_sentences_and_line_breaks_do_not() -> None:
    text = (
        "# A heading\nThe first paragraph is\nwrapped. It has two sentences\n\n- one item\n- another. With more\n\n"
        "| a. B | c |\n\n```\nx = 1. Y = 2.\n```\n"
    )
    assert found(text) == [
        "# A heading",
        "The first paragraph is\nwrapped.",
        "It has two sentences",
        "- one item",
        "- another.",
        "With more",
        "| a. B | c |",
        "```\nx = 1. Y = 2.\n```",
    ]


def test_another_language_of_the_library() -> None:
    assert found("Das kostet z. B. 3 Euro. Wirklich? Ja.", "de") == ["Das kostet z. B. 3 Euro.", "Wirklich?", "Ja."]


@pytest.mark.parametrize("text", ["", " \n\t", "\u3000"])
def test_whitespace_has_no_sentences(text: str) -> None:
    assert found(text) == []
    assert SentenceSplitter().split(text) == []


tokens = st.sampled_from(
    [
        "Mr. ",
        "e.g. ",
        "a",
        "B",
        ".",
        " ",
        "\n",
        "! ",
        "...",
        "(",
        "[",
        '"',
        "’",
        "1.",
        "2) ",
        "\\1",
        "&∯&",
        "ȸ",
        "&ᓴ&",
        "\x1c",
        "é",
        "👩\u200d",
        "中",
        "。",
        "”",
        "《",
        "…",
        "a@b.c ",
        "U.S. ",
        "\r\n\r\n",
        "- ",
        "```\n",
    ]
)


@settings(max_examples=150, deadline=None)
@given(st.lists(tokens, max_size=30).map("".join), st.sampled_from(["auto", "en", "zh"]))
def test_spans_hold_every_text_exactly(text: str, language: str) -> None:
    check(text, sentences(text, language))


def test_a_text_that_the_library_alters_is_cut_at_full_stops(monkeypatch: pytest.MonkeyPatch) -> None:
    """pysbd marks what it protects with rare signs, and takes those of the text for its own."""
    altered = "A sign &ᓴ& of theirs. Then more. The end"
    segmenter = module._segmenter("en")
    assert "".join("".join(segmenter.processor(altered).process()).split()) != "".join(altered.split())
    assert found(altered) == ["A sign &ᓴ& of theirs.", "Then more.", "The end"]

    class Failing:
        def processor(self, text: str) -> Any:
            raise re.error("bad pattern")

    monkeypatch.setattr(module, "_segmenter", lambda language: Failing())
    assert found("One of them. Another.") == ["One of them.", "Another."]


def test_long_paragraphs_are_read_in_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    parts = [f"Sentence {number} was written by Dr. Smith in the U.S. last year." for number in range(60)]
    sizes: list[int] = []
    starts = module._starts

    def counted(text: str, language: str) -> list[int]:
        sizes.append(len(text))
        return starts(text, language)

    monkeypatch.setattr(module, "_starts", counted)
    assert found(" ".join(parts)) == parts
    endless = "word " * 3000
    assert found(endless + "and an end. Another one.") == [endless + "and an end.", "Another one."]
    assert found("x" * 7000 + ". Yes.") == ["x" * 7000 + ".", "Yes."]
    assert max(sizes) == 2000
    assert sum(sizes) < 2.5 * len(" ".join(parts) + endless + "x" * 7000)


def test_unknown_language_and_missing_library(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="language is 'tlh'"):
        sentences("text", "tlh")
    with pytest.raises(ConfigError, match="language is 'tlh'"):
        SentenceSplitter(language="tlh")
    module._segmenter.cache_clear()
    monkeypatch.setitem(sys.modules, "pysbd", None)
    with pytest.raises(MissingDependency, match="rag"):
        sentences("Some text. More.")
    assert sentences("没有别的库也行。对吗？", "zh") == [(0, 8), (8, 11)]


# Chunks of sentences.

STORY = "One is here. Two is here. Three is here. Four is here."


def test_whole_sentences_are_packed() -> None:
    splitter = SentenceSplitter(26)
    assert isinstance(splitter, Splitter)
    assert [chunk.text for chunk in splitter.split(STORY)] == [
        "One is here. Two is here.",
        "Three is here.",
        "Four is here.",
    ]
    assert splitter.split(STORY)[1] == Chunk("Three is here.", 26, 40)
    assert [chunk.text for chunk in SentenceSplitter(29).split(STORY)] == [
        "One is here. Two is here.",
        "Three is here. Four is here.",
    ]


def test_sentences_overlap_as_far_as_there_is_room() -> None:
    assert [chunk.text for chunk in SentenceSplitter(29, 1).split(STORY)] == [
        "One is here. Two is here.",
        "Two is here. Three is here.",
        "Three is here. Four is here.",
    ]
    assert [chunk.text for chunk in SentenceSplitter(26, 1).split(STORY)][1:] == ["Three is here.", "Four is here."]


def test_a_long_sentence_alone_is_cut_finer() -> None:
    text = "Short one. " + "word " * 20 + "end. Last one."
    chunks = SentenceSplitter(30, 1).split(text)
    assert chunks[0].text == "Short one."
    assert chunks[-1].text == "Last one."
    assert all(len(chunk.text) <= 30 and text[chunk.start : chunk.end] == chunk.text for chunk in chunks)
    assert " ".join(chunk.text for chunk in chunks) == text
    chinese = "这是一个很长的句子，里面有逗号，没有别的。"
    assert [chunk.text for chunk in SentenceSplitter(11).split(chinese)] == [
        "这是一个很长的句子，",
        "里面有逗号，没有别的。",
    ]


@settings(max_examples=100, deadline=None)
@given(st.lists(tokens, max_size=40).map("".join), st.integers(1, 40), st.integers(0, 3))
def test_chunks_are_exact_cover_the_text_and_keep_the_size(text: str, size: int, overlap: int) -> None:
    chunks = SentenceSplitter(size, overlap).split(text)
    assert all(chunk.text == text[chunk.start : chunk.end] and 0 < len(chunk.text) <= size for chunk in chunks)
    assert all(before.start <= after.start and before.end <= after.end for before, after in pairwise(chunks))
    covered = {place for chunk in chunks for place in range(chunk.start, chunk.end)}
    assert all(character.isspace() for place, character in enumerate(text) if place not in covered)


def test_sizes_in_tokens(minilm: MiniLM) -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text()[:20_000]
    chunks = SentenceSplitter(64, 1, length=TokenLength(minilm)).split(text)
    assert all(len(minilm.token_spans(chunk.text)) <= 64 for chunk in chunks)
    assert all(text[chunk.start : chunk.end] == chunk.text for chunk in chunks)
    assert len(chunks) > 20


@pytest.mark.parametrize(
    "options", [{"chunk_size": 0}, {"overlap_sentences": -1}, {"overlap_sentences": True}, {"length": 3}]
)
def test_wrong_parameters_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        SentenceSplitter(**options)


def test_fingerprints_name_every_parameter() -> None:
    made = [
        SentenceSplitter(),
        SentenceSplitter(999),
        SentenceSplitter(overlap_sentences=1),
        SentenceSplitter(language="zh"),
        SentenceSplitter(length=is_chinese),
    ]
    assert len({splitter.fingerprint for splitter in made}) == len(made)
