"""A server's two addresses, and a client connected to both that contacts nobody else."""

from __future__ import annotations

import json
import logging
import socket
from dataclasses import dataclass
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

from vecbench.errors import (
    CollectionNotFound,
    ConfigError,
    ConnectionFailed,
    StoreError,
    StoreTimeout,
    cause_of,
    redact,
)
from vecbench.store import import_client
from vecbench_weaviate.faults import mask, translate_error

__all__ = ["Address", "connect"]

_OLDEST = (1, 33)  # the first server with "contains none"
# A call waits for a server that is away until its own deadline. By itself the client would try again for 63 s.
_WAIT = json.dumps({"methodConfig": [{"name": [{}], "waitForReady": True}]})


@dataclass(frozen=True, slots=True)
class Address:
    """REST and gRPC of one server."""

    host: str
    port: int
    grpc_host: str
    grpc_port: int
    secure: bool

    @classmethod
    def parse(cls, url: str, grpc_host: str | None, grpc_port: int | str | None) -> Self:
        """From a URL, which may carry `?grpc_port=` and `grpc_host=`; else 50051, or 443 with https, on the same host.

        A cluster of Weaviate's cloud has a second host name for gRPC.
        """
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            parts, port = urlsplit(""), None
        if parts.scheme not in {"http", "https"} or not parts.hostname or parts.path.strip("/") or "@" in parts.netloc:
            raise ConfigError(
                f"weaviate takes a url as http://localhost:8080 or https://…weaviate.cloud, got {redact(url)!r}; "
                "the key goes into api_key"
            )
        query = parse_qs(parts.query)
        unknown = set(query) - {"grpc_host", "grpc_port"}
        if unknown:
            raise ConfigError(f"weaviate: the url may carry grpc_host and grpc_port, not {', '.join(sorted(unknown))}")
        secure, host = parts.scheme == "https", parts.hostname
        asked_port = query.get("grpc_port", [443 if secure else 50051])[-1] if grpc_port is None else grpc_port
        if not str(asked_port).isdigit() or not 0 < int(asked_port) < 65536:
            raise ConfigError(f"weaviate: grpc_port is a port number, got {asked_port!r}")
        default = f"grpc-{host}" if host.endswith(".weaviate.cloud") else host
        made = cls(
            host,
            port or (443 if secure else 80),
            grpc_host or query.get("grpc_host", [default])[-1],
            int(asked_port),
            secure,
        )
        if (made.host, made.port) == (made.grpc_host, made.grpc_port):
            raise ConfigError(
                f"weaviate: gRPC needs a port or host of its own beside {made.host}:{made.port}; "
                "give grpc_port or grpc_host"
            )
        return made

    @property
    def target(self) -> str:
        """For tables and messages."""
        return f"{self.host}:{self.port} (gRPC {self.grpc_host}:{self.grpc_port})"

    def rest(self, path: str) -> str:
        """The URL of a path."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if self.secure else 'http'}://{host}:{self.port}{path}"

    def unreachable(self, timeout: float = 2.0) -> str | None:
        """The address that accepts no connection, if one of them does not."""
        for host, port in ((self.host, self.port), (self.grpc_host, self.grpc_port)):
            try:
                socket.create_connection((host, port), timeout=timeout).close()
            except OSError:
                return f"{host}:{port}"
        return None


def connect(address: Address, api_key: str | None, timeout: float) -> Any:
    """A `WeaviateClient` that has talked to the server over REST and over gRPC; the caller closes it."""
    weaviate = import_client("weaviate", store="weaviate", extra="weaviate")
    init = import_client("weaviate.classes.init", store="weaviate", extra="weaviate")
    grpc_config = import_client("weaviate.config", store="weaviate", extra="weaviate").GrpcConfig
    # It prints whole records, vectors and all, when one is refused; we raise an error that names it.
    logging.getLogger("weaviate-client").setLevel(logging.CRITICAL)
    away = address.unreachable(timeout)
    if away is not None:
        raise ConnectionFailed(f"weaviate: nothing answers at {away}; is a server running at {address.target}?")
    client = None
    try:
        client = weaviate.connect_to_custom(
            http_host=address.host,
            http_port=address.port,
            http_secure=address.secure,
            grpc_host=address.grpc_host,
            grpc_port=address.grpc_port,
            grpc_secure=address.secure,
            auth_credentials=None if api_key is None else init.Auth.api_key(api_key),
            skip_init_checks=True,  # they ask the package index for the client's newest version
            additional_config=init.AdditionalConfig(
                timeout=init.Timeout(init=timeout, query=timeout, insert=timeout),
                grpc_config=grpc_config(
                    channel_options=[("grpc.service_config", _WAIT), ("grpc.service_config_disable_resolution", 1)]
                ),
            ),
        )
        _check(client, address, api_key)
    except Exception as e:
        if client is not None:
            client.close()
        if isinstance(e, StoreError):
            raise
        doing = f"connecting to {address.target}"
        ours = translate_error(e, doing, secret=api_key, away=address.unreachable)
        if ours is None or isinstance(ours, CollectionNotFound):  # no Weaviate would say so
            text = mask(redact(f"{type(e).__name__}: {e}"), api_key)[:300]
            ours = ConnectionFailed(f"weaviate: {doing} failed: something else answers there: {text}")
        raise ours from cause_of(e, [api_key])
    return client


def _check(client: Any, address: Address, api_key: str | None) -> None:
    version = str(client.get_meta()["version"])
    if tuple(int(n) for n in version.split(".")[:2]) < _OLDEST:
        raise ConnectionFailed(f"weaviate {version} at {address.target} is too old: filters need 1.33 or newer")
    try:  # connecting does not try gRPC
        client.collections.use("VecbenchIsGrpcThere").aggregate.over_all(total_count=True)
    except Exception as e:
        ours = translate_error(e, "asking over gRPC", secret=api_key, away=address.unreachable)
        if isinstance(ours, CollectionNotFound):
            return
        if isinstance(ours, StoreTimeout):
            raise StoreTimeout(
                f"weaviate: {address.grpc_host}:{address.grpc_port} does not answer as gRPC"
            ) from cause_of(e, [api_key])
        raise
