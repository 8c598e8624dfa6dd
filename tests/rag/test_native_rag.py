"""A whole pipeline that has the store search the words, over every store that can."""

from __future__ import annotations

from typing import Any

import pytest

from vecbench import connect
from vecbench.errors import ConfigError, UnsupportedOperation
from vecbench.rag import Rag

from .pipeline_parts import CONTRACT, DOCUMENTS, QUESTION, Bag

LANGUAGES = {
    "elasticsearch": "standard",  # Elastic's reduced distribution has no analyzer of a language
    "pgvector": "english",
    "qdrant": "english",
    "redisearch": "english",
    "weaviate": "english",
}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "name" in metafunc.fixturenames:
        asked = {name.strip() for name in metafunc.config.getoption("--stores").split(",")}
        metafunc.parametrize("name", [name for name in LANGUAGES if asked & {name, "all"}])


def test_words_by_the_store(name: str) -> None:
    with connect(name) as store:
        options: dict[str, Any] = {"embedder": Bag(), "words_language": LANGUAGES[name], "neighbours": 0}
        with Rag(store, "words", retriever="native-lexical", **options) as rag:
            rag.add(DOCUMENTS[:2])
            (found,) = rag.retrieve("thirty")
            assert (found.source, found.distance) == ("holidays.txt", None)
            assert rag.retrieve("nowhere") == []
            assert rag.remove("holidays.txt") == 1
            assert rag.retrieve("thirty") == []
        with Rag(store, "words", retriever="native-hybrid", **options) as rag:  # another, later
            answer = rag.ask(QUESTION)
            assert str(answer) == f"{CONTRACT} [1]"
            best = answer.citations[0].passage
            assert best.distance is not None
            assert best.score == pytest.approx(2 / 61)  # first of both rankings
            quick = rag.ask(QUESTION, budget_ms=0.001)
            assert "searched by vectors only" in " ".join(quick.notes)


def test_where_no_store_can() -> None:
    with connect("memory") as store:
        with pytest.raises(UnsupportedOperation, match="LexicalRetriever"):
            Rag(store, embedder=Bag(), retriever="native-hybrid")
        with pytest.raises(ConfigError, match="words_language is for"):
            Rag(store, embedder=Bag(), retriever="hybrid", words_language="german")
