"""Services by name: what `vecbench services` brings up, and what a later command finds running.

What is up is written down in one file per service below the user's state folder, with mode 0600: it may hold the
password that an engine was started with.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from importlib.metadata import entry_points
from pathlib import Path
from typing import Literal

import platformdirs
import psutil

from vecbench.errors import AdapterError, AdapterNotFound, ConnectionFailed, StoreTimeout
from vecbench.services.engine import LocalEngine
from vecbench.services.local import log_tail, one_start, start

__all__ = ["Running", "down", "engine", "engine_names", "find", "forget", "remember", "running", "state_folder", "up"]

_GROUP = "vecbench.engines"
How = Literal["process", "docker"]


@dataclass(frozen=True, slots=True)
class Running:
    """A service that was brought up. guard, created: the process that holds it, and when it began.

    secrets: options of `connect`.
    """

    name: str
    how: How
    url: str
    version: str
    folder: str
    guard: int = 0
    created: float = 0.0
    secrets: dict[str, str] = field(default_factory=dict, repr=False)

    @property
    def alive(self) -> bool:
        """Whether its process is still the one that was started; a container is asked for elsewhere."""
        return self.how == "docker" or _guard(self) is not None

    @property
    def pids(self) -> tuple[int, ...]:
        """The processes of the engine, the guard not among them; none for a container."""
        guard = _guard(self)
        return () if guard is None else tuple(p.pid for p in guard.children(recursive=True))

    @property
    def memory_bytes(self) -> int | None:
        """Resident memory of its processes; None for a container."""
        if self.how == "docker":
            return None
        total = 0
        for pid in self.pids:
            with contextlib.suppress(psutil.NoSuchProcess):
                total += psutil.Process(pid).memory_info().rss
        return total

    @property
    def log(self) -> str:
        """The end of its log."""
        return log_tail(Path(self.folder))


def engine_names() -> list[str]:
    """The names of all engines that an installed package registers, sorted."""
    return sorted(point.name for point in entry_points(group=_GROUP))


def engine(name: str) -> LocalEngine:
    """The engine registered under `name`; `AdapterNotFound`, `AdapterError`."""
    points = {point.name: point for point in entry_points(group=_GROUP)}
    if name not in points:
        raise AdapterNotFound(f"no engine of {name!r} can be started here; known: {', '.join(sorted(points))}")
    try:
        found = points[name].load()()
    except (ImportError, AttributeError) as e:
        raise AdapterError(f"engine {name!r} ({points[name].value}) cannot be loaded: {e}") from e
    if not isinstance(found, LocalEngine):
        raise AdapterError(f"engine {name!r} ({points[name].value}) is not a LocalEngine")
    return found


def state_folder() -> Path:
    """Where it is written down what is up: `VECBENCH_SERVICES`, else a folder of the user's state."""
    told = os.environ.get("VECBENCH_SERVICES")
    if told:
        return Path(told)
    if os.geteuid() == 0:  # the accounts that some engines run as cannot enter root's home
        return Path("/var/lib/vecbench/services")
    return Path(platformdirs.user_state_dir("vecbench", appauthor=False)) / "services"


def running() -> list[Running]:
    """What is up, by name; what has died meanwhile is forgotten."""
    return sorted(_running(), key=lambda r: r.name)


def _running() -> Iterator[Running]:
    for file in state_folder().glob("*.json"):
        try:
            found = Running(**json.loads(file.read_text("utf-8")))
        except (ValueError, TypeError, FileNotFoundError):
            continue  # half a file of a run that was killed; `up` writes it anew
        if found.alive:
            yield found
        else:
            file.unlink(missing_ok=True)


def find(name: str) -> Running | None:
    """The service of that name, if it is up."""
    return next((r for r in running() if r.name == name), None)


def up(name: str, *, data: Path | None = None, timeout: float | None = None) -> Running:
    """Start an engine that outlives this process, or return the one that is up.

    data: where it keeps its data, found again by a later `up`; else a folder that `down` deletes. Raises
    `ConnectionFailed` where it cannot run here, and says what is missing; `StoreTimeout`.
    """
    already = find(name)
    if already is not None:
        return already
    chosen = engine(name)
    state_folder().mkdir(parents=True, exist_ok=True)
    with one_start(state_folder() / f".{name}.lock", name, 2 * (timeout or chosen.start_seconds)):
        return find(name) or _up(chosen, data, timeout)


def _up(chosen: LocalEngine, data: Path | None, timeout: float | None) -> Running:
    name = chosen.name
    home = data if data is not None else state_folder() / f"{name}.data"
    if data is None:
        shutil.rmtree(home, ignore_errors=True)
    try:
        service = start(chosen, home, timeout=timeout, detached=True)
    except BaseException:
        if data is None:
            shutil.rmtree(home, ignore_errors=True)
        raise
    guard = psutil.Process(service.pid).parent()
    if guard is None:
        raise ConnectionFailed(f"{name} ended right after it was ready: {service.log}")
    made = Running(
        name, "process", service.url, service.version, str(home), guard.pid, guard.create_time(), service.secrets
    )
    remember(made)
    return made


def remember(service: Running) -> None:
    """Write down that a service is up."""
    folder = state_folder()
    folder.mkdir(parents=True, exist_ok=True)
    draft = folder / f".{service.name}.json.new"
    draft.touch(mode=0o600)
    draft.write_text(json.dumps(asdict(service)), "utf-8")
    draft.replace(folder / f"{service.name}.json")


def forget(name: str) -> None:
    """Write down that a service is not up."""
    (state_folder() / f"{name}.json").unlink(missing_ok=True)


def down(service: Running, *, timeout: float = 60.0) -> None:
    """End a process that `up` started, and delete the data that it had no folder for; `StoreTimeout`."""
    guard = _guard(service)
    if guard is not None:
        guard.send_signal(signal.SIGTERM)
        deadline, pause = time.monotonic() + timeout, threading.Event()
        while _guard(service) is not None:
            if time.monotonic() > deadline:
                raise StoreTimeout(f"{service.name} (pid {service.guard}) did not end within {timeout:g} s")
            pause.wait(0.05)
    forget(service.name)
    home = Path(service.folder)
    if home.parent == state_folder() and home.name == f"{service.name}.data":
        shutil.rmtree(home, ignore_errors=True)


def _guard(service: Running) -> psutil.Process | None:
    """The process that holds the service; a later process with the same number is not it."""
    try:
        found = psutil.Process(service.guard)
        alive = found.status() != psutil.STATUS_ZOMBIE and abs(found.create_time() - service.created) < 1
    except psutil.NoSuchProcess:
        return None
    return found if alive else None
