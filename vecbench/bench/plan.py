"""What is to be measured: stores × metrics, on one data set, at several search settings."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from vecbench.errors import ConfigError
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
    first so many. timeout_seconds: for loading a store, and again for each of its rounds; then it is ended and has
    failed. `ConfigError` for what cannot be measured.
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
        if len(set(self.ef)) != len(self.ef) or any(e < 1 for e in self.ef):
            raise ConfigError(f"ef must be different whole numbers of at least 1, got {self.ef}")
        if not self.timeout_seconds > 0:
            raise ConfigError(f"timeout_seconds must be more than 0, got {self.timeout_seconds}")
        if not any(self.settings(exact=True)):
            raise ConfigError("nothing to search with: give values of ef (at most nlist for an IVF index), or exact")

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
