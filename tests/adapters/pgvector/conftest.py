"""A PostgreSQL for the tests of one file; what a test leaves behind is dropped."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from vecbench.services.local import Service, start
from vecbench_pgvector import PgvectorStore
from vecbench_pgvector.engine import PgvectorEngine

from .parts import opened


@pytest.fixture(scope="module")
def server() -> Iterator[Service]:
    with start(PgvectorEngine()) as running:
        yield running


@pytest.fixture
def store(server: Service) -> Iterator[PgvectorStore]:
    with opened(server) as fresh:
        yield fresh
    with opened(server) as clean:
        for name in clean.list_collections():
            clean.drop_collection(name)
