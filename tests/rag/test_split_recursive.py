"""The recursive splitter against its reference, and what must hold of its chunks for any text."""

from __future__ import annotations

import logging
import random
import re
import subprocess
import sys
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_text_splitters import Language, RecursiveCharacterTextSplitter

from vecbench.errors import ConfigError
from vecbench.rag.split import LANGUAGES, RecursiveSplitter, TokenLength, language_of
from vecbench.rag.split.separators import for_source, separators
from vecbench.rag.types import Chunk, Splitter

from .splitting import CHINESE, NASTY, ROOT, count_words, data_set_texts, real_texts, reference, texts


def count_bytes(text: str) -> int:
    return len(text.encode())


LENGTHS: list[Callable[[str], int]] = [
    *(len, len, count_words, count_bytes, lambda text: len(text) // 3, lambda text: len(text) + 2),
    lambda text: abs(len(text) - 2),  # pieces of no length, and separators that have one
]


@pytest.fixture(autouse=True)
def _quiet_reference(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """The reference logs a warning for each chunk that no separator could cut."""
    with caplog.at_level(logging.ERROR, logger="langchain_text_splitters"):
        yield


def generated(count: int, *, regex: bool, keep: Sequence[Any]) -> Iterator[tuple[str, RecursiveSplitter]]:
    """Texts with parameters, from a few characters so that separators are frequent and stand in rows."""
    rng = random.Random(42)  # noqa: S311 - not a secret
    literal = (("\n\n", "\n", " ", ""), ("\n", " "), ("",), ("a", "", "b"), (" ", "a"), (".", ",", " "), ("\n\n",))
    patterns = (("\\s+", ""), ("(?<=a)", "b"), ("(?=a)", " ", ""), ("$", "\\b", " "), ("^a", " ", ""), (" ", "^a", ""))
    for _ in range(count):
        alphabet = rng.choice(["ab \n", "abc.,  \n\n", "a\n", "ab", "天地。，a \n\r", "$a b\n#"])
        size = rng.randint(1, 20)
        yield (
            "".join(rng.choices(alphabet, k=rng.randint(0, 80))),
            RecursiveSplitter(
                chunk_size=size,
                chunk_overlap=rng.randint(0, size),
                separators=rng.choice(patterns if regex else literal),
                keep_separator=rng.choice(keep),
                is_separator_regex=regex,
                strip_whitespace=rng.random() < 0.5,
                length=rng.choice(LENGTHS),
            ),
        )


@pytest.mark.parametrize("regex", [False, True])
def test_equals_the_reference_on_generated_texts(regex: bool) -> None:
    compared = 0
    for text, splitter in generated(2000, regex=regex, keep=(True, "start", "end")):
        chunks = splitter.split(text)
        if text.strip():
            assert texts(chunks) == reference(text, splitter), (text, splitter)
            compared += 1
        else:
            assert chunks == []
        assert all(text[chunk.start : chunk.end] == chunk.text for chunk in chunks)
    assert compared > 1500


def test_without_separators_equals_the_reference_where_its_chunks_are_in_the_text() -> None:
    """No separator follows another: then what the reference writes between pieces is what stands there."""
    compared = 0
    for text, splitter in generated(3000, regex=False, keep=(False,)):
        chunks = splitter.split(text)
        assert all(text[chunk.start : chunk.end] == chunk.text for chunk in chunks)
        if text.strip() and not any(separator * 2 in text for separator in splitter.separators if separator):
            assert texts(chunks) == reference(text, splitter), (text, splitter)
            compared += 1
    assert compared > 1000


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(st.text("abc", min_size=1, max_size=6), st.integers(1, 4)), min_size=1, max_size=20),
    st.integers(8, 40),
    st.integers(0, 7),
)
def test_without_separators_rows_of_them_stay_in_the_chunk(
    words: list[tuple[str, int]], size: int, overlap: int
) -> None:
    """The reference writes one separator for many; ours has the same pieces, unless the many do not fit."""
    text = "".join(word + "-" * dashes for word, dashes in words)
    splitter = RecursiveSplitter(size, overlap, ("-",), keep_separator=False)
    chunks = splitter.split(text)
    assert [text[chunk.start : chunk.end] for chunk in chunks] == texts(chunks)
    assert all(len(chunk.text) <= size for chunk in chunks)
    assert all(before.end - after.start <= overlap for before, after in pairwise(chunks))
    pieces = [[piece for piece in chunk.text.split("-") if piece] for chunk in chunks]
    expected = [chunk.split("-") for chunk in reference(text, splitter)]
    if overlap == 0:
        assert sum(pieces, []) == sum(expected, [])  # noqa: RUF017 - short
        more = sum(dashes - 1 for _, dashes in words)
        if all(len(chunk) + more <= size for chunk in reference(text, splitter)):
            assert pieces == expected


def test_the_conflict_with_the_reference_as_documented() -> None:
    splitter = RecursiveSplitter(10, 0, keep_separator=False)
    assert reference("a\n\n\n\nb", splitter) == ["a\n\nb"]
    assert splitter.split("a\n\n\n\nb") == [Chunk("a\n\n\n\nb", 0, 6)]
    assert splitter.split("a" + "\n" * 20 + "b") == [Chunk("a", 0, 1), Chunk("b", 21, 22)]
    pattern = replace(splitter, separators=(r"\s+",), is_separator_regex=True)
    assert reference("a b", pattern) == [r"a\s+b"]
    assert pattern.split("a b") == [Chunk("a b", 0, 3)]


def test_groups_in_a_separator_change_nothing() -> None:
    plain = RecursiveSplitter(4, 0, ("\n(?:#|=) ", ""), is_separator_regex=True)
    grouped = replace(plain, separators=("\n(#|=) ", ""))
    assert grouped.split("ab\n# cd\n= ef") == plain.split("ab\n# cd\n= ef") != []


CUTS = pytest.mark.parametrize(
    ("size", "overlap", "keep"),
    [(*sizes, keep) for sizes in ((40, 0), (200, 60), (1000, 100), (4000, 4000)) for keep in (True, "end", False)],
)


@CUTS
def test_equals_the_reference_on_real_texts(size: int, overlap: int, keep: Any) -> None:
    require_equal(real_texts(), size, overlap, keep)


@CUTS
def test_equals_the_reference_on_data_sets(size: int, overlap: int, keep: Any, real_data: Path) -> None:
    require_equal(data_set_texts(real_data), size, overlap, keep)


def require_equal(given: dict[str, str], size: int, overlap: int, keep: Any) -> None:
    for name, given_text in given.items():
        splitter = RecursiveSplitter(size, overlap, keep_separator=keep)
        alone = re.sub(" +", " ", re.sub("\n\n+", "\n\n", given_text))  # no separator follows another
        text = alone if keep is False else given_text
        chunks = splitter.split(text)
        assert texts(chunks) == reference(text, splitter), name
        assert all(text[chunk.start : chunk.end] == chunk.text for chunk in chunks), name


PRESETS = {name: Language(name) for name in set(LANGUAGES) - {"text", "chinese", "javascript", "typescript"}}
PRESETS |= {"javascript": Language.JS, "typescript": Language.TS}


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_separators_of_languages_are_the_references(name: str) -> None:
    assert list(LANGUAGES[name]) == RecursiveCharacterTextSplitter.get_separators_for_language(PRESETS[name])


@pytest.mark.parametrize(("name", "source"), [("markdown", "README.md"), ("python", "vecbench/collection.py")])
def test_equals_the_reference_by_language(name: str, source: str) -> None:
    text = (ROOT / source).read_text()
    splitter = RecursiveSplitter.for_language(name, chunk_size=300, chunk_overlap=30)
    theirs = RecursiveCharacterTextSplitter.from_language(PRESETS[name], chunk_size=300, chunk_overlap=30)
    assert texts(splitter.split(text)) == theirs.split_text(text)
    assert for_source(source) == splitter.separators


def test_separators_are_found_by_suffix() -> None:
    sources = ["a/B.MD", "x.tar.rs", "page.html", "notes.txt", "Makefile", "lib.hpp", "t.tsx"]
    assert " ".join(map(language_of, sources)) == "markdown rust html text text cpp typescript"
    with pytest.raises(ConfigError, match="'klingon'; there are: c, chinese"):
        separators("klingon")


def test_chinese_is_cut_after_its_punctuation() -> None:
    chunks = RecursiveSplitter.for_language("chinese", chunk_size=12, chunk_overlap=0).split(CHINESE)
    assert texts(chunks)[:4] == ["我们把一段文字切成小块。", "“为什么？”他问。", "因为模型一次只能读两百多", "个词，"]
    assert all(chunk.text[0] not in "。，！？”" for chunk in chunks)


characters = st.text(st.sampled_from("ab é\n\t\r.。中👩\u200d\u0301\u3000x"), max_size=200)
sizes = st.integers(1, 30).flatmap(lambda size: st.tuples(st.just(size), st.integers(0, size)))


@settings(max_examples=300, deadline=None)
@given(characters, sizes, st.sampled_from([True, "end", False]), st.booleans(), st.sampled_from([len, count_bytes]))
def test_offsets_order_sizes_and_overlap(
    text: str, size: tuple[int, int], keep: Any, strip: bool, length: Callable[[str], int]
) -> None:
    splitter = RecursiveSplitter(*size, keep_separator=keep, strip_whitespace=strip, length=length)
    chunks = splitter.split(text)
    assert all(chunk.text and text[chunk.start : chunk.end] == chunk.text for chunk in chunks)
    for before, after in pairwise(chunks):
        assert before.start <= after.start
        assert before.end <= after.end
        assert length(text[after.start : before.end]) <= splitter.chunk_overlap
    # A single character may have more bytes than the size.
    assert all(length(chunk.text) <= splitter.chunk_size or len(chunk.text) == 1 for chunk in chunks)
    if keep:
        covered = {place for chunk in chunks for place in range(chunk.start, chunk.end)}
        assert all(character.isspace() for place, character in enumerate(text) if place not in covered)
        if not strip and text.strip():
            assert len(covered) == len(text)


def test_chunks_are_exact_where_code_points_are_not_letters() -> None:
    for form in ("NFC", "NFD"):
        text = unicodedata.normalize(form, NASTY)
        chunks = RecursiveSplitter(17, 5).split(text)
        assert len(chunks) > 40
        assert all(text[chunk.start : chunk.end] == chunk.text for chunk in chunks)


# Parameters.


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"chunk_size": 0}, "chunk_size is 0; it must be a whole number from 1 up"),
        ({"chunk_size": 2.5}, "chunk_size is 2.5"),
        ({"chunk_size": True}, "chunk_size is True"),
        ({"chunk_overlap": -1}, "chunk_overlap is -1"),
        ({"chunk_size": 10, "chunk_overlap": 11}, "chunk_overlap is 11, more than chunk_size, 10"),
        ({"separators": ()}, "a sequence of texts is needed"),
        ({"separators": "\n"}, "a sequence of texts is needed"),
        ({"separators": ("(",), "is_separator_regex": True}, r"separator '\(' is no regular expression"),
        ({"keep_separator": "middle"}, "keep_separator is 'middle'"),
        ({"length": 5}, "length is 5; it must be a function"),
    ],
)
def test_wrong_parameters_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        RecursiveSplitter(**options)
    with pytest.raises(ConfigError, match="token_spans"):
        TokenLength(5)  # type: ignore[arg-type]


def test_fingerprints_name_every_parameter() -> None:
    base = RecursiveSplitter()
    assert isinstance(base, Splitter)
    changes: list[dict[str, Any]] = [
        {"chunk_size": 999},
        {"chunk_overlap": 99},
        {"separators": ("\n",)},
        {"keep_separator": "end"},
        {"keep_separator": False},
        {"is_separator_regex": True},
        {"strip_whitespace": False},
        {"length": count_words},
        {"length": TokenLength(count_words)},
        {"length": TokenLength(lambda text: 1, name="one")},
    ]
    prints = {replace(base, **change).fingerprint for change in changes} | {base.fingerprint}
    assert len(prints) == len(changes) + 1
    assert all("\n" not in line for line in prints)
    assert replace(base, keep_separator="start").fingerprint == base.fingerprint
    with pytest.raises(ConfigError, match="no fingerprint"):
        _ = replace(base, length=lambda text: len(text) + 1).fingerprint


def test_importing_the_package_imports_no_library_and_every_name_is_there() -> None:
    code = (
        "import sys, vecbench.rag.split as split\n"
        "from vecbench.rag.split import recursive, sentences, separators, lengths\n"
        "print(sorted({'pysbd', 'tokenizers', 'onnxruntime', 'langchain_text_splitters'} & set(sys.modules)))\n"
        "print([name for name in split.__all__ if not hasattr(split, name)])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[:2] == ["[]", "[]"]
