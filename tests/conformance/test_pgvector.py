"""pgvector: a real PostgreSQL, by URL with every index, and one of the store's own."""

import hashlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import psycopg
import pytest

from vecbench import HNSW, Flat, IVFFlat, VectorStore, connect
from vecbench.services.local import Service, start
from vecbench.testing import ConformanceSuite
from vecbench.testing.lifecycle import LifecycleTests
from vecbench_pgvector.engine import PgvectorEngine


@pytest.fixture(scope="module", autouse=True)
def _server() -> Iterator[None]:
    with start(PgvectorEngine()) as server:
        ByUrl.server = server
        with psycopg.connect(server.url, **server.secrets) as c:
            c.execute("create extension vector")
        yield


def schema(path: Path) -> str:
    return "t" + hashlib.sha256(str(path).encode()).hexdigest()[:20]


class ByUrl(ConformanceSuite):
    """One server; each test has a schema of its own there, named by its folder."""

    reopen_code = "__import__('vecbench').connect('pgvector', url=open(path + '/url').read())"
    server: ClassVar[Service]

    def _run(self, statement: str) -> None:
        with psycopg.connect(self.server.url, **self.server.secrets) as c:
            c.execute(statement)

    @pytest.fixture(autouse=True)
    def _schema(self, tmp_path: Path) -> Iterator[None]:
        yield
        self._run(f"drop schema if exists {schema(tmp_path)} cascade")

    def open_store(self, path: Path) -> VectorStore:
        self._run(f"create schema if not exists {schema(path)}")
        user = self.server.url.replace("@", f":{self.server.secrets['password']}@")
        (path / "url").write_text(f"{user}?options=-csearch_path%3D{schema(path)},public", "utf-8")
        return connect("pgvector", url=(path / "url").read_text("utf-8"))


class TestHnsw(ByUrl):
    index = HNSW()


class TestIvfFlat(ByUrl):
    index = IVFFlat(nlist=16, nprobe=4)


class TestFlat(ByUrl):
    index = Flat()


class TestOurOwn(LifecycleTests):
    """Where we are root, the account that PostgreSQL runs as cannot enter pytest's folders."""

    index = HNSW()
    reopen_code = "__import__('vecbench').connect('pgvector', path=open(path + '/where').read())"

    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path) -> Iterator[None]:
        folder = Path(tempfile.mkdtemp(prefix="vecbench-test-"))
        folder.chmod(0o755)
        (tmp_path / "where").write_text(str(folder / "data"), "utf-8")
        yield
        shutil.rmtree(folder)

    def open_store(self, path: Path) -> VectorStore:
        return connect("pgvector", path=(path / "where").read_text("utf-8"))
