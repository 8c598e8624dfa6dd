"""The suite itself, put together from its parts."""

from __future__ import annotations

from vecbench.testing.filtering import FilterTests
from vecbench.testing.hostile import HostileTests
from vecbench.testing.input import InputTests
from vecbench.testing.lifecycle import LifecycleTests
from vecbench.testing.records import RecordTests
from vecbench.testing.searching import SearchTests

__all__ = ["ConformanceSuite"]


class ConformanceSuite(SearchTests, RecordTests, FilterTests, HostileTests, InputTests, LifecycleTests):
    """Subclass it as `Test…`, write `open_store`, and set `index`, `limits` and `reopen_code` where they apply."""
