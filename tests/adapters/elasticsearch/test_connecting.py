"""How Elasticsearch is reached: options, credentials, certificates, strangers there, errors without secrets."""

from __future__ import annotations

import base64
import os
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import quote
from urllib.request import urlopen

import numpy as np
import pytest

from tests.adapters.said import said
from tests.scripted_http import says, serving
from vecbench.errors import ConfigError, ConnectionFailed, StoreTimeout
from vecbench.services.engine import Launch, free_ports
from vecbench.services.local import Service, start
from vecbench.spec import CollectionSpec
from vecbench.types import Records
from vecbench_elasticsearch import ElasticsearchStore
from vecbench_elasticsearch.engine import ElasticsearchEngine

TINY = np.ones((1, 3), np.float32)


@pytest.mark.parametrize(
    "options",
    [
        {"colour": 1},
        {"mode": "server"},
        {"url": "localhost:9200"},
        {"url": "http://"},
        {"url": "http://localhost:port"},
        {"url": "http://127.0.0.1:1", "path": "x"},
        {"url": "http://127.0.0.1:1", "heap": "1g"},
        {"url": "http://127.0.0.1:1", "username": "u"},
        {"url": "http://u:p@127.0.0.1:1", "api_key": "hush-hush"},
        {"url": "http://127.0.0.1:1", "api_key": "hush-hush\n"},
        {"url": "http://127.0.0.1:1", "timeout": 0},
        {"url": "https://127.0.0.1:1", "ca_certs": "/no/such/file", "api_key": "hush-hush"},
        {"url": "http://127.0.0.1:1", "cloud_id": "x:y"},
        {"cloud_id": "hush-hush"},
        {"api_key": "k"},
        {"heap": "lots"},
        {"heap": 1},
        {"timeout": "long"},
    ],
)
def test_options_are_checked(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError) as caught:
        ElasticsearchStore.open(**options)
    assert "hush" not in said(caught.value)


SECRETS: list[dict[str, Any]] = [
    {"url": "https://elastic:hush-hush@127.0.0.1:{port}"},
    {"url": "http://127.0.0.1:{port}", "username": "elastic", "password": "hush-hush"},
    {"url": "http://127.0.0.1:{port}/prefix", "api_key": "hush-hush"},
]


@pytest.mark.parametrize("options", SECRETS)
def test_an_unreachable_server_is_named_and_secrets_are_not(options: dict[str, Any]) -> None:
    (port,) = free_ports(1)
    given = {**options, "url": options["url"].format(port=port)}
    with pytest.raises(ConnectionFailed, match=f"127.0.0.1:{port}") as caught:
        ElasticsearchStore.open(**given, timeout=5)
    assert "hush" not in said(caught.value)


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (200, b"<html>hello</html>", "text/html"),
        (200, b'{"version": {"number": "9"}}', "application/json"),  # OpenSearch, say
        (200, b"{", "application/json"),
        (404, b"not here", "text/plain"),
        (500, b"{}", "application/json"),
    ],
)
def test_something_else_that_answers_is_not_taken_for_it(status: int, body: bytes, kind: str) -> None:
    with (
        serving(says(status, body, kind)) as other,
        pytest.raises(ConnectionFailed, match=f"127.0.0.1:{other.server_port}"),
    ):
        ElasticsearchStore.open(url=other.url, timeout=5)


def test_a_secret_that_a_proxy_repeats_is_masked() -> None:
    with serving(says(500, '{"error": "what is hush-hush?"}')) as proxy, pytest.raises(ConnectionFailed) as caught:
        ElasticsearchStore.open(url=proxy.url, api_key="hush-hush", timeout=5)
    assert "what is ***?" in str(caught.value)
    assert "hush" not in said(caught.value)


@pytest.mark.parametrize(
    ("options", "environment", "sent"),
    [
        ({}, {}, None),
        ({"username": "u", "password": "p w"}, {"ELASTICSEARCH_API_KEY": "env"}, "Basic " + "dTpwIHc="),
        ({"api_key": "mine"}, {"ELASTICSEARCH_API_KEY": "env"}, "ApiKey mine"),
        ({}, {"ELASTICSEARCH_API_KEY": "env"}, "ApiKey env"),
    ],
)
def test_credentials_are_sent_as_given(
    options: dict[str, Any], environment: dict[str, str], sent: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ELASTICSEARCH_API_KEY", raising=False)
    for key, value in environment.items():
        monkeypatch.setenv(key, value)
    with serving(says(200, '{"version": {"number": "8.19.0"}}', X_elastic_product="Elasticsearch")) as server:
        with ElasticsearchStore.open(url=server.url, **options) as store:
            assert store.info.engine_version == "8.19.0"
        with ElasticsearchStore.open(url=server.url.replace("://", "://us%40er:p%2Fw@")) as store:
            assert store.info.target == server.url
    assert [asked.key for asked in server.requests] == [sent, "Basic " + base64.b64encode(b"us@er:p/w").decode()]


def test_a_server_that_says_nothing_is_given_up_in_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        begun = time.monotonic()
        with pytest.raises(StoreTimeout, match=f"127.0.0.1:{silent.getsockname()[1]}"):
            ElasticsearchStore.open(url=f"http://127.0.0.1:{silent.getsockname()[1]}", timeout=0.5)
        assert time.monotonic() - begun < 3


PASSWORD = "hush-hush/1"  # noqa: S105  of a server that lives as long as this module's tests


class Secured(ElasticsearchEngine):
    """With passwords and TLS, as a server on the network has them."""

    def settings(self, home: Path, folder: Path, http: int, transport: int) -> dict[str, Any]:
        made = super().settings(home, folder, http, transport)
        return made | {
            "xpack.security.enabled": True,
            "xpack.security.http.ssl.enabled": True,
            "xpack.security.http.ssl.key": "server.key",
            "xpack.security.http.ssl.certificate": "server.crt",
        }

    def launch(self, folder: Path) -> Launch:
        made = super().launch(folder)
        config = folder / "config"
        request = "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext subjectAltName=IP:127.0.0.1"
        files = ["-keyout", str(config / "server.key"), "-out", str(config / "server.crt")]
        subprocess.run(["openssl", *request.split(), *files], check=True, capture_output=True)
        for name in ("users", "users_roles"):
            (config / name).touch()
        tool = Path(made.command[0]).with_name("elasticsearch-users")
        (config / "roles.yml").write_text("watching:\n  cluster: [monitor]\n", "utf-8")
        for user, role in (("boss", "superuser"), ("watcher", "watching"), ("guest", "no_such_role")):
            subprocess.run(
                [tool, "useradd", user, "-p", PASSWORD, "-r", role],
                env={**os.environ, **made.env},
                check=True,
                capture_output=True,
            )
        return Launch(
            command=made.command, url=made.url.replace("http:", "https:"), env=made.env, cwd=made.cwd, user=made.user
        )

    def probe(self, launch_url: str) -> str:
        context = ssl._create_unverified_context()  # noqa: S323  our own certificate
        try:
            urlopen(launch_url, timeout=1, context=context).close()  # noqa: S310  our own https address
        except HTTPError as e:
            if e.code != 401:
                raise
        return "asks for a password"


@pytest.fixture(scope="module")
def secured() -> Iterator[Service]:
    with start(Secured()) as running:
        yield running


@pytest.mark.slow
def test_credentials_and_certificates_are_checked_by_a_real_server(secured: Service) -> None:
    certificate = str(secured.folder / "config" / "server.crt")
    good: dict[str, Any] = {"username": "boss", "password": PASSWORD, "ca_certs": certificate, "timeout": 20}
    with ElasticsearchStore.open(url=secured.url, **good) as store:
        collection = store.create_collection(CollectionSpec("c", 3))
        collection.upsert(Records(["a"], TINY))
        collection.flush()
        assert collection.search(TINY).ids == [["a"]]
        wrong: list[dict[str, Any]] = [
            {**good, "password": "hush-not"},
            {**good, "username": "guest"},  # who may do nothing
            {"ca_certs": certificate},
            {"ca_certs": certificate, "api_key": base64.b64encode(b"some-id:hush-not").decode()},
            {"username": "boss", "password": PASSWORD},  # a certificate that nobody vouches for
        ]
        for options in wrong:
            with pytest.raises(ConnectionFailed, match=secured.url.removeprefix("https://")) as caught:
                ElasticsearchStore.open(url=secured.url, **options)
            told = said(caught.value)
            assert "hush" not in told
            assert options.get("api_key", "hush") not in told
        assert "hush" not in f"{store.info!r}{store!r}"
        in_url = secured.url.replace("://", f"://boss:{quote(PASSWORD, safe='')}@")
        with ElasticsearchStore.open(url=in_url, verify_certs=False) as other:
            assert other.get_collection("c").count() == 1
        with (
            ElasticsearchStore.open(url=secured.url, **{**good, "username": "watcher"}) as other,
            pytest.raises(ConnectionFailed, match="refused the credentials"),
        ):
            other.create_collection(CollectionSpec("d", 3))
        with pytest.raises(ConnectionFailed):  # no TLS where it is expected
            ElasticsearchStore.open(url=secured.url.replace("https", "http"), timeout=5)
