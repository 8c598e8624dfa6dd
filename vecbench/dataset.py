"""What is searched and what is asked: vectors with an identity card, checked by hash before they are used."""

from __future__ import annotations

import hashlib
import json
import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from vecbench.embed.spec import EmbedderSpec
from vecbench.errors import ChecksumMismatch, DatasetError, EmbedderError
from vecbench.types import Vectors

__all__ = ["Dataset", "DatasetCard", "DatasetSource", "TextFile", "array_sha256"]

_NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
_SHA256 = re.compile(r"[0-9a-f]{64}")


class TextFile(Protocol):
    """A file that can be read as text: a `Path`, or a resource inside a package."""

    def read_text(self, encoding: str | None = None) -> str:
        """The whole file."""
        ...


@dataclass(frozen=True, kw_only=True)
class DatasetCard:
    """What a data set is, known before any vector is read.

    name: lower-case words joined by hyphens; what the user types. sha256: hex digest of base and queries, see
    `array_sha256`. embedder: identity of what made the vectors, None where nothing did. synthetic: the vectors stand
    for no real thing, so their results say nothing about retrieval quality. notes: sentences shown with every result.
    """

    name: str
    title: str
    description: str
    source: str
    licence: str
    dim: int
    n_base: int
    n_queries: int
    sha256: str
    synthetic: bool
    notes: tuple[str, ...] = ()
    embedder: EmbedderSpec | None = None

    def __post_init__(self) -> None:
        for field, kind in _CARD_TYPES.items():
            value = getattr(self, field)
            if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
                raise DatasetError(f"card of {self.name!r}: {field} is {value!r}; it must be {kind.__name__}")
        if not _NAME.fullmatch(self.name):
            raise DatasetError(f"card of {self.name!r}: the name must be lower-case words joined by hyphens")
        if not _SHA256.fullmatch(self.sha256):
            raise DatasetError(f"card of {self.name!r}: sha256 is {self.sha256!r}; it must be 64 lower-case hex digits")
        for field in ("dim", "n_base", "n_queries"):
            if getattr(self, field) < 1:
                raise DatasetError(f"card of {self.name!r}: {field} is {getattr(self, field)}; it must be at least 1")
        if not all(isinstance(note, str) for note in self.notes):
            raise DatasetError(f"card of {self.name!r}: notes is {self.notes!r}; it must be strings")
        if self.embedder is not None and self.embedder.dim != self.dim:
            raise DatasetError(
                f"card of {self.name!r}: dim is {self.dim}, but its embedder {self.embedder.describe()} differs"
            )

    @classmethod
    def from_toml(cls, file: TextFile) -> DatasetCard:
        """The card in a TOML file, `[embedder]` being a table of `EmbedderSpec` fields; DatasetError if it is wrong."""
        try:
            return cls.from_dict(tomllib.loads(file.read_text(encoding="utf-8")))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as e:
            raise DatasetError(f"card {file}: cannot be read: {e}") from e
        except DatasetError as e:
            raise DatasetError(f"card {file}: {e}") from e

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> DatasetCard:
        """The card that `to_dict` wrote; raises DatasetError for an unknown, missing or wrong field."""
        known = {f.name for f in fields(cls)}
        if unknown := sorted(set(data) - known):
            raise DatasetError(f"unknown fields {unknown}; known are {sorted(known)}")
        if missing := sorted(known - {"notes", "embedder"} - set(data)):
            raise DatasetError(f"fields {missing} are missing")
        notes, embedder = data.get("notes", ()), data.get("embedder")
        if not isinstance(notes, list | tuple) or not isinstance(embedder, Mapping | None):
            raise DatasetError("notes must be a list of strings, and embedder a table")
        try:
            spec = None if embedder is None else EmbedderSpec.from_dict(embedder)
        except EmbedderError as e:
            raise DatasetError(str(e)) from e
        return cls(**{**data, "notes": tuple(notes), "embedder": spec})

    def to_dict(self) -> dict[str, Any]:
        """Every field as plain JSON values."""
        return {**asdict(self), "notes": list(self.notes)}


_CARD_TYPES: dict[str, type] = {
    "name": str,
    "title": str,
    "description": str,
    "source": str,
    "licence": str,
    "dim": int,
    "n_base": int,
    "n_queries": int,
    "sha256": str,
    "synthetic": bool,
}


@dataclass(frozen=True, eq=False)
class Dataset:
    """Vectors to be searched and vectors to be searched for; neither is changed after it is made.

    card: its identity. base: float32 (n, dim). queries: float32 (q, dim), held out of the base. ids: of the base rows,
    by default the row numbers as strings. query_ids: by default "q0", "q1" … Raises DatasetError for another shape or
    dtype, for NaN or infinity, and for ids that are not as many as the rows or not unique.
    """

    card: DatasetCard
    base: Vectors
    queries: Vectors
    ids: Sequence[str] = ()
    query_ids: Sequence[str] = ()

    def __post_init__(self) -> None:
        for part, ids, prefix in (("base", "ids", ""), ("queries", "query_ids", "q")):
            vectors = _checked(self.name, part, getattr(self, part))
            vectors.flags.writeable = False
            object.__setattr__(self, part, vectors)
            names = getattr(self, ids) or [f"{prefix}{i}" for i in range(len(vectors))]
            if len(names) != len(vectors) or len(set(names)) != len(names):
                raise DatasetError(
                    f"data set {self.name}: {len(names)} {ids} ({len(set(names))} distinct) for {len(vectors)} rows of "
                    f"{part}; every row needs one of its own"
                )
            object.__setattr__(self, ids, names)
        if self.base.shape[1] != self.queries.shape[1]:
            raise DatasetError(
                f"data set {self.name}: base vectors have {self.base.shape[1]} dimensions, "
                f"queries {self.queries.shape[1]}"
            )

    @classmethod
    def from_arrays(
        cls,
        name: str,
        base: npt.ArrayLike,
        queries: npt.ArrayLike,
        *,
        embedder: EmbedderSpec | None = None,
        synthetic: bool = False,
        notes: Sequence[str] = (),
    ) -> Dataset:
        """A data set of your own arrays, cast to float32, with a card made for them; its hash is the arrays' own."""
        x, q = (np.array(a, np.float32, order="C", ndmin=2) for a in (base, queries))
        card = DatasetCard(
            name=name,
            title=name,
            description="",
            source="arrays given by the user",
            licence="unknown",
            dim=x.shape[-1],
            n_base=len(x),
            n_queries=len(q),
            sha256="0" * 64,
            synthetic=synthetic,
            notes=tuple(notes),
            embedder=embedder,
        )
        made = cls(card, x, q)
        object.__setattr__(made, "card", replace(card, sha256=made.sha256))
        return made

    @property
    def name(self) -> str:
        """The card's name."""
        return self.card.name

    @property
    def dim(self) -> int:
        """Length of a vector."""
        return int(self.base.shape[1])

    @property
    def embedder(self) -> EmbedderSpec | None:
        """What made the vectors."""
        return self.card.embedder

    @cached_property
    def sha256(self) -> str:
        """Hex digest of the vectors, base first; computed once. Ids are not part of it."""
        return array_sha256(self.base, self.queries)

    def verify(self) -> None:
        """Raise ChecksumMismatch unless shapes and hash are the card's."""
        found = (len(self.base), len(self.queries), self.dim)
        promised = (self.card.n_base, self.card.n_queries, self.card.dim)
        if found != promised:
            raise ChecksumMismatch(
                f"data set {self.name}: (base rows, queries, dimensions) are {found}, its card says {promised}; "
                f"install it again or correct the card"
            )
        if self.sha256 != self.card.sha256:
            raise ChecksumMismatch(
                f"data set {self.name}: the vectors have sha256 {self.sha256}, its card says {self.card.sha256}; they "
                f"are not the ones that others measured: install it again"
            )


@dataclass(frozen=True)
class DatasetSource:
    """A data set that can be had: its card, and how to get the vectors.

    An entry point of the group "vecbench.datasets" names one of these, the entry point's name being the card's.
    make: returns the data set; called by `load` only, so listing sources reads no vectors.
    """

    card: DatasetCard
    make: Callable[[], Dataset]

    @property
    def name(self) -> str:
        """The card's name."""
        return self.card.name

    def load(self) -> Dataset:
        """The vectors, verified against this card; ChecksumMismatch where they are others."""
        made = self.make()
        dataset = (
            made if made.card == self.card else Dataset(self.card, made.base, made.queries, made.ids, made.query_ids)
        )
        dataset.verify()
        return dataset


def array_sha256(*arrays: npt.NDArray[Any]) -> str:
    """Hex digest over arrays in order: of each a JSON line of dtype and shape, then little-endian bytes, C order."""
    digest = hashlib.sha256()
    for array in arrays:
        plain = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
        header = json.dumps({"dtype": plain.dtype.str, "shape": plain.shape}, separators=(",", ":"))
        digest.update(header.encode("ascii") + b"\n")
        digest.update(plain.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def _checked(name: str, part: str, vectors: object) -> Vectors:
    if not isinstance(vectors, np.ndarray) or vectors.dtype != np.float32 or vectors.ndim != 2:
        what = f"{vectors.dtype} {vectors.shape}" if isinstance(vectors, np.ndarray) else type(vectors).__name__
        raise DatasetError(f"data set {name}: {part} is {what}; it must be a float32 array of shape (rows, dimensions)")
    if 0 in vectors.shape:
        raise DatasetError(f"data set {name}: {part} has shape {vectors.shape}; it must not be empty")
    # A float64 sum of float32 values cannot overflow, so it is finite exactly when they all are, and needs no mask.
    with np.errstate(invalid="ignore"):  # ∞ − ∞ is one of the cases looked for
        sums = vectors.sum(axis=1, dtype=np.float64)
    if not np.isfinite(sums).all():
        row = int(np.flatnonzero(~np.isfinite(sums))[0])
        raise DatasetError(f"data set {name}: row {row} of {part} holds NaN or infinity")
    return np.ascontiguousarray(vectors).view()  # a view, so that it can be frozen while the caller's array is not
