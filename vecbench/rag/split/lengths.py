"""How long a piece of text is: in characters, in tokens of an embedder, or by a function of the caller's."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import starmap
from operator import sub
from typing import Any, Protocol, runtime_checkable

from vecbench.errors import ConfigError
from vecbench.rag.types import CountTokens

__all__ = ["FindsTokens", "Ruler", "TokenLength", "length_name", "ruler"]

_BLOCK = 65_536  # characters tokenised at once: the tokenizer needs some 200 bytes of memory for each
_MEMO_CHARACTERS = 8  # counts of pieces up to this length are remembered while a text is split
# What makes a word of its own in BERT's tokenizers: a cut beside one of these changes no token. Other whitespace,
# punctuation and ideographs do so too, but not every version of Unicode agrees on them: those are measured.
_APART = frozenset(" \t\n\r\u3000!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~、。《》「」『』【】！（），：；？“”‘’")
_IDEOGRAPHS = ("\u4e00", "\u9fa5")
_SPACE = re.compile(r"[ \t\n\r]")


class Ruler(Protocol):
    """Measures pieces of one text."""

    def measure(self, start: int, end: int) -> int:
        """The length of the piece from `start` to `end`, measured alone."""
        ...

    def measure_all(self, starts: Sequence[int], ends: Sequence[int]) -> list[int]:
        """The lengths of so many pieces."""
        ...


@runtime_checkable
class FindsTokens(Protocol):
    """An embedder that shows where its tokens stand, as `MiniLM` does."""

    def token_spans(self, text: str) -> list[tuple[int, int]]:
        """Where each token stands in `text`, in order, without special tokens that frame it."""
        ...


@dataclass(frozen=True)
class TokenLength:
    """Length in tokens, for `RecursiveSplitter(length=...)`: no chunk has more than `chunk_size` where it can be cut.

    source: an embedder with `token_spans`, whose tokens never reach across whitespace, ASCII punctuation or an
    ideograph, as those of BERT's tokenizers do not; or a function that counts the tokens of a text. name: of the
    tokenizer in the fingerprint; needed where the source has neither a spec nor a name of its own.

    With `token_spans` a text is tokenised once and a piece is counted by looking up its ends. Where an end is inside
    what may be one word, the piece is tokenised alone instead: the count is always that of the piece alone.
    """

    source: FindsTokens | CountTokens
    name: str = ""

    def __post_init__(self) -> None:
        if not (isinstance(self.source, FindsTokens) or callable(self.source)):
            raise ConfigError(
                f"token length: the source is {self.source!r}; it must be an embedder with token_spans, or a function "
                "that counts the tokens of a text"
            )

    def __call__(self, text: str) -> int:
        """The number of tokens of `text`."""
        return len(self.source.token_spans(text)) if isinstance(self.source, FindsTokens) else self.source(text)

    @property
    def fingerprint(self) -> str:
        """The name of the tokenizer: as given, of the embedder's spec, or of the function."""
        spec: Any = getattr(self.source, "spec", None)
        return f"tokens({self.name or (f'{spec.name} {spec.fingerprint}' if spec else length_name(self.source))})"


def length_name(length: object) -> str:
    """What a length function is called in a fingerprint; ConfigError for one that its name does not identify."""
    if length is len:
        return "characters"
    if isinstance(length, TokenLength):
        return length.fingerprint
    return function_name(length, "length function", ", or TokenLength(function, name=...)")


def function_name(function: object, what: str, instead: str = "") -> str:
    """Module and name of a function, for a fingerprint; ConfigError for one that these do not identify."""
    name = getattr(function, "__qualname__", "<")
    if "<" in name or hasattr(function, "__self__"):  # a lambda, a local function, a bound method, an object
        raise ConfigError(
            f"{what} {function!r} cannot be named, so what uses it has no fingerprint: take a function at the top of a "
            f"module{instead}"
        )
    return f"{getattr(function, '__module__', '')}.{name}"


def ruler(length: CountTokens, text: str) -> Ruler:
    """A ruler for the pieces of `text`: without a copy for characters, by looking up tokens where that is exact."""
    if length is len:
        return _Characters()
    if isinstance(length, TokenLength) and isinstance(length.source, FindsTokens):
        return _Tokens(text, length.source.token_spans)
    return _Calls(text, length)


class _Characters:
    def measure(self, start: int, end: int) -> int:
        return end - start

    def measure_all(self, starts: Sequence[int], ends: Sequence[int]) -> list[int]:
        return list(map(sub, ends, starts))


class _Calls:
    def __init__(self, text: str, length: CountTokens) -> None:
        self._text, self._length = text, length

    def measure(self, start: int, end: int) -> int:
        return self._length(self._text[start:end])

    def measure_all(self, starts: Sequence[int], ends: Sequence[int]) -> list[int]:
        return list(starmap(self.measure, zip(starts, ends, strict=True)))


class _Tokens:
    def __init__(self, text: str, token_spans: Callable[[str], list[tuple[int, int]]]) -> None:
        self._text, self._token_spans = text, token_spans
        self._starts: list[int] = []
        self._ends: list[int] = []
        self._memo: dict[str, int] = {}
        begin = 0
        while begin < len(text):
            space = _SPACE.search(text, begin + _BLOCK)
            end = space.start() if space else len(text)
            for first, last in token_spans(text[begin:end]):
                self._starts.append(begin + first)
                self._ends.append(begin + last)
            begin = end

    def measure(self, start: int, end: int) -> int:
        return self.measure_all((start,), (end,))[0]

    def measure_all(self, starts: Sequence[int], ends: Sequence[int]) -> list[int]:
        counts = []
        cut, before = -1, 0  # the piece before ends where the next one begins, mostly: its end is looked up once
        for start, end in zip(starts, ends, strict=True):
            first = before if start == cut else self._before(start)
            cut, before = end, self._before(end)
            counts.append(before - first if first >= 0 and before >= 0 else self._alone(start, end))
        return counts

    def _before(self, place: int) -> int:
        """How many tokens stand before a cut at `place`; -1 where the cut may change a token."""
        text = self._text
        if 0 < place < len(text):
            left, right = text[place - 1], text[place]
            if not (left in _APART or right in _APART or _is_ideograph(left) or _is_ideograph(right)):
                return -1
        index = bisect_left(self._starts, place)
        return -1 if index and self._ends[index - 1] > place else index

    def _alone(self, start: int, end: int) -> int:
        piece = self._text[start:end]
        if len(piece) > _MEMO_CHARACTERS:
            return len(self._token_spans(piece))
        if piece not in self._memo:
            self._memo[piece] = len(self._token_spans(piece))
        return self._memo[piece]


def _is_ideograph(character: str) -> bool:
    return _IDEOGRAPHS[0] <= character <= _IDEOGRAPHS[1]
