"""PineconeStore: one serverless index per collection, made and dropped through the control plane."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import Any, ClassVar, Self
from urllib.parse import urlsplit

from vecbench.capabilities import Capabilities, StoreInfo, Tolerance, deployment_of
from vecbench.collection import Collection
from vecbench.errors import (
    CollectionExists,
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
from vecbench.index import Index, NativeIndex
from vecbench.spec import CollectionSpec, hashed_name
from vecbench.store import VectorStore, import_client
from vecbench.types import Metric
from vecbench_pinecone.collection import Opened, PineconeCollection
from vecbench_pinecone.faults import mask, translate_error, wait_until
from vecbench_pinecone.records import from_tags, to_tags

__all__ = ["PineconeStore"]

_METRICS = {Metric.EUCLIDEAN: "euclidean", Metric.COSINE: "cosine", Metric.DOT: "dotproduct"}
_PREFIX = "vecbench-"  # 9 and 32 characters of the 45 that a name may have
_OPTIONS = frozenset({"api_key", "cloud", "region", "timeout"})
_NATIVE = frozenset({"cloud", "region", "read_capacity"})
_AT_ONCE = 8  # queries of one search that are under way together


class PineconeStore(VectorStore):
    """The cloud by key: `connect("pinecone", api_key=…)`, or the environment's PINECONE_API_KEY.

    Pinecone chooses and tunes its own index: a collection is made with `index=NativeIndex("serverless")`.
    """

    name: ClassVar[str] = "pinecone"
    needs_account: ClassVar[bool] = True
    extra: ClassVar[str] = "pinecone"
    modules: ClassVar[tuple[str, ...]] = ("pinecone",)
    capabilities = Capabilities(
        metrics=frozenset(Metric),
        indexes=frozenset({"native"}),
        filters=OPERATORS,
        persistent=True,
        concurrent_writers=True,
        preserves_vectors=True,
        max_k=10_000,
        max_dim=20_000,
        max_batch=1_000,
        max_batch_bytes=2_000_000,
        tolerance=Tolerance(squared_euclidean=4e-6),
    )

    def __init__(self, client: Any, *, api_key: str, url: str, cloud: str, region: str, timeout: float) -> None:
        self._client, self._key, self._timeout = client, api_key, timeout
        self._place = {"cloud": cloud, "region": region}
        self._opened: dict[str, Opened] = {}
        self._lock = threading.Lock()
        self.pool = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="vecbench-pinecone")
        cloud_answers = deployment_of(url) == "remote"
        self._info = StoreInfo(
            name="pinecone",
            label="pinecone" if cloud_answers else "pinecone API (imitation)",
            deployment=deployment_of(url),
            engine="pinecone serverless" if cloud_answers else "unknown",
            engine_version="not reported",
            client="pinecone (REST)",
            client_version=version("pinecone"),
            target=url,
            benchmarkable=cloud_answers,
            why_not=""
            if cloud_answers
            else "Pinecone runs in its vendor's cloud only: what answers on this machine imitates its API",
        )

    @classmethod
    def open(
        cls, *, url: str | None = None, path: str | Path | None = None, mode: str | None = None, **options: Any
    ) -> Self:
        """Connect to the control plane, at `url` where it is another than the vendor's, and list the indexes.

        options: api_key (else PINECONE_API_KEY), cloud ("aws") and region ("us-east-1") where new indexes are made,
        timeout (seconds, 60) for a call and for an index to be made or dropped. Raises `ConfigError` for any other.
        """
        unknown = set(options) - _OPTIONS
        if unknown or path is not None or mode is not None:
            wrong = sorted(unknown) or ["path" if path is not None else "mode"]
            raise ConfigError(f"pinecone has no option {', '.join(wrong)}; it takes {', '.join(sorted(_OPTIONS))}")
        key = options.get("api_key") or os.environ.get("PINECONE_API_KEY")
        if not key:
            raise ConfigError("pinecone needs an api_key, or PINECONE_API_KEY in the environment")
        timeout = float(options.get("timeout", 60))
        client = _client(key, url, timeout)
        target = str(client.config.host)
        try:
            list(client.indexes.list())
        except Exception as e:
            client.close()
            raise _not_connected(e, f"connecting to {target}", key) from cause_of(e, [key])
        except BaseException:
            client.close()
            raise
        place = {"cloud": options.get("cloud", "aws"), "region": options.get("region", "us-east-1")}
        return cls(client, api_key=key, url=target, timeout=timeout, **place)

    @property
    def info(self) -> StoreInfo:
        """The service tells no version of its engine."""
        return self._info

    @property
    def native(self) -> Any:
        """The `pinecone.Pinecone`."""
        return self._client

    def _create(self, spec: CollectionSpec) -> Collection:
        deployment, read_capacity = self._parameters(spec.index)
        native = _native_name(spec.name)
        try:
            self._client.indexes.create(
                name=native,
                dimension=spec.dim,
                metric=_METRICS[spec.metric],
                deployment={"deployment_type": "managed", **deployment},
                read_capacity=read_capacity,
                tags=to_tags(spec),
                timeout=-1,  # the SDK looks every five seconds, and for ever; we do not
            )
        except Exception as e:
            if getattr(e, "status_code", None) == 409:
                raise CollectionExists(f"pinecone has an index {native} already; it may be about to go") from e
            raise
        wait_until(
            lambda: bool(self._describe(native).status.ready),
            self._timeout,
            f"the index {native} of collection {spec.name!r} was made, and is not ready",
        )
        return self._open_collection(spec.name)

    def _parameters(self, index: Index) -> tuple[dict[str, Any], Any]:
        """Where to make the index, and its read capacity."""
        if not isinstance(index, NativeIndex) or index.name != "serverless":
            raise UnsupportedIndex("pinecone has one index, NativeIndex('serverless'), and tunes it itself")
        unknown = set(index.native) - _NATIVE
        if unknown:
            raise UnsupportedIndex(
                f"pinecone has no index parameter {', '.join(sorted(unknown))}; it has {', '.join(sorted(_NATIVE))}"
            )
        asked = {**self._place, **index.native}
        return asked, asked.pop("read_capacity", None)

    def _open_collection(self, name: str) -> Collection:
        native = _native_name(name)
        try:
            model = self._describe(native)
        except Exception as e:
            self._fail_if_gone(e, name)
            raise
        spec = from_tags(model.tags)
        if spec is None or model.status.state == "Terminating":
            raise CollectionNotFound(f"pinecone has no collection {name!r}")
        if not model.host:
            raise StoreRejected(f"pinecone: the index {native} of collection {name!r} has no address yet")
        with self._lock:
            opened = self._opened.get(native)
            if opened is not None and opened.host != model.host:
                opened.end()  # somebody made the index anew
                opened = None
            if opened is None:
                opened = self._opened[native] = Opened(native, model.host, self._client.index(host=model.host))
        return PineconeCollection(self, spec, opened)

    def _describe(self, native: str) -> Any:
        return self._client.indexes.describe(native)

    def _list(self) -> list[str]:
        ours = [m for m in self._client.indexes.list() if m.name.startswith(_PREFIX)]
        specs = [from_tags(m.tags) for m in ours if m.status.state != "Terminating"]
        return [spec.name for spec in specs if spec is not None]

    def _drop(self, name: str) -> None:
        native = _native_name(name)
        try:
            self._client.indexes.delete(native, timeout=-1)  # without, the SDK waits for ever
        except Exception as e:
            self._fail_if_gone(e, name)
            raise
        self._forget(native)
        what = f"the index {native} of collection {name!r} is still about to go"
        wait_until(lambda: self._gone(native), self._timeout, what)

    def _gone(self, native: str) -> bool:
        try:
            self._describe(native)
        except Exception as e:
            if not _is_404(e):
                raise
            return True
        return False

    def _fail_if_gone(self, error: Exception, name: str) -> None:
        if _is_404(error):
            self._forget(_native_name(name))
            raise CollectionNotFound(f"pinecone has no collection {name!r}") from error

    def _forget(self, native: str) -> None:
        """Handles to the index say from now on that it was dropped."""
        with self._lock:
            opened = self._opened.pop(native, None)
        if opened is not None:
            opened.end()

    def _close(self) -> None:
        self.pool.shutdown()
        with self._lock:
            while self._opened:
                self._opened.popitem()[1].client.close()
        self._client.close()

    def _hidden(self) -> tuple[str | None, ...]:
        return (self._key,)

    def _translate(self, error: Exception, doing: str) -> StoreError | None:
        return translate_error(error, doing, self._key)


def _is_404(error: Exception) -> bool:
    return getattr(error, "status_code", None) == 404


def _native_name(name: str) -> str:
    return _PREFIX + hashed_name(name)


def _client(key: str, url: str | None, timeout: float) -> Any:
    pinecone: Any = import_client("pinecone", store="pinecone", extra="pinecone")
    if url is not None:
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname or parts.username is not None:
            raise ConfigError(f"pinecone needs a url like https://api.pinecone.io, got {redact(url)!r}")
    try:
        # A call is tried four times, so that a try has a share of its time. The SDK hands this policy to the control
        # plane only; elsewhere its own one holds, with pauses of up to some seconds, or as long as the service asks.
        retries = pinecone.RetryConfig(max_wait=max(0.25, timeout / 12))
        return pinecone.Pinecone(api_key=key, host=url, timeout=timeout / 6, retry_config=retries)
    except Exception as e:
        raise ConfigError(f"pinecone: {mask(str(e), key)}") from cause_of(e, [key])


def _not_connected(error: Exception, doing: str, key: str) -> StoreError:
    ours = translate_error(error, doing, key)
    if isinstance(ours, ConnectionFailed | StoreTimeout):
        return ours
    if getattr(error, "status_code", None) == 403:
        return ConnectionFailed(f"pinecone: {doing} failed: the service refused the credentials; check api_key")
    return ConnectionFailed(
        f"pinecone: {doing} failed: something else than Pinecone answers: {mask(str(error), key)[:200]}"
    )
