"""Where sentences begin and end, in English, Chinese and mixtures; and chunks of whole sentences."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Any

from vecbench.errors import ConfigError, MissingDependency
from vecbench.rag.split.blocks import blocks
from vecbench.rag.split.lengths import length_name, ruler
from vecbench.rag.split.recursive import RecursiveSplitter
from vecbench.rag.types import Chunk, CountTokens

__all__ = ["SentenceSplitter", "is_chinese", "sentences"]

_WINDOW = 2000  # characters for pysbd at once: its time grows faster than the text
_MARGIN = 100  # before the end of a window what ends there may be unclear, as the full stop of "Dr."
_WIDE = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_IDEOGRAPH = re.compile(f"[{_WIDE}]")
_LETTER = re.compile(r"[^\W\d_]")
_CLOSERS = "”’」』）》】〉〕｣)\\]\"'"
# A title or a remark in brackets, where nothing ends; or what ends a sentence, with the quotes and brackets it closes.
_CHINESE_END = re.compile(
    r"《[^《》]{0,100}》|（[^（）]{0,200}）|"
    rf"(?P<sign>(?:[。！？｡…]|(?<=[{_WIDE}”’」』）》])(?:[!?]|\.(?!\w)))[。！？｡…!?]*+)[{_CLOSERS}]*+(?P<next>[，、；：,;:等的]?)"
)
_WESTERN_END = re.compile(r"[.!?…]+[\"'”’)\]]*\s+(?=[\"'“‘(\[]*[A-Z0-9])")
_SPACE = re.compile(r"\s")


def sentences(text: str, language: str = "auto") -> list[tuple[int, int]]:
    """Where the sentences of `text` stand, as (start, end), in order; between them there is only whitespace.

    language: "auto" takes Chinese or English part by part; "zh", "en", or another that pysbd knows by its two letters.
    Headings, list items and paragraphs end a sentence, a single line break inside them does not; a table row or a
    block of code is one. A Chinese sentence keeps the quotes and brackets that close it.

    Raises ConfigError for an unknown language, MissingDependency without the `rag` extra.
    """
    if language not in ("auto", "zh"):
        _segmenter(language)
    spans = []
    for block in blocks(text):
        flat = _SPACE.sub(" ", text[block.start : block.end])  # of equal length; a line break would end a sentence
        cuts = [] if block.kind in ("row", "verbatim") else _cuts(flat, language)
        for start, end in zip([0, *cuts], [*cuts, len(flat)], strict=True):
            piece = flat[start:end]
            if stripped := piece.strip():
                begin = block.start + start + len(piece) - len(piece.lstrip())
                spans.append((begin, begin + len(stripped)))
    return spans


def is_chinese(text: str) -> bool:
    """Whether a reader of Chinese is needed: ideographs are more than a third of the letters."""
    wide = len(_IDEOGRAPH.findall(text))
    return wide > 0 and 3 * wide > len(_LETTER.findall(text))


def _cuts(text: str, language: str) -> list[int]:
    """Where a sentence ends and the next begins, ascending; at none of the text's own ends."""
    if language not in ("auto", "zh"):
        return _western_cuts(text, language)
    cuts = list(_chinese_cuts(text)) if _IDEOGRAPH.search(text) or language == "zh" else []
    if language == "auto":
        bounds = [0, *cuts, len(text)]
        for start, end in pairwise(bounds):
            if not is_chinese(text[start:end]):
                cuts += [start + cut for cut in _western_cuts(text[start:end], "en")]
    return sorted(cuts)


def _chinese_cuts(text: str) -> Iterator[int]:
    for match in _CHINESE_END.finditer(text):
        follower = match["next"]
        if match["sign"] is None or (follower and (follower not in "等的" or not match["sign"].strip("…"))):
            continue  # in brackets; or the sentence goes on, as in 「好！」，他说 and 苹果……等水果
        cut = match.start("next")
        if cut < len(text):
            yield cut


def _western_cuts(text: str, language: str) -> list[int]:
    """Cuts found by pysbd in windows, each from the last sentence of the one before, which the window had cut off."""
    cuts: list[int] = []
    begin = 0
    while True:
        end = begin + _WINDOW
        starts = _starts(text[begin:end], language)
        cuts += [begin + start for start in starts[1:]]
        if end >= len(text):
            return cuts
        # A sentence that fills the window goes on in the next, which begins a little before the cut.
        inside = max(text.rfind(" ", begin, end - _MARGIN) + 1, begin + _WINDOW // 2)
        begin = cuts[-1] if len(starts) > 1 else inside


def _starts(text: str, language: str) -> list[int]:
    """Where each sentence that pysbd finds starts.

    pysbd gives texts, not places, and loses or changes whitespace; so the other characters are counted. Should those
    differ too, full stops before capitals decide.
    """
    try:
        found = ["".join(sentence.split()) for sentence in _segmenter(language).processor(text).process()]
    except (re.error, IndexError):
        found = []
    if "".join(found) != "".join(text.split()):
        return [0, *(match.end() for match in _WESTERN_END.finditer(text))]
    places = [place for place, character in enumerate(text) if not character.isspace()]
    starts, count = [], 0
    for sentence in filter(None, found):
        starts.append(places[count])
        count += len(sentence)
    if language == "en":  # a question mark in an address ends nothing
        return [start for start in starts if start == 0 or text[start - 1] == " "]
    return starts


@cache
def _segmenter(language: str) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # its patterns have escapes that newer Pythons warn of, once, when compiled
            import pysbd
    except ImportError as error:
        raise MissingDependency("Finding sentences", module="pysbd", extra="rag") from error
    try:
        return pysbd.Segmenter(language=language, clean=False)
    except ValueError as error:
        raise ConfigError(f"sentences: language is {language!r}; take 'auto', 'zh' or a language of pysbd") from error


@dataclass(frozen=True)
class SentenceSplitter:
    """Packs whole sentences into chunks of at most `chunk_size`; only a longer sentence is cut, by `RecursiveSplitter`.

    overlap_sentences: how many sentences of a chunk the next one repeats, fewer where they leave no room for a new
    one. language: as for `sentences`. length: `len`, `TokenLength`, or a function of a text.
    """

    chunk_size: int = 1000
    overlap_sentences: int = 0
    language: str = "auto"
    length: CountTokens = len

    def __post_init__(self) -> None:
        overlap: Any = self.overlap_sentences
        if not isinstance(overlap, int) or isinstance(overlap, bool) or overlap < 0:
            raise ConfigError(
                f"sentence splitter: overlap_sentences is {overlap!r}; it must be a whole number from 0 up"
            )
        if self.language not in ("auto", "zh"):
            _segmenter(self.language)
        self._finer("")  # checks chunk_size and length

    @property
    def fingerprint(self) -> str:
        """A line that names every parameter; ConfigError when the length function has no name that identifies it."""
        return (
            f"sentences(chunk_size={self.chunk_size}, overlap_sentences={self.overlap_sentences}, "
            f"language={self.language}, length={length_name(self.length)})"
        )

    def split(self, text: str) -> list[Chunk]:
        """The chunks of `text`, in order; none for a text of whitespace."""
        if not text.strip():
            return []
        measure = ruler(self.length, text).measure
        found = sentences(text, self.language)
        chunks: list[Chunk] = []
        first = last = 0  # sentences [first, last) are in the chunk
        for index, (start, end) in enumerate(found):
            if first < last and measure(found[first][0], end) > self.chunk_size:
                chunks.append(self._chunk(text, found[first][0], found[last - 1][1]))
                first = max(first + 1, last - self.overlap_sentences)
                while first < last and measure(found[first][0], end) > self.chunk_size:
                    first += 1
            if first == last and measure(start, end) > self.chunk_size:
                parts = self._finer(text[start:end]).split(text[start:end])
                chunks += [Chunk(part.text, start + part.start, start + part.end) for part in parts]
                first = index + 1
            last = index + 1
        if first < last:
            chunks.append(self._chunk(text, found[first][0], found[last - 1][1]))
        return chunks

    @staticmethod
    def _chunk(text: str, start: int, end: int) -> Chunk:
        return Chunk(text[start:end], start, end)

    def _finer(self, sentence: str) -> RecursiveSplitter:
        language = "chinese" if is_chinese(sentence) else "text"
        return RecursiveSplitter.for_language(language, chunk_size=self.chunk_size, chunk_overlap=0, length=self.length)
