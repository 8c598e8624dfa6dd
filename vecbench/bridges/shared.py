"""What the bridges have in common: metadata in and out, writes that can be read at once, and hidden keys."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from vecbench.collection import Collection
from vecbench.embed.spec import Embedder, EmbedderSpec
from vecbench.errors import ConfigError, InvalidMetadata, UnsupportedOperation
from vecbench.filters import And, Filter, Or
from vecbench.rag.retrieve.mmr import MMR
from vecbench.types import Hit, MetadataValue, Metric, Vectors

__all__ = [
    "HIDDEN",
    "agreed",
    "all_of",
    "any_of",
    "flat",
    "marginal",
    "new_ids",
    "require_embedder",
    "visible",
]

HIDDEN = "_vecbench_"
"""Keys that begin so are a bridge's own: kept in the record's metadata, shown by no bridge."""


def flat(metadata: Mapping[str, Any] | None, where: str) -> dict[str, MetadataValue]:
    """Metadata of another framework as ours: None is left out, as absent means missing here.

    Raises InvalidMetadata, naming `where` and the key, for what is no str, int, float, bool or list of str.
    """
    out: dict[str, MetadataValue] = {}
    for key, value in (metadata or {}).items():
        if value is None:
            continue
        if key.startswith(HIDDEN):
            raise InvalidMetadata(f"{where}: the metadata key {key!r} cannot be used; take another")
        plain = value.item() if isinstance(value, np.generic) else value
        if type(plain) not in {str, int, float, bool} and not (
            type(plain) is list and all(type(item) is str for item in plain)
        ):
            raise InvalidMetadata(
                f"{where}: metadata {key!r} is {type(value).__name__}; a store keeps str, int, float, bool and lists "
                "of str: convert it, or leave it out"
            )
        out[key] = plain
    return out


def visible(metadata: Mapping[str, MetadataValue] | None) -> dict[str, Any]:
    """Metadata without the bridges' own keys."""
    return {key: value for key, value in (metadata or {}).items() if not key.startswith(HIDDEN)}


def new_ids(given: Sequence[str | None] | None, n: int) -> list[str]:
    """The ids given, and random ones where there is none."""
    ids = [None] * n if given is None else list(given)
    if len(ids) != n:
        raise ConfigError(f"{len(ids)} ids for {n} texts; give one for each, or none")
    return [id_ or str(uuid.uuid4()) for id_ in ids]


def require_embedder(collection: Collection, embedder: Embedder | EmbedderSpec | None) -> None:
    """Raise `EmbedderMismatch` unless the vectors to come are made by what made the collection's."""
    spec = embedder if isinstance(embedder, EmbedderSpec | None) else embedder.spec
    if collection.spec.embedder is not None or spec is not None:
        collection.check_embedder(spec)


def marginal(query: Vectors, hits: Sequence[Hit], k: int, *, relevance: float, metric: Metric) -> list[Hit]:
    """k of the hits by maximal marginal relevance, see `vecbench.rag.retrieve.mmr`; hits need their vectors."""
    choice = MMR(relevance)
    vectors = [hit.vector for hit in hits if hit.vector is not None]
    return [hits[i] for i in choice.choose(query, np.stack(vectors), k, metric)] if vectors else []


def all_of(parts: Sequence[Filter]) -> Filter:
    """Every part; a single one as it is."""
    return parts[0] if len(parts) == 1 else And(tuple(parts))


def any_of(parts: Sequence[Filter]) -> Filter:
    """Some part; a single one as it is."""
    return parts[0] if len(parts) == 1 else Or(tuple(parts))


def agreed(parts: Sequence[Filter | None]) -> Filter | None:
    """The conjunction of those parts that are filters; None of none."""
    given = [part for part in parts if part is not None]
    return all_of(given) if given else None


def refuse(what: str) -> UnsupportedOperation:
    """The error for what a framework offers and a store cannot do."""
    return UnsupportedOperation(f"{what} is not supported by a vecbench collection; nothing was done")
