"""What a file or folder was found to hold: vectors, or texts of which vectors are still to be made."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import overload

from vecbench.errors import DatasetError
from vecbench.formats.arrays import Neighbours
from vecbench.formats.rows import distinct
from vecbench.relevance import Judgements
from vecbench.types import Metric, Vectors

__all__ = [
    "HeldOut",
    "Text",
    "TextDataset",
    "TextsDigest",
    "VectorSet",
    "hold_out_rows",
    "hold_out_texts",
    "judgements_sha256",
    "unique",
]

_MOST_QUERIES = 1000


@dataclass(frozen=True, eq=False)
class VectorSet:
    """Vectors as a file brings them: queries and neighbours are None, and ids empty, where it has none.

    neighbours: row numbers into `base`, int64 (q, k), as whoever made the file computed them; under `metric`.
    """

    base: Vectors
    queries: Vectors | None = None
    ids: Sequence[str] = ()
    query_ids: Sequence[str] = ()
    metric: Metric | None = None
    neighbours: Neighbours | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Text:
    """One text and its id."""

    id: str
    text: str


class TextsDigest:
    """The digest of `TextDataset.sha256`, fed as the texts are read: documents first, then queries, each in order."""

    def __init__(self) -> None:
        self._digest = hashlib.sha256()

    def begin(self, count: int) -> None:
        """So many texts follow: the documents, or the queries."""
        self._digest.update(f"{count}\n".encode())

    def add(self, texts: Iterable[Text]) -> None:
        """The next texts."""
        for text in texts:
            for word in (text.id, text.text):
                data = word.encode()
                self._digest.update(f"{len(data)} ".encode() + data)

    def hexdigest(self) -> str:
        """Hex digest of what was added."""
        return self._digest.hexdigest()


def judgements_sha256(judgements: Judgements | None, query_ids: Sequence[str]) -> str:
    """Hex digest over the queries in order: of each a JSON line of its id and its graded ids, sorted.

    Of None it is that of no line, so that judgements which were added to a set are noticed as changed ones are.
    """
    digest = hashlib.sha256()
    if judgements is not None:
        for id_, grades in zip(query_ids, judgements, strict=True):
            digest.update(json.dumps([id_, sorted(grades.items())], separators=(",", ":")).encode() + b"\n")
    return digest.hexdigest()


@dataclass(frozen=True, eq=False)
class TextDataset:
    """Texts to be searched and texts to be searched for, before an embedder made vectors of either.

    documents: read when they are asked for, where they come from a file. judgements: of the queries, in their order.
    DatasetError for no documents or queries, and for an id that occurs twice.
    """

    documents: Sequence[Text]
    queries: Sequence[Text]
    judgements: Judgements | None = None
    notes: tuple[str, ...] = field(default=())

    def __post_init__(self) -> None:
        if not len(self.documents) or not len(self.queries):
            raise DatasetError(
                f"{len(self.documents)} documents and {len(self.queries)} queries: one of each is needed"
            )
        if self.judgements is not None and len(self.judgements) != len(self.queries):
            raise DatasetError(f"{len(self.judgements)} judged queries for {len(self.queries)} queries")

    @cached_property
    def sha256(self) -> str:
        """Hex digest of ids and texts of documents and queries, in order; computed once, by reading all of them.

        Vectors are kept by it, so the judgements, which change no vector, have a digest of their own.
        """
        digest = TextsDigest()
        for part in (self.documents, self.queries):
            digest.begin(len(part))
            digest.add(part)
        return digest.hexdigest()

    @cached_property
    def judgements_sha256(self) -> str:
        """Hex digest of the judgements, see the function of this name; computed once."""
        return judgements_sha256(self.judgements, [text.id for text in self.queries])


def hold_out_rows(found: VectorSet, path: Path) -> VectorSet:
    """The last tenth of the base, 1,000 rows at most, as queries, where there are none; the base ends before them.

    path: names the source in errors. DatasetError where one id stands in both parts, or one row is all.
    """
    if found.queries is not None:
        return found
    n = len(found.base)
    count = min(_MOST_QUERIES, n // 10) or 1
    if n < 2:
        raise DatasetError(f"{path}: there is one vector and no query; give queries")
    if distinct(found.ids) != len(found.ids):  # afterwards each part would be looked at for itself
        unique(found.ids, str(path))
    cut = n - count
    return VectorSet(
        base=found.base[:cut],
        queries=found.base[cut:],
        ids=found.ids[:cut],
        query_ids=found.ids[cut:],
        metric=found.metric,
        notes=(*found.notes, f"the queries are the last {count:,} rows of the file, held out of the base"),
    )


class HeldOut(Sequence[Text]):
    """The texts of another sequence but for every `step`-th from `first`, or those only."""

    def __init__(self, texts: Sequence[Text], first: int, step: int, *, held: bool) -> None:
        self._texts = texts
        every = range(first, len(texts), step)
        self._rows: Sequence[int] = every if held else [row for row in range(len(texts)) if row not in every]

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, index: int) -> Text: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Text]: ...
    def __getitem__(self, index: int | slice) -> Text | Sequence[Text]:
        if isinstance(index, slice):
            return [self._texts[row] for row in self._rows[index]]
        return self._texts[self._rows[index]]


def hold_out_texts(texts: Sequence[Text], *, seed: int = 0) -> TextDataset:
    """Every n-th text as a query, at most a tenth and 1,000 of them, removed from the documents.

    n is 10, or more for over 10,000 texts; which of the first n begins is drawn with `seed`. A text from the middle of
    a document finds its neighbours there: such queries measure the search for similar text, not answers to questions.
    """
    import numpy as np

    if len(texts) < 2:
        raise DatasetError("there is one text and no query; give queries")
    step = min(max(10, -(-len(texts) // _MOST_QUERIES)), len(texts))
    first = int(np.random.default_rng(seed).integers(step))
    documents, queries = (HeldOut(texts, first, step, held=held) for held in (False, True))
    return TextDataset(
        documents,
        queries,
        notes=(f"the queries are {len(queries):,} of the texts themselves, every {step}-th, held out of the base",),
    )


def unique(ids: Iterable[str], where: str) -> None:
    """Raise DatasetError for an id that occurs twice."""
    seen: set[str] = set()
    for row, id_ in enumerate(ids):
        if id_ in seen:
            raise DatasetError(f"{where}: row {row} has id {id_!r}, which an earlier row has; ids must be unique")
        seen.add(id_)
