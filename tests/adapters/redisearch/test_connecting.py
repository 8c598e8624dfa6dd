"""How RediSearch is reached: options, credentials, rights, certificates, strangers there, errors without secrets."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.adapters.said import said
from tests.scripted_http import serving
from vecbench.errors import ConfigError, ConnectionFailed, StoreRejected, StoreTimeout
from vecbench.filters import Gt
from vecbench.services.engine import free_ports
from vecbench.services.local import Service
from vecbench.spec import CollectionSpec
from vecbench_redisearch import RedisearchStore
from vecbench_redisearch.engine import RedisearchEngine
from vecbench_redisearch.faults import translate_error

from .parts import DIM, by_hand, clustered, make, rows


@pytest.mark.parametrize(
    "options",
    [
        {"colour": 1}, {"mode": "server"}, {"password": "x"}, {"url": "redis://127.0.0.1:1", "path": "x"},
        {"url": "http://127.0.0.1:6379"}, {"url": "127.0.0.1:6379"}, {"url": "redis://127.0.0.1:1/3"},
        {"url": "redis://127.0.0.1:1?socket_timeout=9"}, {"url": "redis://127.0.0.1:port"}, {"timeout": 0},
        {"timeout": "5"}, {"url": "redis://127.0.0.1:1", "connect_timeout": -1}, {"timeout": True},
    ],
)  # fmt: skip
def test_options_are_checked(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        RedisearchStore.open(**options)


def test_nothing_answers() -> None:
    (port,) = free_ports(1)
    began = time.monotonic()
    with pytest.raises(ConnectionFailed, match=f"127.0.0.1:{port}") as caught:
        RedisearchStore.open(url=f"redis://user:hush-hush@127.0.0.1:{port}", timeout=5)
    assert time.monotonic() - began < 3
    assert "hush-hush" not in said(caught.value)


@pytest.mark.parametrize("how", ["option", "url", "environment"])
def test_a_wrong_password_is_refused_and_not_told(server: Service, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    url, options = server.url, dict[str, Any]()
    if how == "option":
        options = {"password": "hush-hush"}
    elif how == "url":
        url = url.replace("//", "//:hush-hush@")
    else:
        monkeypatch.setenv("REDISCLI_AUTH", "hush-hush")
    with pytest.raises(ConnectionFailed, match="refused the credentials") as caught:
        RedisearchStore.open(url=url, **options)
    assert "hush-hush" not in said(caught.value)


def test_no_password_is_refused(server: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("REDISCLI_AUTH", raising=False)
    with pytest.raises(ConnectionFailed, match="refused the credentials"):
        RedisearchStore.open(url=server.url)


def test_a_user_who_may_touch_our_keys_only(store: RedisearchStore, server: Service) -> None:
    """The rights that the README names are enough, and a user with fewer is told so."""
    word = "p@ss/wörd:%"
    acl: Callable[..., Any] = store.native.acl_setuser
    acl(
        "few", enabled=True, passwords=[f"+{word}"], keys=["vecbench:*"], categories=["+@all", "-@dangerous", "-@admin"]
    )
    acl("none", enabled=True, passwords=[f"+{word}"], keys=["other:*"], categories=["+@connection"])
    try:
        url = server.url.replace("//", f"//few:{'p%40ss%2Fw%C3%B6rd%3A%25'}@")
        with RedisearchStore.open(url=url) as limited:
            collection = limited.create_collection(CollectionSpec("c", DIM))
            collection.upsert(rows(20))
            collection.flush()
            assert collection.count(Gt("n", 4)) == 15
            assert len(list(collection.scan(where=Gt("n", 4), batch_size=10))) == 2
            assert len(collection.search(clustered(1), 5).ids[0]) == 5
            collection.delete(where=Gt("n", 4))
            collection.optimize()
            collection.describe()
            assert limited.list_collections() == ["c"]
            limited.drop_collection("c")
        with pytest.raises(ConnectionFailed, match="not permit") as caught:
            RedisearchStore.open(url=server.url, username="none", password=word)
        assert word not in said(caught.value)
    finally:
        store.native.acl_deluser("few", "none")


def test_no_secret_in_what_is_shown(store: RedisearchStore, server: Service) -> None:
    secret = server.secrets["password"]
    shown = f"{store!r} {store.info!r} {store.native!r} {server!r} {server.log}"
    assert secret not in shown
    assert store.info.deployment == "local-process"
    assert (store.info.label, store.info.engine) == ("redisearch", "RediSearch")
    assert store.info.engine_version.startswith(server.version + " (Redis ")


def test_a_secret_in_the_servers_words_is_masked() -> None:
    error = redis.exceptions.ResponseError("ERR hush-hush is wrong")
    ours = translate_error(error, "asking", "redis://h:1", "hush-hush")
    assert isinstance(ours, StoreRejected)
    assert "hush-hush" not in str(ours)
    assert "redis://h:1" in str(ours)


def test_something_else_answers() -> None:
    with serving() as web, pytest.raises(ConnectionFailed, match=f"127.0.0.1:{web.server_port}"):
        RedisearchStore.open(url=f"redis://127.0.0.1:{web.server_port}", timeout=5)


def test_somebody_accepts_and_stays_silent() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port, began = silent.getsockname()[1], time.monotonic()
        with pytest.raises(StoreTimeout, match=f"127.0.0.1:{port}"):
            RedisearchStore.open(url=f"redis://127.0.0.1:{port}", timeout=0.5)
        assert time.monotonic() - began < 3


@pytest.mark.parametrize(("more", "says"), [("", "no query engine"), ("cluster-enabled yes", "Redis Cluster")])
def test_a_redis_that_will_not_do(tmp_path: Path, more: str, says: str) -> None:
    launch = RedisearchEngine(durable=False).launch(tmp_path)
    config = tmp_path / "redis.conf"
    plain = [line for line in config.read_text().splitlines() if not line.startswith("loadmodule")]
    config.write_text("\n".join([*plain, more, f"cluster-port {free_ports(1)[0]}", ""]))
    with by_hand(launch), pytest.raises(ConnectionFailed, match=says):
        RedisearchStore.open(url=launch.url, **launch.secrets)


def test_an_encrypted_connection_checks_the_certificate(tmp_path: Path) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    (port,) = free_ports(1)
    request = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=test"
    files = ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(["openssl", *request.split(), *files], check=True, capture_output=True)
    launch = RedisearchEngine(durable=False).launch(tmp_path)
    encrypted = ["--tls-port", str(port), "--tls-cert-file", str(certificate), "--tls-key-file", str(key)]
    with by_hand(launch, *encrypted, "--tls-auth-clients", "no"):
        url = f"rediss://127.0.0.1:{port}"
        with RedisearchStore.open(url=url, ca_certs=certificate, **launch.secrets) as store:
            make(store).upsert(rows(10))
            assert store.info.target == url
            assert store.get_collection("c").count() == 10
        with pytest.raises(ConnectionFailed, match="certificate") as caught:
            RedisearchStore.open(url=url, **launch.secrets)
        assert launch.secrets["password"] not in said(caught.value)
