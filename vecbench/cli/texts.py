"""Texts from files: one a line, or one field of a JSON object a line. What is wrong is named with file and line."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from vecbench.errors import ConfigError

__all__ = ["Text", "read_texts"]

_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class Text:
    """One text and its id; `where` is file and line."""

    id: str
    text: str
    where: str


def read_texts(inputs: Sequence[str], *, field: str | None, id_field: str | None) -> list[Text]:
    """The texts of all inputs in order, `-` being stdin; `ConfigError` names file and line.

    field: read JSON lines and take this field; without it every line is a text. id_field: the field that holds a
    text's id; without it the id is file and line. An empty line is an error, so that row n of the vectors is line n.
    """
    if id_field is not None and field is None:
        raise ConfigError("--id-field needs --field: plain text has no ids")
    if inputs.count("-") > 1:
        raise ConfigError("stdin (-) can be read once only")
    texts: list[Text] = []
    seen: dict[str, str] = {}
    for name in inputs:
        for where, line in _lines(name):
            text = Text(where, line, where) if field is None else _from_json(line, where, field, id_field)
            if not text.text.strip():
                raise ConfigError(f"{where}: the text is empty; every line becomes one vector, so take it out")
            if text.id in seen:
                raise ConfigError(f"{where}: id {text.id!r} is that of {seen[text.id]} too; ids must be unique")
            seen[text.id] = where
            texts.append(text)
    if not texts:
        raise ConfigError(f"no text in {', '.join('stdin' if name == '-' else name for name in inputs)}")
    return texts


def _lines(name: str) -> Iterator[tuple[str, str]]:
    shown = "stdin" if name == "-" else name
    try:
        data = sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
    except OSError as e:
        raise ConfigError(f"{shown} cannot be read: {e.strerror or e}") from e
    # Only a newline ends a line: str.splitlines would also cut at characters that occur inside texts.
    lines = data.removeprefix(_BOM).split(b"\n")
    if lines[-1] == b"":
        lines.pop()
    for number, line in enumerate(lines, 1):
        where = f"{shown}:{number}"
        try:
            yield where, line.removesuffix(b"\r").decode("utf-8")
        except UnicodeDecodeError as e:
            raise ConfigError(f"{where}: byte {e.start + 1} of the line is not UTF-8; convert the file first") from e


def _from_json(line: str, where: str, field: str, id_field: str | None) -> Text:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as e:
        raise ConfigError(f"{where}: not JSON: {e.msg} at column {e.colno}") from e
    except RecursionError:
        raise ConfigError(f"{where}: not usable JSON: nested too deeply") from None
    if not isinstance(row, dict):
        raise ConfigError(f"{where}: expected a JSON object, got {type(row).__name__}")
    text = row.get(field)
    if not isinstance(text, str):
        known = ", ".join(repr(key) for key in row) or "none"
        raise ConfigError(f"{where}: field {field!r} is no string; the fields there are: {known}")
    _require_unicode(text, where, field)
    if id_field is None:
        return Text(where, text, where)
    id_ = row.get(id_field)
    if isinstance(id_, bool) or not isinstance(id_, str | int):
        raise ConfigError(f"{where}: id field {id_field!r} is neither a string nor a whole number")
    _require_unicode(str(id_), where, id_field)
    return Text(str(id_), text, where)


def _require_unicode(text: str, where: str, field: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ConfigError(f"{where}: field {field!r} holds a lone surrogate, which is not valid Unicode") from None
