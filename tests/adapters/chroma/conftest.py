"""A Chroma server for the tests of one file."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from vecbench.services.local import start
from vecbench_chroma.engine import ChromaEngine


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with start(ChromaEngine()) as service:
        yield service.url
