"""Recursive splitting: at the strongest separator there is, pieces packed to size, what is too long cut finer.

The semantics are those of langchain-text-splitters' RecursiveCharacterTextSplitter, on spans instead of strings: no
piece is ever searched for, so offsets are exact by construction.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate, compress
from operator import eq, ne
from typing import Any, Literal, TypeAlias

from vecbench.errors import ConfigError
from vecbench.rag.split.lengths import FindsTokens, Ruler, TokenLength, length_name, ruler
from vecbench.rag.split.separators import DEFAULT, separators
from vecbench.rag.types import Chunk, CountTokens

__all__ = ["KeepSeparator", "RecursiveSplitter"]

KeepSeparator: TypeAlias = bool | Literal["start", "end"]
"""Which piece gets a separator: the one behind it (True, "start"), the one before it ("end"), neither (False)."""


@dataclass(frozen=True)
class RecursiveSplitter:
    r"""Cuts at the first separator that occurs, packs the pieces up to `chunk_size`, cuts longer ones at the next.

    chunk_size, chunk_overlap: at most, in the unit of `length`. separators: strongest first; "" cuts between any two
    characters, without it a piece may stay too long. is_separator_regex: the separators are regular expressions; their
    groups mean nothing. strip_whitespace: chunks lose the whitespace at their ends, except pieces that no separator
    could cut. length: `len`, `TokenLength`, or a function of a text.

    The chunks are the texts that RecursiveCharacterTextSplitter gives for the same parameters, with these exceptions:
    a text of whitespace has no chunks; with `keep_separator=False` a chunk is the source from its first to its last
    piece, separators between them as they stand there ("a\n\n\n\nb" where the reference writes "a\n\nb"), and it is
    cut or overlaps less where this would exceed the sizes; with `TokenLength` a chunk that has more tokens than its
    pieces had together is cut again.

    Raises ConfigError for parameters that cannot be: an overlap larger than the size, no separators, a separator that
    is no regular expression where it must be one.
    """

    chunk_size: int = 1000
    chunk_overlap: int = 100
    separators: Sequence[str] = DEFAULT
    keep_separator: KeepSeparator = True
    is_separator_regex: bool = False
    strip_whitespace: bool = True
    length: CountTokens = len

    def __post_init__(self) -> None:
        for name, least in (("chunk_size", 1), ("chunk_overlap", 0)):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                raise ConfigError(f"recursive splitter: {name} is {value!r}; it must be a whole number from {least} up")
        if self.chunk_overlap > self.chunk_size:
            raise ConfigError(
                f"recursive splitter: chunk_overlap is {self.chunk_overlap}, more than chunk_size, {self.chunk_size}"
            )
        given: Any = self.separators
        if isinstance(given, str) or not given or not all(isinstance(separator, str) for separator in given):
            raise ConfigError(f"recursive splitter: separators are {given!r}; a sequence of texts is needed")
        object.__setattr__(self, "separators", tuple(given))
        if self.keep_separator not in (True, False, "start", "end"):
            raise ConfigError(
                f"recursive splitter: keep_separator is {self.keep_separator!r}; "
                "it must be True, False, 'start' or 'end'"
            )
        if not callable(self.length):
            raise ConfigError(f"recursive splitter: length is {self.length!r}; it must be a function of a text")
        _ = self.patterns

    @classmethod
    def by_tokens(
        cls,
        tokens: FindsTokens | CountTokens,
        chunk_size: int | None = None,
        chunk_overlap: int | None = None,
        **options: Any,
    ) -> RecursiveSplitter:
        """A splitter that counts tokens of an embedder, or by a function.

        chunk_size: as many as the embedder embeds whole, when not given: `spec.max_tokens` less the two special tokens
        that frame a text. chunk_overlap: an eighth of it, when not given. options: the splitter's other parameters.
        """
        length = tokens if isinstance(tokens, TokenLength) else TokenLength(tokens)
        size = chunk_size
        if size is None:
            limit = getattr(getattr(length.source, "spec", None), "max_tokens", None)
            if limit is None or limit < 3:
                raise ConfigError(
                    "recursive splitter: the source of tokens does not say how many it takes; give chunk_size"
                )
            size = int(limit) - 2
        return cls(size, size // 8 if chunk_overlap is None else chunk_overlap, length=length, **options)

    @classmethod
    def for_language(cls, language: str, **options: Any) -> RecursiveSplitter:
        """A splitter with the separators of a language or format; see `vecbench.rag.split.separators`.

        options: the splitter's other parameters. Chinese sentences keep their full stop (`keep_separator="end"`).
        """
        if language == "chinese":
            options = {"keep_separator": "end", **options}
        return cls(separators=separators(language), is_separator_regex=True, **options)

    @cached_property
    def patterns(self) -> tuple[re.Pattern[str], ...]:
        """The separators, compiled; ConfigError names the one that is no regular expression."""
        patterns: list[re.Pattern[str]] = []
        for separator in self.separators:
            if "" in [pattern.pattern for pattern in patterns]:
                break  # it cuts everything, nothing is left for those behind it
            try:
                patterns.append(re.compile(separator if self.is_separator_regex else re.escape(separator)))
            except re.error as error:
                raise ConfigError(
                    f"recursive splitter: separator {separator!r} is no regular expression: {error}"
                ) from error
        return tuple(patterns)

    @property
    def fingerprint(self) -> str:
        """A line that names every parameter; ConfigError when the length function has no name that identifies it."""
        keep = "start" if self.keep_separator is True else self.keep_separator or "no"
        return (
            f"recursive(chunk_size={self.chunk_size}, chunk_overlap={self.chunk_overlap}, "
            f"separators={list(self.separators)!r}, regex={self.is_separator_regex}, keep_separator={keep}, "
            f"strip_whitespace={self.strip_whitespace}, length={length_name(self.length)})"
        )

    def split(self, text: str) -> list[Chunk]:
        """The chunks of `text`, in order; none for a text of whitespace."""
        if not text.strip():
            return []
        lengths = ruler(self.length, text)
        chunks = _Cutter(self, text, lengths).cut(0, len(text))
        if isinstance(self.length, TokenLength):
            return [part for chunk in chunks for part in self._fitting(chunk, text, lengths)]
        return chunks

    def _fitting(self, chunk: Chunk, text: str, lengths: Ruler) -> list[Chunk]:
        """The chunk, or as many as it takes: parts of a word can have more tokens together than each alone."""
        parts, size = [chunk], self.chunk_size
        while size > 1 and (most := max(lengths.measure(part.start, part.end) for part in parts)) > self.chunk_size:
            size = max(1, size - (most - self.chunk_size))
            smaller = replace(self, chunk_size=size, chunk_overlap=min(self.chunk_overlap, size))
            parts = _Cutter(smaller, text, lengths).cut(chunk.start, chunk.end)
        return parts


class _Cutter:
    """The work on one text."""

    def __init__(self, splitter: RecursiveSplitter, text: str, lengths: Ruler) -> None:
        self._text, self._ruler = text, lengths
        self._size, self._overlap = splitter.chunk_size, splitter.chunk_overlap
        self._keep, self._strip = splitter.keep_separator, splitter.strip_whitespace
        self._regex, self._patterns = splitter.is_separator_regex, splitter.patterns
        self._separators = splitter.separators[: len(splitter.patterns)]
        # What a separator adds to the length of a chunk, as the reference counts it: nothing where pieces keep it.
        self._gaps = [splitter.length("" if self._keep else separator) for separator in self._separators]
        self._chunks: list[Chunk] = []

    def cut(self, start: int, end: int) -> list[Chunk]:
        """The chunks of the span."""
        self._cut(start, end, 0)
        return self._chunks

    def _cut(self, start: int, end: int, level: int) -> None:
        """Cuts at the first separator from `level` on that occurs, packs short pieces, and cuts the others finer."""
        level, starts, ends, joined = self._pieces(start, end, level)
        lengths = self._ruler.measure_all(starts, ends)
        done = 0
        for index in [i for i, length in enumerate(lengths) if length >= self._size]:
            self._pack(starts[done:index], ends[done:index], lengths[done:index], level, joined)
            if level + 1 < len(self._patterns):
                self._cut(starts[index], ends[index], level + 1)
            else:
                self._add(starts[index], ends[index], strip=False)
            done = index + 1
        self._pack(starts[done:], ends[done:], lengths[done:], level, joined)

    def _pieces(self, start: int, end: int, level: int) -> tuple[int, Sequence[int], Sequence[int], bool]:
        """The level of the first separator that occurs, where the pieces start and end, and whether they are joined.

        No piece is empty. Joined: between two pieces stands what their chunk's length counts, nothing or one separator.
        """
        for number in range(level, len(self._patterns)):
            if not self._separators[number]:
                return number, range(start, end), range(start + 1, end + 1), True
            firsts, lasts = self._separations(start, end, number)
            if firsts:
                ends = [*(lasts if self._keep == "end" else firsts), end]
                starts = [start, *(firsts if self._keep in (True, "start") else lasts)]
                joined = bool(self._keep) or not self._regex
                if any(map(eq, starts, ends)):
                    joined = bool(self._keep)
                    filled = list(map(ne, starts, ends))
                    starts, ends = list(compress(starts, filled)), list(compress(ends, filled))
                return number, starts, ends, joined
        return len(self._patterns) - 1, [start], [end], True

    def _separations(self, start: int, end: int, level: int) -> tuple[list[int], list[int]]:
        """Where each occurrence of a separator within the span starts and ends."""
        inside = self._text[start:end]  # a copy: a regular expression that looks around must not see beyond the span
        if self._regex:
            found = [match.span() for match in self._patterns[level].finditer(inside)]
            return [start + first for first, _ in found], [start + last for _, last in found]
        width = len(self._separators[level])
        widths = map(width.__add__, map(len, inside.split(self._separators[level])))  # much faster than matching
        lasts = list(accumulate(widths, initial=start))[1:-1]
        return [last - width for last in lasts], lasts

    def _pack(self, starts: Sequence[int], ends: Sequence[int], lengths: list[int], level: int, joined: bool) -> None:
        """Chunks of neighbouring pieces, each shorter than the size.

        The reference adds piece after piece, and drops pieces from the front where the next does not fit. As the sums
        of the lengths ascend, the last piece that fits and the first that stays are found by bisection.
        """
        if not lengths:
            return
        size, overlap, gap = self._size, self._overlap, self._gaps[level]
        sums = list(accumulate(map(gap.__add__, lengths) if gap else lengths, initial=0))
        first, last, before = 0, 1, 0  # pieces [first, last) make the chunk, [0, before) are in chunks already
        while True:
            last = max(last, bisect_right(sums, sums[first] + size + gap, last) - 1)
            if joined:
                self._add(starts[first], ends[last - 1], strip=self._strip)
            else:
                self._add_apart(starts[first:last], ends[first:last], before - first, level)
            if last == len(lengths):
                return
            # Pieces stay that are no longer than the overlap and leave room for the next piece, or have no length.
            short = sums[last] - gap - overlap
            fits = min(sums[last] + lengths[last] - size, sums[last] - gap)
            first = bisect_left(sums, max(short, fits), first, last)
            before, last = last, last + 1

    def _add(self, start: int, end: int, *, strip: bool) -> None:
        text = self._text[start:end]
        if strip:
            text = text.rstrip()
            end = start + len(text)
            text = text.lstrip()
            start = end - len(text)
        if text:
            self._chunks.append(Chunk(text, start, end))

    def _add_apart(self, starts: Sequence[int], ends: Sequence[int], shared: int, level: int) -> None:
        """A chunk of pieces that lack their separators: what stands between them can be longer than was counted.

        shared: how many of the pieces are also in the chunk before.
        """
        separator = self._separators[level]
        between = (
            ends[-1] - starts[0] - sum(ends) + sum(starts)
        )  # characters; without a regular expression they tell all
        if between == len(separator) * (len(starts) - 1) and not (
            self._regex
            and any(self._text[end:start] != separator for end, start in zip(ends, starts[1:], strict=False))
        ):
            self._add(starts[0], ends[-1], strip=self._strip)
            return
        measure, first = self._ruler.measure, 0
        while first < shared and measure(starts[first], ends[shared - 1]) > self._overlap:
            first += 1
        for index in range(first + 1, len(starts)):
            if measure(starts[first], ends[index]) > self._size:
                self._add(starts[first], ends[index - 1], strip=self._strip)
                first = index
        self._add(starts[first], ends[-1], strip=self._strip)
