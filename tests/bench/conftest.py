from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from vecbench.dataset import Dataset


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("HOME", str(tmp_path))


@pytest.fixture
def tiny() -> Dataset:
    random = np.random.default_rng(7)
    return Dataset.from_arrays("tiny", random.normal(size=(250, 8)) * 3, random.normal(size=(12, 8)), synthetic=True)
