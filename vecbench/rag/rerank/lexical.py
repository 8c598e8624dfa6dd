"""Reranking by shared words: no model, no service, a fraction of a millisecond."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

from vecbench.errors import ConfigError
from vecbench.rag.rerank.order import best_first, check_k
from vecbench.rag.retrieve.words import tokens
from vecbench.rag.types import Passage

__all__ = ["LexicalReranker"]


class LexicalReranker:
    """BM25 of the question's words over the given passages alone.

    Words are those of `vecbench.rag.retrieve.words`: lower-case words, and pairs of neighbouring characters in Chinese.
    How telling a word is, is measured on the given passages: one that all of them hold counts little. Each word of the
    question counts once. k1: how soon repeating a word in a passage stops to help, 0 for at once. b: how much a long
    passage is held against its words, 0 to 1.
    """

    def __init__(self, *, k1: float = 1.2, b: float = 0.75) -> None:
        if not (0 <= k1 < math.inf and 0 <= b <= 1):
            raise ConfigError(f"k1 is {k1} and b is {b}; k1 must be at least 0 and b from 0 to 1")
        self._k1, self._b = k1, b

    @property
    def fingerprint(self) -> str:
        """Names the parameters."""
        return f"lexical(k1={self._k1!r}, b={self._b!r})"

    def rerank(self, query: str, passages: Sequence[Passage], k: int | None = None) -> list[Passage]:
        """The passages, or the best k, best first, in the order that they came in among equals: 0 shares no word."""
        check_k(k)
        counts = [Counter(tokens(passage.text)) for passage in passages]
        lengths = [count.total() for count in counts]
        mean_length = sum(lengths) / len(lengths) if any(lengths) else 1.0
        scores = [0.0] * len(counts)
        for term in dict.fromkeys(tokens(query)):
            holding = sum(1 for count in counts if term in count)
            weight = math.log(1 + (len(counts) - holding + 0.5) / (holding + 0.5))  # above 0 even where all hold it
            for row, count in enumerate(counts):
                if found := count[term]:
                    damped = found + self._k1 * (1 - self._b + self._b * lengths[row] / mean_length)
                    scores[row] += weight * found * (self._k1 + 1) / damped
        return best_first(passages, scores, k, model=self.fingerprint)
