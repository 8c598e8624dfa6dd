"""What Haystack document stores are connected to: one store for all that name the same, and secrets never written."""

from __future__ import annotations

import hashlib
import json
import os
import re
import threading
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit
from weakref import ReferenceType, WeakKeyDictionary, WeakSet, WeakValueDictionary, ref

from vecbench.errors import MissingDependency, redact
from vecbench.registry import StoreRef
from vecbench.store import VectorStore

try:
    from haystack.document_stores.errors import DocumentStoreError
    from haystack.utils import Secret
except ImportError as error:
    raise MissingDependency("The bridge to Haystack", module="haystack", extra="haystack") from error

__all__ = ["SharedStore", "names_data", "refuse_clear_secrets", "resolved", "restored", "shared_store", "written"]

_SECRET_NAME = re.compile(r"(?i)(api[-_]?key|access[-_]?key|token|password|passwd|secret|credentials?|authorization)$")


class SharedStore:
    """A store that this process has open once, for every holder that named the same; threads may share it.

    It is the holders that keep the store alive: what they drop without giving it back is garbage as ever, and who asks
    before it is collected gets it. lock: held while the store is opened, and by who makes a collection in it.
    """

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self._holders: WeakSet[object] = WeakSet()  # not a count: who is collected as garbage holds nothing any more
        self._store: ReferenceType[VectorStore] | None = None

    def take(self, holder: object, connect: Callable[[], VectorStore]) -> VectorStore:
        """The store, opened by `connect` if it is not open; it stays so until every holder has given it back."""
        with self.lock:
            store = None if self._store is None else self._store()
            if store is None or store._closed:
                store = connect()
                self._store, _LIVES_WITH[store] = ref(store), self
            self._holders.add(holder)
            return store

    def give_back(self, holder: object) -> None:
        """Hold it no longer; the last one closes the store. Twice counts once."""
        with self.lock:
            self._holders.discard(holder)
            store = None if self._store is None else self._store()
            if store is not None and not self._holders:
                store.close()


# The keys are digests, since what a store is opened with holds secrets. An entry lives as long as its store does.
_SHARED: WeakValueDictionary[bytes, SharedStore] = WeakValueDictionary()
_LIVES_WITH: WeakKeyDictionary[VectorStore, SharedStore] = WeakKeyDictionary()
_LOCK = threading.Lock()


def shared_store(
    store: str, url: str | None, path: str | None, instance: str | None, options: Mapping[str, Any]
) -> SharedStore:
    """The one of this process for what `connect` is given, secrets resolved, and `instance`."""
    ref = StoreRef.parse(store)
    where = None if path is None else os.path.realpath(path)
    given = [ref.name, ref.mode, ref.url or url, where, instance, dict(options)]
    key = hashlib.sha256(json.dumps(given, sort_keys=True, default=_identity).encode()).digest()
    with _LOCK:
        found = _SHARED.get(key)
        if found is None:
            found = _SHARED[key] = SharedStore()
        return found


def _identity(value: object) -> str:
    return os.fsdecode(value) if isinstance(value, os.PathLike) else f"{type(value).__qualname__} at {id(value)}"


def names_data(store: str, url: object, path: object) -> bool:
    """Whether it is said which data is meant, by a url or a path: an embedded engine without either is a fresh one."""
    return url is not None or path is not None or StoreRef.parse(store).url is not None


def resolved(value: Any) -> Any:
    """The value with what Haystack's Secrets stand for in their place, at any depth of dictionaries."""
    return _mapped(value, lambda part: part.resolve_value() if isinstance(part, Secret) else part)


def written(value: Any) -> Any:
    """The value as it is serialized: Secrets by the names of their variables."""
    return _mapped(value, lambda part: part.to_dict() if isinstance(part, Secret) else part)


def restored(value: Any) -> Any:
    """What `written` made it from; another dictionary with a "type" is left as it is."""
    return _mapped(value, _secret)


def _secret(value: Any) -> Any:
    if isinstance(value, Mapping) and value.get("type") == "env_var" and "env_vars" in value:
        return Secret.from_dict(dict(value))
    return value


def _mapped(value: Any, change: Callable[[Any], Any]) -> Any:
    changed = change(value)
    if changed is value and isinstance(value, Mapping):
        return {key: _mapped(part, change) for key, part in value.items()}
    return changed


def refuse_clear_secrets(store: str, url: str | Secret | None, options: Mapping[str, Any]) -> None:
    """Raise DocumentStoreError, which tells none, where a key or a password would be written in clear."""
    if _tells_secret(store) or (isinstance(url, str) and _tells_secret(url)):
        raise DocumentStoreError(
            "the url holds a password or a key, which would be written in clear; take the url from the environment, "
            'url=Secret.from_env_var("MY_URL"), or give the secret as an option of the store'
        )
    for name, value in options.items():
        if isinstance(value, Mapping) and not _SECRET_NAME.search(name):
            refuse_clear_secrets("", None, value)
        elif (isinstance(value, str) and _tells_secret(value)) or (
            isinstance(value, str | bytes | list | tuple | Mapping) and _SECRET_NAME.search(name)
        ):
            raise DocumentStoreError(
                f"option {name!r} would be written in clear; take it from the environment, "
                f'options={{"{name}": Secret.from_env_var("MY_SECRET")}} with haystack.utils.Secret'
            )


def _tells_secret(text: str) -> bool:
    """Whether a url or a connection string holds a password or a key; a user's name alone is none."""
    try:
        user = urlsplit(text).username
    except ValueError:  # no url
        user = None
    bare = text.replace(f"//{user}@", "//", 1) if user else text
    return redact(bare) != bare
