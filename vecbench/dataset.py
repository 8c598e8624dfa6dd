"""What is searched and what is asked: vectors with an identity card, checked by hash before they are used."""

from __future__ import annotations

import re
import shutil
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from filelock import FileLock

from vecbench.embed.cache import CachedEmbedder
from vecbench.embed.spec import Embedder, EmbedderSpec, Progress
from vecbench.errors import ChecksumMismatch, DatasetError, EmbedderError
from vecbench.formats.arrays import Neighbours, open_vectors
from vecbench.formats.blocks import array_sha256, blocks, key_of, mapped_file, recall, remember, require_finite
from vecbench.formats.convert import cache_home, require_space, write_npy
from vecbench.formats.found import Text, TextDataset, TextsDigest, judgements_sha256
from vecbench.formats.recipe import Recipe
from vecbench.formats.rows import RowNames, distinct
from vecbench.relevance import Judgements
from vecbench.types import Metric, Vectors

__all__ = [
    "Dataset",
    "DatasetCard",
    "DatasetSource",
    "Text",
    "TextDataset",
    "TextFile",
    "array_sha256",
    "embed_dataset",
]
_BLOCK_TEXTS = 2048  # embedded, then kept: so much work is lost at most when the process is killed

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
    `array_sha256`; "" where it is not known beforehand. embedder: identity of what made the vectors, None where
    nothing did. synthetic: the vectors stand for no real thing, so their results say nothing about retrieval quality.
    notes: sentences shown with every result. metric: the one that the vectors are made for, None where that is open.
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
    metric: Metric | None = None

    def __post_init__(self) -> None:
        for field, kind in _CARD_TYPES.items():
            value = getattr(self, field)
            if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
                raise DatasetError(f"card of {self.name!r}: {field} is {value!r}; it must be {kind.__name__}")
        if not _NAME.fullmatch(self.name):
            raise DatasetError(f"card of {self.name!r}: the name must be lower-case words joined by hyphens")
        if self.sha256 and not _SHA256.fullmatch(self.sha256):
            raise DatasetError(f"card of {self.name!r}: sha256 is {self.sha256!r}; it must be 64 lower-case hex digits")
        if self.metric is not None and self.metric not in set(Metric):
            raise DatasetError(f"card of {self.name!r}: metric is {self.metric!r}; known are {', '.join(Metric)}")
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
        if missing := sorted(known - {"notes", "embedder", "metric"} - set(data)):
            raise DatasetError(f"fields {missing} are missing")
        notes, embedder = data.get("notes", ()), data.get("embedder")
        if not isinstance(notes, list | tuple) or not isinstance(embedder, Mapping | None):
            raise DatasetError("notes must be a list of strings, and embedder a table")
        metric = data.get("metric")
        try:
            spec = None if embedder is None else EmbedderSpec.from_dict(embedder)
        except EmbedderError as e:
            raise DatasetError(str(e)) from e
        native = Metric(metric) if metric in set(Metric) else metric  # a wrong one is refused, by name, when made
        return cls(**{**data, "notes": tuple(notes), "embedder": spec, "metric": native})

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
    by default the row numbers as strings. query_ids: by default "q0", "q1" … judgements: what people found relevant to
    each query, None where nobody was asked. documents: the text of each base row, None where there are only vectors.
    Raises DatasetError for another shape or dtype, for NaN or infinity, and for ids that are not as many as the rows or
    not unique.

    Vectors mapped read-only from a file stay there. They are read once, in blocks, to be checked and hashed; the hash
    is remembered in the user's cache by path, size and times, and a file that has not changed is not read again.
    """

    card: DatasetCard
    base: Vectors
    queries: Vectors
    ids: Sequence[str] = ()
    query_ids: Sequence[str] = ()
    judgements: Judgements | None = None
    documents: Sequence[Text] | None = None

    def __post_init__(self) -> None:
        for part, ids, prefix in (("base", "ids", ""), ("queries", "query_ids", "q")):
            vectors = _shaped(self.name, part, getattr(self, part))
            vectors.flags.writeable = False
            object.__setattr__(self, part, vectors)
            names = getattr(self, ids)
            if not len(names):
                names = RowNames(range(len(vectors)), prefix)
            if len(names) != len(vectors) or distinct(names) != len(names):
                raise DatasetError(
                    f"data set {self.name}: {len(names)} {ids} ({distinct(names)} distinct) for {len(vectors)} rows of "
                    f"{part}; every row needs one of its own"
                )
            object.__setattr__(self, ids, names)
        if self.base.shape[1] != self.queries.shape[1]:
            raise DatasetError(
                f"data set {self.name}: base vectors have {self.base.shape[1]} dimensions, "
                f"queries {self.queries.shape[1]}"
            )
        for what, rows, count in (("judgements", self.judgements, "queries"), ("documents", self.documents, "base")):
            if rows is not None and len(rows) != len(getattr(self, count)):
                raise DatasetError(f"data set {self.name}: {len(rows)} {what} for {len(getattr(self, count))} {count}")
        self._check()

    def _check(self) -> None:
        """Look for NaN in what is not known to be free of it; what is mapped is hashed in the same reading."""
        parts = ("base", "queries")

        def check(number: int, start: int, block: Vectors) -> None:
            require_finite(f"data set {self.name}", start, block, parts[number])

        key = key_of(self.base, self.queries)
        if key is None:
            for number, part in enumerate(parts):
                for start, block in blocks(getattr(self, part)):
                    check(number, start, block)
            return
        digest = recall(key)
        if digest is None:
            digest = array_sha256(self.base, self.queries, check=check)
            if key == key_of(self.base, self.queries):  # a file that was written meanwhile has no hash to remember
                remember(key, digest)
        self.__dict__["sha256"] = digest

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
        """A data set of your own arrays, cast to float32, with a card made for them; its hash is the arrays' own.

        Float32 that is mapped read-only from a file is used where it lies, everything else is copied.
        """
        x, q = (
            a
            if isinstance(a, np.ndarray) and a.dtype == np.float32 and mapped_file(a)
            else np.array(a, np.float32, order="C", ndmin=2)
            for a in (base, queries)
        )
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

    @cached_property
    def judgements_sha256(self) -> str:
        """Hex digest of the judgements, computed once; that of no line where there are none."""
        return judgements_sha256(self.judgements, self.query_ids)

    def verify(self) -> None:
        """Raise ChecksumMismatch unless shapes are the card's, and the hash is, where the card has one."""
        found = (len(self.base), len(self.queries), self.dim)
        promised = (self.card.n_base, self.card.n_queries, self.card.dim)
        if found != promised:
            raise ChecksumMismatch(
                f"data set {self.name}: (base rows, queries, dimensions) are {found}, its card says {promised}; "
                f"install it again or correct the card"
            )
        if self.card.sha256 and self.sha256 != self.card.sha256:
            raise ChecksumMismatch(
                f"data set {self.name}: the vectors have sha256 {self.sha256}, its card says {self.card.sha256}; they "
                f"are not the ones that the card was made for: bring those back, or install or add them again"
            )


@dataclass(frozen=True)
class DatasetSource:
    """A data set that can be had: its card, and how to get the vectors.

    An entry point of the group "vecbench.datasets" names one of these, the entry point's name being the card's.
    make: returns the data set; called by `load` only, so listing sources reads no vectors. texts: returns the texts of
    which `make` makes vectors, for another embedder; None where there are none. neighbours: returns the neighbours that
    came with the files, for a cross-check, or None. recipe: where the files come from; None where none are needed.
    """

    card: DatasetCard
    make: Callable[[], Dataset]
    texts: Callable[[], TextDataset] | None = None
    neighbours: Callable[[], Neighbours | None] | None = None
    recipe: Recipe | None = None

    @property
    def name(self) -> str:
        """The card's name."""
        return self.card.name

    def load(self) -> Dataset:
        """The vectors, verified against this card; ChecksumMismatch where they are others."""
        made = self.make()
        found = (note for note in made.card.notes if note not in self.card.notes)
        card = replace(self.card, notes=(*self.card.notes, *found))
        dataset = made if made.card == card else replace(made, card=card)
        dataset.verify()
        return dataset


def embed_dataset(
    texts: TextDataset,
    embedder: Embedder,
    card: DatasetCard,
    *,
    cache: Path | None = None,
    progress: Progress | None = None,
) -> Dataset:
    """The data set of these texts through `embedder`; vectors are kept on disk and mapped, so the next time is quick.

    card: what is said of the result; dimension, sizes and embedder are taken from what was made, and its sha256 counts
    only if it was made for the same embedder. cache: a directory, by default `embedded` in the user's cache; the
    vectors lie there by the hash of the texts and the embedder's fingerprint. A killed process goes on where it was.
    progress: called with (documents done, all documents); within a block of 2,048 it advances with the tokens.
    """
    spec = embedder.spec
    folder = (cache_home() / "embedded" if cache is None else cache) / f"{texts.sha256[:32]}-{spec.fingerprint}"
    base, queries = folder / "base.npy", folder / "queries.npy"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / "lock"):
            if not queries.exists():  # written last
                parts = folder / "parts"
                cached = CachedEmbedder(embedder, parts)
                require_space(folder, 8 * spec.dim * len(texts.documents), f"embedding {card.name}")
                read = TextsDigest()
                rows = _embedded(texts.documents, cached, progress, read)
                write_npy(base, card.name, spec.dim, rows, rows=len(texts.documents))
                asked = list(texts.queries)
                read.begin(len(asked))
                read.add(asked)
                if read.hexdigest() != texts.sha256:  # `folder` promises vectors of the texts that were hashed
                    base.unlink()
                    raise DatasetError(f"data set {card.name}: its texts changed while they were read; start again")
                found = cached.embed_queries([text.text for text in asked])
                write_npy(queries, card.name, spec.dim, [found], rows=len(asked))
                shutil.rmtree(parts, ignore_errors=True)
    except OSError as e:
        raise DatasetError(f"{folder} cannot be written: {e.strerror or e}") from e
    made = replace(
        card,
        dim=spec.dim,
        n_base=len(texts.documents),
        n_queries=len(texts.queries),
        embedder=spec,
        sha256=card.sha256 if card.embedder == spec else "",
        notes=(*card.notes, *(note for note in texts.notes if note not in card.notes)),
    )
    ids, query_ids = ([text.id for text in part] for part in (texts.documents, texts.queries))
    return Dataset(made, open_vectors(base), open_vectors(queries), ids, query_ids, texts.judgements, texts.documents)


def _embedded(
    documents: Sequence[Text], embedder: CachedEmbedder, progress: Progress | None, read: TextsDigest
) -> Iterator[Vectors]:
    total = len(documents)
    read.begin(total)
    for start in range(0, total, _BLOCK_TEXTS):
        texts = documents[start : start + _BLOCK_TEXTS]
        read.add(texts)
        block = [text.text for text in texts]

        def within(done: int, most: int, start: int = start, share: int = len(block)) -> None:
            if progress is not None:
                progress(start + share * done // max(most, 1), total)

        yield embedder.embed_documents(block, progress=within)


def _shaped(name: str, part: str, vectors: object) -> Vectors:
    if not isinstance(vectors, np.ndarray) or vectors.dtype != np.float32 or vectors.ndim != 2:
        what = f"{vectors.dtype} {vectors.shape}" if isinstance(vectors, np.ndarray) else type(vectors).__name__
        raise DatasetError(f"data set {name}: {part} is {what}; it must be a float32 array of shape (rows, dimensions)")
    if 0 in vectors.shape:
        raise DatasetError(f"data set {name}: {part} has shape {vectors.shape}; it must not be empty")
    return np.ascontiguousarray(vectors).view()  # a view, so that it can be frozen while the caller's array is not
