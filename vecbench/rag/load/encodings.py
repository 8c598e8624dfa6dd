"""Bytes as text: by a mark at the beginning, as UTF-8, or as what the bytes look like; an open guess is an error."""

from __future__ import annotations

import codecs

from vecbench.errors import DocumentError, MissingDependency

__all__ = ["as_text", "clean"]

_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_LATIN = {"cp1250", "cp1254", "cp1257", "cp1258", "latin_1"}
_SAMPLE = 256_000
_MOST_CHAOS = 0.2  # of charset-normalizer: the share of a decoded text that looks like noise


def as_text(data: bytes, declared: str | None = None) -> str:
    """The text of a file, its line ends made `\\n`; DocumentError for what is no text.

    declared: an encoding that the file itself names; used where it fits and no mark says otherwise.
    """
    for mark, marked in _MARKS:
        if data.startswith(mark):
            return clean(_decoded(data, marked))
    for encoding in (declared, "utf-8"):
        if encoding:
            try:
                return clean(data.decode(encoding))
            except (UnicodeDecodeError, LookupError):
                continue
    if b"\0" in data[:_SAMPLE]:
        raise DocumentError("it holds NUL bytes: it is no text")
    return clean(_decoded(data, _detected(data)))


def clean(text: str) -> str:
    """Line ends as `\\n`; DocumentError for NUL, which no store can keep."""
    if "\0" in text:
        raise DocumentError("it holds NUL characters: it is no text")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _decoded(data: bytes, encoding: str) -> str:
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as e:
        raise DocumentError(f"it is not the {encoding} that it looks like: byte {e.start}") from e


def _detected(data: bytes) -> str:
    try:
        from charset_normalizer import from_bytes
    except ImportError as error:
        raise MissingDependency("Detecting an encoding", module="charset_normalizer", extra="rag") from error
    matches = list(from_bytes(data[:_SAMPLE]))
    if not matches or matches[0].chaos > _MOST_CHAOS:
        raise DocumentError("its encoding cannot be told; save it as UTF-8")
    best = matches[0].encoding
    # The Latin code pages are told apart by little: among those that fit, it is the one in common use.
    near = {match.encoding for match in matches if match.chaos <= matches[0].chaos + 0.1}
    return "cp1252" if best in _LATIN and "cp1252" in near else best
