"""A text as words, the same for what is searched and for what is searched for."""

from __future__ import annotations

import re
import unicodedata
from functools import cache

__all__ = ["tokens"]

# Scripts whose words are not set apart by spaces, or (Hangul) with particles grown on to them.
_UNSPACED = (
    "\u3005-\u3007\u3021-\u3029\u3031-\u3035\u3041-\u3096\u309d-\u309f\u30a1-\u30fa\u30fc-\u30ff\u31f0-\u31ff"
    "\u1100-\u11ff\u3131-\u318e\ua960-\ua97c\uac00-\ud7a3\ud7b0-\ud7fb"
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U000323af"
    "\u0e01-\u0e3a\u0e40-\u0e4e\u0e81-\u0ecd\u1000-\u103f\u1050-\u108f\u1780-\u17d3"  # Thai, Lao, Burmese, Khmer
)


def tokens(text: str) -> list[str]:
    """The words of a text in their order, in Unicode's NFKC form and without case: "Ｆuß_3" gives "fuss", "3".

    A word is a run of letters, digits and the marks upon them. Of a run of Han, kana, Hangul, Thai, Lao, Burmese or
    Khmer every two neighbouring characters are a word: "東京都" gives "東京", "京都". One that stands alone is a word
    itself, and finds only others that stand alone.
    """
    folded = text.lower() if text.isascii() else _fold(text)
    out: list[str] = []
    for match in _pattern().finditer(folded):
        word = match.group()
        if match.lastgroup == "unspaced" and len(word) > 1:
            out += [word[i : i + 2] for i in range(len(word) - 1)]
        else:
            out.append(word)
    return out


def _fold(text: str) -> str:
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())


@cache
def _pattern() -> re.Pattern[str]:
    """Python's \\w knows letters and digits, not the marks that vowels are in half of the scripts: they are added."""
    marks: list[list[int]] = []
    for code in range(0x300, 0x20000):
        if unicodedata.category(chr(code))[0] == "M":
            if marks and marks[-1][1] == code - 1:
                marks[-1][1] = code
            else:
                marks.append([code, code])
    marked = "".join(f"{chr(first)}-{chr(last)}" for first, last in marks)
    return re.compile(
        f"(?P<unspaced>[{_UNSPACED}]+)|(?:(?![{_UNSPACED}])[^\\W_])(?:(?![{_UNSPACED}])[^\\W_]|[{marked}])*"
    )
