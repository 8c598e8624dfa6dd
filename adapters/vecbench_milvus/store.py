"""MilvusStore: a Milvus server by URL or as a local process. MilvusLiteStore: the other engine, in this process."""

from __future__ import annotations

import logging
import os
import shutil
import socket
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, ClassVar, Self
from urllib.parse import unquote, urlsplit

from vecbench.capabilities import Capabilities, StoreInfo, Tolerance, deployment_of
from vecbench.collection import Collection
from vecbench.errors import (
    CollectionNotFound,
    ConfigError,
    ConnectionFailed,
    StoreError,
    StoreRejected,
    StoreTimeout,
    UnsupportedIndex,
    cause_of,
    redact,
)
from vecbench.filters import OPERATORS
from vecbench.services.local import Service, start
from vecbench.spec import CollectionSpec, hashed_name
from vecbench.store import VectorStore, import_client
from vecbench.types import Metric
from vecbench_milvus.collection import PREFIX, MilvusCollection
from vecbench_milvus.engine import MilvusEngine
from vecbench_milvus.faults import mask, translate_error
from vecbench_milvus.link import Flavour, Link
from vecbench_milvus.lite import LiteInside
from vecbench_milvus.parameters import LITE_KINDS, SERVER_KINDS, index_parameters
from vecbench_milvus.rows import VECTOR, add_fields

__all__ = ["MilvusLiteStore", "MilvusStore"]

_METRICS = {Metric.EUCLIDEAN: "L2", Metric.COSINE: "COSINE", Metric.DOT: "IP"}
_SPEC = "vecbench"

_SERVER = Flavour(
    name="milvus",
    kinds=SERVER_KINDS,
    capabilities=Capabilities(
        metrics=frozenset(Metric),
        indexes=frozenset({"flat", "hnsw", "ivf_flat", "native"}),
        filters=OPERATORS,
        ef_search="query",
        nprobe="query",
        persistent=True,
        concurrent_writers=True,
        preserves_vectors=True,
        max_k=16_384,
        max_dim=32_768,
        max_batch=10_000,
        max_batch_bytes=32_000_000,  # half of the server's limit of 64 MB a request
        tolerance=Tolerance(squared_euclidean=1e-6),
    ),
    spec_in="description",
    serial_writes=False,
    wide_filters=False,
)
_LITE = Flavour(
    name="milvus-lite",
    kinds=LITE_KINDS,
    # The largest k is the server's: lite answers a larger one with fewer rows than there are.
    capabilities=replace(_SERVER.capabilities, concurrent_writers=False),
    spec_in="properties",
    serial_writes=True,
    wide_filters=True,
)


class _Store(VectorStore):
    """What the two have in common: the same client, the same calls."""

    def __init__(self, link: Link, info: StoreInfo, capabilities: Capabilities) -> None:
        self._link, self._info, self.capabilities = link, info, capabilities

    @property
    def info(self) -> StoreInfo:
        """Who answers."""
        return self._info

    @property
    def native(self) -> Any:
        """The `MilvusClient`."""
        return self._link.client

    def _create(self, spec: CollectionSpec) -> Collection:
        client, limit = self._link.client, self._link.timeout
        kind, parameters = index_parameters(spec.index, self._link.flavour.kinds)
        pymilvus = _pymilvus(self)
        kept = {self._link.flavour.spec_in: spec.to_json()}
        schema = client.create_schema(
            auto_id=False, enable_dynamic_field=False, description=kept.get("description", "")
        )
        add_fields(schema, spec, pymilvus.DataType)
        index = client.prepare_index_params()
        # Nested: pymilvus sends them flat otherwise, which lite does not read and does not refuse.
        index.add_index(VECTOR, kind, VECTOR, metric_type=_METRICS[spec.metric], params={"params": parameters})
        name = PREFIX + hashed_name(spec.name)
        properties = {_SPEC: kept["properties"]} if "properties" in kept else {}
        client.create_collection(name, schema=schema, properties=properties, consistency_level="Bounded", timeout=limit)
        self._link.forget(name)
        try:
            try:
                # Nothing is there to be indexed: no need to wait for it, which costs half a second.
                client.create_index(name, index, timeout=limit, sync=False)
            except Exception as e:
                ours = self._translate(e, f"creating a {kind} index")
                if isinstance(ours, StoreRejected):  # a value out of its range
                    raise UnsupportedIndex(str(ours)) from e
                raise
            client.load_collection(name, timeout=limit)
        except BaseException:
            client.drop_collection(name, timeout=limit)
            raise
        return MilvusCollection(self, spec, self._link)

    def _open_collection(self, name: str) -> Collection:
        native_name = PREFIX + hashed_name(name)
        client, limit = self._link.client, self._link.timeout
        if not client.has_collection(native_name, timeout=limit):
            raise CollectionNotFound(f"{self.name} has no collection {name!r}")
        spec = self._spec(native_name)
        client.load_collection(native_name, timeout=limit)  # a restarted server has not
        return MilvusCollection(self, spec, self._link)

    def _spec(self, native_name: str) -> CollectionSpec:
        told: Mapping[str, Any] = self._link.client.describe_collection(native_name, timeout=self._link.timeout)
        if self._link.flavour.spec_in == "description":
            return CollectionSpec.from_json(told["description"])
        return CollectionSpec.from_json(told["properties"].get(_SPEC, ""))

    def _list(self) -> list[str]:
        names = self._link.client.list_collections(timeout=self._link.timeout)
        return [self._spec(name).name for name in names if name.startswith(PREFIX)]

    def _drop(self, name: str) -> None:
        native_name = PREFIX + hashed_name(name)
        client, limit = self._link.client, self._link.timeout
        if not client.has_collection(native_name, timeout=limit):
            raise CollectionNotFound(f"{self.name} has no collection {name!r}")
        with self._link.turn():
            client.drop_collection(native_name, timeout=limit)
        self._link.forget(native_name)

    def _close(self) -> None:
        self._link.client.close()

    def _hidden(self) -> tuple[str | None, ...]:
        return self._link.secrets

    def _translate(self, error: Exception, doing: str) -> StoreError | None:
        return translate_error(self.name, error, doing, self._link.secrets)


class MilvusStore(_Store):
    """A Milvus server (`connect("milvus=http://…")`), or one of its own without a URL (`connect("milvus")`)."""

    name: ClassVar[str] = "milvus"
    extra: ClassVar[str] = "milvus"
    modules: ClassVar[tuple[str, ...]] = ("pymilvus",)
    _service: Service | None = None

    @classmethod
    def open(
        cls, *, url: str | None = None, path: str | Path | None = None, mode: str | None = None, **options: Any
    ) -> Self:
        """Connect to the server at `url`; without one start a server here, its data in `path` or thrown away.

        options: timeout (seconds for each call, 60), and for a `url` token (else the environment's MILVUS_TOKEN), or
        user and password, and database (else the url's path). Raises `ConfigError` for any other.
        """
        known = {"timeout", "token", "user", "password", "database"} if url is not None else {"timeout"}
        _refuse(cls.name, mode, options, known)
        if url is not None:
            if path is not None:
                raise ConfigError("milvus: a path belongs to a server that is started here, not to one by url")
            return cls._connect(url, **options)
        service = start(MilvusEngine(), None if path is None else Path(path))
        try:
            store = cls._connect(service.url, **options)
        except BaseException:
            service.stop()
            raise
        store._service = service
        store._info = replace(store._info, pids=service.pids)
        store.capabilities = replace(store.capabilities, persistent=path is not None, concurrent_writers=False)
        return store

    @classmethod
    def _connect(
        cls,
        url: str,
        *,
        token: str | None = None,
        user: str | None = None,
        password: str | None = None,
        database: str = "",
        timeout: float = 60.0,
    ) -> Self:
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ConfigError(f"milvus needs a url like http://localhost:19530, got {redact(url)!r}")
        user, password = user or unquote(parts.username or ""), password or unquote(parts.password or "")
        token = token or (f"{user}:{password}" if user else os.environ.get("MILVUS_TOKEN", ""))
        secrets = tuple(s for s in (token, token.partition(":")[2], password) if s)
        port = parts.port or (443 if parts.scheme == "https" else 19530)
        host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
        target = f"{parts.scheme}://{host}:{port}"
        pymilvus = _pymilvus(cls)
        try:
            socket.create_connection((parts.hostname, port), timeout).close()
            client = pymilvus.MilvusClient(
                target,
                token=token,
                db_name=database or parts.path.strip("/"),
                timeout=timeout,
                dedicated=True,
                grpc_options=_channel(url),
            )
            told = str(client.get_server_version(timeout=timeout))
        except TimeoutError as e:
            raise StoreTimeout(f"milvus: nothing answered at {target} within {timeout:g} s") from e
        except OSError as e:
            raise ConnectionFailed(f"milvus: cannot connect to {target}: {e.strerror or e}") from e
        except Exception as e:
            ours = translate_error(cls.name, e, f"connecting to {target}", secrets)
            if isinstance(ours, ConnectionFailed | StoreTimeout):
                raise ours from cause_of(e, secrets)
            said, cause = mask(str(e), secrets), cause_of(e, secrets)
            raise ConnectionFailed(f"milvus: something else than Milvus answers at {target}: {said}") from cause
        if "lite" in told.partition("-")[0]:
            client.close()
            raise ConnectionFailed(f"milvus: Milvus Lite ({told}) answers at {target}; it is another engine")
        info = StoreInfo(
            name=cls.name,
            label=cls.name,
            deployment=deployment_of(url),
            engine="milvus",
            engine_version=told.removeprefix("v"),
            client="pymilvus",
            client_version=version("pymilvus"),
            target=target,
        )
        return cls(Link(client, _SERVER, timeout, secrets), info, _SERVER.capabilities)

    def _close(self) -> None:
        try:
            super()._close()
        finally:
            if self._service is not None:
                self._service.stop()


class MilvusLiteStore(_Store):
    """Milvus Lite, in this process: Milvus's protocol over an engine of its own. No result may call it Milvus."""

    name: ClassVar[str] = "milvus-lite"
    extra: ClassVar[str] = "milvus-lite"
    modules: ClassVar[tuple[str, ...]] = ("pymilvus", "milvus_lite")

    _server: Any = None
    _database: Any = None
    _temporary: Path | None = None

    @classmethod
    def open(
        cls, *, url: str | None = None, path: str | Path | None = None, mode: str | None = None, **options: Any
    ) -> Self:
        """Open the directory `path`, a temporary one without it; one holder at a time.

        options: timeout (seconds for each call, 60). Raises `ConfigError` for any other.
        """
        if url is not None:
            raise ConfigError("milvus-lite runs in this process and takes no url; a server is milvus=http://…")
        _refuse(cls.name, mode, options, {"timeout"})
        timeout = options.get("timeout", 60.0)
        pymilvus = _pymilvus(cls)
        lite = import_client("milvus_lite.adapter.grpc.server", store=cls.name, extra=cls.extra)
        folder = Path(tempfile.mkdtemp(prefix="vecbench-milvus-lite-") if path is None else path).absolute()
        folder.mkdir(parents=True, exist_ok=True)
        try:
            # What `MilvusClient("….db")` does too; but the client then says only that it failed, and keeps one server
            # for all that open the same directory, until the process ends.
            server, database, port = lite.start_server_in_thread(str(folder))
        except Exception as e:
            raise ConnectionFailed(f"milvus-lite: cannot open {folder}: {e}") from e
        url = f"http://127.0.0.1:{port}"
        client = pymilvus.MilvusClient(url, timeout=timeout, dedicated=True, grpc_options=_channel(url))
        info = StoreInfo(
            name=cls.name,
            label=cls.name,
            deployment="embedded",
            engine="milvus-lite",
            engine_version=version("milvus-lite"),
            client="pymilvus",
            client_version=version("pymilvus"),
            target=str(folder),
        )
        link = Link(client, _LITE, timeout, inside=LiteInside(database))
        store = cls(link, info, replace(_LITE.capabilities, persistent=path is not None))
        store._server, store._database = server, database
        store._temporary = folder if path is None else None
        return store

    def _close(self) -> None:
        try:
            super()._close()
            self._server.stop(grace=2).wait()
            self._database.close()
        finally:
            if self._temporary is not None:
                shutil.rmtree(self._temporary, ignore_errors=True)


def _refuse(name: str, mode: str | None, options: Mapping[str, Any], known: set[str]) -> None:
    if mode is not None:
        raise ConfigError(f"{name} has no mode {mode!r}")
    unknown = set(options) - known
    if unknown:
        raise ConfigError(f"{name} has no option {', '.join(sorted(unknown))}; it takes {', '.join(sorted(known))}")


def _pymilvus(store: type[VectorStore] | VectorStore) -> Any:
    """The client, which would print a traceback for every refused call and every failed attempt."""
    module = import_client("pymilvus", store=store.name, extra=store.extra)
    for name in ("pymilvus", "milvus_lite"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    return module


def _channel(url: str) -> dict[str, Any]:
    """gRPC sends even what is meant for this machine through an HTTP proxy that the environment names."""
    return {} if deployment_of(url) == "remote" else {"grpc.enable_http_proxy": 0}
