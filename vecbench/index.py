"""How a collection is indexed and how a search walks the index, under portable names.

Every store gets all portable parameters explicitly, because defaults differ and some stores quantise silently.
`native` holds the vendor's own parameters under the vendor's own names and is merged last. A parameter that a store
cannot honour raises `UnsupportedIndex` or `UnsupportedOperation`; none is dropped.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeAlias

from vecbench.errors import ConfigError

__all__ = ["DEFAULT_SEARCH", "HNSW", "Flat", "IVFFlat", "Index", "NativeIndex", "SearchParams", "parse_index"]


def _positive(**values: object) -> None:
    for name, value in values.items():
        if value is not None and (type(value) is not int or value < 1):
            raise ConfigError(f"{name} must be a whole number of at least 1, got {value!r}")


@dataclass(frozen=True, slots=True)
class Flat:
    """No index: every search compares the query with every vector and is exact."""

    kind: ClassVar[str] = "flat"
    native: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class HNSW:
    """A hierarchical navigable small-world graph.

    m: links per node on the upper layers, 2·m on the lowest. ef_construction: candidates kept while building.
    ef_search: candidates kept while searching, unless `SearchParams.ef_search` says otherwise.
    """

    kind: ClassVar[str] = "hnsw"
    m: int = 16
    ef_construction: int = 128
    ef_search: int = 64
    native: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _positive(m=self.m, ef_construction=self.ef_construction, ef_search=self.ef_search)


@dataclass(frozen=True, slots=True)
class IVFFlat:
    """An inverted file over k-means cells with uncompressed vectors.

    nlist: number of cells. nprobe: cells visited by a search, unless `SearchParams.nprobe` says otherwise.
    """

    kind: ClassVar[str] = "ivf_flat"
    nlist: int = 128
    nprobe: int = 8
    native: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _positive(nlist=self.nlist, nprobe=self.nprobe)


@dataclass(frozen=True, slots=True)
class NativeIndex:
    """An index that only this vendor has, named in the vendor's own words (a FAISS factory string, say)."""

    kind: ClassVar[str] = "native"
    name: str
    native: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.name:
            raise ConfigError("NativeIndex needs the vendor's name for the index, a non-empty string")


Index: TypeAlias = Flat | HNSW | IVFFlat | NativeIndex


@dataclass(frozen=True, slots=True)
class SearchParams:
    """How one search walks the index; None leaves what the collection was created with.

    exact: ask for the exact answer where the store can give it. native: the vendor's own search parameters.
    """

    ef_search: int | None = None
    nprobe: int | None = None
    exact: bool = False
    native: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _positive(ef_search=self.ef_search, nprobe=self.nprobe)


DEFAULT_SEARCH = SearchParams()

_KINDS: dict[str, Callable[..., Index]] = {"flat": Flat, "hnsw": HNSW, "ivf_flat": IVFFlat, "native": NativeIndex}


def index_to_dict(index: Index) -> dict[str, Any]:
    """The index as plain JSON types, read back by `index_from_dict`."""
    out: dict[str, Any] = {"kind": index.kind}
    for f in dataclasses.fields(index):
        value = getattr(index, f.name)
        out[f.name] = dict(value) if f.name == "native" else value
    return out


def index_from_dict(data: Mapping[str, Any]) -> Index:
    """The index that `index_to_dict` wrote; `ConfigError` for an unknown kind or parameter."""
    values = dict(data)
    kind = values.pop("kind", None)
    if kind not in _KINDS:
        raise ConfigError(f"unknown index kind {kind!r}; known: {', '.join(_KINDS)}")
    try:
        return _KINDS[kind](**values)
    except TypeError as e:
        raise ConfigError(f"index {kind!r}: {e}") from e


def parse_index(text: str) -> Index:
    """An index from a command line: `flat`, `hnsw:m=16,ef_construction=200`, `ivf_flat:nlist=256`, `native:PQ32`.

    Whole numbers only; a vendor's own parameters need the Python interface. `ConfigError` says what was not understood.
    """
    kind, _, rest = text.strip().partition(":")
    if kind == "native":
        return NativeIndex(rest)
    maker = _KINDS.get(kind.replace("-", "_"))
    if maker is None:
        raise ConfigError(f"unknown index {kind!r}; known: {', '.join(_KINDS)}")
    values: dict[str, int] = {}
    for part in filter(None, rest.split(",")):
        key, eq, number = part.partition("=")
        if not eq or not number.strip().isdigit():
            raise ConfigError(f"index {text!r}: expected name=whole number, got {part!r}")
        values[key.strip()] = int(number)
    try:
        return maker(**values)
    except TypeError:
        raise ConfigError(
            f"index {text!r}: {kind} takes {', '.join(_numbers(kind)) or 'no parameters'}, got {', '.join(values)}"
        ) from None


def _numbers(kind: str) -> list[str]:
    cls = {"flat": Flat, "hnsw": HNSW, "ivf_flat": IVFFlat}[kind.replace("-", "_")]
    return [f.name for f in dataclasses.fields(cls) if f.name != "native"]
