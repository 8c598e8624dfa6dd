"""Rerankers by name, for the command line and for settings."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from vecbench.errors import ConfigError
from vecbench.rag.rerank.cross_encoder import CrossEncoderReranker
from vecbench.rag.rerank.hosted import VENDORS, HostedReranker
from vecbench.rag.rerank.lexical import LexicalReranker

if TYPE_CHECKING:
    from vecbench.rag.rerank.hosted import VendorName
    from vecbench.rag.types import Reranker

__all__ = ["reranker_named"]


def reranker_named(name: str) -> Reranker:
    """The reranker of this name, loaded or connected.

    name: "lexical", "cross-encoder", or VENDOR:MODEL with a key in the vendor's environment variable, "cohere:MODEL",
    "jina:MODEL", "voyage:MODEL"; "tei:URL" is a text-embeddings-inference server. Raises `ConfigError` for another
    name, and what the reranker raises.
    """
    if name == "lexical":
        return LexicalReranker()
    if name == "cross-encoder":
        return CrossEncoderReranker()
    kind, _, which = name.partition(":")
    if kind not in VENDORS or not which:
        raise ConfigError(
            f"no reranker is called {name!r}; it is lexical, cross-encoder, cohere:MODEL, jina:MODEL, voyage:MODEL or "
            "tei:URL"
        )
    vendor = cast("VendorName", kind)
    if VENDORS[vendor].names_model:
        return HostedReranker(vendor, which)
    return HostedReranker(vendor, base_url=which)
