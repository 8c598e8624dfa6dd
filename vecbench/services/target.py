"""Which engine a named store means on a command line: the one at its URL, one that is up, or one of its own."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from vecbench.capabilities import StoreInfo
from vecbench.registry import StoreRef
from vecbench.services.manager import find
from vecbench.store import VectorStore

__all__ = ["Target", "open_target"]


@dataclass(frozen=True, slots=True)
class Target:
    """An open store, who answers, with its engine's processes where they are known here, and whether it outlives us."""

    store: VectorStore
    info: StoreInfo
    outlives: bool


def open_target(ref: StoreRef, folder: Path | None = None) -> Target:
    """Connect to what `ref` names.

    Without a URL or a mode, an engine that `vecbench services up` started comes first; else the store's own embedded
    engine or local process, with its data in `folder`, or in a temporary one.
    """
    if ref.url is not None or ref.mode is not None or ref.name in {"memory", "null"}:
        store = ref.connect()
        return Target(store, store.info, ref.url is not None)
    service = find(ref.name)
    if service is None:
        store = ref.connect(path=folder)
        return Target(store, store.info, False)
    store = StoreRef(ref.name, url=service.url).connect(**service.secrets)
    return Target(store, replace(store.info, deployment="local-process", pids=service.pids), True)
