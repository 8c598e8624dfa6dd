"""What a store and its collections share: the client, the engine's ways, and who has seen which write."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

from vecbench.capabilities import Capabilities
from vecbench_milvus.lite import LiteInside

__all__ = ["Flavour", "Freshness", "Link"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Flavour:
    """Where Milvus and Milvus Lite differ, as data.

    kinds: indexes that can be built, and their parameters. spec_in: where the collection's spec is kept; lite drops
    descriptions. serial_writes: writes from several threads must take turns. wide_filters: a filtered walk of a graph
    counts the rows it rejects, so it must be as wide as the collection.
    """

    name: str
    kinds: Mapping[str, frozenset[str]]
    capabilities: Capabilities
    spec_in: str
    serial_writes: bool
    wide_filters: bool


@dataclass(slots=True)
class Freshness:
    """Counts the writes through one store, and how many of them a reader is known to see."""

    written: int = 1  # what others wrote before we came
    seen: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def wrote(self) -> None:
        """A write ended, well or not."""
        with self.lock:
            self.written += 1

    def saw(self, mark: int) -> None:
        """A strong read that began when `mark` writes had ended came back."""
        with self.lock:
            self.seen = max(self.seen, mark)


class Link:
    """A `MilvusClient` with what its users must know; inside: lite's own engine."""

    def __init__(
        self,
        client: Any,
        flavour: Flavour,
        timeout: float,
        secrets: tuple[str, ...] = (),
        inside: LiteInside | None = None,
    ) -> None:
        self.client, self.flavour, self.timeout, self.secrets, self.inside = client, flavour, timeout, secrets, inside
        self._fresh: dict[str, Freshness] = {}
        self._turns: AbstractContextManager[Any] = threading.RLock() if flavour.serial_writes else nullcontext()

    def fresh(self, native_name: str) -> Freshness:
        """One for all handles of a collection."""
        return self._fresh.setdefault(native_name, Freshness())

    def forget(self, native_name: str) -> None:
        """The collection was dropped."""
        self._fresh.pop(native_name, None)

    def turn(self) -> AbstractContextManager[Any]:
        """Held while writing."""
        return self._turns
