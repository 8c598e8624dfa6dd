"""A server that speaks Pinecone's published API and nothing else, and a project of its own for each test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.pinecone_spec import Knobs, SpecServer
from tests.pinecone_spec.routes import Project
from vecbench_pinecone import PineconeStore


@pytest.fixture(scope="module")
def server() -> Iterator[SpecServer]:
    with SpecServer() as started:
        yield started
    assert started.off_spec == []


@pytest.fixture
def key(request: pytest.FixtureRequest) -> str:
    """A project of its own for each test."""
    return f"spec-{request.node.name.encode().hex()}"


@pytest.fixture
def project(server: SpecServer, key: str) -> Project:
    return server.project(key)


@pytest.fixture
def knobs(project: Project) -> Knobs:
    return project.knobs


@pytest.fixture
def store(server: SpecServer, key: str) -> Iterator[PineconeStore]:
    with PineconeStore.open(url=server.url, api_key=key) as opened:
        yield opened
