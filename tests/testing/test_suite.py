"""The suite as a tool: limits are strict, a limit must name a test, and no test hides another."""

from __future__ import annotations

from collections import Counter

import pytest

from vecbench.testing import ConformanceSuite, Limit

pytest_plugins = ["pytester"]

_STORE = """
from dataclasses import replace
import numpy as np
import pytest
from vecbench.errors import InvalidVector
from vecbench.memory import MemoryCollection, MemoryStore
from vecbench.testing import ConformanceSuite, Limit

class Squared(MemoryCollection):
    def _search(self, *arguments):
        result = super()._search(*arguments)
        result.distances = [np.square(d) for d in result.distances]
        return result

class SquaredStore(MemoryStore):
    def _create(self, spec):
        made = self._collections[spec.name] = Squared(self, spec)
        return made

class Miscounting(MemoryCollection):
    def _count(self, where):
        return 3

class MiscountingStore(MemoryStore):
    def _create(self, spec):
        made = self._collections[spec.name] = Miscounting(self, spec)
        return made

class TestIt(ConformanceSuite):
    limits = ({limits})

    def open_store(self, path):
        return {store}()
"""


def _outcomes(pytester: pytest.Pytester, limits: str, store: str, chosen: str) -> dict[str, int]:
    pytester.makepyfile(_STORE.replace("{limits}", limits).replace("{store}", store))
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider", "-k", chosen)
    return result.parseoutcomes()


_LIMIT = 'Limit("test_distances_are_true[1-dot]", "never", "squares even that", raises=AssertionError),'


def test_a_known_gap_is_an_expected_failure(pytester: pytest.Pytester) -> None:
    got = _outcomes(pytester, _LIMIT, "SquaredStore", "test_distances_are_true and 1-dot")
    assert got.get("xfailed") == 1
    assert "failed" not in got


def test_only_the_parameters_that_the_limit_names_may_fail(pytester: pytest.Pytester) -> None:
    got = _outcomes(pytester, _LIMIT, "SquaredStore", "test_distances_are_true and euclidean")
    assert got.get("failed") == 2
    assert "xfailed" not in got


def test_a_failure_shows_its_values(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(_STORE.replace("{limits}", "").replace("{store}", "MiscountingStore"))
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider", "-k", "test_an_empty_batch")
    result.stdout.fnmatch_lines(["*assert 3 == 0*"])


def test_a_gap_that_closed_fails_the_build(pytester: pytest.Pytester) -> None:
    got = _outcomes(pytester, _LIMIT, "MemoryStore", "test_distances_are_true and 1-dot")
    assert got.get("failed") == 1


def test_a_failure_of_another_kind_is_no_known_gap(pytester: pytest.Pytester) -> None:
    limit = _LIMIT.replace("AssertionError", "InvalidVector")
    got = _outcomes(pytester, limit, "SquaredStore", "test_distances_are_true and 1-dot")
    assert got.get("failed") == 1


def test_a_limit_on_parameters_that_do_not_exist_fails(pytester: pytest.Pytester) -> None:
    limit = _LIMIT.replace("1-dot", "2-dot")
    got = _outcomes(pytester, limit, "SquaredStore", "test_distances_are_true and 1-dot")
    assert got.get("errors") == 1


@pytest.mark.parametrize("name", ["test_nothing_like_it", "make", "open_store", "test_nothing[1]"])
def test_a_limit_that_names_no_test_stops_collection(name: str) -> None:
    with pytest.raises(TypeError, match="no test called"):
        type("TestStore", (ConformanceSuite,), {"limits": (Limit(name, "notyet", "reason"),)})


def test_no_test_hides_another() -> None:
    """A name that two parts of the suite share would run once only."""
    names = Counter(name for part in ConformanceSuite.__mro__ for name in vars(part) if name.startswith("test_"))
    assert len(names) > 50
    assert [name for name, times in names.items() if times > 1] == []
