"""The numbers in an answer, held against the passages that the model was given."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from vecbench.rag.types import Citation, Passage

__all__ = ["CheckedText", "check_citations"]

_NUMBER = r"\d{1,3}"  # no more digits: [2024] is a year
_ITEM = rf"{_NUMBER}(?:\s*[-–—]\s*{_NUMBER})?"
# Not the text of a link, [1](…), and nothing in a span or block of code, where [1] is an index.
_CITATION = re.compile(
    r"(?P<code>```.*?(?:```|\Z)|`[^`\n]+`)"
    rf"|(?P<before>[ \t]*)[\[【［]\s*(?P<items>{_ITEM}(?:\s*[,，、;；]\s*{_ITEM})*)\s*[\]】］](?!\()",
    re.DOTALL,
)
_QUOTE = re.compile(r'"([^"\n]{10,})"|“([^”\n]{10,})”|「([^」\n]{10,})」')
_UNIT = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]|[^\W_]+")
_LEAST_QUOTED = 5  # words; fewer are a term or a title, not a quotation
_LEAST_QUOTED_IDEOGRAPHS = 10


@dataclass(frozen=True, slots=True)
class CheckedText:
    """An answer whose every number names a passage: `notes` say what was removed, and which quotations are nowhere."""

    text: str
    citations: tuple[Citation, ...]
    notes: tuple[str, ...]


def check_citations(text: str, passages: Sequence[Passage], *, no_answer: str = "") -> CheckedText:
    """The answer with citations as `[1]` or `[1, 3]`; those that name none of the passages are removed and noted.

    Understood are [1], [1][2], [1, 2], [1-3] and 【1】. A quotation of five words or more (ten characters in Chinese)
    that stands in no cited passage is noted, as is an answer without any citation, unless it is `no_answer`.
    """
    numbers: dict[int, None] = {}
    unknown: dict[int, None] = {}

    def checked(mark: re.Match[str]) -> str:
        if mark["code"]:
            return mark[0]
        named = _numbers(mark["items"])
        known = [number for number in named if 1 <= number <= len(passages)]
        numbers.update(dict.fromkeys(known))
        unknown.update(dict.fromkeys(number for number in named if number not in known))
        return f"{mark['before']}[{', '.join(map(str, known))}]" if known else ""

    clean = _CITATION.sub(checked, text)
    citations = tuple(Citation(number, passages[number - 1]) for number in numbers)
    notes = []
    if unknown:
        named = ", ".join(map(str, [*unknown][:5])) + (", …" if len(unknown) > 5 else "")
        notes.append(f"the answer cited [{named}], where no passage is; removed")
    if not citations and passages and clean.strip() != no_answer:
        notes.append("the answer cites no passage")
    sources = [_plain(citation.passage.text) for citation in citations] or [_plain(p.text) for p in passages]
    for mark in _QUOTE.finditer(clean):
        quoted = next(group for group in mark.groups() if group)
        if _is_long(quoted) and not any(_plain(_without_citations(quoted)) in source for source in sources):
            notes.append(f"the quotation {_shortened(quoted)!r} stands in no {'cited ' if citations else ''}passage")
    return CheckedText(clean, citations, tuple(notes))


def _numbers(items: str) -> list[int]:
    """The numbers of `1, 3-5`, each once; a range that runs backwards, or over more than a hundred, is its two ends."""
    found: dict[int, None] = {}
    for item in re.split(r"[,，、;；]", items):
        first, last = (int(end) for end in (re.findall(r"\d+", item) * 2)[:2])
        found.update(dict.fromkeys(range(first, last + 1) if 0 <= last - first <= 100 else (first, last)))
    return list(found)


def _plain(text: str) -> str:
    """Words only, between single spaces: quotations differ from their source in case, blanks and marks."""
    return f" {' '.join(_UNIT.findall(text.casefold()))} "


def _without_citations(text: str) -> str:
    return _CITATION.sub("", text)


def _is_long(quoted: str) -> bool:
    units: list[str] = _UNIT.findall(quoted)
    ideographs = sum(len(unit) == 1 and unit >= "\u3040" for unit in units)
    return len(units) - ideographs >= _LEAST_QUOTED or ideographs >= _LEAST_QUOTED_IDEOGRAPHS


def _shortened(text: str) -> str:
    return text if len(text) <= 60 else text[:57] + "…"
