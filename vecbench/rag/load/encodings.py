"""Bytes as text: by a mark at the beginning, as what the file declares, as UTF-8, or as what is beyond doubt.

Line ends become `\\n`, as `open` makes them; offsets count in that text. An open guess is an error: mojibake in a store
is found by nobody.
"""

from __future__ import annotations

import codecs

from vecbench.errors import DocumentError
from vecbench.rag.load.codepages import detected

__all__ = ["as_text", "clean", "encoding_of", "printable"]

_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
# What pages declare, as browsers understand it. Whatever else they declare is not believed: Python knows encodings that
# are none of a text (idna, unicode_escape), and a page that was read as ASCII up to its declaration is not UTF-16.
_DECLARED = {
    **dict.fromkeys(("utf-8", "utf8", "unicode-1-1-utf-8"), "utf-8"),
    **dict.fromkeys(
        ("iso-8859-1", "iso8859-1", "latin1", "l1", "us-ascii", "ascii", "windows-1252", "cp1252"), "cp1252"
    ),
    **{f"iso-8859-{n}": f"iso8859_{n}" for n in (2, 3, 4, 5, 6, 7, 8, 10, 13, 14, 15, 16)},
    **{f"windows-{n}": f"cp{n}" for n in (1250, 1251, 1253, 1254, 1255, 1256, 1257, 1258)},
    **dict.fromkeys(("iso-8859-9", "latin5"), "cp1254"),
    **dict.fromkeys(("tis-620", "iso-8859-11", "windows-874"), "cp874"),
    **dict.fromkeys(("gb2312", "gbk", "gb18030", "x-gbk"), "gb18030"),
    **dict.fromkeys(("big5", "big5-hkscs", "x-x-big5"), "big5hkscs"),
    **dict.fromkeys(("shift_jis", "shift-jis", "sjis", "x-sjis", "windows-31j"), "cp932"),
    **dict.fromkeys(("euc-kr", "ks_c_5601-1987", "windows-949"), "cp949"),
    **{"euc-jp": "euc_jp", "iso-2022-jp": "iso2022_jp", "koi8-r": "koi8_r", "koi8-u": "koi8_u", "ibm866": "cp866"},
    "macintosh": "mac_roman",
}
_SAMPLE = 64_000


def as_text(data: bytes, declared: str | None = None) -> str:
    """The text of a file, its line ends made `\\n`; DocumentError for what is no text.

    declared: an encoding that the file itself names; used where it fits and no mark says otherwise.
    """
    encoding = encoding_of(data, declared)
    try:
        return clean(data.decode(encoding))
    except UnicodeDecodeError as e:
        raise DocumentError(f"it is not the {encoding} that it looks like: byte {e.start}") from e


def encoding_of(data: bytes, declared: str | None = None, *, whole: bool = True) -> str:
    """The encoding of a text of which `data` is the whole, or the beginning; DocumentError where it cannot be told."""
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            return encoding
    if b"\0" in data:
        raise DocumentError("it holds NUL bytes: it is no text, or UTF-16 without a mark")
    known = _DECLARED.get(declared.lower()) if declared else None
    for encoding in filter(None, (known, "utf-8")):
        try:
            text = codecs.getincrementaldecoder(encoding)().decode(data, final=whole)
        except UnicodeDecodeError:
            continue
        if "\x1b$" not in text:  # ISO-2022-JP is ASCII to UTF-8
            return encoding
    found = detected(_telling(data))
    if found is None:
        raise DocumentError("its encoding cannot be told; save it as UTF-8")
    return found


def _telling(data: bytes) -> bytes:
    """A sample of the lines that are not ASCII: the others say nothing of an encoding."""
    if b"\x1b$" in data:
        at = data.index(b"\x1b$")
        return data[at : at + _SAMPLE]
    sample = bytearray()
    for line in data.splitlines(keepends=True):
        if not line.isascii():
            if len(sample) + len(line) > _SAMPLE:
                # Nobody says where a character of two bytes ends but a byte below 0x30, which is never its second.
                cut = next((i for i in range(min(len(line), _SAMPLE), 0, -1) if line[i - 1] < 0x30), 0)
                return bytes(sample or line[:cut] or line)
            sample += line
    return bytes(sample)


def clean(text: str) -> str:
    """Line ends as `\\n`; DocumentError for NUL, which no store can keep."""
    if "\0" in text:
        raise DocumentError("it holds NUL characters: it is no text")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def printable(text: str) -> str:
    """Without NUL, and with `?` for lone surrogates, which damaged fonts and names of files give."""
    return text.replace("\0", "").encode("utf-8", "replace").decode("utf-8")
