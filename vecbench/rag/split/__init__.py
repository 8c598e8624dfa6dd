"""Texts as chunks: recursive, by sentences, by next-sentence prediction, by discourse; offsets are exact.

Names are loaded when they are first used, so that importing this package imports no tokenizer and no model runtime.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vecbench.lazy import lazy

if TYPE_CHECKING:
    from vecbench.rag.split.discourse import DiscourseSplitter
    from vecbench.rag.split.lengths import TokenLength
    from vecbench.rag.split.marker_parser import MarkerParser
    from vecbench.rag.split.neural import NeuralRstParser
    from vecbench.rag.split.next_sentence import NextSentenceScorer, NextSentenceSplitter
    from vecbench.rag.split.recursive import RecursiveSplitter
    from vecbench.rag.split.sentences import SentenceSplitter
    from vecbench.rag.split.separators import LANGUAGES, language_of
    from vecbench.rag.split.tree import DiscourseParser

__all__ = [
    "LANGUAGES",
    "DiscourseParser",
    "DiscourseSplitter",
    "MarkerParser",
    "NeuralRstParser",
    "NextSentenceScorer",
    "NextSentenceSplitter",
    "RecursiveSplitter",
    "SentenceSplitter",
    "TokenLength",
    "language_of",
]

# The function `sentences` is not among them: it is the name of its module, `vecbench.rag.split.sentences`.
_HOME = {
    "LANGUAGES": "separators",
    "DiscourseParser": "tree",
    "DiscourseSplitter": "discourse",
    "MarkerParser": "marker_parser",
    "NeuralRstParser": "neural",
    "NextSentenceScorer": "next_sentence",
    "NextSentenceSplitter": "next_sentence",
    "RecursiveSplitter": "recursive",
    "SentenceSplitter": "sentences",
    "TokenLength": "lengths",
    "language_of": "separators",
}

__getattr__, __dir__ = lazy(__name__, _HOME)
