"""Embedders by name, for the command line and for settings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from vecbench.embed.minilm import MINILM_SPEC, fixed_model
from vecbench.embed.openai import OpenAIEmbedder
from vecbench.embed.others import FastEmbedEmbedder, SentenceTransformersEmbedder
from vecbench.embed.spec import Embedder, EmbedderSpec, Progress
from vecbench.errors import ConfigError, EmbedderError
from vecbench.types import Vectors

__all__ = ["embedder_named", "unloaded"]


def embedder_named(name: str) -> Embedder:
    """The embedder of this name, loaded or connected.

    name: "all-MiniLM-L6-v2", the fixed model, or LIBRARY:MODEL: "sentence-transformers:MODEL" or
    "sentence-transformers:MODEL@REVISION", "fastembed:MODEL", "openai:MODEL", which is any server of that interface
    (OPENAI_BASE_URL, OPENAI_API_KEY). Raises `ConfigError` for another name, and what the embedder raises.
    """
    if name == MINILM_SPEC.name:
        return fixed_model()
    library, _, model = name.partition(":")
    if model:
        match library:
            case "sentence-transformers":
                model, _, revision = model.partition("@")
                return SentenceTransformersEmbedder(model, revision=revision)
            case "fastembed":
                return FastEmbedEmbedder(model)
            case "openai":
                return OpenAIEmbedder(model)
    raise ConfigError(
        f"no embedder is called {name!r}; it is {MINILM_SPEC.name}, sentence-transformers:MODEL[@REVISION], "
        "fastembed:MODEL or openai:MODEL"
    )


def unloaded(spec: EmbedderSpec) -> Embedder:
    """An embedder by its identity alone, for what needs a collection and no vectors; `EmbedderError` when asked."""
    return _Unloaded(spec)


@dataclass(frozen=True)
class _Unloaded:
    spec: EmbedderSpec

    def embed_documents(self, texts: Sequence[str], *, progress: Progress | None = None) -> Vectors:
        """Refuse."""
        raise EmbedderError(f"{self.spec.name} is not loaded: nothing can be embedded here")

    def embed_queries(self, texts: Sequence[str]) -> Vectors:
        """Refuse."""
        return self.embed_documents(texts)
