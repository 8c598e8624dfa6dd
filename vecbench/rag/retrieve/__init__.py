"""Questions to passages: by vector, by words (BM25), by both.

    vector = VectorRetriever(collection, embedder)
    hybrid = HybridRetriever([vector, LexicalRetriever(collection)])
    passages = merge_neighbours(hybrid.retrieve("How long is the notice period?", k=5), collection)

Names are loaded when they are first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vecbench.lazy import lazy

if TYPE_CHECKING:
    from vecbench.rag.retrieve.fusion import HybridRetriever, fuse
    from vecbench.rag.retrieve.lexical import LexicalIndex, LexicalIndexDamagedWarning, LexicalRetriever
    from vecbench.rag.retrieve.mmr import MMR
    from vecbench.rag.retrieve.native import NativeLexicalRetriever
    from vecbench.rag.retrieve.neighbours import merge_neighbours
    from vecbench.rag.retrieve.vector import VectorRetriever

__all__ = [
    "MMR",
    "HybridRetriever",
    "LexicalIndex",
    "LexicalIndexDamagedWarning",
    "LexicalRetriever",
    "NativeLexicalRetriever",
    "VectorRetriever",
    "fuse",
    "merge_neighbours",
]

_HOME = {
    "MMR": "mmr",
    "HybridRetriever": "fusion",
    "LexicalIndex": "lexical",
    "LexicalIndexDamagedWarning": "lexical",
    "LexicalRetriever": "lexical",
    "NativeLexicalRetriever": "native",
    "VectorRetriever": "vector",
    "fuse": "fusion",
    "merge_neighbours": "neighbours",
}

__getattr__, __dir__ = lazy(__name__, _HOME)
