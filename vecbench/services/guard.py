"""The process between us and an engine: when we end, however we end, it ends the engine.

    python -P -m vecbench.services.guard FOLDER

FOLDER/launch.json says what to start. The guard lives until its standard input ends (unless the launch is detached),
until it gets SIGTERM, or until the engine ends by itself; then the engine's whole session is gone. It writes
FOLDER/state.json: the engine's pid, later its exit code.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import pwd
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

__all__ = ["main"]


def _die_with_guard() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: even a killed guard leaves no engine


def _write(folder: Path, **state: Any) -> None:
    draft = folder / "state.json.new"
    draft.write_text(json.dumps(state), "utf-8")
    draft.replace(folder / "state.json")


def _signal_all(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)


def _end(engine: subprocess.Popen[bytes], number: int, seconds: float) -> int:
    """The engine's own signal, then SIGKILL; also to what the engine left in its session."""
    with contextlib.suppress(ProcessLookupError):
        engine.send_signal(number)
    try:
        engine.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        _signal_all(engine.pid, signal.SIGKILL)
    code = engine.wait()
    _signal_all(engine.pid, signal.SIGKILL)
    return code


def main() -> int:
    """Entry point of the guard."""
    folder = Path(sys.argv[1])
    asked = json.loads((folder / "launch.json").read_text("utf-8"))
    if asked["detached"] and os.fork():
        return 0  # whoever started us need not wait for what outlives him
    awake, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD, signal.SIGHUP):
        signal.signal(number, lambda _number, _frame: None)
    try:
        engine = _start(folder, asked)
    except (OSError, KeyError, subprocess.SubprocessError) as e:  # no such program, no such account
        print(e, file=sys.stderr)
        _write(folder, pid=-1, guard=os.getpid(), exit_code=127)
        return 1
    _write(folder, pid=engine.pid, guard=os.getpid(), started=time.time())
    listened = [awake] if asked["detached"] else [awake, 0]
    while engine.poll() is None:
        ready = select.select(listened, [], [])[0]
        if 0 in ready and not os.read(0, 4096):
            break
        if awake in ready and set(os.read(awake, 64)) & {signal.SIGTERM, signal.SIGINT, signal.SIGHUP}:
            break
    code = _end(engine, asked["stop_signal"], asked["stop_seconds"])
    _write(folder, pid=engine.pid, guard=os.getpid(), exit_code=code)
    return 0


def _start(folder: Path, asked: dict[str, Any]) -> subprocess.Popen[bytes]:
    account = None if asked["user"] is None else pwd.getpwnam(asked["user"])
    with (folder / "engine.log").open("ab") as log:
        return subprocess.Popen(  # noqa: S603  the adapter's own command
            asked["command"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=asked["cwd"],
            env={**os.environ, **asked["env"]},
            start_new_session=True,
            preexec_fn=_die_with_guard,  # noqa: PLW1509  this process has one thread
            user=None if account is None else account.pw_uid,
            group=None if account is None else account.pw_gid,
            extra_groups=None if account is None else [],
        )


if __name__ == "__main__":
    sys.exit(main())
