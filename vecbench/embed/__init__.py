"""Embedders: texts to vectors, with an identity that collections, data sets and caches carry.

Names are loaded when they are first used, so that importing this package imports no model runtime.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vecbench.lazy import lazy

if TYPE_CHECKING:
    from vecbench.embed.cache import CacheDamagedWarning, CachedEmbedder
    from vecbench.embed.minilm import MINILM_SPEC, MiniLM, UnknownTokensWarning, fixed_model
    from vecbench.embed.named import embedder_named
    from vecbench.embed.openai import OpenAIEmbedder
    from vecbench.embed.others import FastEmbedEmbedder, SentenceTransformersEmbedder
    from vecbench.embed.spec import Embedder, EmbedderSpec

__all__ = [
    "MINILM_SPEC",
    "CacheDamagedWarning",
    "CachedEmbedder",
    "Embedder",
    "EmbedderSpec",
    "FastEmbedEmbedder",
    "MiniLM",
    "OpenAIEmbedder",
    "SentenceTransformersEmbedder",
    "UnknownTokensWarning",
    "embedder_named",
    "fixed_model",
]

_HOME = {
    "MINILM_SPEC": "minilm",
    "CacheDamagedWarning": "cache",
    "CachedEmbedder": "cache",
    "Embedder": "spec",
    "EmbedderSpec": "spec",
    "FastEmbedEmbedder": "others",
    "MiniLM": "minilm",
    "OpenAIEmbedder": "openai",
    "SentenceTransformersEmbedder": "others",
    "UnknownTokensWarning": "minilm",
    "embedder_named": "named",
    "fixed_model": "minilm",
}

__getattr__, __dir__ = lazy(__name__, _HOME)
