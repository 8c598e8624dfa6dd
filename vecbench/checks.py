"""What every store refuses, checked once at the border before the store sees anything; the row is always named.

Among the nine engines two reject a zero vector under cosine, two answer NaN and one loses the row; four accept NaN; one
stores a vector of the wrong length and silently leaves it out of the index. So none of them is asked.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence, Sized
from typing import Any

import numpy as np
import numpy.typing as npt

from vecbench.errors import ConfigError, DimensionMismatch, InvalidId, InvalidMetadata, InvalidVector
from vecbench.types import INCLUDE_ALL, Include, Metric, Vectors

__all__ = ["MAX_ID_BYTES", "as_vectors", "check_documents", "check_ids", "check_include", "check_metadata"]

MAX_ID_BYTES = 512
_MAX_NORM = 4e18  # a squared distance between two such vectors still fits float32
_INT64 = 2**63
_F32 = np.dtype(np.float32)
_TINY, _HUGE = 1e-37, 1e37  # squares that float32, in which the engines compute, still holds


def as_vectors(vectors: npt.ArrayLike, dim: int, metric: Metric, what: str = "vectors") -> Vectors:
    """`vectors` as float32 (n, dim), C-contiguous, every row fit for the metric; copied only where it must be.

    A single vector of shape (dim,) counts as one row. Raises `DimensionMismatch` or `InvalidVector`, naming the row.
    """
    # The common case, a ready float32 row, costs one dot product: it is finite and not zero when its square is.
    if (
        type(vectors) is np.ndarray
        and vectors.dtype is _F32
        and vectors.shape == (1, dim)
        and vectors.flags.c_contiguous
        and _TINY < np.vdot(vectors, vectors) < _HUGE  # vdot, unlike dot, does not warn of an overflow
    ):
        return vectors
    array = _cast(vectors, dim, what)
    rough = np.einsum("ij,ij->i", array, array)  # in float32: four times faster, and enough for ordinary vectors
    if len(rough) == 0 or _TINY < rough.min() <= rough.max() < _HUGE:  # NaN fails every comparison
        return array
    squared = np.einsum("ij,ij->i", array, array, dtype=np.float64)
    bad = ~(squared <= _MAX_NORM**2)  # catches NaN too
    if metric is Metric.COSINE:
        bad |= squared < _TINY
    if bad.any():
        _explain(array, int(np.argmax(bad)), what)
    return array


def _cast(vectors: npt.ArrayLike, dim: int, what: str) -> Vectors:
    if isinstance(vectors, np.ndarray) and vectors.dtype.kind not in "fiu":
        raise InvalidVector(f"{what} must be numbers, got an array of {vectors.dtype}")
    try:
        with np.errstate(over="ignore"):  # a float64 beyond float32 becomes infinite and is refused with its row
            array = np.ascontiguousarray(vectors, np.float32)
    except (ValueError, TypeError) as e:
        rows: Sequence[object] = vectors if isinstance(vectors, Sequence) else ()
        for i, row in enumerate(rows):
            if isinstance(row, Sized) and not isinstance(row, str) and len(row) != dim:
                raise DimensionMismatch(f"{what}: row {i} has {len(row)} numbers, the collection has {dim}") from e
        raise InvalidVector(f"{what} cannot be read as float32 numbers: {e}") from e
    if array.ndim in {1, 2} and len(array) == 0:
        return np.empty((0, dim), np.float32)
    if array.shape == (dim,):
        return array.reshape(1, dim)
    if array.ndim != 2 or array.shape[1] != dim:
        raise DimensionMismatch(f"{what} have shape {array.shape}; the collection takes ({dim},) or (n, {dim})")
    return array


def _explain(array: Vectors, row: int, what: str) -> None:
    vector = array[row]
    finite = np.isfinite(vector)
    if not finite.all():
        at = int(np.argmin(finite))
        raise InvalidVector(f"{what}: row {row} holds {vector[at]} at position {at}; every number must be finite")
    if not vector.any():
        raise InvalidVector(f"{what}: row {row} is a zero vector, which has no cosine; leave it out or use Euclidean")
    raise InvalidVector(
        f"{what}: row {row} has length {np.linalg.norm(vector.astype(np.float64)):.3g}; "
        "its square does not fit float32, in which the engines compute. Rescale the vectors"
    )


def check_ids(ids: Sequence[str], *, unique: bool = True) -> None:
    """Raise `InvalidId` unless every id is a string of 1 to 512 UTF-8 bytes without NUL, and none occurs twice."""
    if isinstance(ids, str):
        raise InvalidId(f"ids must be a list of strings, got the string {ids!r}")
    try:  # the common case, at C speed: plain short ASCII strings
        joined = "".join(ids)
        short = min(map(len, ids)) > 0 and max(map(len, ids)) <= MAX_ID_BYTES
        if short and joined.isascii() and "\0" not in joined and (not unique or len(set(ids)) == len(ids)):
            return
    except (TypeError, ValueError):
        pass  # not all strings, or no ids at all: the loop below says which
    seen: dict[str, int] = {}
    for row, id_ in enumerate(ids):
        if not isinstance(id_, str):
            raise InvalidId(f"row {row}: an id is a string, got {type(id_).__name__} {id_!r}")
        size = _utf8(id_, f"row {row}: the id", InvalidId)
        if not 1 <= size <= MAX_ID_BYTES:
            raise InvalidId(f"row {row}: an id has 1 to {MAX_ID_BYTES} UTF-8 bytes, this one has {size}: {id_[:64]!r}")
        if unique and seen.setdefault(id_, row) != row:
            raise InvalidId(f"rows {seen[id_]} and {row} have the same id {id_!r}; ids are unique in a batch")


def check_metadata(rows: Sequence[Mapping[str, Any]]) -> None:
    """Raise `InvalidMetadata` unless every row is flat: str, int (64 bits), finite float, bool or list[str] by key."""
    good_keys: set[object] = set()  # the same few keys come with every row
    for row, mapping in enumerate(rows):
        if not isinstance(mapping, Mapping):
            raise InvalidMetadata(
                f"row {row}: metadata is a mapping, got {type(mapping).__name__}; use {{}} where a record has none"
            )
        for key, value in mapping.items():
            if key not in good_keys:
                if type(key) is not str or not key:
                    raise InvalidMetadata(f"row {row}: a metadata key is a non-empty string, got {key!r}")
                _utf8(key, f"row {row}: the key", InvalidMetadata)
                good_keys.add(key)
            if type(value) is str and value.isascii() and "\0" not in value:
                continue
            _check_value(row, key, value)


def _check_value(row: int, key: str, value: object) -> None:
    # Exact types: a subclass (numpy.float64, an IntEnum) would come back as something else.
    if type(value) is str:
        _utf8(value, f"row {row}, field {key!r}: the text", InvalidMetadata)
    elif type(value) is int:
        if not -_INT64 <= value < _INT64:
            raise InvalidMetadata(f"row {row}, field {key!r}: {value} does not fit 64 bits; store it as text")
    elif type(value) is float:
        if not math.isfinite(value):
            raise InvalidMetadata(f"row {row}, field {key!r}: {value} is not finite; leave the key out")
    elif type(value) is list:
        for item in value:
            if type(item) is not str:
                raise InvalidMetadata(
                    f"row {row}, field {key!r}: a list holds strings only, got {type(item).__name__} {item!r}"
                )
            _utf8(item, f"row {row}, field {key!r}: the text", InvalidMetadata)
    elif type(value) is not bool:
        raise InvalidMetadata(_wrong_kind(row, key, value))


def _wrong_kind(row: int, key: str, value: object) -> str:
    kind = type(value)
    name = kind.__name__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__name__}"
    hint = "leave the key out" if value is None else "metadata is flat: str, int, float, bool or list[str]"
    if kind.__module__ == "numpy":
        hint = "use a plain Python number, value.item()"
    return f"row {row}, field {key!r}: {name} is not allowed; {hint}"


def check_documents(documents: Sequence[str | None]) -> None:
    """Raise `InvalidMetadata` unless every document is a text or None."""
    for row, text in enumerate(documents):
        if text is not None:
            if type(text) is not str:
                raise InvalidMetadata(f"row {row}: a document is a str or None, got {type(text).__name__}")
            _utf8(text, f"row {row}: the document", InvalidMetadata)


def check_include(include: Sequence[Include]) -> None:
    """Raise `ConfigError` for what is no column of records."""
    if isinstance(include, str) or set(include) - set(INCLUDE_ALL):
        raise ConfigError(f"include takes {INCLUDE_ALL}, got {include!r}")


def _utf8(text: str, what: str, error: type[InvalidId] | type[InvalidMetadata]) -> int:
    """The number of UTF-8 bytes; refuses lone surrogates and NUL, which several engines cannot hold."""
    if "\0" in text:
        raise error(f"{what} {text[:64]!r} holds a NUL character, which not every store can keep")
    if text.isascii():
        return len(text)
    try:
        return len(text.encode())
    except UnicodeEncodeError:
        raise error(f"{what} {text[:64]!r} is not valid Unicode (lone surrogate)") from None
