"""Embedders: texts to vectors, with an identity that collections, data sets and caches carry.

Names are loaded when they are first used, so that importing this package imports no model runtime.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vecbench.embed.cache import CacheDamagedWarning, CachedEmbedder
    from vecbench.embed.minilm import MINILM_SPEC, MiniLM, UnknownTokensWarning, fixed_model
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
    "fixed_model": "minilm",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))
