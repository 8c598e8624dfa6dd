"""How PostgreSQL is reached: options, credentials, the extension, strangers at its address, errors without secrets."""

from __future__ import annotations

import socket
import threading
import time
from typing import Any

import numpy as np
import psycopg
import pytest

from tests.adapters.said import said
from vecbench.errors import ConfigError, ConnectionFailed, StoreRejected, StoreTimeout
from vecbench.index import HNSW
from vecbench.services.engine import free_ports
from vecbench.services.local import Service
from vecbench.spec import CollectionSpec
from vecbench_pgvector import PgvectorStore

from .parts import filled, opened

SECRET = "hush-hush"  # noqa: S105  of nobody


class TestConnecting:
    def test_options_are_checked(self, server: Service) -> None:
        wrong: list[dict[str, Any]] = [
            {"colour": 1}, {"mode": "server"}, {"password": "x"}, {"url": "localhost:5432"}, {"url": "http://h/db"},
            {"url": server.url, "timeout": 0}, {"url": server.url, "connections": 0}, {"url": server.url, "api_key": 1},
            {"url": f"postgresql://u:{SECRET}@h/db?no_such_option={SECRET}"},
        ]  # fmt: skip
        for options in wrong:
            with pytest.raises(ConfigError) as caught:
                PgvectorStore.open(**options)
            assert SECRET not in said(caught.value)

    def test_what_answers_is_told(self, server: Service) -> None:
        password = server.secrets["password"]
        with PgvectorStore.open(url=server.url.replace("@", f":{password}@") + "?sslmode=disable") as store:
            info = store.info
            assert (info.label, info.deployment, info.client) == ("pgvector", "local-process", "psycopg")
            assert f"{info.engine} {info.engine_version}".startswith(f"PostgreSQL {server.version} / pgvector 0.")
            assert info.target == server.url.partition("@")[2].partition("/")[0]
            assert info.pids == ()
            assert password not in f"{store!r} {info!r}"

    @pytest.mark.parametrize("where", ["url", "option", "environment"])
    def test_a_wrong_password_is_said_and_not_shown(
        self, server: Service, where: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        url, options = server.url, {}
        if where == "url":
            url = url.replace("@", f":{SECRET}@")
        elif where == "option":
            options["password"] = SECRET
        else:
            monkeypatch.setenv("PGPASSWORD", SECRET)
        with pytest.raises(ConnectionFailed, match="password authentication failed") as caught:
            PgvectorStore.open(url=url, **options)
        assert SECRET not in said(caught.value)

    def test_nobody_there(self) -> None:
        (port,) = free_ports(1)
        with pytest.raises(ConnectionFailed, match=f"127.0.0.1:{port}") as caught:
            PgvectorStore.open(url=f"postgresql://u:{SECRET}@127.0.0.1:{port}/db")
        assert SECRET not in said(caught.value)

    def test_something_else_there(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]

            def reply() -> None:
                with listener.accept()[0] as s:
                    s.recv(100)
                    s.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

            thread = threading.Thread(target=reply)
            thread.start()
            with pytest.raises(ConnectionFailed, match=f"127.0.0.1:{port}") as caught:
                PgvectorStore.open(url=f"postgresql://u:{SECRET}@127.0.0.1:{port}/db", timeout=5)
            assert SECRET not in said(caught.value)
            thread.join()

    def test_nobody_answers(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
            begun = time.monotonic()
            with pytest.raises(StoreTimeout, match=f"127.0.0.1:{port}") as caught:
                PgvectorStore.open(url=f"postgresql://u:{SECRET}@127.0.0.1:{port}/db", timeout=2)
            assert 1.5 < time.monotonic() - begun < 4
            assert SECRET not in said(caught.value)

    def test_the_extension_is_created_or_its_lack_explained(self, server: Service) -> None:
        with psycopg.connect(server.url, autocommit=True, **server.secrets) as c:
            c.execute("create database bare")
            c.execute(f"create role guest login password '{SECRET}'")
        url = server.url.replace("/postgres", "/bare")
        with pytest.raises(ConnectionFailed, match="CREATE EXTENSION vector") as caught:
            PgvectorStore.open(url=url, user="guest", password=SECRET)
        assert SECRET not in said(caught.value)
        PgvectorStore.open(url=url, **server.secrets).close()
        with PgvectorStore.open(url=url, user="guest", password=SECRET) as guest:
            assert guest.list_collections() == []
            with pytest.raises(StoreRejected, match="the right to use the schema"):
                guest.create_collection(CollectionSpec("c", 3))

    def test_an_old_extension_is_refused(self, server: Service) -> None:
        with psycopg.connect(server.url, autocommit=True, **server.secrets) as c:
            c.execute("create database old")
        url = server.url.replace("/postgres", "/old")
        PgvectorStore.open(url=url, **server.secrets).close()
        with psycopg.connect(url, autocommit=True, **server.secrets) as c:
            c.execute("update pg_extension set extversion = '0.7.4' where extname = 'vector'")
        with pytest.raises(ConnectionFailed, match=r"0\.7\.4.*0\.8 or newer"):
            PgvectorStore.open(url=url, **server.secrets)

    def test_the_callers_connection_is_the_callers(self, store: PgvectorStore) -> None:
        collection = filled(store, HNSW(), 20)
        store.native.execute("set statement_timeout = 1")
        store.native.execute("set hnsw.ef_search = 1")
        assert store.native is collection.native
        assert len(collection.search(np.ones(16, np.float32), 20).ids[0]) == 20
        native = store.native
        store.close()
        assert native.closed


def test_no_error_tells_the_password(server: Service) -> None:
    """Whatever the server says: here it repeats the password itself."""
    secret = server.secrets["password"]
    with opened(server) as store:
        with store.pool.session() as s, pytest.raises(psycopg.Error) as said:
            s.cursor.execute(f"select '{secret}'::int")
        with pytest.raises(StoreRejected) as caught:
            store._fail(said.value, "testing")
    assert secret in str(said.value)
    assert secret not in str(caught.value)
