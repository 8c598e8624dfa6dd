"""Sentences as clauses: where the connectives of the table cut a sentence, and how a sentence opens."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence
from functools import cache
from itertools import islice, pairwise
from typing import Literal, NamedTuple, TypeAlias

from vecbench.rag.split.compose import Opening, compose
from vecbench.rag.split.markers import ANAPHORA, MARKERS, Marker, Satellite
from vecbench.rag.split.tree import Leaf, Tree

__all__ = ["Language", "Sentence", "read_sentence", "trimmed"]

Language: TypeAlias = Literal["auto", "en", "zh"]
"""Whose connectives count; "auto" for those of both, which cannot be mistaken for each other."""

_WORD = re.compile(r"[\u3400-\u9fff]|[^\W_\u3400-\u9fff]+(?:['’][^\W\d_]+)?")
_FRONT_MATTER = re.compile(r"""(?:[\s>*_\-+•·"“‘「『(（\[]|\d{1,3}[.)、](?!\d))*""")
_COMMA = re.compile(r"""(?:[，；：]|[,;:](?=[\s"“\u3400-\u9fff])|\s[–-](?=\s)|—+)\s*""")  # not in 1,000 or 10:30
_COMMA_BEHIND = re.compile(r"\s*[,，、]\s*")
_LEAD = re.compile(r"(?:\b(?:mainly|largely|partly|simply|just|especially|particularly|probably|perhaps)\s+)+$", re.I)
_NO_CUT_AFTER = re.compile(
    r"\b(?:(?:and|but|or|that|which|who|so),?|not|is|was|are|were|be|been|than|as|only|even|if|until|before|after)\s+$",
    re.I,
)
_BRACKET = re.compile(r"""["“”「」『』()（）\[\]{}《》`]""")
_CLOSES = dict(zip("”」』)）]}》", "“「『(（[{《", strict=True))
_BEHIND: dict[Satellite, Satellite] = {"marked": "other", "other": "marked", "none": "none"}
_MOST_COMMAS = 4  # that are looked at for the main clause behind a clause in front
_LOOK_BACK = 60  # characters, for the words before a marker
_SUBJECT = 8  # characters that may stand before a Chinese marker of a clause in front: 他因为病了，所以…
_LEAST_WORDS = 2  # of a clause, besides its marker; a Chinese character counts as a word


class Sentence(NamedTuple):
    """A sentence's tree, and how it relates to the sentence before it (None: in no way that a marker tells)."""

    tree: Tree
    opening: Opening | None


class _Cut(NamedTuple):
    at: int
    opening: Opening | None
    words: int  # where the words of the clause begin, behind its marker


def read_sentence(text: str, start: int, end: int, language: Language) -> Sentence:
    """The clauses of `text[start:end]`, which is not whitespace alone, as a tree whose offsets are those of `text`."""
    sentence = text[start:end]
    opening, body = _opening(sentence, language)
    cuts = _cuts(sentence, body, language)
    edges = [0, *(cut.at for cut in cuts), len(sentence)]
    spans = [trimmed(text, start + a, start + b) for a, b in pairwise(edges)]
    return Sentence(compose(spans, [None, *(cut.opening for cut in cuts)]), opening)


def trimmed(text: str, start: int, end: int) -> Leaf:
    """The leaf of `text[start:end]`, which is not whitespace alone, without the whitespace at its edges."""
    inside = text[start:end]
    return Leaf(start + len(inside) - len(inside.lstrip()), start + len(inside.rstrip()))


def _opening(sentence: str, language: Language) -> tuple[Opening | None, int]:
    """How the sentence refers back, and where begins what follows the marker, quotes, bullets and numbers."""
    front = _FRONT_MATTER.match(sentence)
    at = front.end() if front else 0
    finder, table = _finder(language)
    if (match := finder.match(sentence, at)) and (marker := _applies(table, match)) and _links(marker, match):
        comma = _COMMA_BEHIND.match(sentence, match.end())
        return _as_opening(marker), comma.end() if comma else _skip_space(sentence, match.end())
    if _anaphora(language).match(sentence, at):
        return Opening("elaboration", "marked"), at
    return None, at


def _cuts(sentence: str, body: int, language: Language) -> list[_Cut]:
    """Where the sentence is cut into clauses, in order; inside quotes and brackets it never is."""
    finder, table = _finder(language)
    hidden = _Hidden(sentence)
    commas = [mark.end() for mark in _COMMA.finditer(sentence, body) if mark.end() not in hidden]
    cuts: list[_Cut] = []
    last = _Cut(0, None, body)
    passed = 0  # commas up to the match
    for match in finder.finditer(sentence, body):
        while passed < len(commas) and commas[passed] <= match.start():
            passed += 1
        marker = _applies(table, match)
        if marker is None or match.start() < last.at or match.start() in hidden:
            continue
        clause = max(commas[passed - 1] if passed else body, last.at)
        for cut in _cuts_of(marker, match, clause, clause <= body, commas[passed : passed + _MOST_COMMAS]):
            if cut.at > last.at and _has_words(sentence, last.words, cut.at):
                cuts.append(cut)
                last = cut
    if cuts and not _has_words(sentence, last.words, len(sentence)):
        cuts.pop()
    return cuts


def _cuts_of(marker: Marker, match: re.Match[str], clause: int, first: bool, commas: Sequence[int]) -> list[_Cut]:
    """The cuts that a marker makes: one, or none, or two around a clause that stands in front of its main clause.

    clause: where the clause begins in which the marker stands; `first`, the first of the sentence. commas: where the
    next clauses begin.
    """
    sentence, at = match.string, match.start()
    if "front" in marker.at and at - clause <= (_SUBJECT if marker.language == "zh" else 0):
        main = _main_clause(marker, match, commas, paired=not (first and at == clause))
        if main is not None:
            behind = _Cut(main, Opening(marker.relation, _BEHIND[marker.satellite]), main)
            return [behind] if first else [_Cut(clause, None, match.end()), behind]
    counts = not first and _opens_clause(marker, match) if at == clause else "inner" in marker.at
    if not counts or _NO_CUT_AFTER.search(sentence, max(0, at - _LOOK_BACK), at):
        return []
    lead = _LEAD.search(sentence, max(0, at - _LOOK_BACK), at)
    return [_Cut(lead.start() if lead else at, _as_opening(marker), match.end())]


def _opens_clause(marker: Marker, match: re.Match[str]) -> bool:
    """Whether a marker counts that stands behind a comma, colon, semicolon or dash."""
    before = match.string[max(0, match.start() - _LOOK_BACK) : match.start()].rstrip()
    if before.endswith((";", "；", ":", "：")):
        return "comma" in marker.at or "inner" in marker.at or _links(marker, match)
    if marker.language == "en" and _COMMA_BEHIND.match(match.string, match.end()):
        return False  # "it is, therefore, late": thrown in, and no clause of its own
    return "comma" in marker.at or "inner" in marker.at


def _main_clause(marker: Marker, match: re.Match[str], commas: Sequence[int], *, paired: bool) -> int | None:
    """Where the main clause begins behind a clause in front: at its own marker, or else behind the first comma.

    paired: only where it has a marker of its own. None where either clause would have too few words.
    """
    sentence, main = match.string, None
    for comma in commas:
        if sentence.startswith(marker.then, comma):
            main = comma
            break
    if main is None and commas and not paired:
        main = commas[0]
    if main is None or not _has_words(sentence, match.end(), main) or not _has_words(sentence, main, len(sentence)):
        return None
    return main


def _as_opening(marker: Marker) -> Opening:
    return Opening(marker.relation, marker.satellite, marker.series)


def _links(marker: Marker, match: re.Match[str]) -> bool:
    return "link" in marker.at or ("link," in marker.at and bool(_COMMA_BEHIND.match(match.string, match.end())))


def _has_words(sentence: str, start: int, end: int) -> bool:
    return len(list(islice(_WORD.finditer(sentence, start, end), _LEAST_WORDS))) == _LEAST_WORDS


def _skip_space(sentence: str, at: int) -> int:
    while at < len(sentence) and sentence[at].isspace():
        at += 1
    return at


class _Hidden:
    """The offsets inside quotes, brackets and code of a sentence; what is never closed hides all that follows."""

    def __init__(self, sentence: str) -> None:
        self._edges: list[int] = []  # where hiding begins and ends, in turn
        depth: Counter[str] = Counter()
        total = 0
        for mark in _BRACKET.finditer(sentence):
            sign = mark[0]
            opener = _CLOSES.get(sign, sign)
            closes = depth[opener] > 0 if sign in '"`' or sign in _CLOSES else False
            if sign in _CLOSES and not closes:
                continue
            step = -1 if closes else 1
            depth[opener] += step
            if not total or not total + step:
                self._edges.append(mark.end() if step > 0 else mark.start())
            total += step

    def __contains__(self, at: object) -> bool:
        return isinstance(at, int) and bisect_right(self._edges, at) % 2 == 1


@cache
def _finder(language: Language) -> tuple[re.Pattern[str], dict[str, Marker]]:
    """A pattern of all spellings, longest first, and the marker of each."""
    table = {word: marker for marker in MARKERS if language in ("auto", marker.language) for word in marker.words}
    words = sorted(table, key=lambda word: (-len(word), word))
    english = "|".join(word.replace(" ", r"\s+") for word in words if table[word].language == "en")
    chinese = "|".join(word for word in words if table[word].language == "zh")
    parts = [rf"\b(?:{english})\b"] * bool(english) + [chinese] * bool(chinese)
    return re.compile("|".join(parts), re.IGNORECASE), table


@cache
def _anaphora(language: Language) -> re.Pattern[str]:
    parts = [pattern for key, pattern in ANAPHORA.items() if language in ("auto", key)]
    return re.compile("|".join(f"(?:{part})" for part in parts), re.IGNORECASE)


def _applies(table: dict[str, Marker], match: re.Match[str]) -> Marker | None:
    """The marker that was found, None where the word after it makes it something else."""
    marker = table.get(" ".join(match[0].lower().split()))
    if marker is None:  # "ſo", which equals "so" to a pattern without case
        return None
    if marker.language == "zh":
        return None if match.string.startswith(marker.not_before, match.end()) else marker
    after = _WORD.match(match.string, _skip_space(match.string, match.end()))
    return None if after and after[0].lower() in marker.not_before else marker
