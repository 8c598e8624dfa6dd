"""What is to be measured: stores × metrics, on one data set, at several search settings."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from vecbench.bench.load import Load
from vecbench.errors import ConfigError, redact
from vecbench.index import HNSW, Index, IVFFlat, SearchParams
from vecbench.registry import StoreRef
from vecbench.types import Metric

__all__ = ["MAX_K", "Plan", "Setting"]

MAX_K = 1000  # beyond it a search is an export


@dataclass(frozen=True, slots=True)
class Setting:
    """One way to search: its name in tables, and the parameters."""

    name: str
    params: SearchParams


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to measure.

    ef: values of ef_search for an HNSW index, of nprobe for an IVF index. exact: also ask each store for exact answers.
    rounds: how often all settings are gone through, their order shuffled by `seed` each time. queries: use only the
    first so many. loads: under which each setting is measured as well. requests: in one pass of a load, None for two
    for every query. on: the Ray cluster whose nodes run the clients, None for this machine. timeout_seconds: for
    loading a store, and again for each of its rounds; then it is ended and has failed. `ConfigError` for what cannot be
    measured.
    """

    stores: tuple[StoreRef, ...]
    dataset: str = "glosses-10k"
    metrics: tuple[Metric, ...] = (Metric.EUCLIDEAN, Metric.COSINE)
    k: int = 10
    index: Index = field(default_factory=HNSW)
    ef: tuple[int, ...] = (16, 32, 64, 128, 256)
    exact: bool = True
    rounds: int = 3
    seed: int = 1
    queries: int | None = None
    loads: tuple[Load, ...] = ()
    requests: int | None = None
    on: str | None = None
    timeout_seconds: float = 3600.0

    def __post_init__(self) -> None:
        if not self.stores:
            raise ConfigError("name at least one store: --stores qdrant,faiss")
        labels = [s.label for s in self.stores]
        if len(set(labels)) != len(labels):
            raise ConfigError(f"each store once, got {', '.join(labels)}")
        if not self.metrics or len(set(self.metrics)) != len(self.metrics):
            raise ConfigError("name each metric once, and at least one")
        if not 1 <= self.k <= MAX_K:
            raise ConfigError(f"k must be 1 to {MAX_K}, got {self.k}")
        if self.rounds < 1 or (self.queries is not None and self.queries < 1):
            raise ConfigError("rounds and queries must be at least 1")
        if self.seed < 0:
            raise ConfigError(f"seed must be at least 0, got {self.seed}")
        if len(set(self.loads)) != len(self.loads):
            raise ConfigError(f"each load once, got {'; '.join(load.name for load in self.loads)}")
        if self.requests is not None and self.requests < 1:
            raise ConfigError(f"requests must be at least 1, got {self.requests}")
        if self.on is not None:
            self._require_reachable(self.on)
        if len(set(self.ef)) != len(self.ef) or any(e < 1 for e in self.ef):
            raise ConfigError(f"ef must be different whole numbers of at least 1, got {self.ef}")
        if not self.timeout_seconds > 0:
            raise ConfigError(f"timeout_seconds must be more than 0, got {self.timeout_seconds}")
        if not any(self.settings(exact=True)):
            raise ConfigError("nothing to search with: give values of ef (at most nlist for an IVF index), or exact")

    def _require_reachable(self, on: str) -> None:
        if not self.loads:
            raise ConfigError("a cluster runs the clients of a load: say how many, with --clients")
        if not on.startswith("ray://"):
            raise ConfigError(f"--on takes ray://host:port, the address of a Ray cluster, got {redact(on)!r}")
        if here := [store.label for store in self.stores if store.url is None and store.name != "null"]:
            raise ConfigError(
                f"the nodes of a cluster reach a store by its URL: {', '.join(here)} has none; name it as name=url"
            )

    def settings(self, *, exact: bool) -> Iterator[Setting]:
        """The settings for one store; `exact` says whether it can answer exactly."""
        if isinstance(self.index, HNSW):
            for ef in self.ef:
                yield Setting(f"ef={ef}", SearchParams(ef_search=ef))
        elif isinstance(self.index, IVFFlat):
            for nprobe in self.ef:
                if nprobe <= self.index.nlist:
                    yield Setting(f"nprobe={nprobe}", SearchParams(nprobe=nprobe))
        else:
            yield Setting("default", SearchParams())
        if self.exact and exact:
            yield Setting("exact", SearchParams(exact=True))
