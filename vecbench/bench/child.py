"""The parent's side of a measured process: start it, follow its events, know how it died, end it."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from vecbench.bench.result import CaseResult
from vecbench.errors import redact
from vecbench.registry import StoreRef
from vecbench.types import Metric

__all__ = ["Child", "Event", "OnEvent"]


@dataclass(frozen=True, slots=True)
class Event:
    """Something to show while a run goes on: `done` of `total` steps of a phase of a case."""

    case: str
    phase: str
    done: int
    total: int
    note: str = ""


OnEvent = Callable[[Event], None]


@dataclass
class Child:
    """One case in its process. loaded: what it said once the rows were in. rounds: how many are complete."""

    store: StoreRef
    metric: Metric
    folder: Path
    process: subprocess.Popen[str]
    on_event: OnEvent
    timeout_seconds: float
    result: CaseResult
    loaded: dict[str, Any] = field(default_factory=dict)
    cpu_seconds: float = 0.0
    rounds: int = 0
    _expired: bool = False

    @classmethod
    def start(
        cls,
        store: StoreRef,
        metric: Metric,
        *,
        folder: Path,
        request: dict[str, Any],
        on_event: OnEvent,
        timeout_seconds: float,
    ) -> Child:
        """A process that begins to load; `folder` is where it puts what it measures."""
        path = folder / "request.json"
        path.write_text(json.dumps({**request, "folder": str(folder)}), "utf-8")
        process = subprocess.Popen(  # noqa: S603  our own module, no shell
            # -P: a file called like a client in the user's directory must not be imported in its place
            [sys.executable, "-P", "-m", "vecbench.bench.worker", str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            start_new_session=True,  # Ctrl-C is for the parent, which keeps what is there and ends the children
        )
        result = CaseResult(store=store.label, metric=metric.value, status="ok")
        return cls(store, metric, folder, process, on_event, timeout_seconds, result)

    @property
    def case(self) -> str:
        """The case in words."""
        return f"{self.store.label}, {self.metric.value}"

    @property
    def alive(self) -> bool:
        """Whether nothing has gone wrong so far."""
        return self.result.status == "ok"

    def send(self, line: str) -> None:
        """Give a command. A child that is gone is noticed when its answer is read."""
        assert self.process.stdin is not None  # noqa: S101  opened as a pipe
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.write(line + "\n")
            self.process.stdin.flush()

    def wait_for(self, wanted: str) -> dict[str, Any]:
        """Read events up to the wanted one; empty where an error, the child's death or the timeout ended the case."""
        assert self.process.stdout is not None  # noqa: S101  opened as a pipe
        with self._deadline():
            for line in self.process.stdout:
                event = json.loads(line)
                if event["event"] == "phase":
                    self.on_event(Event(self.case, event["phase"], event["done"], event["total"]))
                elif event["event"] == "error":
                    self.fail(event["status"], event["error"])
                    return {}
                elif event["event"] == wanted:
                    return dict(event)
        code = self.process.wait()
        if self._expired:
            self.fail("failed", f"not ready after {self.timeout_seconds:g} s, and ended")
        else:
            self.fail("failed", f"the store's process died: {_death(code)}")
        return {}

    @contextlib.contextmanager
    def _deadline(self) -> Iterator[None]:
        timer = threading.Timer(self.timeout_seconds, self._expire)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    def _expire(self) -> None:
        self._expired = True
        self.process.kill()

    def fail(self, status: Literal["failed", "void"], error: str) -> None:
        """The case has no valid numbers, and why."""
        # A path of a temporary folder says nothing to a reader, and on some systems names the user.
        self.result.status, self.result.error = status, redact(error.replace(str(self.folder), "(its folder)"))
        self.on_event(Event(self.case, status, 1, 1, self.result.error))

    def stop(self) -> None:
        """End the process, whatever it does."""
        if self.process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self.process.stdin.close()
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(timeout=5)
            except subprocess.TimeoutExpired:
                self.process.kill()
        self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()


def _death(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    try:
        name = f"signal {signal.Signals(-code).name}"
    except ValueError:
        name = f"signal {-code}"
    return f"{name} (the system does this when memory runs out)" if -code == signal.SIGKILL else name
