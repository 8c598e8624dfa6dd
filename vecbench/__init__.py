"""vecbench: one interface over nine vector stores, and a benchmark whose numbers can be checked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# Names are imported when first used: `vecbench --help` must not wait for NumPy.
_HOME = {
    "And": "filters",
    "Capabilities": "capabilities",
    "Collection": "collection",
    "CollectionSpec": "spec",
    "Contains": "filters",
    "EmbedderSpec": "embed.spec",
    "Eq": "filters",
    "Exists": "filters",
    "F": "filters",
    "Filter": "filters",
    "Flat": "index",
    "Gt": "filters",
    "Gte": "filters",
    "HNSW": "index",
    "IVFFlat": "index",
    "In": "filters",
    "Lt": "filters",
    "Lte": "filters",
    "Metric": "types",
    "NativeIndex": "index",
    "Ne": "filters",
    "Not": "filters",
    "NotIn": "filters",
    "Or": "filters",
    "Records": "types",
    "SearchParams": "index",
    "SearchResult": "types",
    "StoreInfo": "capabilities",
    "VecbenchError": "errors",
    "VectorStore": "store",
    "connect": "registry",
    "copy": "transfer",
}

__all__ = [  # noqa: RUF022  the version last
    "And",
    "Capabilities",
    "Collection",
    "CollectionSpec",
    "Contains",
    "EmbedderSpec",
    "Eq",
    "Exists",
    "F",
    "Filter",
    "Flat",
    "Gt",
    "Gte",
    "HNSW",
    "IVFFlat",
    "In",
    "Lt",
    "Lte",
    "Metric",
    "NativeIndex",
    "Ne",
    "Not",
    "NotIn",
    "Or",
    "Records",
    "SearchParams",
    "SearchResult",
    "StoreInfo",
    "VecbenchError",
    "VectorStore",
    "connect",
    "copy",
    "__version__",
]

if TYPE_CHECKING:
    from vecbench.capabilities import Capabilities, StoreInfo
    from vecbench.collection import Collection
    from vecbench.embed.spec import EmbedderSpec
    from vecbench.errors import VecbenchError
    from vecbench.filters import And, Contains, Eq, Exists, F, Filter, Gt, Gte, In, Lt, Lte, Ne, Not, NotIn, Or
    from vecbench.index import HNSW, Flat, IVFFlat, NativeIndex, SearchParams
    from vecbench.registry import connect
    from vecbench.spec import CollectionSpec
    from vecbench.store import VectorStore
    from vecbench.transfer import copy
    from vecbench.types import Metric, Records, SearchResult


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'vecbench' has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(f"vecbench.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
