"""Found passages in a better order: cross-encoder, lexical, hosted.

Why: a splitter leaves fragments. Some of them look like the question without answering it (a heading, a sentence that
only repeats its words, half of a list), and a vector, made of each fragment on its own long before the question was
known, cannot tell them from the passage that answers: they mislead the search. A reranker reads the question and the
passage together, so it can. It is too slow for a whole collection but not for the best fifty of a search: retrieve more
than you need, rerank, keep the best few.

`CrossEncoderReranker` runs a BERT on this machine and is the best of the three for English. `HostedReranker` asks a
service; `LexicalReranker` counts shared words, needs no model and repairs least.

Names are loaded when they are first used, so that importing this package imports no model runtime.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vecbench.lazy import lazy

if TYPE_CHECKING:
    from vecbench.rag.rerank.cross_encoder import CrossEncoderReranker
    from vecbench.rag.rerank.hosted import HostedReranker
    from vecbench.rag.rerank.lexical import LexicalReranker
    from vecbench.rag.rerank.named import reranker_named

__all__ = ["CrossEncoderReranker", "HostedReranker", "LexicalReranker", "reranker_named"]

_HOME = {
    "CrossEncoderReranker": "cross_encoder",
    "HostedReranker": "hosted",
    "LexicalReranker": "lexical",
    "reranker_named": "named",
}

__getattr__, __dir__ = lazy(__name__, _HOME)
