"""The recursive splitter by tokens: how they are counted, and chunks that keep their size in them."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vecbench.embed import MiniLM
from vecbench.errors import ConfigError
from vecbench.rag.split import LANGUAGES, RecursiveSplitter, TokenLength
from vecbench.rag.split.lengths import ruler

from .splitting import count_words, data_set_texts, real_texts, reference, texts


@pytest.fixture(autouse=True)
def _quiet_reference(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """The reference logs a warning for each chunk that no separator could cut."""
    with caplog.at_level(logging.ERROR, logger="langchain_text_splitters"):
        yield


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_tokens_of_a_piece_are_those_of_the_piece_alone(minilm: MiniLM, data: st.DataObject) -> None:
    pieces = ["un", "aff", "able", "[SEP]", "e\u0301", *" \n\u3000\x1c\x00\u200b.[中、，€é한👩ﬁ’"]
    text = "".join(data.draw(st.lists(st.sampled_from(pieces), max_size=25)))
    measure = ruler(TokenLength(minilm), text).measure
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, len(text)))
    assert measure(start, end) == len(minilm.token_spans(text[start:end]))


def test_a_word_that_is_cut_is_measured_as_it_is_cut(minilm: MiniLM) -> None:
    """Its end alone can have more tokens than it has in the word, or fewer."""
    text = "unaffable pgvector"
    measure = ruler(TokenLength(minilm), text).measure
    assert [text[start:end] for start, end in minilm.token_spans(text)] == ["una", "ffa", "ble", "pg", "ve", "ctor"]
    assert len(minilm.token_spans("ble")) == 2 == measure(6, 9)
    assert len(minilm.token_spans("vector")) == 1 == measure(12, 18)


def test_a_long_text_is_tokenised_once_in_blocks(minilm: MiniLM, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "Retrieval finds unaffordable passages. " * 200
    monkeypatch.setattr("vecbench.rag.split.lengths._BLOCK", 1000)
    asked: list[str] = []

    class Listening:
        def token_spans(self, text: str) -> list[tuple[int, int]]:
            asked.append(text)
            return minilm.token_spans(text)

    measure = ruler(TokenLength(Listening(), name="listening"), text).measure
    assert "".join(asked) == text
    assert max(map(len, asked)) < 1020
    blocks = len(asked)
    for start, end in ((0, len(text)), (10, 39), (39, 39 * 50), (39 * 100, 39 * 150)):  # cuts between words
        assert measure(start, end) == len(minilm.token_spans(text[start:end]))
    assert len(asked) == blocks


TOKENS = pytest.mark.parametrize(("size", "overlap"), [(32, 8), (254, 31)])


@TOKENS
def test_by_tokens_equals_the_reference_and_keeps_the_size(minilm: MiniLM, size: int, overlap: int) -> None:
    require_equal_by_tokens(real_texts(), minilm, size, overlap)


@TOKENS
def test_by_tokens_equals_the_reference_on_data_sets(minilm: MiniLM, size: int, overlap: int, real_data: Path) -> None:
    require_equal_by_tokens(data_set_texts(real_data), minilm, size, overlap)


def require_equal_by_tokens(given: dict[str, str], minilm: MiniLM, size: int, overlap: int) -> None:
    for name, text in given.items():
        part = text[:20_000]
        for language in ("text", "chinese"):
            splitter = RecursiveSplitter.by_tokens(
                minilm, size, overlap, separators=LANGUAGES[language], is_separator_regex=True
            )
            chunks = splitter.split(part)
            assert texts(chunks) == reference(part, splitter), name
            assert all(len(minilm.token_spans(chunk.text)) <= size for chunk in chunks), name


def test_by_tokens_takes_what_the_embedder_embeds_whole(minilm: MiniLM) -> None:
    splitter = RecursiveSplitter.by_tokens(minilm)
    assert (splitter.chunk_size, splitter.chunk_overlap) == (254, 31)
    assert f"length=tokens(all-MiniLM-L6-v2 {minilm.spec.fingerprint})" in splitter.fingerprint
    with pytest.raises(ConfigError, match="give chunk_size"):
        RecursiveSplitter.by_tokens(count_words)
    assert texts(RecursiveSplitter.by_tokens(count_words, 2, 0).split("a b c d e")) == ["a b", "c d", "e"]


def count_superadditive(text: str) -> int:
    """Each character one, and one more wherever "x" meets "y": joined, pieces have more than alone."""
    return len(text) + text.count("xy")


def test_a_chunk_with_more_tokens_than_its_pieces_is_cut_again() -> None:
    text = "xyxyxyxy zz xyxy"
    plain = RecursiveSplitter(6, 0, length=count_superadditive)
    assert max(map(count_superadditive, texts(plain.split(text)))) > 6  # as the reference has it
    chunks = RecursiveSplitter.by_tokens(count_superadditive, 6, 0).split(text)
    assert max(map(count_superadditive, texts(chunks))) <= 6
    assert "".join(texts(chunks)) == text.replace(" ", "")
    assert all(text[chunk.start : chunk.end] == chunk.text for chunk in chunks)
    uncut = RecursiveSplitter.by_tokens(count_superadditive, 6, 0, separators=(" ",)).split(text)
    assert texts(uncut) == [
        "xyxyxyxy",
        "zz",
        " xyxy",
    ]  # what nothing can cut is not stripped either, as in the reference
