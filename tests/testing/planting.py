"""Stores with one bug each, of the kinds that real engines and adapters have; the suite must catch every one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

from vecbench.memory import MemoryCollection, MemoryStore
from vecbench.spec import CollectionSpec
from vecbench.store import Collection


@dataclass(frozen=True)
class Planted:
    """A store with a bug, and the test of the suite that must fail because of it."""

    store: type[MemoryStore]
    test: str
    arguments: dict[str, Any]
    module: str

    @property
    def label(self) -> str:
        return self.store.__name__


PLANTED: list[Planted] = []
_C = TypeVar("_C", bound=type[MemoryCollection])
_S = TypeVar("_S", bound=type[MemoryStore])


class PlantedStore(MemoryStore):
    collection: ClassVar[type[MemoryCollection]] = MemoryCollection

    def _create(self, spec: CollectionSpec) -> Collection:
        with self._lock:
            self._collections[spec.name] = made = self.collection(self, spec)
        return made


def caught_by(test: str, **arguments: Any) -> Callable[[_C], _C]:
    def plant(collection: _C) -> _C:
        store = type(collection.__name__, (PlantedStore,), {"collection": collection})
        PLANTED.append(Planted(store, test, arguments, collection.__module__))
        return collection

    return plant


def store_caught_by(test: str, **arguments: Any) -> Callable[[_S], _S]:
    def plant(store: _S) -> _S:
        PLANTED.append(Planted(store, test, arguments, store.__module__))
        return store

    return plant
