"""Passages grown sentence by sentence for as long as a BERT says that the next one follows.

BERT learned, beside its words, to tell whether one text follows another. Where that probability is high two sentences
belong together, where it is low a passage may end.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeAlias, runtime_checkable

import numpy as np
import numpy.typing as npt

from vecbench.embed.bert import BertConfig
from vecbench.embed.pairs import PairEncoder, PublishedPairModel, find_pair_model
from vecbench.embed.weights import PinnedFile, PublishedModel
from vecbench.errors import ConfigError, RagError
from vecbench.rag.split.lengths import function_name, length_name, ruler
from vecbench.rag.types import Chunk, CountTokens, Splitter

__all__ = ["BERT_BASE", "NextSentenceScorer", "NextSentenceSplitter", "PairScorer", "Units"]

Units: TypeAlias = Callable[[str], list[tuple[int, int]]]
"""Where the units of a text stand, (start, end) in order; between them there is only whitespace."""

# The pins are those that many public records of these files agree on. The weights were not at hand where this was
# written: the tests hold the code against a float64 encoder on small random weights.
BERT_BASE = PublishedPairModel(
    PublishedModel(
        name="bert-base-uncased",
        weights=PinnedFile(
            "model.safetensors", 440_449_768, "68d45e234eb4a928074dfd868cead0219ab85354cc53d20e772753c6bb9169d3"
        ),
        tokenizers=(
            PinnedFile("tokenizer.json", 466_062, "ce64fce797c24f68df90b40a3f74f579b336a493db14bd583fd520ea0d8c9a98"),
        ),
        variable="VECBENCH_NSP_DIR",
        hub_repository="google-bert/bert-base-uncased",
        hub_revision="86b5e0934494bd15c9632b12f734a8a67f723594",
    ),
    BertConfig(layers=12, hidden=768, heads=12, intermediate=3072, max_positions=512, vocab=30522),
    "next_sentence",
)


@runtime_checkable
class PairScorer(Protocol):
    """Says how likely it is that one text follows another."""

    @property
    def fingerprint(self) -> str:
        """Names the scorer; scorers of equal fingerprint give equal probabilities."""
        ...

    def score(self, pairs: Sequence[tuple[str, str]]) -> npt.NDArray[np.floating[Any]]:
        """For each pair (first, second) the probability, 0 to 1, that second follows first."""
        ...


class NextSentenceScorer:
    """BERT's next-sentence head as a scorer.

    encoder: with the head "next_sentence"; bert-base-uncased when not given, 440 MB that are looked for, and fetched
    from the Hugging Face hub when they are nowhere, by `find_pair_model`. It knows English.
    """

    def __init__(self, encoder: PairEncoder | None = None) -> None:
        if encoder is None:
            encoder = PairEncoder(find_pair_model(BERT_BASE), "next_sentence")
        if encoder.head != "next_sentence":
            raise ConfigError(
                f"the encoder has the head {encoder.head!r}; a next-sentence scorer needs 'next_sentence'"
            )
        self._encoder = encoder

    @property
    def fingerprint(self) -> str:
        """Names the head and the encoder's files."""
        return f"next-sentence({self._encoder.fingerprint})"

    def score(self, pairs: Sequence[tuple[str, str]]) -> npt.NDArray[np.float64]:
        """The softmax of the two logits, of which the first says "follows" and the second "does not"."""
        logits = self._encoder.logits(pairs).astype(np.float64)
        probabilities: npt.NDArray[np.float64] = np.exp(-np.logaddexp(0, logits[:, 1] - logits[:, 0]))
        return probabilities


class NextSentenceSplitter:
    """Merges neighbouring units while the next one is likely to follow and the passage stays within `chunk_size`.

    scorer: gives the probabilities, `NextSentenceScorer()` where None is given. threshold: 0 to 1; a unit joins the
    passage before it when its probability is above. chunk_size: in the unit of `length`, which counts the tokens of a
    text, or its characters (`len`). units: what is merged: sentences where None is given, else a function that gives
    their places, or another splitter without overlap, whose chunks they are.

    Each unit is scored against the one unit before it, not against the whole passage: so every probability is known
    before the first merge, and the model reads all pairs of a text in batches. Pairs that are too long to be merged are
    not scored. A unit that is too long by itself is cut by `RecursiveSplitter` and joins no neighbour.
    """

    def __init__(
        self,
        scorer: PairScorer | None = None,
        *,
        threshold: float = 0.5,
        chunk_size: int = 1000,
        length: CountTokens = len,
        units: Units | Splitter | None = None,
    ) -> None:
        if not 0 <= threshold <= 1:
            raise ConfigError(f"threshold is {threshold}; it must be from 0 to 1")
        if chunk_size < 1:
            raise ConfigError(f"chunk_size is {chunk_size}; it must be at least 1")
        self.scorer: PairScorer = NextSentenceScorer() if scorer is None else scorer
        self.threshold, self.chunk_size, self.length, self.units = threshold, chunk_size, length, units

    @property
    def fingerprint(self) -> str:
        """The scorer, the units and every parameter; ConfigError where units or length have no name of their own."""
        return (
            f"next-sentence(chunk_size={self.chunk_size}, threshold={self.threshold!r}, "
            f"length={length_name(self.length)}, scorer={self.scorer.fingerprint}, units={_units_name(self.units)})"
        )

    def split(self, text: str) -> list[Chunk]:
        """The passages of `text`, without whitespace at their ends; none for a text of whitespace.

        Raises RagError where the units are out of order, overlap or leave out text, or the scorer gives no
        probabilities.
        """
        spans = self._spans(text)
        measure = ruler(self.length, text).measure

        def fits(start: int, end: int) -> bool:
            return measure(start, end) <= self.chunk_size

        close = [row for row in range(len(spans) - 1) if fits(spans[row][0], spans[row + 1][1])]
        follows = self._follows(text, spans, close)
        chunks: list[Chunk] = []
        row = 0
        while row < len(spans):
            start, end = spans[row]
            while row in follows and fits(start, spans[row + 1][1]):
                row += 1
                end = spans[row][1]
            row += 1
            if fits(start, end):
                chunks.append(Chunk(text[start:end], start, end))
            else:
                chunks += self._cut(text, start, end)
        return chunks

    def _spans(self, text: str) -> list[tuple[int, int]]:
        """The units, checked, without whitespace at their ends."""
        units = self.units
        if isinstance(units, Splitter):
            given = [(chunk.start, chunk.end) for chunk in units.split(text)]
        elif units is None:
            from vecbench.rag.split.sentences import sentences

            given = sentences(text)
        else:
            given = units(text)
        spans: list[tuple[int, int]] = []
        last = 0
        for start, end in given:
            if not last <= start <= end <= len(text):
                raise RagError(
                    f"unit [{start}:{end}] begins before {last}, where the one before it ends, or lies outside the "
                    f"text of {len(text)} characters; units must be in order and must not overlap"
                )
            _nothing_left_out(text, last, start)
            last = end
            unit = text[start:end]
            if unit.strip():
                spans.append((start + len(unit) - len(unit.lstrip()), end - len(unit) + len(unit.rstrip())))
        _nothing_left_out(text, last, len(text))
        return spans

    def _follows(self, text: str, spans: list[tuple[int, int]], rows: list[int]) -> set[int]:
        """Those of `rows` whose unit the next one is likely to follow."""
        if not rows:
            return set()
        texts = [text[start:end] for start, end in spans]
        scores = np.asarray(self.scorer.score([(texts[row], texts[row + 1]) for row in rows]), np.float64)
        if scores.shape != (len(rows),) or not ((scores >= 0) & (scores <= 1)).all():
            raise RagError(
                f"the scorer {self.scorer.fingerprint} gave no {len(rows)} probabilities from 0 to 1 for as many "
                f"pairs, but an array of shape {scores.shape}"
            )
        return {row for row, score in zip(rows, scores, strict=True) if score > self.threshold}

    def _cut(self, text: str, start: int, end: int) -> list[Chunk]:
        from vecbench.rag.split.recursive import RecursiveSplitter

        splitter = RecursiveSplitter(chunk_size=self.chunk_size, chunk_overlap=0, length=self.length)
        return [Chunk(chunk.text, start + chunk.start, start + chunk.end) for chunk in splitter.split(text[start:end])]


def _nothing_left_out(text: str, start: int, end: int) -> None:
    if left := text[start:end].strip():
        raise RagError(f"the units leave out {left[:40]!r} between {start} and {end}; they must cover all of the text")


def _units_name(units: Units | Splitter | None) -> str:
    if units is None:
        return "sentences"
    if isinstance(units, Splitter):
        return units.fingerprint
    return function_name(units, "units", ", or a splitter")
