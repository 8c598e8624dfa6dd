from __future__ import annotations

from typing import Any

import pytest

import vecbench.embed.named
from vecbench.embed import MINILM_SPEC, embedder_named
from vecbench.embed.named import unloaded
from vecbench.errors import ConfigError, EmbedderError


def test_names(monkeypatch: pytest.MonkeyPatch) -> None:
    def noting(library: str) -> Any:
        return lambda model="", **options: (library, model, options)

    monkeypatch.setattr(vecbench.embed.named, "fixed_model", noting("fixed"))
    monkeypatch.setattr(vecbench.embed.named, "SentenceTransformersEmbedder", noting("st"))
    monkeypatch.setattr(vecbench.embed.named, "FastEmbedEmbedder", noting("fe"))
    monkeypatch.setattr(vecbench.embed.named, "OpenAIEmbedder", noting("oa"))
    found: list[Any] = [
        embedder_named(name)
        for name in (
            MINILM_SPEC.name,
            "sentence-transformers:intfloat/multilingual-e5-small",
            "sentence-transformers:a/b@0123abc",
            "fastembed:BAAI/bge-small-en-v1.5",
            "openai:nomic-embed-text:latest",
        )
    ]
    assert found == [
        ("fixed", "", {}),
        ("st", "intfloat/multilingual-e5-small", {"revision": ""}),
        ("st", "a/b", {"revision": "0123abc"}),
        ("fe", "BAAI/bge-small-en-v1.5", {}),
        ("oa", "nomic-embed-text:latest", {}),
    ]


@pytest.mark.parametrize("name", ["", ":", "openai:", "openai", "cohere:x", "intfloat/multilingual-e5-small"])
def test_other_names_are_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="no embedder is called"):
        embedder_named(name)


def test_an_identity_alone_embeds_nothing() -> None:
    embedder = unloaded(MINILM_SPEC)
    assert embedder.spec is MINILM_SPEC
    for embed in (embedder.embed_documents, embedder.embed_queries):
        with pytest.raises(EmbedderError, match="all-MiniLM-L6-v2 is not loaded"):
            embed(["a"])
