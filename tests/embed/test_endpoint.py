"""Where a service is, and what lets us in."""

from __future__ import annotations

import json
import logging
from base64 import b64encode

import pytest

from tests.scripted_http import says, serving
from vecbench.embed import OpenAIEmbedder
from vecbench.endpoint import Access, checked_url
from vecbench.errors import ConfigError, EmbedderError

PASSWORD = "pass:word/§"  # noqa: S105 - of nothing
LOGIN = "ann:pass%3Aword%2F%C2%A7"
BASIC = b64encode(f"ann:{PASSWORD}".encode()).decode()


@pytest.mark.parametrize(
    "url",
    [
        "",
        "h/v1",
        "ftp://h/v1",
        "http:///v1",
        "http://h:port/v1",
        "http://h:99999/v1",
        "http://h:0/v1",
        "http://a..b/v1",
        f"http://{'a' * 64}.de/v1",
        "http://[::1/v1",
        "http://h/v1?key=3",
        "http://h/v1#top",
        "http://h/v1\n",
        "http://h/\u2028v1",
    ],
)
def test_what_cannot_be_asked_is_no_url(url: str) -> None:
    with pytest.raises(ConfigError, match="is not a URL like https://host/v1"):
        checked_url(url)


@pytest.mark.parametrize(
    "url", ["http://h", "https://h.de./v1", "http://127.0.0.1:80/v1", "http://[::1]:80/v1", "https://münchen.de/v1"]
)
def test_what_can_be_asked_is_left_as_it_is(url: str) -> None:
    assert checked_url(f"{url}/") == url
    access = Access(url, None)
    assert (access.url, access.auth, access.headers) == (url, None, {})


def test_a_password_is_not_part_of_the_url() -> None:
    access = Access(f"https://{LOGIN}@h:80/v1", "sk-123")
    assert access.url == "https://h:80/v1"
    assert access.auth == ("ann", PASSWORD)
    assert Access("https://@h/v1", None).url == "https://h/v1"
    assert access.headers == {"Authorization": "Bearer sk-123"}
    assert access.masked(f"{PASSWORD}, {BASIC}, sk-123 of https://a:b@h") == "***, ***, *** of https://***@h"


def test_a_password_is_in_no_log_and_no_error(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    right = says(200, json.dumps({"data": [{"index": 0, "embedding": [1.0, 0.0]}]}))
    with serving() as server:
        url = server.url.replace("://", f"://{LOGIN}@")
        with OpenAIEmbedder("m", dim=2, base_url=url, retries=0) as embedder:
            server.acts = [right, says(401, "x" * 290 + BASIC)]
            assert embedder.embed_documents(["a"]).tolist() == [[1.0, 0.0]]
            assert server.requests[0].key == f"Basic {BASIC}"
            with pytest.raises(EmbedderError, match=r"answered 401: x+\*\*\*") as caught:
                embedder.embed_documents(["a"])
        assert f"POST {server.url}/embeddings" in caplog.text
    for told in (caplog.text, str(caught.value), repr(embedder)):
        assert not any(secret in told for secret in (PASSWORD, LOGIN, BASIC[:10], "pass"))


def test_a_closed_client_is_an_error_of_ours() -> None:
    embedder = OpenAIEmbedder("m", dim=2, base_url="http://127.0.0.1:1")
    embedder.close()
    with pytest.raises(
        EmbedderError, match=r"m at http://127\.0\.0\.1:1/embeddings cannot be asked: this client was closed"
    ):
        embedder.embed_documents(["a"])


def test_a_host_that_only_httpx_refuses_is_an_error_of_ours() -> None:
    with (
        OpenAIEmbedder("m", dim=2, base_url="http://xn--/v1") as embedder,
        pytest.raises(EmbedderError, match="cannot be asked"),
    ):
        embedder.embed_documents(["a"])
