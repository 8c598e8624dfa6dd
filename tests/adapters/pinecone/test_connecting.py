"""How Pinecone is reached: keys, strangers at its address, who says that it is none; *spec conformance*.

The server is `tests.pinecone_spec`: the published API over loopback, no engine.
"""

from __future__ import annotations

import logging
import socket
import time
from typing import Any

import pytest

from tests.adapters.said import said
from tests.pinecone_spec import SpecServer
from tests.scripted_http import says, serving
from vecbench.errors import ConfigError, ConnectionFailed, StoreTimeout
from vecbench_pinecone import PineconeStore

from .parts import make


def test_options_are_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PINECONE_API_KEY", raising=False)
    wrong: list[dict[str, Any]] = [
        {"colour": 1, "api_key": "k"}, {"path": "x", "api_key": "k"}, {"mode": "pod", "api_key": "k"}, {},
        {"url": "localhost:5081", "api_key": "k"}, {"url": "http://u:hush@127.0.0.1:1", "api_key": "k"},
        {"api_key": "hush\n"}, {"api_key": "hush", "timeout": -1},
    ]  # fmt: skip
    for options in wrong:
        with pytest.raises(ConfigError) as caught:
            PineconeStore.open(**options)
        assert "hush" not in said(caught.value)


def test_the_key_may_come_from_the_environment(server: SpecServer, key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PINECONE_API_KEY", key)
    monkeypatch.setenv("PINECONE_CONTROLLER_HOST", server.url)
    with PineconeStore.open() as store:
        make(store)
        assert store.info.target == server.url
    assert len(server.project(key).indexes) == 1


def test_a_wrong_key_is_told_and_shown_nowhere(server: SpecServer, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG), pytest.raises(ConnectionFailed, match="api_key") as caught:
        PineconeStore.open(url=server.url, api_key="hush-hush")
    assert "hush" not in said(caught.value)
    assert "hush" not in caplog.text


def test_an_unreachable_server_is_named() -> None:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
        with pytest.raises(ConnectionFailed, match=f"127.0.0.1:{port}"):
            PineconeStore.open(url=f"http://127.0.0.1:{port}", api_key="k", timeout=1)


def test_a_server_that_stays_silent_is_given_up() -> None:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        s.listen()
        started = time.monotonic()
        with pytest.raises(StoreTimeout, match=r"127\.0\.0\.1"):
            PineconeStore.open(url=f"http://127.0.0.1:{s.getsockname()[1]}", api_key="k", timeout=2)
        assert time.monotonic() - started < 4


@pytest.mark.parametrize(("status", "page"), [(200, b"<h1>hush</h1>"), (404, b"hush"), (200, b"[1]"), (403, b"")])
def test_something_else_answers(status: int, page: bytes) -> None:
    with serving(says(status, page, "text/html")) as other, pytest.raises(ConnectionFailed) as caught:
        PineconeStore.open(url=other.url, api_key="hush", timeout=2)
    assert "hush" not in said(caught.value)


def test_what_answers_on_this_machine_is_no_pinecone(store: PineconeStore) -> None:
    info = store.info
    assert (info.benchmarkable, info.deployment, info.engine_version) == (False, "local-process", "not reported")
    assert "imitat" in info.label
    assert "cloud" in info.why_not


def test_closing_closes_every_client(server: SpecServer, key: str) -> None:
    store = PineconeStore.open(url=server.url, api_key=key)
    clients = [make(store, name=name).native for name in ("a", "b")]
    assert store.get_collection("a").native is clients[0]
    store.close()
    assert all(c._http._client.is_closed for c in [*clients, store.native])
