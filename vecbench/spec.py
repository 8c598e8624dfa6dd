"""What a collection is: the page of facts that is written into the store beside the vectors and read back from it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias, get_args

from vecbench.embed.spec import EmbedderSpec
from vecbench.errors import CollectionMismatch, ConfigError
from vecbench.index import HNSW, Index, index_from_dict, index_to_dict
from vecbench.types import Metric

__all__ = ["CollectionSpec", "FieldType", "hashed_name"]

FieldType: TypeAlias = Literal["str", "int", "float", "bool", "list[str]"]
_VERSION = 1


@dataclass(frozen=True, slots=True)
class CollectionSpec:
    """A collection's name, vector dimension, metric, index, embedder and the metadata fields meant for filters.

    name: 1 to 255 UTF-8 bytes, any characters but NUL; a store that allows less maps it and gives it back. fields: the
    metadata fields that filters will test, with their types; needed by stores whose capabilities say `declared_fields`,
    an index hint for the others. embedder: who makes the vectors; a write or a text query through another is refused.
    """

    name: str
    dim: int
    metric: Metric = Metric.COSINE
    index: Index = field(default_factory=HNSW)
    embedder: EmbedderSpec | None = None
    fields: Mapping[str, FieldType] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_name(self.name)
        if type(self.dim) is not int or self.dim < 1:
            raise ConfigError(f"collection {self.name!r}: dim must be a whole number of at least 1, got {self.dim!r}")
        try:
            object.__setattr__(self, "metric", Metric(self.metric))
        except ValueError:
            raise ConfigError(
                f"collection {self.name!r}: unknown metric {self.metric!r}; known: {', '.join(Metric)}"
            ) from None
        if self.embedder is not None and self.embedder.dim != self.dim:
            raise ConfigError(
                f"collection {self.name!r}: dim is {self.dim} but {self.embedder.describe()} makes {self.embedder.dim}"
            )
        for key, kind in self.fields.items():
            if not key or kind not in get_args(FieldType):
                raise ConfigError(
                    f"collection {self.name!r}: field {key!r} is declared as {kind!r}; "
                    f"known types: {', '.join(get_args(FieldType))}"
                )

    def require_same(self, other: CollectionSpec) -> None:
        """Raise `CollectionMismatch` unless dimension, metric and embedder of this, the stored one, are `other`'s."""
        for what in ("dim", "metric", "embedder"):
            mine, theirs = getattr(self, what), getattr(other, what)
            if mine != theirs:
                raise CollectionMismatch(
                    f"collection {self.name!r} exists with {what} {_show(mine)}, asked for with {_show(theirs)}; "
                    "drop it first or choose another name"
                )

    def to_json(self) -> str:
        """The spec as one line of JSON, to be kept in the store."""
        return json.dumps(
            {
                "vecbench_spec": _VERSION,
                "name": self.name,
                "dim": self.dim,
                "metric": self.metric.value,
                "index": index_to_dict(self.index),
                "embedder": None if self.embedder is None else self.embedder.to_dict(),
                "fields": dict(self.fields),
            },
            sort_keys=True,
        )

    @classmethod
    def from_json(cls, text: str) -> CollectionSpec:
        """The spec that `to_json` wrote; `CollectionMismatch` where the text is none, or of a newer version."""
        try:
            data: dict[str, Any] = json.loads(text)
            version = data["vecbench_spec"]
            if version != _VERSION:
                raise CollectionMismatch(
                    f"the collection was written with spec version {version}, this vecbench reads {_VERSION}"
                )
            embedder = data["embedder"]
            return cls(
                name=data["name"],
                dim=data["dim"],
                metric=Metric(data["metric"]),
                index=index_from_dict(data["index"]),
                embedder=None if embedder is None else EmbedderSpec.from_dict(embedder),
                fields=data["fields"],
            )
        except (ValueError, KeyError, TypeError, AttributeError) as e:
            raise CollectionMismatch(f"not a collection of vecbench: its stored spec cannot be read ({e!r})") from e


def hashed_name(name: str) -> str:
    """32 digits and letters a to f for any collection name: what a store with narrow rules for names can call it."""
    return hashlib.sha256(name.encode()).hexdigest()[:32]


def check_name(name: object) -> None:
    """Raise `ConfigError` unless `name` can name a collection."""
    if not isinstance(name, str):
        raise ConfigError(f"a collection's name is a string, got {type(name).__name__}")
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        raise ConfigError(f"collection name {name!r} is not valid Unicode (lone surrogate)") from None
    if not 1 <= size <= 255 or "\0" in name:
        raise ConfigError(f"a collection's name has 1 to 255 UTF-8 bytes and no NUL, got {size} bytes: {name[:64]!r}")


def _show(value: object) -> str:
    return value.describe() if isinstance(value, EmbedderSpec) else repr(getattr(value, "value", value))
