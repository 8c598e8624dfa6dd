"""Which legacy encoding a text is in, where that is beyond doubt.

charset-normalizer tells scripts apart well: Cyrillic from Greek, Japanese from Korean. Among the code pages of the
Latin alphabet its scores tie, and the best of them is as often mojibake. There a text is believed only where the
letters beyond ASCII are those of one language, and are not so when another code page reads them.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

from vecbench.errors import MissingDependency

__all__ = ["detected"]

_LATIN = ["cp1252", "cp1250", "iso8859_2", "cp1254", "cp1257"]
_LATIN_TOO = ["mac_roman", "cp850", "cp852"]  # of the Macintosh and of DOS: the library scores them as noise
_OTHER = [
    "cp1251", "koi8_r", "koi8_u", "cp866", "iso8859_5", "mac_cyrillic", "cp1253", "iso8859_7", "cp1255", "cp1256",
    "cp874", "gb18030", "big5", "cp932", "euc_jp", "cp949",
]  # fmt: skip
_ALPHABETS = (  # of German, French, Spanish, Portuguese, Italian, Dutch, Swedish, Danish, Icelandic, Polish …
    "äöüß", "àâæçèéêëîïôœùûüÿ", "áéíñóúü", "áâãàçéêíóôõú", "àèéìíòóùúî", "áéëïíóöúèê", "åäöé", "æøåé", "áðéíóúýþæö",
    "ąćęłńóśźż", "áčďéěíňóřšťúůýž", "áäčďéíĺľňóôŕšťúýž", "áéíóöőúüű", "ăâîşţșț", "čćđšž", "âçğıîöşüû\u0307",
    "ąčęėįšųūž", "āčēģīķļņšūž", "äöõüšž", "ëç", "àçèéíïòóúü",
)  # fmt: skip
_LETTER = r"[^\W\d_]"
_SYMBOL = r"[^\w\s\x00-\x7f‘’“”–—…«»·\xa0\xad]"
_TELLING = re.compile(rf"[^\W\d_\x00-\x7f]|(?<={_LETTER}){_SYMBOL}(?={_LETTER})")
_ODD = re.compile(rf"(?<=[A-Za-z]){_SYMBOL}(?=[A-Za-z])")  # an umlaut, read as half of a Japanese character
_MIXED = re.compile(r"[A-Za-z](?=[^\W\d_\x00-\x7f])|[^\W\d_\x00-\x7f](?=[A-Za-z])")  # one word of two alphabets
_UNSPACED = {"cp874", "gb18030", "big5", "cp932", "euc_jp", "cp949"}  # where no space parts them
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1f\x7f-\x9f]")
_MOST_CHAOS = 0.1  # of charset-normalizer: the share of a text that looks like noise
_NEAR_CHAOS, _NEAR_COHERENCE = 0.02, 0.05  # a rival as near as this is as good
_LEAST_SHARE, _LEAST_LEAD = 0.9, 0.05  # of the telling characters, those that are letters of one language
_LEAST_MISSES = 2  # by which a rival must be the worse, in so many characters


def detected(sample: bytes) -> str | None:
    """The encoding of a sample of text that is not UTF-8; None where it is no text or leaves a choice."""
    try:
        from charset_normalizer import from_bytes
    except ImportError as error:
        raise MissingDependency("Detecting an encoding", module="charset_normalizer", extra="rag") from error
    if sample.startswith(b"\x1b$") or b"\x1b$B" in sample or b"\x1b$@" in sample:
        return "iso2022_jp"  # whose escapes nothing else writes
    matches = list(from_bytes(sample, cp_isolation=_LATIN + _OTHER))
    if not matches or matches[0].chaos > _MOST_CHAOS:
        return None
    best, *rivals = matches
    latin = _is_latin(best)
    for rival in rivals:
        near = (
            rival.chaos <= best.chaos + _NEAR_CHAOS  # both are shares: of noise, and of letters in their usual order
            and rival.coherence >= best.coherence - _NEAR_COHERENCE
        )
        if near and not (latin and _is_latin(rival)):
            return None
    if latin:
        return _code_page(sample)
    encoding: str = best.encoding
    text = sample.decode(encoding, "ignore")
    foreign = [c for c in text if not c.isascii()]
    letters = sum(c.isalnum() for c in foreign)  # what is written in it is written in its letters
    mixed = encoding not in _UNSPACED and _MIXED.search(text)
    return None if _ODD.search(text) or mixed or _CONTROL.search(text) or letters * 2 < len(foreign) else encoding


def _is_latin(match: Any) -> bool:
    return not set(_LATIN).isdisjoint(match.could_be_from_charset)


def _code_page(sample: bytes) -> str | None:
    readings: dict[str, str] = {}  # code pages that read it alike leave no choice to make
    for encoding in _LATIN + _LATIN_TOO:
        try:
            text = sample.decode(encoding)
        except UnicodeDecodeError:
            continue
        if not _CONTROL.search(text):
            readings.setdefault(text, encoding)
    ranked = sorted((*_misfits(text), encoding) for text, encoding in readings.items())
    if not ranked:
        return None
    misfits, telling, encoding = ranked[0]
    if misfits > telling * (1 - _LEAST_SHARE):
        return None
    lead = max(_LEAST_MISSES, _LEAST_LEAD * telling)
    return None if len(ranked) > 1 and ranked[1][0] < misfits + lead else encoding


def _misfits(text: str) -> tuple[int, int]:
    """Of the letters beyond ASCII, and of symbols amid words: how many the nearest language has not, and how many.

    A capital after a small letter counts as a symbol: no language writes so.
    """
    telling = Counter(
        "" if text[at.start()].isupper() and text[at.start() - 1 : at.start()].islower() else text[at.start()].lower()
        for at in _TELLING.finditer(text)
    )
    fitting = max(sum(times for letter, times in telling.items() if letter and letter in a) for a in _ALPHABETS)
    return telling.total() - fitting, telling.total()
