"""ElasticsearchStore: the connection, and collections as indices of their own."""

from __future__ import annotations

import logging
import os
import re
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
    UnsupportedIndex,
    cause_of,
    redact,
)
from vecbench.filters import OPERATORS
from vecbench.services.local import Service, start
from vecbench.spec import CollectionSpec, hashed_name
from vecbench.store import VectorStore, import_client
from vecbench.types import Metric
from vecbench_elasticsearch.collection import ElasticsearchCollection, writer
from vecbench_elasticsearch.engine import ElasticsearchEngine
from vecbench_elasticsearch.faults import mask, translate_error
from vecbench_elasticsearch.parameters import MAX_CANDIDATES, index_options, mappings, settings

__all__ = ["ElasticsearchStore"]

_PREFIX = "vecbench-"
_OURS = re.compile(_PREFIX + "[0-9a-f]{32}")
_SERVER_OPTIONS = frozenset({"api_key", "username", "password", "ca_certs", "verify_certs", "cloud_id", "timeout"})
_LOCAL_OPTIONS = frozenset({"heap", "timeout"})


class ElasticsearchStore(VectorStore):
    """A server (`connect("elasticsearch=https://…")`), Elastic Cloud (`cloud_id=`), or a process of our own without.

    `path=` keeps what the process of our own holds.
    """

    name: ClassVar[str] = "elasticsearch"
    extra: ClassVar[str] = "elasticsearch"
    modules: ClassVar[tuple[str, ...]] = ("elasticsearch",)
    _service: Service | None = None
    capabilities: Capabilities = Capabilities(
        metrics=frozenset(Metric),
        indexes=frozenset({"flat", "hnsw", "native"}),
        filters=OPERATORS,
        ef_search="query",
        exact_search=True,
        persistent=True,
        concurrent_writers=True,
        preserves_vectors=True,
        max_k=MAX_CANDIDATES,
        max_dim=4_096,
        max_batch_bytes=10_000_000,
        # Euclidean scores are 1/(1 + d²) in float32, whose steps below 1 are 6e-8; 4e-7 · (1 + d²) was measured on d².
        tolerance=Tolerance(absolute=2e-6, relative=2e-6, squared_absolute=5e-7),
    )

    def __init__(
        self, client: Any, info: StoreInfo, *, service: Service | None = None, secrets: tuple[str, ...] = ()
    ) -> None:
        self._client, self._info, self._service, self._secrets = client, info, service, secrets

    @classmethod
    def open(
        cls, *, url: str | None = None, path: str | Path | None = None, mode: str | None = None, **options: Any
    ) -> Self:
        """Connect to the server at `url`, or start one here, keeping its data in `path` or nowhere.

        options with a server: username and password (also in the url) or api_key (else the environment's
        ELASTICSEARCH_API_KEY), ca_certs (a file), verify_certs (True), cloud_id (in place of a url), timeout (seconds
        a request may take, 60). Without: heap ("768m"), timeout. Raises `ConfigError` for any other.
        """
        if mode is not None:
            raise ConfigError(f"elasticsearch has no mode {mode!r}; a url says where the server is")
        remote = url is not None or "cloud_id" in options
        known = _SERVER_OPTIONS if remote else _LOCAL_OPTIONS
        unknown = set(options) - known
        if unknown:
            where = "with a url" if remote else "without a url"
            raise ConfigError(
                f"elasticsearch has no option {', '.join(sorted(unknown))} {where}; it takes {', '.join(sorted(known))}"
            )
        timeout = options.get("timeout", 60.0)
        if type(timeout) not in {int, float} or not timeout > 0:
            raise ConfigError(f"elasticsearch: timeout is a number of seconds above 0, got {timeout!r}")
        if remote:
            if path is not None:
                raise ConfigError("elasticsearch: a path belongs to a server started here, not to one with a url")
            return cls._connect(_arguments(url, options, os.environ.get("ELASTICSEARCH_API_KEY")), timeout)
        import_client("elasticsearch", store="elasticsearch", extra="elasticsearch")  # before a server is started
        service = start(ElasticsearchEngine(heap=options.get("heap", "768m")), None if path is None else Path(path))
        try:
            store = cls._connect(_arguments(service.url, {}), timeout)
        except BaseException:
            service.stop()
            raise
        store._service = service
        store._info = replace(store._info, pids=service.pids)
        if path is None:
            store.capabilities = replace(cls.capabilities, persistent=False)
        return store

    @classmethod
    def _connect(cls, arguments: dict[str, Any], timeout: float) -> Self:
        """Ask for the version, so that a wrong address or wrong credentials are known now."""
        vendor = import_client("elasticsearch", store="elasticsearch", extra="elasticsearch")
        serializers = import_client("elasticsearch.serializer", store="elasticsearch", extra="elasticsearch")
        # Its warnings of failed requests, with tracebacks, go to whoever set up logging, and else nowhere.
        logging.getLogger("elastic_transport").addHandler(logging.NullHandler())
        secrets = tuple(s for key in ("api_key", "basic_auth") for s in _secret(arguments.get(key)))
        url = arguments.get("hosts", "")
        target = url or "Elastic Cloud"
        serializer = getattr(serializers, "OrjsonSerializer", serializers.JsonSerializer)()
        try:
            client = vendor.Elasticsearch(
                **arguments, request_timeout=timeout, serializer=serializer, ssl_show_warn=False
            )
        except (ValueError, TypeError, OSError) as e:  # of what is in a cloud_id or a file of certificates
            raise ConfigError(f"elasticsearch: {mask(e, secrets)}") from None
        try:
            engine_version = _version(client, vendor)
        except Exception as e:
            client.close()
            ours = translate_error(e, "connecting", target, secrets) or ConnectionFailed(
                f"elasticsearch: something else than Elasticsearch answers at {target}: {mask(e, secrets)[:200]}"
            )
            raise ours from cause_of(e, secrets)
        info = StoreInfo(
            name="elasticsearch",
            label="elasticsearch",
            deployment=deployment_of(url),
            engine="elasticsearch",
            engine_version=engine_version,
            client="elasticsearch-py",
            client_version=version("elasticsearch"),
            target=target,
        )
        return cls(client, info, secrets=secrets)

    @property
    def info(self) -> StoreInfo:
        """Where the server is and what it says it is."""
        return self._info

    @property
    def native(self) -> Any:
        """The `elasticsearch.Elasticsearch` client."""
        return self._client

    def _create(self, spec: CollectionSpec) -> Collection:
        """An index whose mapping holds the spec, and an alias through which all writes go."""
        name, options = _PREFIX + hashed_name(spec.name), index_options(spec.index)
        vendor = import_client("elasticsearch", store="elasticsearch", extra="elasticsearch")
        try:
            self._client.indices.create(
                index=name,
                mappings=mappings(spec, options),
                settings=settings(spec.index, self._info.engine_version),
                aliases={writer(name): {}},
            )
        except vendor.BadRequestError as e:
            if e.message not in {"mapper_parsing_exception", "illegal_argument_exception"}:
                raise
            raise UnsupportedIndex(f"elasticsearch refuses the index {options}: {redact(str(e))[:500]}") from e
        collection = ElasticsearchCollection(self, spec, self._client, name)
        in_force = collection.index_options()
        if any(in_force.get(key) != value for key, value in options.items()):
            self._client.indices.delete(index=name)
            raise UnsupportedIndex(f"elasticsearch was asked for the index {options} and made {in_force}")
        return collection

    def _open_collection(self, name: str) -> Collection:
        native_name = _PREFIX + hashed_name(name)
        found = self._specs(native_name)
        if native_name not in found:
            raise CollectionNotFound(f"elasticsearch has no collection {name!r}")
        return ElasticsearchCollection(self, found[native_name], self._client, native_name)

    def _list(self) -> list[str]:
        return [spec.name for spec in self._specs(_PREFIX + "*").values()]

    def _specs(self, pattern: str) -> dict[str, CollectionSpec]:
        answer = self._client.indices.get_mapping(
            index=pattern, ignore_unavailable=True, filter_path="*.mappings._meta.vecbench"
        )
        return {
            native_name: CollectionSpec.from_json(found["mappings"]["_meta"]["vecbench"])
            for native_name, found in answer.items()
            if _OURS.fullmatch(native_name)
        }

    def _drop(self, name: str) -> None:
        answer = self._client.options(ignore_status=404).indices.delete(index=_PREFIX + hashed_name(name))
        if answer.get("status") == 404:
            raise CollectionNotFound(f"elasticsearch has no collection {name!r}")

    def _close(self) -> None:
        try:
            self._client.close()
        finally:
            if self._service is not None:
                self._service.stop()

    def _hidden(self) -> tuple[str | None, ...]:
        return self._secrets

    def _translate(self, error: Exception, doing: str) -> StoreError | None:
        return translate_error(error, doing, self._info.target, self._secrets)


def _arguments(url: str | None, options: dict[str, Any], usual_key: str | None = None) -> dict[str, Any]:
    """The client's own arguments; secrets are taken out of the url. usual_key: where no credentials are given."""
    arguments: dict[str, Any] = {
        key: options[key] for key in ("ca_certs", "verify_certs", "cloud_id") if key in options
    }
    user, password = options.get("username"), options.get("password")
    if "ca_certs" in arguments and not Path(arguments["ca_certs"]).is_file():
        raise ConfigError(f"elasticsearch: ca_certs {str(arguments['ca_certs'])!r} is no file")
    if url is not None:
        if "cloud_id" in options:
            raise ConfigError("elasticsearch takes a url or a cloud_id, not both")
        try:
            parts = urlsplit(url)
            port = parts.port or (443 if parts.scheme == "https" else 9200)
        except ValueError:
            parts, port = urlsplit(""), 0
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ConfigError(f"elasticsearch needs a url like http://localhost:9200, got {redact(url)!r}")
        host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
        arguments["hosts"] = f"{parts.scheme}://{host}:{port}{parts.path.rstrip('/')}"
        user = unquote(parts.username) if user is None and parts.username else user
        password = unquote(parts.password) if password is None and parts.password else password
    key = options.get("api_key")
    if (user is None) != (password is None) or (user is not None and key is not None):
        raise ConfigError("elasticsearch takes username and password together, or an api_key, or none of them")
    sent = str(key or usual_key or "")
    if user is not None:
        arguments["basic_auth"] = (user, password)
    elif sent:
        if not re.fullmatch(r"[!-~]+", sent):  # the client would print it in its complaint
            raise ConfigError("elasticsearch: the api_key holds a character that no key has")
        arguments["api_key"] = sent
    return arguments


def _secret(value: Any) -> tuple[str, ...]:
    """What of a key, or of a user and password, must not be shown."""
    if isinstance(value, tuple):
        return (value[1],) if value[1] else ()
    return (value,) if value else ()


def _version(client: Any, vendor: Any) -> str:
    try:
        return str(client.info()["version"]["number"])
    except vendor.ApiError as e:
        if e.status_code not in {400, 404, 405}:
            raise
    # Elastic's reduced distribution, the one from Maven, has no `GET /`.
    nodes = client.nodes.info(node_id="_local", filter_path="nodes.*.version")["nodes"]
    return str(next(iter(nodes.values()))["version"])
