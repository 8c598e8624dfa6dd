"""What a store can do, as data. Everything is False or empty until an adapter declares it.

The conformance suite reads the declaration: what is claimed must pass, what is not claimed must raise `Unsupported…`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, TypeAlias
from urllib.parse import urlsplit

from vecbench.types import Metric

__all__ = ["Capabilities", "Deployment", "Scope", "StoreInfo", "Tolerance", "deployment_of"]

Scope: TypeAlias = Literal["none", "collection", "query"]
"""Where a search parameter can be set: nowhere, once per collection, or with each query."""

Deployment: TypeAlias = Literal["embedded", "local-process", "remote"]
"""Where the engine runs. A table never ranks across these without saying so."""


def deployment_of(url: str) -> Deployment:
    """A server on the loopback address is a local process; any other is remote."""
    host = urlsplit(url).hostname or ""
    return "local-process" if host in {"localhost", "::1"} or host.startswith("127.") else "remote"


@dataclass(frozen=True, slots=True)
class Tolerance:
    """How far a returned distance d may be from the float64 truth t: |d − t| ≤ absolute + relative · |t|.

    squared_euclidean: where the engine's number is a squared distance in float32, an error of this share of
    (‖q‖² + ‖x‖²) on d² is granted beside it: near d = 0 the root magnifies it. squared_absolute: the same without a
    scale, where the number is a float32 near 1 when d is near 0 (Elasticsearch's 1/(1 + d²)). Both Euclidean only.
    """

    absolute: float = 2e-6
    relative: float = 1e-5
    squared_euclidean: float = 0.0
    squared_absolute: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What one store, in the deployment at hand, can do.

    metrics, indexes ("flat", "hnsw", "ivf_flat", "native") and filters (operator names of `vecbench.filters`) are what
    `create_collection` and `where` accept. ef_search, nprobe: where they can be set. exact_search: answers
    `SearchParams(exact=True)`. persistent: a collection can be reopened in another process. concurrent_writers: several
    processes may hold the store open. preserves_vectors: `get` returns the float32 bits that were written.
    declared_fields: only fields named in `CollectionSpec.fields` can be filtered. native_async: `aio` uses the client's
    own asynchronous calls. max_*: the engine's limits, None where none was found; batches are cut to them.
    """

    metrics: frozenset[Metric] = frozenset()
    indexes: frozenset[str] = frozenset()
    filters: frozenset[str] = frozenset()
    ef_search: Scope = "none"
    nprobe: Scope = "none"
    exact_search: bool = False
    persistent: bool = False
    concurrent_writers: bool = False
    preserves_vectors: bool = False
    declared_fields: bool = False
    native_async: bool = False
    max_k: int | None = None
    max_dim: int | None = None
    max_batch: int | None = None
    max_batch_bytes: int | None = None
    tolerance: Tolerance = field(default_factory=Tolerance)


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreInfo:
    """Who answers: for tables and result files.

    label: what a result may call it ("qdrant-edge", never just "Qdrant"). engine_version: as the engine reports it.
    benchmarkable: False for an imitation whose numbers would be published as the engine's; `why_not` says why.
    pids: processes of the engine outside this one, for its memory.
    """

    name: str
    label: str
    deployment: Deployment
    engine: str
    engine_version: str
    client: str
    client_version: str
    target: str = ""
    benchmarkable: bool = True
    why_not: str = ""
    pids: tuple[int, ...] = ()
