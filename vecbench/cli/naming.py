"""From what was typed to what it names: stores, checked before anything runs."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable
from typing import TYPE_CHECKING

from vecbench.errors import ConfigError, MissingDependency

if TYPE_CHECKING:
    from vecbench.registry import StoreRef
    from vecbench.store import VectorStore

__all__ = ["checked_stores", "missing_module", "numbers"]


def missing_module(store: type[VectorStore]) -> str | None:
    """The first module that a store needs and that cannot be found; nothing is imported."""
    for module in store.modules:
        try:
            found = importlib.util.find_spec(module)
        except ModuleNotFoundError:  # the parent of a dotted name
            found = None
        if found is None:
            return module
    return None


def checked_stores(items: Iterable[str]) -> list[StoreRef]:
    """The stores in comma-separated `items`, in order; they exist, have the mode, and their clients are installed.

    Raises `ConfigError`, `AdapterNotFound`, or `MissingDependency` with one line that installs all that is missing.
    """
    from vecbench.registry import StoreRef, adapter

    refs = [StoreRef.parse(part) for item in items for part in item.split(",") if part.strip()]
    if not refs:
        raise ConfigError("no store is named; try --stores qdrant,faiss, or see `vecbench stores`")
    missing: list[tuple[str, str, str]] = []
    for position, ref in enumerate(refs):
        if ref in refs[:position]:
            raise ConfigError(f"store {ref.label!r} is named twice")
        store = adapter(ref.name)
        if ref.mode is not None and ref.mode not in store.modes:
            raise ConfigError(
                f"store {ref.name!r} has no mode {ref.mode!r}; it has: {', '.join(store.modes) or 'none'}"
            )
        if module := missing_module(store):
            missing.append((ref.name, module, store.extra or ref.name))
    if missing:
        name, module, _ = missing[0]
        raise MissingDependency(
            f"store {name!r}", module=module, extra=",".join(dict.fromkeys(extra for _, _, extra in missing))
        )
    return refs


def numbers(option: str, text: str) -> tuple[int, ...]:
    """Whole numbers of at least 1 from `16,32,64`, in that order; `ConfigError` names the option and the part."""
    found: list[int] = []
    for part in text.split(","):
        if not part.strip().isdecimal() or int(part) < 1:
            raise ConfigError(f"{option} {text!r}: expected whole numbers of at least 1 with commas, got {part!r}")
        found.append(int(part))
    if len(set(found)) != len(found):
        raise ConfigError(f"{option} {text!r}: a number occurs twice")
    return tuple(found)
