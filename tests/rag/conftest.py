"""The fixed model for the tests of texts, loaded once."""

from __future__ import annotations

import pytest

from vecbench.embed import MiniLM, fixed_model


@pytest.fixture(scope="session")
def minilm() -> MiniLM:
    return fixed_model()
