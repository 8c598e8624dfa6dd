"""Stores and data sets by name, found through entry points: ours register as anybody's do; and data sets by path."""

from __future__ import annotations

import difflib
import importlib.util
import os
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vecbench.errors import AdapterError, AdapterNotFound, ConfigError, DatasetError, redact
from vecbench.store import VectorStore

if TYPE_CHECKING:
    from vecbench.dataset import DatasetSource

__all__ = ["StoreRef", "adapter", "adapter_names", "connect", "dataset_names", "dataset_source", "is_installed"]

_ADAPTERS, _DATASETS = "vecbench.adapters", "vecbench.datasets"


@dataclass(frozen=True, slots=True)
class StoreRef:
    """A store as named on a command line: `name`, `name=url`, or `name:mode` for one of its deployments."""

    name: str
    mode: str | None = None
    url: str | None = None

    @classmethod
    def parse(cls, text: str) -> StoreRef:
        """The reference in `text`; `ConfigError` where it is none."""
        where, eq, url = text.strip().partition("=")
        name, colon, mode = where.partition(":")
        if not name or (eq and not url) or (colon and not mode):
            raise ConfigError(f"a store is named as name, name:mode or name=url, got {redact(text)!r}")
        return cls(name.strip(), mode.strip() or None, url.strip() or None)

    @property
    def label(self) -> str:
        """The name for tables and messages, without the URL, which may hold a secret."""
        return self.name if self.mode is None else f"{self.name}:{self.mode}"

    def connect(self, **options: Any) -> VectorStore:
        """Connect to the store."""
        return connect(self.name, url=self.url, mode=self.mode, **options)


def _points(group: str) -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=group)}


def adapter_names() -> list[str]:
    """The names of all registered stores, sorted."""
    return sorted(_points(_ADAPTERS))


def adapter(name: str) -> type[VectorStore]:
    """The store class registered under `name`; its client is not imported. `AdapterNotFound`, `AdapterError`."""
    points = _points(_ADAPTERS)
    if name not in points:
        close = difflib.get_close_matches(name, points, 1)
        hint = f"; did you mean {close[0]!r}?" if close else "."
        raise AdapterNotFound(f"no store is called {name!r}{hint} Known: {', '.join(sorted(points))}")
    try:
        found = points[name].load()
    except (ImportError, AttributeError) as e:
        raise AdapterError(f"store {name!r} ({points[name].value}) cannot be loaded: {e}") from e
    if not (isinstance(found, type) and issubclass(found, VectorStore)):
        raise AdapterError(f"store {name!r} ({points[name].value}) is not a VectorStore class")
    return found


def is_installed(store: type[VectorStore]) -> bool:
    """Whether the client modules that a store needs can be found; nothing is imported."""
    return all(importlib.util.find_spec(module) is not None for module in store.modules)


def connect(
    name: str, *, url: str | None = None, path: str | Path | None = None, mode: str | None = None, **options: Any
) -> VectorStore:
    """Open a store by name: a server by `url`, data on disk by `path`, or a fresh embedded engine with neither.

    `name` may be `name`, `name:mode` or `name=url`. Further options are the adapter's own (see its README). Raises
    `AdapterNotFound`, `MissingDependency` with the line that installs the client, `ConnectionFailed`, `ConfigError`.
    """
    ref = StoreRef.parse(name)
    if (ref.url and url) or (ref.mode and mode):
        raise ConfigError(f"store {ref.label!r}: the url or mode is given twice")
    store = adapter(ref.name)
    mode, url = ref.mode or mode, ref.url or url
    if mode is not None and mode not in store.modes:
        raise ConfigError(f"store {ref.name!r} has no mode {mode!r}; it has: {', '.join(store.modes) or 'none'}")
    if url is not None and path is not None:
        raise ConfigError(f"store {ref.name!r} takes a url or a path, not both")
    return store.open(url=url, path=path, mode=mode, **options)


def dataset_names() -> list[str]:
    """The names of all data sets, sorted: those that packages register, and those that the user added."""
    from vecbench.sources import user_names

    return sorted({*_points(_DATASETS), *user_names()})


def dataset_source(name: str) -> DatasetSource:
    """The data set called `name`, or in the file or folder that `name` is the path of; not loaded yet.

    A name that a package registers comes first, then one that the user added, then a path: with a separator in it, or
    of something that exists. A file in a format that cannot be mapped is converted at once. DatasetError where nothing
    is found or it cannot be read.
    """
    from vecbench.dataset import DatasetSource
    from vecbench.sources import path_source, user_names, user_source

    points = _points(_DATASETS)
    if name not in points:
        if name in (added := user_names()):
            return user_source(name)
        if "://" in name:
            raise DatasetError(f"{redact(name)!r} is an address; a data set has a name or the path of a file")
        path = Path(name)
        if name and ("/" in name or os.sep in name or path.exists()):
            return path_source(path)
        close = difflib.get_close_matches(name, [*points, *added], 1)
        hint = f"; did you mean {close[0]!r}?" if close else "."
        known = ", ".join(sorted({*points, *added}))
        raise DatasetError(f"no data set is called {name!r}, and no file{hint} Known: {known}")
    try:
        found = points[name].load()
    except (ImportError, AttributeError) as e:
        raise DatasetError(f"data set {name!r} ({points[name].value}) cannot be loaded: {e}") from e
    if not isinstance(found, DatasetSource):
        raise DatasetError(f"data set {name!r} ({points[name].value}) is not a DatasetSource")
    return found
