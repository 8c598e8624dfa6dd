"""What an adapter says of its engine so that it can be started here as a process of its own."""

from __future__ import annotations

import os
import signal
import socket
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

__all__ = ["Launch", "LocalEngine", "engines_folder", "free_ports"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """How to start an engine, and where it will answer.

    command: no shell reads it. env: added to this process's environment. user: the account to run as where we are
    root, for engines that refuse root; it must exist, and owns the folder. url: without secrets. secrets: in the
    order of the adapter's own options (`{"password": …}`); never logged, and written only to files of mode 0600.
    """

    command: list[str]
    url: str
    env: Mapping[str, str] = field(default_factory=dict)
    cwd: Path | None = None
    user: str | None = None
    secrets: Mapping[str, str] = field(default_factory=dict)


class LocalEngine(ABC):
    """An engine that can run on this machine without docker.

    name: as in `connect(name)`. start_seconds: after which it is given up. stop_signal: what ends it in good order.
    stop_seconds: between that and SIGKILL.
    """

    name: ClassVar[str]
    start_seconds: ClassVar[float] = 60.0
    stop_signal: ClassVar[signal.Signals] = signal.SIGTERM
    stop_seconds: ClassVar[float] = 20.0

    @abstractmethod
    def why_not(self) -> str | None:
        """What is missing for it to run here, with the line that brings it; None where nothing is."""

    @abstractmethod
    def launch(self, folder: Path) -> Launch:
        """How to start it on free loopback ports, with its data and configuration below `folder`.

        A folder that an earlier launch used is started again with what it holds.
        """

    @abstractmethod
    def probe(self, launch_url: str) -> str:
        """The engine's version, once it is ready to serve; any exception while it is not. Must return within 2 s."""


def engines_folder() -> Path:
    """Where engines that no Python package carries are kept: `VECBENCH_ENGINES`, else a folder in the user's cache.

    For root it is the system's cache: the accounts that engines run as cannot enter root's home.
    """
    told = os.environ.get("VECBENCH_ENGINES")
    if told:
        return Path(told)
    if os.geteuid() == 0:
        return Path("/var/cache/vecbench/engines")
    import platformdirs

    return Path(platformdirs.user_cache_dir("vecbench", appauthor=False)) / "engines"


def free_ports(count: int, *, consecutive: bool = False) -> list[int]:
    """Ports of the loopback address that nothing listens on now; `consecutive`: one after the other."""
    while True:
        held: list[socket.socket] = []
        try:
            for i in range(count):
                s = socket.socket()
                held.append(s)
                s.bind(("127.0.0.1", held[0].getsockname()[1] + i if consecutive and i else 0))
            return [s.getsockname()[1] for s in held]
        except (OSError, OverflowError):
            if not consecutive:
                raise  # no port at all: not a question of luck
        finally:
            for s in held:
                s.close()
