"""A Weaviate for the tests of one file."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from vecbench.services.local import Service, start
from vecbench_weaviate.engine import WeaviateEngine


@pytest.fixture(scope="module")
def server() -> Iterator[Service]:
    with start(WeaviateEngine()) as running:
        yield running
