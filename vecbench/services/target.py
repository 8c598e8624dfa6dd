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
    """An open store, who answers, with its engine's processes where they are known here, and whether it outlives us.

    again: how another process reaches the same engine: a reference, and the secrets among the options of `connect`;
    None for an engine in this process.
    """

    store: VectorStore
    info: StoreInfo
    outlives: bool
    again: tuple[StoreRef, dict[str, str]] | None = None


def open_target(ref: StoreRef, folder: Path | None = None) -> Target:
    """Connect to what `ref` names.

    Without a URL or a mode, an engine that `vecbench services up` started comes first; else the store's own embedded
    engine or local process, with its data in `folder`, or in a temporary one.
    """
    if ref.url is not None or ref.mode is not None or ref.name in {"memory", "null"}:
        store = ref.connect()
        return Target(store, store.info, ref.url is not None, (ref, {}) if ref.url is not None else _again(ref, store))
    service = find(ref.name)
    if service is None:
        store = ref.connect(path=folder)
        return Target(store, store.info, False, _again(ref, store))
    reached = StoreRef(ref.name, url=service.url)
    store = reached.connect(**service.secrets)
    info = replace(store.info, deployment="local-process", pids=service.pids)
    return Target(store, info, True, (reached, dict(service.secrets)))


def _again(ref: StoreRef, store: VectorStore) -> tuple[StoreRef, dict[str, str]] | None:
    found = store.reached_at()
    return None if found is None else (StoreRef(ref.name, url=found[0]), dict(found[1]))
