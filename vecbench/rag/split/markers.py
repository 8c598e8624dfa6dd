"""Discourse connectives of English and Chinese: what each one says of the two spans that it stands between.

A table for a parser that knows no grammar, so it errs on the side of silence. What is left out on purpose: *and*, *or*,
*for*, *as*, *where*, *to* and relative pronouns (mostly not between clauses), *before* and *after* (mostly before a
noun), 而, 就, 当, 若, 则 and 便 on their own (parts of too many words). What is ambiguous is told so: its `senses` are
several, and its relation is the one that claims least, "circumstance" for a subordinator. For cutting, the side of the
satellite is what counts, and that is the same in all senses of a marker here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

__all__ = ["ANAPHORA", "MARKERS", "Marker", "Place", "Satellite"]

Place: TypeAlias = Literal["front", "inner", "comma", "link", "link,"]
"""Where a marker counts.

front: it opens a clause before its main clause, which follows a comma ("Although A, B"). inner: it opens the second of
two clauses, with or without a comma ("B because A"). comma: the same, after a comma, colon, semicolon or dash only.
link: it opens a sentence, or a clause after a semicolon, and refers to what stands before ("A. Therefore B"). link,:
the same, with a comma after it only ("A. First, B", not "A. First class is full").
"""
Satellite: TypeAlias = Literal["marked", "other", "none"]
"""Which span is the satellite: that which the marker opens, the other one, or neither (a multinuclear relation)."""


@dataclass(frozen=True, slots=True)
class Marker:
    """A connective in one or more spellings.

    words: lower case, a single space between words. relation: by rhetorical structure theory. senses: by the Penn
    Discourse Treebank 3, without the argument; several where the marker is ambiguous. not_before: words after it that
    make it something else ("because of"). then: what may open the main clause after a clause in front, to tell which
    comma it is ("if A, then B"). series: it counts a member of a series ("first", "second").
    """

    language: Literal["en", "zh"]
    words: tuple[str, ...]
    relation: str
    satellite: Satellite
    at: tuple[Place, ...]
    senses: tuple[str, ...]
    not_before: tuple[str, ...] = ()
    then: tuple[str, ...] = ()
    series: bool = False


def _marker(
    words: str,
    relation: str,
    satellite: Satellite,
    at: tuple[Place, ...],
    senses: str,
    *,
    not_before: str = "",
    then: str = "",
    series: bool = False,
) -> Marker:
    """The row: spellings and following words parted by "/", senses by a space."""
    spellings, after, main = (tuple(part.split("/")) if part else () for part in (words, not_before, then))
    language: Literal["en", "zh"] = "en" if words.isascii() else "zh"
    return Marker(language, spellings, relation, satellite, at, tuple(senses.split()), after, main, series)


_REASON, _RESULT = "Contingency.Cause.Reason", "Contingency.Cause.Result"
_CONDITION, _NEGATIVE = "Contingency.Condition", "Contingency.Negative-condition"
_PURPOSE = "Contingency.Purpose"
_CONCESSION, _CONTRAST, _SIMILAR = "Comparison.Concession", "Comparison.Contrast", "Comparison.Similarity"
_TOGETHER, _LATER, _EARLIER = (
    "Temporal.Synchronous",
    "Temporal.Asynchronous.Precedence",
    "Temporal.Asynchronous.Succession",
)
_MORE, _INSTEAD, _SAME = "Expansion.Conjunction", "Expansion.Substitution", "Expansion.Equivalence"
_EXAMPLE, _DETAIL = "Expansion.Instantiation", "Expansion.Level-of-detail"
_AUXILIARIES = "did/do/does/is/are/was/were/will/would/can/could/should/shall/may/has/have/had"

_ENGLISH = (
    # Subordinators: the clause that they open is the satellite.
    _marker("because", "cause", "marked", ("front", "inner"), _REASON, not_before="of"),
    _marker("now that", "cause", "marked", ("front", "comma"), _REASON),
    _marker("although/even though", "concession", "marked", ("front", "inner"), _CONCESSION),
    _marker("though", "concession", "marked", ("front", "comma"), _CONCESSION),
    _marker("even if", "concession", "marked", ("front", "inner"), f"{_CONCESSION} {_CONDITION}"),
    _marker("if", "condition", "marked", ("front", "comma"), _CONDITION, not_before="only/not/any/so/at", then="then"),
    _marker("only if", "condition", "marked", ("front", "inner"), _CONDITION),
    _marker("unless", "condition", "marked", ("front", "inner"), _NEGATIVE),
    _marker("provided that/given that/assuming that", "condition", "marked", ("front", "inner"), _CONDITION),
    _marker("in case", "condition", "marked", ("front", "inner"), _CONDITION, not_before="of"),
    _marker("as long as", "condition", "marked", ("front", "comma"), f"{_CONDITION} {_TOGETHER}"),
    _marker("so that/in order that", "purpose", "marked", ("inner",), f"{_PURPOSE} {_RESULT}"),
    _marker("in order to", "purpose", "marked", ("front", "inner"), _PURPOSE),
    _marker("when", "circumstance", "marked", ("front", "comma"), _TOGETHER, not_before=_AUXILIARIES),
    _marker("whenever", "circumstance", "marked", ("front", "inner"), f"{_TOGETHER} {_CONDITION}"),
    _marker("as soon as", "circumstance", "marked", ("front", "inner"), _EARLIER, not_before="possible"),
    _marker("once", "circumstance", "marked", ("front",), _EARLIER, not_before="again/more/upon/a"),
    _marker("since", "circumstance", "marked", ("front", "comma"), f"{_REASON} {_EARLIER}", not_before="then"),
    _marker("while", "circumstance", "marked", ("front", "comma"), f"{_TOGETHER} {_CONTRAST} {_CONCESSION}"),
    _marker("whereas", "contrast", "none", ("front", "inner"), _CONTRAST),
    # Coordinators: what stands before is conceded, or is the ground; what they open is the point.
    _marker("but also", "joint", "none", ("comma",), _MORE),
    _marker("but", "concession", "other", ("comma", "link"), f"{_CONCESSION} {_CONTRAST}", not_before="for"),
    _marker("and yet", "concession", "other", ("comma", "link"), _CONCESSION),
    _marker("yet", "concession", "other", ("comma", "link"), _CONCESSION, not_before="another/again/to/more"),
    _marker("or else", "otherwise", "marked", ("comma",), _NEGATIVE),
    _marker("and so/and therefore/and thus/and hence", "cause", "other", ("comma", "link"), _RESULT),
    _marker(
        "so",
        "cause",
        "other",
        ("comma", "link,"),
        _RESULT,
        not_before="that/much/many/far/long/as/on/called/too/forth",
    ),
    # Adverbials between sentences.
    _marker("therefore/thus/hence/consequently", "cause", "other", ("comma", "link"), _RESULT),
    _marker("accordingly", "cause", "other", ("link,",), _RESULT),
    _marker("as a result/as a consequence", "cause", "other", ("comma", "link"), _RESULT, not_before="of"),
    _marker("for this reason/that is why/this is why", "cause", "other", ("comma", "link"), _RESULT),
    _marker("however/still", "concession", "other", ("link,",), f"{_CONCESSION} {_CONTRAST}"),
    _marker("nevertheless/nonetheless", "concession", "other", ("comma", "link"), _CONCESSION),
    _marker("otherwise", "otherwise", "marked", ("comma", "link"), _NEGATIVE),
    _marker("instead", "antithesis", "other", ("link",), _INSTEAD, not_before="of"),
    _marker("rather", "antithesis", "other", ("link,",), _INSTEAD),
    _marker("for example/for instance", "elaboration", "marked", ("link",), _EXAMPLE),
    _marker("in particular/specifically/more precisely", "elaboration", "marked", ("link",), _DETAIL),
    _marker("in fact/indeed", "elaboration", "marked", ("link",), f"{_DETAIL} {_MORE}"),
    _marker("in other words/that is/that means", "restatement", "marked", ("link",), _SAME),
    _marker("in short/in summary/to sum up/in conclusion", "summary", "marked", ("link",), f"{_SAME} {_DETAIL}"),
    _marker("overall", "summary", "marked", ("link,",), f"{_SAME} {_DETAIL}"),
    _marker("in addition", "joint", "none", ("link",), _MORE, not_before="to"),
    _marker("moreover/furthermore/additionally", "joint", "none", ("comma", "link"), _MORE),
    _marker("also/besides", "joint", "none", ("link,",), _MORE),
    _marker("likewise/similarly", "joint", "none", ("link",), f"{_SIMILAR} {_MORE}"),
    _marker("meanwhile/at the same time", "joint", "none", ("link",), f"{_TOGETHER} {_CONTRAST}"),
    _marker("on the other hand/in contrast/by contrast", "contrast", "none", ("link",), _CONTRAST, not_before="to"),
    _marker("conversely", "contrast", "none", ("link",), _CONTRAST),
    _marker("then/next/afterwards/subsequently", "sequence", "none", ("link",), _LATER, not_before="to"),
    _marker("after that/later", "sequence", "none", ("link,",), _LATER),
    _marker("first/second/third/fourth/fifth", "list", "none", ("link,",), _MORE, series=True),
    _marker("first of all/to begin with", "list", "none", ("link",), _MORE, series=True),
    _marker("firstly/secondly/thirdly/fourthly/lastly", "list", "none", ("link",), _MORE, series=True),
    _marker("finally", "list", "none", ("link,",), f"{_MORE} {_LATER}", series=True),
)

_BUT = "但/但是/可/可是/却/卻/然而/不过/不過/仍/还是/還是"
_THEN = "就/那么/那麼/则/則/便/那"
_CHINESE = (
    # Clauses in front of their main clause; some also stand behind it.
    _marker("因为/因為/由于/由於", "cause", "marked", ("front", "comma"), _REASON, then="所以/因此/因而/于是/於是/故"),
    _marker("既然", "cause", "marked", ("front",), _REASON, then=_THEN),
    _marker("虽然/雖然/尽管/儘管/虽说/雖說/固然", "concession", "marked", ("front", "comma"), _CONCESSION, then=_BUT),
    _marker(
        "即使/就算/哪怕/即便/纵使/縱使",
        "concession",
        "marked",
        ("front", "comma"),
        f"{_CONCESSION} {_CONDITION}",
        then="也/仍/还是/還是",
    ),
    _marker("如果/假如/倘若/要是/假使/只要/一旦", "condition", "marked", ("front", "comma"), _CONDITION, then=_THEN),
    _marker("只有", "condition", "marked", ("front",), _CONDITION, then="才"),
    _marker("除非", "condition", "marked", ("front", "comma"), _NEGATIVE, then="否则/否則/不然"),
    _marker("无论/無論/不论/不論/不管", "concession", "marked", ("front",), _CONCESSION, then="都/也/总/總"),
    _marker("为了/為了", "purpose", "marked", ("front",), _PURPOSE),
    _marker(
        "不但/不仅/不僅/不只/非但/不单/不單",
        "joint",
        "none",
        ("front",),
        _MORE,
        then="而且/并且/並且/还/還/也/甚至/更",
    ),
    # Clauses behind.
    _marker("以便/以免/以防", "purpose", "marked", ("comma",), _PURPOSE),
    _marker("否则/否則/不然", "otherwise", "marked", ("comma", "link"), _NEGATIVE),
    _marker("所以/因此/因而/于是/於是/为此/為此/由此可见/由此可見", "cause", "other", ("comma", "link"), _RESULT),
    _marker("结果/結果", "cause", "other", ("link,",), _RESULT),
    _marker("以致/以至于/以至於", "cause", "other", ("comma",), _RESULT),
    _marker(
        "但是/可是/然而/不过/不過/只不过/只不過/但",
        "concession",
        "other",
        ("comma", "link"),
        f"{_CONCESSION} {_CONTRAST}",
        not_before="丁/书/書/以",
    ),
    _marker("而不是", "antithesis", "marked", ("comma",), _INSTEAD),
    _marker("反而/而是", "antithesis", "other", ("comma", "link"), _INSTEAD),
    _marker("例如/比如/譬如/比方说/比方說/举例来说/舉例來說", "elaboration", "marked", ("comma", "link"), _EXAMPLE),
    _marker("尤其是/特别是/特別是/具体来说/具體來說", "elaboration", "marked", ("comma", "link"), _DETAIL),
    _marker("事实上/事實上/其实/其實", "elaboration", "marked", ("link",), f"{_DETAIL} {_MORE}"),
    _marker(
        "也就是说/也就是說/换句话说/換句話說/换言之/換言之",
        "restatement",
        "marked",
        ("comma", "link"),
        _SAME,
    ),
    _marker("总之/總之/总而言之/總而言之/综上所述/綜上所述", "summary", "marked", ("link",), f"{_SAME} {_DETAIL}"),
    _marker("而且/并且/並且", "joint", "none", ("comma", "link"), _MORE),
    _marker("此外/另外/除此之外/再者/同样/同樣", "joint", "none", ("link",), _MORE, not_before="一/的/两/兩/地"),
    _marker(
        "同时/同時/与此同时/與此同時",
        "joint",
        "none",
        ("comma", "link"),
        f"{_TOGETHER} {_MORE}",
        not_before="期/代",
    ),
    _marker("相反/反之/相比之下", "contrast", "none", ("comma", "link"), _CONTRAST, not_before="的/数/數"),
    _marker("另一方面", "contrast", "none", ("comma", "link"), f"{_CONTRAST} {_MORE}"),
    _marker("然后/然後/接着/接著/随后/隨後", "sequence", "none", ("comma", "link"), _LATER),
    _marker("首先/其次/再次", "list", "none", ("link",), _MORE, series=True),
    _marker("第一/第二/第三/第四/第五/最后/最後", "list", "none", ("link,",), _MORE, series=True),
)

MARKERS: tuple[Marker, ...] = _ENGLISH + _CHINESE

ANAPHORA = {
    "en": (
        r"(?:this|these|it|they|he|she|such|its|their|his|her|that (?:is|was|means))\b"
        # "It is easy to see that …" points forward, to what it introduces.
        r"(?!(?<=it) (?:is|was|seems|appears|turns)\b[^,.]{0,40}\b(?:that|to)\b)"
    ),
    "zh": r"[这這该該此它牠他她]|其(?![他它余餘])",  # not 其他, "other"
}
"""By language, a pattern of words that point back; a sentence that opens with one elaborates the one before it."""
