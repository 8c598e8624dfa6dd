"""Whether a copy holds what its source holds, and answers as it does; read back from both stores, record by record."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from vecbench.collection import Collection
from vecbench.distance import paired_distances
from vecbench.errors import CopyMismatch
from vecbench.index import SearchParams
from vecbench.types import Metadata, MetadataValue, Metric, Records, Vectors

__all__ = ["RELATIVE", "Progress", "Verified", "first_difference", "keep_bits", "place", "verify_copy"]

Progress: TypeAlias = Callable[[str, int, int], None]
"""Called with (phase, records done, records in all)."""
RELATIVE = 1e-6
"""Of a vector's largest number: how far another may be where a store does not give back the bits that it was given."""

_QUERIES = 20
_K = 10


@dataclass(frozen=True, slots=True)
class Verified:
    """What was compared: records, vectors by their bits or not, searches, and whether both stores searched exactly."""

    rows: int
    bits: bool
    searches: int
    exact: bool


def place(collection: Collection) -> str:
    """The store and the collection, for messages."""
    return f"{collection.store.info.label} {collection.spec.name!r}"


def keep_bits(source: Collection, copied: Collection) -> bool:
    """Whether both stores give back the float32 bits that they were given."""
    return source.store.capabilities.preserves_vectors and copied.store.capabilities.preserves_vectors


def verify_copy(
    source: Collection, copied: Collection, *, batch_size: int = 1000, progress: Progress | None = None
) -> Verified:
    """Compare every record of `source` with its copy, then the answers to some searches; `CopyMismatch`.

    Compared are dim, metric, embedder and fields of the two collections, their counts, every id, vector (by its bits
    where both stores keep them, to `RELATIVE` where not), metadata with the types of its values, and document.
    """
    _compare_specs(source, copied)
    bits, total = keep_bits(source, copied), source.count()
    where, choose = place(copied), random.Random(1)  # noqa: S311  a sample, no secret
    sample: list[tuple[str, Vectors]] = []
    seen = 0
    for batch in source.scan(batch_size=batch_size):
        found = copied.get(batch.ids)
        if list(found.ids) != list(batch.ids):
            lost = _first_absent(batch.ids, found)
            raise CopyMismatch(f"{where} lacks record {lost!r} of {place(source)}")
        difference = first_difference(batch, found, bits=bits)
        if difference is not None:
            raise CopyMismatch(f"{where} differs from {place(source)}: {difference}")
        _sample(sample, batch, seen, choose)
        seen += len(batch)
        if progress is not None:
            progress("verifying", seen, max(total, seen))
    if seen != total:
        raise CopyMismatch(f"{place(source)} counts {total} records, scanning it gave {seen}; is it being written to?")
    there = copied.count()
    if there != total:
        extra = _first_extra(source, copied, batch_size)
        named = "" if extra is None else f"; the first that the source lacks is {extra!r}"
        raise CopyMismatch(f"{where} counts {there} records, {place(source)} counts {total}{named}")
    exact = _compare_searches(source, copied, sample, total)
    return Verified(total, bits, len(sample), exact)


def first_difference(original: Records, copied: Records, *, bits: bool) -> str | None:
    """The first difference between two sets of whole records with the same ids in the same order, as a sentence."""
    assert original.vectors is not None and copied.vectors is not None  # noqa: S101, PT018  whole records
    wrong = _wrong_numbers(original.vectors, copied.vectors, bits=bits)
    nothing: Metadata = {}
    for row, id_ in enumerate(original.ids):
        if wrong is None or wrong[row].any():
            if wrong is None:
                return f"record {id_!r}, vector: it has another length"
            at = int(np.argmax(wrong[row]))
            was, now = float(original.vectors[row][at]), float(copied.vectors[row][at])
            return f"record {id_!r}, vector: number {at} is {now!r}, at the source {was!r}"
        difference = _metadata_difference(
            nothing if original.metadata is None else original.metadata[row],
            nothing if copied.metadata is None else copied.metadata[row],
        )
        if difference is not None:
            return f"record {id_!r}, metadata: {difference}"
        text = None if original.documents is None else original.documents[row]
        other = None if copied.documents is None else copied.documents[row]
        if text != other:
            return f"record {id_!r}, document: {_short(other)}, at the source {_short(text)}"
    return None


def _compare_specs(source: Collection, copied: Collection) -> None:
    was, now = source.spec, copied.spec
    for what, mine, theirs in (
        ("dim", was.dim, now.dim),
        ("metric", was.metric.value, now.metric.value),
        (
            "embedder",
            None if was.embedder is None else was.embedder.describe(),
            None if now.embedder is None else now.embedder.describe(),
        ),
        ("fields", dict(was.fields), dict(now.fields)),
    ):
        if mine != theirs:
            raise CopyMismatch(f"{place(copied)} has {what} {theirs!r}, {place(source)} has {mine!r}")


def _wrong_numbers(original: Vectors, copied: Vectors, *, bits: bool) -> npt.NDArray[np.bool_] | None:
    """Which numbers differ; None where the shapes do."""
    if original.shape != copied.shape:
        return None
    a, b = np.ascontiguousarray(original, np.float32), np.ascontiguousarray(copied, np.float32)
    if bits:
        return np.asarray(a.view(np.uint32) != b.view(np.uint32))
    wide = a.astype(np.float64)
    allowed = RELATIVE * np.abs(wide).max(axis=1, keepdims=True, initial=0)
    return np.asarray(~(np.abs(wide - b) <= allowed))  # NaN fails every comparison


def _metadata_difference(original: Metadata, copied: Metadata) -> str | None:
    for key in dict.fromkeys([*original, *copied]):
        if key not in copied:
            return f"field {key!r} is missing"
        if key not in original:
            return f"field {key!r} is one that the source lacks"
        was, now = original[key], copied[key]
        if not _same_value(was, now):
            kinds = f" ({type(now).__name__} for {type(was).__name__})" if type(was) is not type(now) else ""
            return f"field {key!r} is {_short(now)}, at the source {_short(was)}{kinds}"
    return None


def _same_value(one: MetadataValue, other: MetadataValue) -> bool:
    if type(one) is not type(other) or one != other:
        return False
    if isinstance(one, float) and isinstance(other, float):
        return math.copysign(1.0, one) == math.copysign(1.0, other)  # 0.0 and −0.0 are equal
    if isinstance(one, list) and isinstance(other, list):
        return all(type(item) is str for item in other)
    return True


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "…"


def _first_absent(ids: Sequence[str], found: Records) -> str:
    there = set(found.ids)
    return next((i for i in ids if i not in there), ids[0])


def _first_extra(source: Collection, copied: Collection, batch_size: int) -> str | None:
    for batch in copied.scan(batch_size=batch_size, include=()):
        known = source.get(batch.ids, include=())
        if len(known) != len(batch):
            return _first_absent(batch.ids, known)
    return None


def _sample(kept: list[tuple[str, Vectors]], batch: Records, seen: int, choose: random.Random) -> None:
    """Keep `_QUERIES` records of all, each as likely as any other (Vitter's reservoir)."""
    assert batch.vectors is not None  # noqa: S101  whole records
    for row, id_ in enumerate(batch.ids):
        at = seen + row if seen + row < _QUERIES else choose.randrange(seen + row + 1)
        if at < _QUERIES:
            kept[at : at + 1] = [(id_, batch.vectors[row].copy())]


# Searches -------------------------------------------------------------------------------------------------------------


def _compare_searches(source: Collection, copied: Collection, sample: list[tuple[str, Vectors]], total: int) -> bool:
    """Search both for the records of the sample; whether both did so exactly.

    Each distance must be true within the store's tolerance. Exact answers must be equally far at every place; which of
    several equally far records comes first is up to the store.
    """
    # Vectors that are a little off are a little further away: by as much as `first_difference` lets pass.
    drift = 0.0 if keep_bits(source, copied) else RELATIVE * math.sqrt(source.spec.dim)
    was, now = _Side(source, drift), _Side(copied, drift)
    exact = was.exact and now.exact
    if not sample:
        return exact
    k = min(_K, total, was.max_k, now.max_k)
    queries = np.stack([vector for _, vector in sample])
    was.search(queries, k)
    now.search(queries, k)
    for number, (id_, query) in enumerate(sample):
        before, after = was.checked(number, id_, query), now.checked(number, id_, query)
        wrong = np.abs(after.true - before.true) > after.slack + before.slack
        if exact and wrong.any():
            at = int(np.argmax(wrong))
            raise CopyMismatch(
                f"a search for record {id_!r} finds at place {at + 1} {before.ids[at]!r} at {before.true[at]:.7g} in "
                f"{place(source)}, and {after.ids[at]!r} at {after.true[at]:.7g} in {place(copied)}"
            )
    return exact


@dataclass(frozen=True, slots=True)
class _Answer:
    """The ids of one answer, their float64 distances, and how far the store's own may be from these."""

    ids: list[str]
    true: npt.NDArray[np.float64]
    slack: npt.NDArray[np.float64]


class _Side:
    """One of the two collections, and what it answered."""

    def __init__(self, collection: Collection, drift: float) -> None:
        self.collection, self.drift = collection, drift
        can = collection.store.capabilities
        self.exact = can.exact_search or collection.spec.index.kind == "flat"
        self.max_k = can.max_k or _K
        self.tolerance = can.tolerance

    def search(self, queries: Vectors, k: int) -> None:
        self.k = k
        self.result = self.collection.search(queries, k, params=SearchParams(exact=self.exact))

    def checked(self, number: int, id_: str, query: Vectors) -> _Answer:
        """The answer to a query, the vector of record `id_`; `CopyMismatch` where it is short or a distance untrue."""
        where, ids = place(self.collection), self.result.ids[number]
        vectors = self.collection.get(ids, include=("vectors",)).vectors
        if len(ids) != self.k or vectors is None or len(vectors) != self.k:
            raise CopyMismatch(f"a search for record {id_!r} in {where} gave {len(ids)} of {self.k} records")
        true = paired_distances(np.broadcast_to(query, vectors.shape), vectors, self.collection.spec.metric)
        slack = self._slack(true, query, vectors)
        wrong = ~(np.abs(np.asarray(self.result.distances[number], np.float64) - true) <= slack)
        if wrong.any():
            at = int(np.argmax(wrong))
            raise CopyMismatch(
                f"a search for record {id_!r} in {where} gave {ids[at]!r} at "
                f"{float(self.result.distances[number][at]):.7g}; it is {true[at]:.7g} away"
            )
        return _Answer(ids, true, slack)

    def _slack(self, true: npt.NDArray[np.float64], query: Vectors, vectors: Vectors) -> npt.NDArray[np.float64]:
        """How far a distance may be from the true one: what the store declares, and what the vectors are off."""
        relative, drift, metric = self.tolerance.relative, self.drift, self.collection.spec.metric
        q, x = np.linalg.norm(query.astype(np.float64)), np.linalg.norm(vectors.astype(np.float64), axis=1)
        slack = self.tolerance.absolute + relative * np.abs(true)
        if metric is Metric.COSINE:
            return np.asarray(slack + drift)
        if metric is Metric.DOT:  # a dot product near zero is a difference of large terms
            return np.asarray(slack + (relative + drift) * q * x)
        # A squared distance that is off by an error moves its root by the larger of the two.
        error = self.tolerance.squared_euclidean * (q * q + x * x) + self.tolerance.squared_absolute
        down, up = true - np.sqrt(np.maximum(true**2 - error, 0)), np.sqrt(true**2 + error) - true
        return np.asarray(slack + drift * x + np.maximum(down, up))
