"""Who made a vector: the identity of an embedder, its fingerprint, and the protocol that every embedder follows."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias, get_args, runtime_checkable

from vecbench.errors import EmbedderError

if TYPE_CHECKING:
    from vecbench.types import Vectors

__all__ = ["Embedder", "EmbedderSpec", "Pooling", "Progress"]

Pooling: TypeAlias = Literal["mean", "cls", "last", "unknown"]
"""How the vectors of the tokens become the vector of the text; "unknown" where the maker does not say."""
Progress: TypeAlias = Callable[[int, int], None]
"""Called with (done, total); the unit is the caller's to document."""

_EXTERNAL = "external:"
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class EmbedderSpec:
    """Everything that decides which vector a text gets; two embedders with equal specs are interchangeable.

    name: what people call the model. revision: the exact state of it upstream. weights_sha256, tokenizer_sha256: hex
    digests of the files, "" where the vectors come from a service that shows no files. dim: length of a vector.
    max_tokens: a longer text is cut there; None where unknown. normalised: vectors have length 1. lowercase: the text
    is lower-cased first; None where unknown. dtype: what the weights compute in, say "float32". The software that runs
    the model is not part of the identity.
    """

    name: str
    dim: int
    revision: str = ""
    weights_sha256: str = ""
    tokenizer_sha256: str = ""
    max_tokens: int | None = None
    pooling: Pooling = "unknown"
    normalised: bool = False
    lowercase: bool | None = None
    query_prefix: str = ""
    document_prefix: str = ""
    dtype: str = "float32"

    def __post_init__(self) -> None:
        for field, types in _TYPES.items():
            value = getattr(self, field)
            if not isinstance(value, types) or (isinstance(value, bool) and bool not in types):
                raise EmbedderError(f"embedder spec: {field} is {value!r}; it must be {_words(types)}")
        if not self.name:
            raise EmbedderError("embedder spec: the name is empty; name the model")
        for field in ("dim", "max_tokens"):
            value = getattr(self, field)
            if value is not None and value < 1:
                raise EmbedderError(f"embedder spec of {self.name}: {field} is {value}; it must be at least 1")
        if self.pooling not in get_args(Pooling):
            raise EmbedderError(
                f"embedder spec of {self.name}: pooling is {self.pooling!r}; it must be one of {get_args(Pooling)}"
            )
        for field in ("weights_sha256", "tokenizer_sha256"):
            value = getattr(self, field)
            if value and not _SHA256.fullmatch(value):
                raise EmbedderError(
                    f"embedder spec of {self.name}: {field} is {value!r}; it must be 64 lower-case hex digits, or ''"
                )

    @classmethod
    def external(cls, array_sha256: str, dim: int) -> EmbedderSpec:
        """The identity of vectors that came from outside as an array; no text can be embedded with it.

        array_sha256: hex digest of the array's bytes (float32, C order).
        """
        if not _SHA256.fullmatch(array_sha256):
            raise EmbedderError(f"external vectors: {array_sha256!r} is not a sha256 (64 lower-case hex digits)")
        return cls(name=f"{_EXTERNAL}{array_sha256}", dim=dim)

    @property
    def is_external(self) -> bool:
        """True for vectors from outside, for which no text queries exist."""
        return self.name.startswith(_EXTERNAL)

    @cached_property
    def fingerprint(self) -> str:
        """The first 16 hex digits of the sha256 of the canonical JSON of every field."""
        canonical = json.dumps(self.to_dict(), sort_keys=True, separators=(",", ":"), ensure_ascii=True)
        return hashlib.sha256(canonical.encode("ascii")).hexdigest()[:16]

    def describe(self) -> str:
        """One line for people, name and fingerprint: `all-MiniLM-L6-v2 (384 dimensions, 0123456789abcdef)`."""
        name = self.name[: len(_EXTERNAL) + 12] + "…" if self.is_external else self.name
        return f"{name} ({self.dim} dimensions, {self.fingerprint})"

    def to_dict(self) -> dict[str, Any]:
        """Every field as plain JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> EmbedderSpec:
        """The spec that `to_dict` wrote; raises EmbedderError for an unknown, missing or wrong field."""
        known = {f.name for f in fields(cls)}
        if unknown := sorted(set(data) - known):
            raise EmbedderError(f"embedder spec: unknown fields {unknown}; was it written by a newer vecbench?")
        if missing := sorted({"name", "dim"} - set(data)):
            raise EmbedderError(f"embedder spec: fields {missing} are missing")
        return cls(**data)


_TYPES: dict[str, tuple[type, ...]] = {
    "name": (str,),
    "dim": (int,),
    "revision": (str,),
    "weights_sha256": (str,),
    "tokenizer_sha256": (str,),
    "max_tokens": (int, type(None)),
    "pooling": (str,),
    "normalised": (bool,),
    "lowercase": (bool, type(None)),
    "query_prefix": (str,),
    "document_prefix": (str,),
    "dtype": (str,),
}


def _words(types: tuple[type, ...]) -> str:
    return " or ".join("None" if t is type(None) else t.__name__ for t in types)


@runtime_checkable
class Embedder(Protocol):
    """Turns texts into vectors; anything with these three members is one.

    The vectors are float32, shape (len(texts), spec.dim), C-contiguous, in the order of the texts; no texts give
    shape (0, dim). Prefixes of the spec are added by the embedder, not by the caller. Errors are EmbedderError.
    """

    @property
    def spec(self) -> EmbedderSpec:
        """The identity of the vectors that this embedder makes."""
        ...

    def embed_documents(self, texts: Sequence[str], *, progress: Progress | None = None) -> Vectors:
        """The vectors of texts that will be searched; `progress(done, total)` counts in a unit of the embedder."""
        ...

    def embed_queries(self, texts: Sequence[str]) -> Vectors:
        """The vectors of texts that will be searched for."""
        ...
