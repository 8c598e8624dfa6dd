"""Texts and vectors in JSON lines, one object a line: {"id": …, "text": …} or {"id": …, "vector": […]}."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, overload

import numpy as np
import numpy.typing as npt

from vecbench.errors import DatasetError
from vecbench.formats.convert import converted
from vecbench.formats.found import Text, VectorSet, hold_out_rows
from vecbench.types import Vectors

__all__ = ["LineTexts", "holds_vectors", "read_vector_lines"]

_IDS = ("_id", "id")
_VECTORS = ("vector", "embedding", "emb", "values")
_LONGEST_LINE = 64 << 20
_ROWS = 1024


def _objects(path: Path) -> Iterator[tuple[int, int, dict[str, Any]]]:
    """(Line from 1, offset in bytes, object) of every line; an empty last line is none."""
    number, offset = 0, 0
    try:
        with path.open("rb") as file:
            while line := file.readline(_LONGEST_LINE + 1):
                number += 1
                yield number, offset, _object(path, number, line)
                offset += len(line)
    except OSError as e:
        raise DatasetError(f"{path} cannot be read: {e.strerror or e}") from e


def _object(path: Path, number: int, line: bytes) -> dict[str, Any]:
    if len(line) > _LONGEST_LINE:
        raise DatasetError(f"{path}:{number}: the line is longer than {_LONGEST_LINE >> 20} MB")
    try:
        found = json.loads(line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line)
    except ValueError as e:  # not JSON, or not UTF-8
        raise DatasetError(f"{path}:{number}: not a JSON object on a line of its own ({e})") from e
    except RecursionError:
        raise DatasetError(f"{path}:{number}: not usable JSON: nested too deeply") from None
    if not isinstance(found, dict):
        raise DatasetError(f"{path}:{number}: a JSON object is expected, not {type(found).__name__}")
    return found


def _id(path: Path, number: int, found: dict[str, Any]) -> str | None:
    for name in _IDS:
        if name in found:
            id_ = found[name]
            if isinstance(id_, bool) or not isinstance(id_, str | int) or id_ == "":
                raise DatasetError(f"{path}:{number}: {name!r} is {id_!r}; an id is a string or a whole number")
            return _unicode(path, number, name, str(id_))
    return None


def _unicode(path: Path, number: int, name: str, text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise DatasetError(f"{path}:{number}: {name!r} holds a lone surrogate, which is not valid Unicode") from None
    return text


def _text(path: Path, number: int, found: dict[str, Any]) -> str:
    """`title` and `text` with a space between, as BEIR's own models are given them; what is empty is left out."""
    parts = []
    for name in ("title", "text"):
        part = found.get(name, "")
        if not isinstance(part, str):
            raise DatasetError(f"{path}:{number}: {name!r} is {type(part).__name__}; it must be a string")
        parts.append(_unicode(path, number, name, part))
    if "text" not in found:
        known = ", ".join(repr(key) for key in found) or "none"
        raise DatasetError(f"{path}:{number}: there is no field 'text'; the fields there are: {known}")
    return " ".join(part for part in parts if part.strip())


class LineTexts(Sequence[Text]):
    """The texts of a file of JSON lines; each is read from the file when it is asked for.

    ids: of the rows, in order; the line's number from 1 where a line has none. The whole file is checked when this is
    made. Eight bytes and an id per row are kept in memory. DatasetError names file and line.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.ids: list[str] = []
        offsets: list[int] = []
        seen: set[str] = set()
        for number, offset, found in _objects(path):
            _text(path, number, found)
            id_ = _id(path, number, found) or str(number)
            if id_ in seen:
                raise DatasetError(f"{path}:{number}: id {id_!r} is that of an earlier line; ids must be unique")
            seen.add(id_)
            self.ids.append(id_)
            offsets.append(offset)
        self._offsets = np.array(offsets, np.int64)

    def __len__(self) -> int:
        return len(self._offsets)

    @overload
    def __getitem__(self, index: int) -> Text: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Text]: ...
    def __getitem__(self, index: int | slice) -> Text | Sequence[Text]:
        if isinstance(index, slice):
            return [self[row] for row in range(*index.indices(len(self)))]
        row = range(len(self))[index]
        try:
            with self.path.open("rb") as file:
                file.seek(int(self._offsets[row]))
                line = file.readline(_LONGEST_LINE + 1)
        except OSError as e:
            raise DatasetError(f"{self.path} cannot be read: {e.strerror or e}") from e
        return Text(self.ids[row], _text(self.path, row + 1, _object(self.path, row + 1, line)))

    def __iter__(self) -> Iterator[Text]:
        for row, (number, _, found) in enumerate(_objects(self.path)):
            yield Text(self.ids[row], _text(self.path, number, found))


def holds_vectors(path: Path) -> bool:
    """Whether the first line has a field of numbers and not of text."""
    first = next(_objects(path), None)
    if first is None:
        raise DatasetError(f"{path} is empty")
    return _vector_field(first[2]) is not None


def _vector_field(found: dict[str, Any]) -> str | None:
    return next((name for name in _VECTORS if isinstance(found.get(name), list)), None)


def read_vector_lines(path: Path, queries: Path | None = None) -> VectorSet:
    """Vectors, and queries of a file of their own or held out; every line needs as many numbers as the first."""
    base, ids = _vectors(path)
    if queries is None:
        return hold_out_rows(VectorSet(base, ids=ids), path)
    asked, query_ids = _vectors(queries)
    return VectorSet(base, asked, ids=ids, query_ids=query_ids)


def _vectors(path: Path) -> tuple[Vectors, list[str]]:
    first = next(_objects(path), None)
    field = None if first is None else _vector_field(first[2])
    if first is None or field is None:
        raise DatasetError(f"{path}: its first line has no vector; it is looked for in {', '.join(_VECTORS)}")
    dim = len(first[2][field])
    ids = [_id(path, number, found) for number, _, found in _objects(path)]
    vectors = converted([path], field, dim, len(ids), partial(_blocks, path, field, dim))
    if all(id_ is None for id_ in ids):
        return vectors, []
    if (line := next((n for n, id_ in enumerate(ids, 1) if id_ is None), None)) is not None:
        raise DatasetError(f"{path}:{line}: there is no id, while other lines have one")
    return vectors, [id_ for id_ in ids if id_ is not None]


def _blocks(path: Path, field: str, dim: int) -> Iterator[npt.NDArray[np.float64]]:
    rows: list[list[float]] = []
    number = 0
    for number, _, found in _objects(path):
        vector = found.get(field)
        if not isinstance(vector, list) or len(vector) != dim:
            what = f"{len(vector)} values" if isinstance(vector, list) else type(vector).__name__
            raise DatasetError(f"{path}:{number}: {field!r} has {what}; {dim} numbers are expected")
        if not all(isinstance(value, int | float) and not isinstance(value, bool) for value in vector):
            raise DatasetError(f"{path}:{number}: {field!r} holds something that is no number")
        rows.append(vector)
        if len(rows) == _ROWS:
            yield _floats(path, number, rows)
            rows = []
    if rows:
        yield _floats(path, number, rows)


def _floats(path: Path, last: int, rows: list[list[float]]) -> npt.NDArray[np.float64]:
    try:
        return np.array(rows, np.float64)
    except OverflowError:
        raise DatasetError(f"{path}: a line up to {last} holds a whole number too large for a float") from None
