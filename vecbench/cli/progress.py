"""What is shown while a run goes on: a line per case on a terminal, a line per phase elsewhere; always on stderr."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from vecbench.cli.output import console, say

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from vecbench.bench.runner import Event

__all__ = ["showing"]

_ENDED = ("done", "failed", "void")


@contextmanager
def showing(*, quiet: bool) -> Iterator[Callable[[Event], None] | None]:
    """A function that takes the events of a run and shows them until the context ends; None for `quiet`."""
    if quiet:
        yield None
    elif not (screen := console(stderr=True)).is_terminal:
        yield _Lines()
    else:
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

        columns = (
            TextColumn("{task.fields[case]}", markup=False),
            TextColumn("{task.fields[phase]}", markup=False),
            BarColumn(bar_width=24),
            TimeElapsedColumn(),
        )
        with Progress(*columns, console=screen) as progress:
            yield _Bars(progress)


class _Lines:
    """A plain line whenever a case enters another phase."""

    def __init__(self) -> None:
        self._start = time.monotonic()
        self._phase: dict[str, str] = {}

    def __call__(self, event: Event) -> None:
        last = self._phase.get(event.case)
        if event.phase == last or last in {"failed", "void"}:
            return
        self._phase[event.case] = event.phase
        note = f": {event.note}" if event.note else ""
        say(f"{time.monotonic() - self._start:6.1f} s  {event.case}: {event.phase}{note}", stderr=True)


class _Bars:
    """A bar per case; the bar is of the phase at hand."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._tasks: dict[str, TaskID] = {}
        self._phase: dict[str, str] = {}
        self._current: str | None = None

    def __call__(self, event: Event) -> None:
        if self._phase.get(event.case) in {"failed", "void"}:
            return
        if event.case not in self._tasks:
            self._tasks[event.case] = self._progress.add_task("", case=event.case, phase="", total=1)
        self._leave(event.case)
        self._phase[event.case] = event.phase
        task = self._tasks[event.case]
        self._progress.update(task, phase=event.phase, completed=event.done, total=event.total)
        self._progress.start_task(task)
        if event.phase in _ENDED:
            self._progress.update(task, completed=event.total)
            self._progress.stop_task(task)

    def _leave(self, case: str) -> None:
        """Steps that report no end of their own have ended when another begins."""
        last, self._current = self._current, case
        if last is None or last == case:
            return
        if self._phase[last] in {"loading", "ground truth"} or last.startswith("null,"):
            self._progress.update(self._tasks[last], phase="done", completed=1, total=1)
            self._progress.stop_task(self._tasks[last])
