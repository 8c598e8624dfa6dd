"""RedisearchStore: a Redis with the query engine, started here without a URL, reached by one otherwise."""

from __future__ import annotations

import os
import threading
import time
import uuid
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, ClassVar, Self
from urllib.parse import unquote, urlsplit

from filelock import FileLock

from vecbench.capabilities import Capabilities, StoreInfo, Tolerance, deployment_of
from vecbench.collection import Collection
from vecbench.errors import (
    CollectionExists,
    CollectionNotFound,
    ConfigError,
    ConnectionFailed,
    StoreError,
    UnsupportedIndex,
    cause_of,
    redact,
)
from vecbench.filters import OPERATORS
from vecbench.services.local import Service, start
from vecbench.spec import CollectionSpec, hashed_name
from vecbench.store import VectorStore, hold_directory, import_client
from vecbench.types import Metric
from vecbench_redisearch.collection import RedisearchCollection
from vecbench_redisearch.engine import RedisearchEngine, module_version, said
from vecbench_redisearch.faults import translate_error
from vecbench_redisearch.hashes import SEPARATOR
from vecbench_redisearch.parameters import index_parameters

__all__ = ["RedisearchStore"]

_SERVER_OPTIONS = {"username", "password", "timeout", "connect_timeout", "ca_certs"}
_CAPABILITIES = Capabilities(
    metrics=frozenset(Metric),
    indexes=frozenset({"flat", "hnsw"}),
    filters=OPERATORS,
    ef_search="query",
    exact_search=True,
    persistent=True,
    concurrent_writers=True,
    preserves_vectors=True,
    max_k=1_000_000,
    max_batch=500,
    max_batch_bytes=8_000_000,
    tolerance=Tolerance(absolute=5e-7, relative=1e-6),  # three times the worst seen, up to 1,536 dimensions
)


class RedisearchStore(VectorStore):
    """RediSearch: `connect("redisearch")`, `path=` to keep the data, or a server, `connect("redisearch=redis://…")`."""

    name: ClassVar[str] = "redisearch"
    extra: ClassVar[str] = "redisearch"
    modules: ClassVar[tuple[str, ...]] = ("redis",)

    def __init__(self, client: Any, info: StoreInfo, *, timeout: float, secret: str | None = None) -> None:
        self._client, self._info, self._secret = client, info, secret
        self.timeout = timeout
        self.capabilities = _CAPABILITIES
        self._service: Service | None = None
        self._lock: FileLock | None = None

    @classmethod
    def open(
        cls, *, url: str | None = None, path: str | Path | None = None, mode: str | None = None, **options: Any
    ) -> Self:
        """Start a Redis of our own, temporary without `path`, or connect to the one at `url` (redis:// or rediss://).

        options: timeout (seconds an answer may take, 60). For a url also username, password (else in the url, else the
        environment's REDISCLI_AUTH), connect_timeout (10), ca_certs (a file of certificates to trust, for rediss).
        """
        if mode is not None:
            raise ConfigError(f"redisearch has no modes, got {mode!r}")
        if url is not None and path is not None:
            raise ConfigError("redisearch takes a url or a path: the path is where a Redis of its own keeps its data")
        known = {"timeout"} if url is None else _SERVER_OPTIONS
        unknown = set(options) - known
        if unknown:
            raise ConfigError(
                f"redisearch ({'local' if url is None else 'server'}) has no option {', '.join(sorted(unknown))}; "
                f"it takes {', '.join(sorted(known))}"
            )
        for name in ("timeout", "connect_timeout"):
            value = options.get(name, 1)
            if type(value) not in {int, float} or not 0 < value < 1e6:
                raise ConfigError(f"redisearch: {name} is a number of seconds, got {value!r}")
        return cls._start(path, **options) if url is None else cls._connect(url, **options)

    @classmethod
    def _start(cls, path: str | Path | None, *, timeout: float = 60.0) -> Self:
        import_client("redis", store="redisearch", extra="redisearch")
        home = None if path is None else Path(path).absolute()
        lock = None if home is None else hold_directory(home, store="redisearch")
        service: Service | None = None
        try:
            service = start(RedisearchEngine(durable=home is not None), home)
            store = cls._connect(service.url, timeout=timeout, password=service.secrets["password"])
        except BaseException:
            if service is not None:
                service.stop()
            if lock is not None:
                lock.release()
            raise
        store._service, store._lock = service, lock
        store._info = replace(store._info, pids=service.pids)
        store.capabilities = replace(_CAPABILITIES, persistent=home is not None, concurrent_writers=False)
        return store

    @classmethod
    def _connect(
        cls,
        url: str,
        *,
        username: str | None = None,
        password: str | None = None,
        timeout: float = 60.0,
        connect_timeout: float = 10.0,
        ca_certs: str | Path | None = None,
    ) -> Self:
        redis: Any = import_client("redis", store="redisearch", extra="redisearch")
        host, port, encrypted, user, word = _address(url)
        secret = password or word or os.environ.get("REDISCLI_AUTH") or None
        encryption = {"ssl": True, "ssl_ca_certs": None if ca_certs is None else str(ca_certs)} if encrypted else {}
        client = redis.Redis(
            host=host,
            port=port,
            username=username or user,
            password=secret,
            socket_timeout=timeout,
            socket_connect_timeout=min(connect_timeout, timeout),
            protocol=2,  # answers as flat lists, vectors as the bytes they are
            retry=redis.retry.Retry(redis.backoff.NoBackoff(), 0),  # else a timeout is four times as long
            client_name="vecbench",
            **encryption,
        )
        target = f"{'rediss' if encrypted else 'redis'}://{host}:{port}"
        try:
            hello = said(client)
            if hello["mode"] == b"cluster":
                raise ConnectionFailed(f"redisearch: {target} is part of a Redis Cluster, which is not supported")
            _wait_while_loading(client, redis.exceptions.BusyLoadingError, timeout)
        except Exception as e:
            client.close()
            if "unknown command" in str(e).lower():
                raise ConnectionFailed(
                    f"redisearch: the server at {target} has no query engine; it takes Redis 8 or Redis Stack, or one "
                    "with the module redisearch.so"
                ) from cause_of(e, [secret])
            ours = translate_error(e, "connecting", target, secret)
            if ours is None:
                raise
            raise ours from cause_of(e, [secret])
        info = StoreInfo(
            name="redisearch",
            label="redisearch",
            deployment=deployment_of(target),
            engine="RediSearch",
            engine_version=f"{module_version(hello)} (Redis {hello['version'].decode()})",
            client="redis",
            client_version=version("redis"),
            target=target,
        )
        return cls(client, info, timeout=timeout, secret=secret)

    @property
    def info(self) -> StoreInfo:
        """The module's version and the server's."""
        return self._info

    @property
    def native(self) -> Any:
        """The `redis.Redis` client; it gives bytes."""
        return self._client

    @staticmethod
    def spec_key(name: str) -> str:
        """The key of the hash that says what a collection of this name is: its spec, and the prefix of its records."""
        return f"vecbench:{hashed_name(name)}"

    def _create(self, spec: CollectionSpec) -> Collection:
        """An index under a name of its own; whoever then writes the spec first has created the collection."""
        vector = [x for item in index_parameters(spec).items() for x in item]
        key = self.spec_key(spec.name)
        index = f"{key}:{uuid.uuid4().hex[:12]}"
        schema = ["v", "VECTOR", spec.index.kind.upper(), len(vector), *vector]
        schema += ["t", "TAG", "SEPARATOR", SEPARATOR, "CASESENSITIVE"]
        # Nothing has the prefix yet, so there is nothing to scan; a scan would run behind our back.
        options = ["ON", "HASH", "PREFIX", 1, index + ":", "SKIPINITIALSCAN"]
        try:
            self._client.execute_command("FT.CREATE", index, *options, "SCHEMA", *schema)
        except Exception as e:
            if "vector" in str(e).lower():  # "Bad arguments for vector similarity …", "Vector index initial capacity …"
                raise UnsupportedIndex(f"redisearch refuses the index parameters: {str(e)[:300]}") from e
            raise
        with self._client.pipeline(transaction=True) as pipe:
            pipe.hsetnx(key, "prefix", index + ":")
            pipe.hsetnx(key, "spec", spec.to_json())
            first = pipe.execute()[0]
        if not first:
            self._client.execute_command("FT.DROPINDEX", index)
            raise CollectionExists(f"redisearch: another client has just created {spec.name!r}")
        return RedisearchCollection(self, spec, index + ":")

    def _open_collection(self, name: str) -> Collection:
        prefix, spec = self._client.hmget(self.spec_key(name), "prefix", "spec")
        if prefix is None or spec is None:
            raise CollectionNotFound(f"redisearch has no collection {name!r}")
        collection = RedisearchCollection(self, CollectionSpec.from_json(spec.decode()), prefix.decode())
        collection.settle(time.monotonic() + self.timeout)  # after a restart the server may still be scanning
        return collection

    def _list(self) -> list[str]:
        """Each index of ours that a spec points to; another is being created at this moment, or its creator died."""
        indexes = [i for i in self._client.execute_command("FT._LIST") if i.startswith(b"vecbench:")]
        with self._client.pipeline(transaction=False) as pipe:
            for index in indexes:
                pipe.hmget(index.rpartition(b":")[0], "prefix", "spec")
            found = pipe.execute()
        return [
            CollectionSpec.from_json(spec.decode()).name
            for index, (prefix, spec) in zip(indexes, found, strict=True)
            if prefix == index + b":" and spec is not None
        ]

    def _drop(self, name: str) -> None:
        key = self.spec_key(name)
        with self._client.pipeline(transaction=True) as pipe:
            pipe.watch(key)  # another client may drop it at the same moment, and create it anew
            prefix = pipe.hget(key, "prefix")
            if prefix is None:
                raise CollectionNotFound(f"redisearch has no collection {name!r}")
            pipe.multi()
            pipe.execute_command("FT.DROPINDEX", prefix.rstrip(b":"), "DD")
            pipe.delete(key)
            pipe.execute()

    def _close(self) -> None:
        try:
            self._client.close()
        finally:
            if self._service is not None:
                self._service.stop()
            if self._lock is not None:
                self._lock.release()

    def _hidden(self) -> tuple[str | None, ...]:
        return (self._secret,)

    def _translate(self, error: Exception, doing: str) -> StoreError | None:
        return translate_error(error, doing, self._info.target, self._secret)


def _address(url: str) -> tuple[str, int, bool, str | None, str | None]:
    """Host, port, whether encrypted, user and password of a URL."""
    try:
        parts = urlsplit(url)
        port = parts.port or 6379
    except ValueError as e:
        raise ConfigError(f"redisearch: {redact(str(e))}") from None
    if parts.scheme not in {"redis", "rediss"} or not parts.hostname or parts.query or parts.fragment:
        raise ConfigError(f"redisearch needs a url like redis://localhost:6379 or rediss://…, got {redact(url)!r}")
    if parts.path not in {"", "/", "/0"}:
        raise ConfigError(f"redisearch: the query engine works in database 0 only, got {redact(url)!r}")
    user, word = (None if part is None else unquote(part) for part in (parts.username, parts.password))
    return parts.hostname, port, parts.scheme == "rediss", user or None, word or None


def _wait_while_loading(client: Any, loading: type[Exception], timeout: float) -> None:
    """Ask for the list of indexes until the server has read its data; raises where it has no query engine."""
    deadline, pause = time.monotonic() + timeout, threading.Event()
    while True:
        try:
            client.execute_command("FT._LIST")
        except loading:
            if time.monotonic() > deadline:
                raise
        else:
            return
        pause.wait(0.05)
