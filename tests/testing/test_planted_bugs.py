"""A suite is worth what wrong stores it fails: each planted bug must be caught by the test meant for it."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest
from _pytest.outcomes import Failed

from vecbench import VectorStore
from vecbench.errors import VecbenchError
from vecbench.memory import MemoryStore
from vecbench.testing import ConformanceSuite

from . import wrong_answers, wrong_records
from .planting import PLANTED, Planted


def _run(store: type[MemoryStore], test: str, arguments: dict[str, object], path: Path) -> None:
    class Suite(ConformanceSuite):
        def open_store(self, path: Path) -> VectorStore:
            return store()

    method = getattr(Suite(), test)
    if "tmp_path" in inspect.signature(method).parameters:
        method(path)
    else:
        with store() as opened:
            method(opened, **arguments)


@pytest.mark.parametrize("bug", PLANTED, ids=lambda bug: f"{bug.label}-{bug.test}")
def test_the_bug_is_caught(bug: Planted, tmp_path: Path) -> None:
    _run(MemoryStore, bug.test, bug.arguments, tmp_path)  # the test passes where the bug is not
    with pytest.raises((AssertionError, Failed, VecbenchError)):
        _run(bug.store, bug.test, bug.arguments, tmp_path)


def test_every_bug_is_planted() -> None:
    """The list fills when the modules are imported; an import that was lost would leave nothing to catch."""
    origins = {bug.module for bug in PLANTED}
    assert origins == {wrong_answers.__name__, wrong_records.__name__}
    assert len({bug.label for bug in PLANTED}) > 50
