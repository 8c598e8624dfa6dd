"""A BERT that reads question and passage together, on the processor, without a service."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from vecbench.embed.bert import BertConfig
from vecbench.embed.pairs import PairEncoder, PublishedPairModel, find_pair_model
from vecbench.embed.weights import PinnedFile, PublishedModel
from vecbench.errors import ConfigError
from vecbench.rag.rerank.order import best_first, check_k
from vecbench.rag.types import Passage

__all__ = ["MS_MARCO_MINILM", "CrossEncoderReranker", "PairModel"]

# The pins are those that many public records of these files agree on. The weights were not at hand where this was
# written: the tests hold the code against a float64 encoder on small random weights.
MS_MARCO_MINILM = PublishedPairModel(
    PublishedModel(
        name="ms-marco-MiniLM-L-6-v2",
        weights=PinnedFile(
            "model.safetensors", 90_870_598, "821d1aa69520101d6e0737f78a042ae25b19e5cb9160701909d10434f4aeb0ae"
        ),
        tokenizers=(
            PinnedFile("tokenizer.json", 711_396, "d241a60d5e8f04cc1b2b3e9ef7a4921b27bf526d9f6050ab90f9267a1f9e5c66"),
        ),
        variable="VECBENCH_RERANKER_DIR",
        hub_repository="cross-encoder/ms-marco-MiniLM-L6-v2",  # once ms-marco-MiniLM-L-6-v2, a name that redirects
        hub_revision="c5ee24cb16019beea0893ab7796b1df96625c6b8",
    ),
    BertConfig(layers=6, hidden=384, heads=12, intermediate=1536, max_positions=512, vocab=30522),
    "classifier",
)


class PairModel(Protocol):
    """What a cross-encoder asks of its model; `vecbench.embed.pairs.PairEncoder` is one."""

    @property
    def labels(self) -> int:
        """How many logits a pair gets."""
        ...

    @property
    def fingerprint(self) -> str:
        """Names the model's state."""
        ...

    def logits(self, pairs: Sequence[tuple[str, str]]) -> npt.NDArray[np.floating[Any]]:
        """Logits of shape (n, labels) of n pairs."""
        ...


class CrossEncoderReranker:
    """Scores each (question, passage) pair: the logit of a model with one label, and of a model with two how far the
    logit of the second, "relevant", is above that of the first: ordered as the probabilities are.

    encoder: with a classifier head, say `PairEncoder.from_directory(path, "classifier", max_tokens=512)`, where
    max_tokens bounds question and passage together. When not given, ms-marco-MiniLM-L-6-v2, 91 MB that are looked for,
    and fetched from the Hugging Face hub when they are nowhere, by `find_pair_model`. It knows English.
    """

    def __init__(self, encoder: PairModel | None = None) -> None:
        if encoder is None:
            encoder = PairEncoder(find_pair_model(MS_MARCO_MINILM), "classifier", max_tokens=512)
        if encoder.labels not in {1, 2}:
            raise ConfigError(
                f"the encoder gives {encoder.labels} logits for a pair; a reranker needs one, or two of which the "
                "second says 'relevant'"
            )
        self._encoder = encoder

    @property
    def fingerprint(self) -> str:
        """Names the model's state; equal fingerprints order alike, but for the last digits of float32."""
        return f"cross-encoder({self._encoder.fingerprint})"

    def rerank(self, query: str, passages: Sequence[Passage], k: int | None = None) -> list[Passage]:
        """The passages, or the best k, best first; the order that they came in decides between equal scores.

        Raises ConfigError for a k below 1, EmbedderError for what is no text, ModelError for a score that is no number.
        """
        check_k(k)
        if not passages:
            return []
        logits = self._encoder.logits([(query, passage.text) for passage in passages]).astype(np.float64)
        scores = logits[:, 0] if self._encoder.labels == 1 else logits[:, 1] - logits[:, 0]
        return best_first(passages, scores, k, model=self.fingerprint)
