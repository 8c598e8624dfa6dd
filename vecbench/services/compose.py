"""Engines by docker compose, where they cannot run as plain processes; the file is `docker/compose.yaml`."""

from __future__ import annotations

import json
import os
import secrets as random_secrets
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import as_file, files
from typing import Any

from vecbench.errors import ConnectionFailed, StoreTimeout, redact
from vecbench.services.manager import Running, forget, remember

__all__ = ["SERVERS", "Server", "compose_down", "compose_logs", "compose_up", "why_no_docker"]


@dataclass(frozen=True, slots=True)
class Server:
    """How a container is reached from here: the URL without a password, and the options of `connect` that let us in.

    port: the variable that sets the port on this machine, and its default. options: `{}` in a value is the password.
    """

    port: tuple[str, int]
    url: str
    options: Mapping[str, str]


SERVERS = {
    "chroma": Server(("CHROMA_PORT", 8000), "http://127.0.0.1:{port}", {}),
    "elasticsearch": Server(
        ("ELASTICSEARCH_PORT", 9200), "http://127.0.0.1:{port}", {"user": "elastic", "password": "{}"}
    ),
    "milvus": Server(("MILVUS_PORT", 19530), "http://127.0.0.1:{port}", {"token": "root:{}"}),
    "pgvector": Server(("PGVECTOR_PORT", 5432), "postgresql://vecbench@127.0.0.1:{port}/vecbench", {"password": "{}"}),
    "qdrant": Server(("QDRANT_PORT", 6333), "http://127.0.0.1:{port}", {"api_key": "{}"}),
    "redisearch": Server(("REDISEARCH_PORT", 6379), "redis://127.0.0.1:{port}", {"password": "{}"}),
    "weaviate": Server(("WEAVIATE_PORT", 8080), "http://127.0.0.1:{port}", {"api_key": "{}"}),
}


def why_no_docker() -> str | None:
    """What is missing for containers to run here; None where nothing is."""
    if shutil.which("docker") is None:
        return "docker is not installed"
    for command, meaning in (
        (["docker", "compose", "version"], "docker has no compose plug-in"),
        (["docker", "info"], "no docker engine answers"),
    ):
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)  # noqa: S603  ours
        except subprocess.TimeoutExpired:
            return "docker does not answer"
        if done.returncode != 0:
            return meaning
    return None


def compose_up(name: str, *, timeout: float = 300.0) -> Running:
    """Start the container of a store, wait until its health check passes, and write down that it is up.

    Its password is `VECBENCH_PASSWORD`, else a random one. Raises `ConnectionFailed` with what docker said.
    """
    server = SERVERS[name]
    password = os.environ.get("VECBENCH_PASSWORD") or random_secrets.token_urlsafe(24)
    variable, default = server.port
    port = int(os.environ.get(variable) or default)
    _compose("--profile", name, "up", "--detach", "--wait", name, password=password, timeout=timeout)
    made = Running(
        name,
        "docker",
        server.url.format(port=port),
        _image(name).rpartition(":")[2],
        "",
        secrets={option: value.format(password) for option, value in server.options.items()},
    )
    remember(made)
    return made


def compose_down(service: Running) -> None:
    """Stop and remove the container and its data: the data would ask for the password it was made with."""
    _compose("--profile", service.name, "rm", "--force", "--stop", service.name)
    _docker(["docker", "volume", "rm", "--force", f"vecbench_{service.name}"], timeout=60)
    forget(service.name)


def compose_logs(service: Running, lines: int) -> str:
    """The end of a container's log, with what looks like a secret masked."""
    return redact(_compose("logs", "--no-color", "--tail", str(lines), service.name))


def _image(name: str) -> str:
    told: dict[str, Any] = json.loads(_compose("--profile", name, "config", "--format", "json"))
    return str(told["services"][name]["image"])


def _compose(*arguments: str, password: str = "unused", timeout: float = 60.0) -> str:  # noqa: S107  not a password
    with as_file(files("vecbench.services") / "compose.yaml") as file:
        command = ["docker", "compose", "--file", str(file), *arguments]
        # In the environment and not on the command line, which every user of the machine can read.
        environment = {**os.environ, "VECBENCH_PASSWORD": os.environ.get("VECBENCH_PASSWORD") or password}
        return _docker(command, timeout=timeout, environment=environment, secret=password)


def _docker(
    command: list[str], *, timeout: float, environment: Mapping[str, str] | None = None, secret: str | None = None
) -> str:
    try:
        done = subprocess.run(  # noqa: S603  our own command
            command, capture_output=True, text=True, timeout=timeout, env=environment, check=False
        )
    except subprocess.TimeoutExpired as e:
        raise StoreTimeout(f"{' '.join(command)} took more than {timeout:g} s") from e
    except OSError as e:
        raise ConnectionFailed(f"docker cannot be run: {e}") from e
    if done.returncode != 0:
        said = redact(done.stderr.replace(secret, "***") if secret else done.stderr)[-2000:]
        raise ConnectionFailed(f"{' '.join(command)} failed: {said}")
    return done.stdout
