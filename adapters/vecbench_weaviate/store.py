"""WeaviateStore: one server, started here or found by its URL."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, ClassVar, Self

from vecbench.capabilities import Capabilities, Deployment, StoreInfo, Tolerance, deployment_of
from vecbench.collection import Collection
from vecbench.errors import (
    CollectionMismatch,
    CollectionNotFound,
    ConfigError,
    StoreError,
    UnsupportedIndex,
)
from vecbench.filters import OPERATORS
from vecbench.services.local import Service, start
from vecbench.spec import CollectionSpec, hashed_name
from vecbench.store import VectorStore, hold_directory, import_client
from vecbench.types import Metric
from vecbench_weaviate.collection import PROPERTIES, WeaviateCollection
from vecbench_weaviate.connection import Address, connect
from vecbench_weaviate.engine import WeaviateEngine
from vecbench_weaviate.faults import mask, translate_error
from vecbench_weaviate.parameters import vector_index
from vecbench_weaviate.words import DOC

__all__ = ["WeaviateStore"]

_PREFIX = "Vecbench_"
_OPTIONS = ("api_key", "grpc_host", "grpc_port", "timeout")
_THREADS = 8  # for the queries of one search, which Weaviate takes one by one


class WeaviateStore(VectorStore):
    """Weaviate as a process of our own (`connect("weaviate")`, `path=` to keep the data), or a server by its URL."""

    name: ClassVar[str] = "weaviate"
    extra: ClassVar[str] = "weaviate"
    modules: ClassVar[tuple[str, ...]] = ("weaviate",)
    modes: ClassVar[tuple[str, ...]] = ("local", "server")
    capabilities = Capabilities(
        metrics=frozenset(Metric),
        indexes=frozenset({"flat", "hnsw"}),
        filters=OPERATORS,
        ef_search="collection",
        exact_search=True,
        persistent=True,
        concurrent_writers=True,
        preserves_vectors=True,
        max_k=10_000,
        max_dim=65_535,
        max_batch=1_000,
        max_batch_bytes=10_000_000,
        tolerance=Tolerance(absolute=2e-6, relative=1e-6),
    )

    def __init__(
        self,
        client: Any,
        address: Address,
        owned: ExitStack,
        *,
        deployment: Deployment,
        secret: str | None = None,
        service: Service | None = None,
    ) -> None:
        self.client, self.address, self.service = client, address, service
        self._service = service
        self._owned, self._secret = owned, secret
        self._deployment: Deployment = deployment
        self.pool = owned.enter_context(ThreadPoolExecutor(_THREADS, "vecbench-weaviate"))
        self.config: Any = import_client("weaviate.classes.config", store="weaviate", extra="weaviate")
        self._engine_version = str(client.get_meta()["version"])

    @classmethod
    def open(
        cls, *, url: str | None = None, path: str | Path | None = None, mode: str | None = None, **options: Any
    ) -> Self:
        """Start a server, in a temporary directory without `path`, or connect to the one at `url`.

        options: timeout (seconds for one request, 60); with a url also api_key (else the environment's
        WEAVIATE_API_KEY), grpc_port (50051; 443 with https) and grpc_host. Raises `ConfigError` for any other.
        """
        mode = mode or ("local" if url is None else "server")
        if mode not in cls.modes or (mode == "server") != (url is not None):
            raise ConfigError(
                "weaviate: mode 'server' needs a url, as in weaviate=http://localhost:8080, and only that does"
            )
        if url is not None and path is not None:
            raise ConfigError("weaviate: a path belongs to a server that is started here, not to one at a url")
        known = _OPTIONS if url is not None else ("timeout",)
        unknown = set(options) - set(known)
        if unknown:
            raise ConfigError(
                f"weaviate ({mode}) has no option {', '.join(sorted(unknown))}; it takes {', '.join(known)}"
            )
        timeout = options.get("timeout", 60)
        if isinstance(timeout, bool) or not isinstance(timeout, int | float) or not timeout > 0:
            raise ConfigError(f"weaviate: timeout is a number of seconds, got {timeout!r}")
        owned = ExitStack()
        try:
            service: Service | None = None
            key = options.get("api_key") or os.environ.get("WEAVIATE_API_KEY") or None
            if url is None:
                service = owned.enter_context(_serve(path, owned))
                url, key = service.url, service.secrets["api_key"]
            address = Address.parse(url, options.get("grpc_host"), options.get("grpc_port"))
            client = connect(address, key, timeout)
            owned.callback(client.close)
            made = cls(client, address, owned, deployment=deployment_of(url), secret=key, service=service)
        except BaseException:
            owned.close()
            raise
        if service is not None:
            made.capabilities = replace(cls.capabilities, persistent=path is not None, concurrent_writers=False)
        return made

    @property
    def info(self) -> StoreInfo:
        """The version is the server's own word."""
        return StoreInfo(
            name=self.name,
            label=self.name,
            deployment=self._deployment,
            engine="Weaviate",
            engine_version=self._engine_version,
            client="weaviate-client",
            client_version=version("weaviate-client"),
            target=self.address.target,
            pids=() if self.service is None else self.service.pids,
        )

    @property
    def native(self) -> Any:
        """The `WeaviateClient`."""
        return self.client

    def _create(self, spec: CollectionSpec) -> Collection:
        """The spec is the collection's description. The words of documents are indexed: as Weaviate does by itself."""
        c = self.config
        index = vector_index(spec.index, spec.metric, c)
        try:
            self.client.collections.create(
                _PREFIX + hashed_name(spec.name),
                description=spec.to_json(),
                vector_config=c.Configure.Vectors.self_provided(vector_index_config=index),
                properties=[
                    c.Property(
                        name=name,
                        data_type=c.DataType(kind),
                        tokenization=c.Tokenization.WORD if name == DOC else c.Tokenization.FIELD,
                        index_filterable=filterable,
                        index_searchable=name == DOC,
                    )
                    for name, kind, filterable in PROPERTIES
                ],
            )
        except Exception as e:
            if getattr(e, "status_code", None) == 422 and "config" in str(e):
                raise UnsupportedIndex(f"weaviate refuses the index of {spec.name!r}: {e}") from e
            raise
        return self._open_collection(spec.name)

    def _open_collection(self, name: str) -> Collection:
        handle = self.client.collections.use(_PREFIX + hashed_name(name))
        try:
            config = handle.config.get()
        except Exception as e:
            if getattr(e, "status_code", None) == 404:
                raise CollectionNotFound(f"weaviate has no collection {name!r}") from e
            raise
        return WeaviateCollection(self, CollectionSpec.from_json(config.description or ""), handle, config)

    def _list(self) -> list[str]:
        """Ours have our prefix and a spec: a server with auto-schema makes a class of any name that is written to."""
        names = []
        for native, config in self.client.collections.list_all(simple=True).items():
            if native.startswith(_PREFIX):
                try:
                    names.append(CollectionSpec.from_json(config.description or "").name)
                except CollectionMismatch:
                    continue
        return names

    def _drop(self, name: str) -> None:
        native = _PREFIX + hashed_name(name)
        if not self.client.collections.exists(native):
            raise CollectionNotFound(f"weaviate has no collection {name!r}")
        self.client.collections.delete(native)

    def _close(self) -> None:
        self._owned.close()

    def _hidden(self) -> tuple[str | None, ...]:
        return (self._secret,)

    def _translate(self, error: Exception, doing: str) -> StoreError | None:
        return translate_error(error, doing, secret=self._secret, away=self.address.unreachable)

    @property
    def version(self) -> tuple[int, ...]:
        """The server's, major and minor."""
        return tuple(int(n) for n in self._engine_version.split(".")[:2])

    @property
    def headers(self) -> dict[str, str]:
        """What shows a request over REST to be ours."""
        return {"Authorization": f"Bearer {self._secret}"} if self._secret else {}

    def masked(self, text: str) -> str:
        """The text without the API key."""
        return mask(text, self._secret)


def _serve(path: str | Path | None, owned: ExitStack) -> Service:
    """A server on a directory that no other of ours uses, or on a temporary one."""
    if path is None:
        return start(WeaviateEngine())
    home = Path(path).absolute()
    owned.callback(hold_directory(home, store="weaviate").release)
    return start(WeaviateEngine(), home)
