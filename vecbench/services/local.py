"""Start an engine as a process of its own, wait until it serves, look at it, and end it."""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import psutil
from filelock import FileLock, Timeout

from vecbench.errors import ConnectionFailed, StoreTimeout, redact
from vecbench.services.engine import Launch, LocalEngine

__all__ = ["Service", "one_start", "start"]

_POLL_SECONDS = 0.05
_LOG_TAIL = 20_000  # characters


@dataclass
class Service:
    """A running engine; a context manager that stops it.

    version: as the engine reports it. folder: its data, configuration and `engine.log`. secrets: options of `connect`.
    """

    name: str
    url: str
    version: str
    folder: Path
    secrets: dict[str, str] = field(default_factory=dict, repr=False)
    _guard: subprocess.Popen[bytes] | None = None
    _temporary: bool = False

    @property
    def pid(self) -> int:
        """The engine's first process."""
        return int(_state(self.folder)["pid"])

    @property
    def pids(self) -> tuple[int, ...]:
        """All processes of the engine, for its memory."""
        try:
            first = psutil.Process(self.pid)
            return (first.pid, *(p.pid for p in first.children(recursive=True)))
        except psutil.NoSuchProcess:
            return ()

    @property
    def alive(self) -> bool:
        """Whether the engine's process is there."""
        return bool(self.pids)

    @property
    def memory_bytes(self) -> int:
        """Resident memory of all its processes."""
        total = 0
        for pid in self.pids:
            with contextlib.suppress(psutil.NoSuchProcess):
                total += psutil.Process(pid).memory_info().rss
        return total

    @property
    def log(self) -> str:
        """The end of what the engine printed, with what looks like a secret masked."""
        return log_tail(self.folder)

    def stop(self) -> None:
        """End the engine and wait for it; stopping twice is fine. A temporary folder is deleted."""
        if self._guard is not None:
            assert self._guard.stdin is not None  # noqa: S101  opened as a pipe
            with contextlib.suppress(BrokenPipeError):
                self._guard.stdin.close()
            self._guard.wait()
            self._guard = None
        if self._temporary:
            shutil.rmtree(self.folder, ignore_errors=True)

    def kill(self) -> None:
        """End the engine at once, as a crash would: for tests of what happens then."""
        for pid in self.pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if self._guard is not None:
            self._guard.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.stop()


def start(
    engine: LocalEngine, folder: Path | None = None, *, timeout: float | None = None, detached: bool = False
) -> Service:
    """Start an engine and return when it serves.

    folder: kept, and found again by a later start; a temporary one without it. detached: it outlives this process.
    Raises `ConnectionFailed`, with the end of its log, where it cannot run here or ends by itself, `StoreTimeout`
    where it is not ready in time; nothing is left running then.
    """
    reason = engine.why_not()
    if reason is not None:
        raise ConnectionFailed(f"{engine.name} cannot be started here: {reason}")
    temporary = folder is None
    home = Path(tempfile.mkdtemp(prefix=f"vecbench-{engine.name}-")) if folder is None else folder.absolute()
    home.mkdir(parents=True, exist_ok=True)
    seconds = timeout or engine.start_seconds
    with one_start(home / "start.lock", engine.name, seconds):
        try:
            _wait_for_the_last(engine, home)
            launch = engine.launch(home)
            if launch.user is not None and os.geteuid() == 0:
                _hand_over(home, launch.user)
            guard = _spawn(home, launch, engine, detached=detached)
        except BaseException:
            if temporary:
                shutil.rmtree(home, ignore_errors=True)
            raise
        service = Service(engine.name, launch.url, "", home, dict(launch.secrets), guard, temporary)
        try:
            service.version = _wait(engine, launch.url, home, guard, seconds)
        except BaseException:
            _end_detached(home)
            service.stop()
            raise
    return service


@contextlib.contextmanager
def one_start(path: Path, name: str, seconds: float) -> Iterator[None]:
    """Hold a lock while an engine starts: who starts it at the same instant waits, and then finds it running.

    Raises `StoreTimeout` after so many seconds.
    """
    lock = FileLock(path, is_singleton=False)
    try:
        lock.acquire(timeout=seconds)
    except Timeout:
        raise StoreTimeout(f"{name} has been starting for {seconds:g} s elsewhere ({path} is held)") from None
    try:
        yield
    finally:
        lock.release()


def _wait_for_the_last(engine: LocalEngine, home: Path) -> None:
    """Whoever was killed leaves his engine and its guard behind for a moment; two on one folder would ruin its data."""
    guard = _state(home).get("guard", -1)
    try:
        process = psutil.Process(guard)
        if str(home) in process.cmdline():  # not another process that got the number since
            process.wait(timeout=engine.stop_seconds + 1)
    except psutil.TimeoutExpired:
        raise ConnectionFailed(f"{engine.name} is running in {home} already, held by process {guard}") from None
    except (psutil.Error, ValueError):
        pass  # it is gone


def _end_detached(home: Path) -> None:
    guard = _state(home).get("guard")
    if guard is not None and "exit_code" not in _state(home):
        with contextlib.suppress(psutil.NoSuchProcess):
            process = psutil.Process(guard)
            process.terminate()
            process.wait(timeout=60)


def _spawn(home: Path, launch: Launch, engine: LocalEngine, *, detached: bool) -> subprocess.Popen[bytes] | None:
    (home / "state.json").unlink(missing_ok=True)
    asked = {
        "command": launch.command,
        "env": dict(launch.env),
        "cwd": None if launch.cwd is None else str(launch.cwd),
        "user": launch.user if os.geteuid() == 0 else None,
        "stop_signal": int(engine.stop_signal),
        "stop_seconds": engine.stop_seconds,
        "detached": detached,
    }
    path = home / "launch.json"
    path.touch(mode=0o600)
    path.write_text(json.dumps(asked), "utf-8")
    with (home / "guard.log").open("ab") as log:
        guard = subprocess.Popen(  # noqa: S603  our own module, no shell
            [sys.executable, "-P", "-m", "vecbench.services.guard", str(home)],
            stdin=subprocess.DEVNULL if detached else subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=log,
            start_new_session=True,  # Ctrl-C is for us; the guard notices that we are gone
        )
    if detached:
        guard.wait()  # it goes on as a process of its own
        return None
    return guard


def _wait(engine: LocalEngine, url: str, home: Path, guard: subprocess.Popen[bytes] | None, timeout: float) -> str:
    deadline = time.monotonic() + timeout
    pause = threading.Event()
    last: Exception | None = None
    while time.monotonic() < deadline:
        state = _state(home)
        if "exit_code" in state or (guard is not None and guard.poll() is not None):
            code = state.get("exit_code")
            raise ConnectionFailed(f"{engine.name} ended while starting (exit code {code}): {log_tail(home)[-2000:]}")
        try:
            version = engine.probe(url)
        except Exception as e:  # not ready yet, in whatever way its client says so
            last = e
            pause.wait(_POLL_SECONDS)
        else:
            if "exit_code" not in _state(home):
                return version
    raise StoreTimeout(f"{engine.name} was not ready after {timeout:g} s ({last!r}): {log_tail(home)[-2000:]}")


def _hand_over(home: Path, user: str) -> None:
    account = pwd.getpwnam(user)
    for path in (home, *home.rglob("*")):
        os.chown(path, account.pw_uid, account.pw_gid, follow_symlinks=False)
    for parent in home.parents:  # a temporary folder is for its owner only; the engine must be able to reach its own
        if not parent.stat().st_mode & 0o001:
            raise ConnectionFailed(f"the account {user!r} cannot enter {parent}; choose another folder for the data")


def _state(home: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads((home / "state.json").read_text("utf-8"))
    except FileNotFoundError:
        return {"pid": -1}
    return found


def log_tail(home: Path) -> str:
    """The end of an engine's log, with what looks like a secret masked."""
    try:
        text = (home / "engine.log").read_text("utf-8", "replace") + (home / "guard.log").read_text("utf-8", "replace")
    except FileNotFoundError:
        return "(no log)"
    return redact(text[-_LOG_TAIL:].strip()) or "(its log is empty)"
