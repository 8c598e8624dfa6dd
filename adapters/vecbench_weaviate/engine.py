"""The Weaviate server as a process of our own. Imports no client."""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path
from typing import ClassVar
from urllib.parse import urlsplit

from vecbench.errors import ConnectionFailed
from vecbench.services.engine import Launch, LocalEngine, engines_folder, free_ports

__all__ = ["WeaviateEngine", "find_server"]

_INSTALL = "GOBIN={bin} CGO_ENABLED=0 go install github.com/weaviate/weaviate/cmd/weaviate-server@v1.39.0"


def find_server() -> Path | None:
    """The server's binary: `VECBENCH_WEAVIATE_BINARY`, else the newest of the engines' folder, else on PATH."""
    told = os.environ.get("VECBENCH_WEAVIATE_BINARY")
    if told:
        return Path(told) if os.access(told, os.X_OK) else None
    kept = [p for p in engines_folder().glob("weaviate-*/weaviate-server") if os.access(p, os.X_OK)]
    if kept:
        return max(kept, key=lambda p: [int(n) for n in re.findall(r"\d+", p.parent.name)])
    found = shutil.which("weaviate-server") or shutil.which("weaviate")
    return None if found is None else Path(found)


class WeaviateEngine(LocalEngine):
    """One node, everything in one folder, an API key of its own for each start."""

    name: ClassVar[str] = "weaviate"

    def __init__(self) -> None:
        self._key = ""

    def why_not(self) -> str | None:
        """Whether a server's binary is there; no package index carries one, so Go has to build it."""
        if find_server() is not None:
            return None
        told = os.environ.get("VECBENCH_WEAVIATE_BINARY")
        if told:
            return f"VECBENCH_WEAVIATE_BINARY names {told}, which is no executable file"
        home = engines_folder() / "weaviate-1.39.0"
        return f"no weaviate-server was found. With Go 1.26 or newer: {_INSTALL.format(bin=home)}"

    def launch(self, folder: Path) -> Launch:
        """Ports are new with each start, so a folder's single node must not look for the addresses it had before.

        REST, gossip and Raft listen on the loopback address. Weaviate binds its gRPC port and its port for other nodes
        to every address and has no setting for it: both ask for a secret that only this process knows.
        """
        binary = find_server()
        assert binary is not None  # noqa: S101  why_not was asked
        # The port of the data follows that of the gossip, and Raft's two each other: other orders find no leader.
        gossip, data, raft, raft_rpc, http, grpc = free_ports(6, consecutive=True)
        self._key = secrets.token_urlsafe(24)
        env = {
            "PERSISTENCE_DATA_PATH": str(folder / "data"),
            "GRPC_PORT": str(grpc),
            "AUTHENTICATION_ANONYMOUS_ACCESS_ENABLED": "false",
            "AUTHENTICATION_APIKEY_ENABLED": "true",
            "AUTHENTICATION_APIKEY_ALLOWED_KEYS": self._key,
            "AUTHENTICATION_APIKEY_USERS": "vecbench",
            "CLUSTER_HOSTNAME": "node1",
            "CLUSTER_IN_LOCALHOST": "true",
            "CLUSTER_BIND_ADDR": "127.0.0.1",
            "CLUSTER_ADVERTISE_ADDR": "127.0.0.1",
            "CLUSTER_GOSSIP_BIND_PORT": str(gossip),
            "CLUSTER_DATA_BIND_PORT": str(data),
            "CLUSTER_BASIC_AUTH_USERNAME": "vecbench",
            "CLUSTER_BASIC_AUTH_PASSWORD": secrets.token_urlsafe(24),
            "RAFT_PORT": str(raft),
            "RAFT_INTERNAL_RPC_PORT": str(raft_rpc),
            "RAFT_BOOTSTRAP_EXPECT": "1",
            "RAFT_JOIN": f"node1:{raft}",
            "RAFT_TIMEOUTS_MULTIPLIER": "1",  # more is meant for networks, and costs seconds at each start
            "DISABLE_TELEMETRY": "true",
            "GO_PROFILING_DISABLE": "true",
            "ENABLE_MODULES": "",
            "API_BASED_MODULES_DISABLED": "true",
            "DEFAULT_VECTORIZER_MODULE": "none",
            "AUTOSCHEMA_ENABLED": "false",
            "DISK_USE_READONLY_PERCENTAGE": "99",
            "LOG_LEVEL": "warning",
        }
        return Launch(
            command=[str(binary), "--host", "127.0.0.1", "--port", str(http), "--scheme", "http"],
            url=f"http://127.0.0.1:{http}?grpc_port={grpc}",
            env=env,
            cwd=folder,
            secrets={"api_key": self._key},
        )

    def probe(self, launch_url: str) -> str:
        """Ready when it says so; the version it tells only to those who hold the key."""
        at = urlsplit(launch_url)
        with closing(HTTPConnection(at.hostname or "", at.port, timeout=1)) as rest:
            rest.request("GET", "/v1/.well-known/ready")
            with rest.getresponse() as answer:
                answer.read()
                if answer.status != 200:
                    raise ConnectionFailed(f"weaviate is not ready: {answer.status}")
            rest.request("GET", "/v1/meta", headers={"Authorization": f"Bearer {self._key}"})
            with rest.getresponse() as answer:
                return str(json.load(answer)["version"])
