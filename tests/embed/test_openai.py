"""Against a real HTTP server on this machine that answers as it is told."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from tests.scripted_http import Handler, Server, says, serving
from vecbench.embed import Embedder, OpenAIEmbedder
from vecbench.errors import ConfigError, EmbedderError

KEY = "sk-very+secret/0123456789"


def vector(text: str) -> list[float]:
    return [float(len(text)), float(text.count("a")), 1.0]


@pytest.fixture
def server() -> Iterator[Server]:
    def right(handler: Handler) -> None:
        rows = [{"index": n, "embedding": vector(text)} for n, text in enumerate(handler.asked.body["input"])]
        handler.say(200, json.dumps({"data": rows[::-1]}))  # in no particular order

    with serving(right) as running:
        yield running


@pytest.fixture
def embedder(server: Server) -> Iterator[OpenAIEmbedder]:
    with OpenAIEmbedder(
        "some-model",
        dim=3,
        base_url=server.url + "/v1/",
        api_key=KEY,
        batch_texts=2,
        retries=2,
        backoff_seconds=0.001,
        timeout_seconds=5,
        query_prefix="ask: ",
        document_prefix="a text: ",
    ) as made:
        yield made


def test_batches_order_prefixes_and_progress(server: Server, embedder: OpenAIEmbedder) -> None:
    told: list[tuple[int, int]] = []
    texts = ["", "aaaa", "b", "ca", "ddddddd"]
    found = embedder.embed_documents(texts, progress=lambda done, total: told.append((done, total)))
    assert np.array_equal(found, np.array([vector(f"a text: {text}") for text in texts], np.float32))
    assert found.dtype == np.float32
    assert told == [(2, 5), (4, 5), (5, 5)]
    assert [len(request.body["input"]) for request in server.requests] == [2, 2, 1]
    assert server.requests[0].path == "/v1/embeddings"
    assert server.requests[0].key == f"Bearer {KEY}"
    assert server.requests[0].body["model"] == "some-model"
    assert "dimensions" not in server.requests[0].body
    assert np.array_equal(embedder.embed_queries(["a"]), np.array([vector("ask: a")], np.float32))
    assert embedder.embed_documents([]).shape == (0, 3)
    assert isinstance(embedder, Embedder)
    assert (embedder.spec.dim, embedder.spec.query_prefix) == (3, "ask: ")


def test_dimensions_are_asked_for_when_wanted(server: Server) -> None:
    with OpenAIEmbedder("m", dim=3, base_url=f"{server.url}/v1", send_dimensions=True) as embedder:
        embedder.embed_documents(["a"])
    assert server.requests[0].body["dimensions"] == 3
    assert server.requests[0].key is None


def test_the_length_is_the_servers_unless_it_is_told(server: Server) -> None:
    url = f"{server.url}/v1"
    with OpenAIEmbedder("m", base_url=url) as embedder:
        assert embedder.spec == OpenAIEmbedder("m", dim=3, base_url=url).spec
        assert np.array_equal(embedder.embed_documents(["aaaa"]), np.array([vector("aaaa")], np.float32))
    assert [request.body["input"] for request in server.requests] == [["a"], ["aaaa"]]
    values: list[Any] = [None, [], "AAAA"]
    for wrong in values:
        server.acts = [says(200, json.dumps({"data": [{"index": 0, "embedding": wrong}]}))]
        with pytest.raises(EmbedderError, match="no vector"):
            OpenAIEmbedder("m", base_url=url)
    with pytest.raises(ConfigError, match="give dim"):
        OpenAIEmbedder("m", base_url=url, send_dimensions=True)


@pytest.mark.parametrize("status", [0, 429, 500, 503])
def test_passing_failures_are_tried_again(server: Server, embedder: OpenAIEmbedder, status: int) -> None:
    server.acts = [says(status, "slow down", Retry_After="0.001")] * 2
    assert len(embedder.embed_documents(["a"])) == 1
    assert len(server.requests) == 3


@pytest.mark.parametrize(("status", "tries"), [(0, 3), (429, 3), (500, 3), (400, 1), (401, 1), (404, 1), (302, 1)])
def test_lasting_failures_are_told_without_the_key(
    server: Server, embedder: OpenAIEmbedder, status: int, tries: int
) -> None:
    server.acts = [says(status, f"key {KEY} of Bearer {KEY} is bad", Location="http://127.0.0.1:9/")] * 5
    with pytest.raises(EmbedderError) as caught:
        embedder.embed_documents(["a"])
    assert len(server.requests) == tries
    message = str(caught.value)
    assert "some-model" in message
    assert f"answered {status}" in message or status == 0
    assert (f"after {tries} tries" in message) == (tries > 1)
    assert KEY not in message
    assert KEY not in repr(caught.value.__cause__)
    assert KEY not in repr(embedder)
    assert KEY not in str(embedder.spec.to_dict())


def answer(*rows: tuple[int, list[Any]]) -> str:
    return json.dumps({"data": [{"index": index, "embedding": values} for index, values in rows]})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("<html>hello</html>", "no list of embeddings"),
        ("[]", "no list of embeddings"),
        ('{"data": [{"index": 0}]}', "no list of embeddings"),
        (answer((0, [1, 2, 3])), "1 embeddings, not those of the 2 texts"),
        (answer((0, [1, 2, 3]), (2, [1, 2, 3])), "not those of the 2 texts"),
        (answer((0, [1, 2, 3]), (0, [1, 2, 3])), "1 embeddings"),
        (answer((0, [1, 2]), (1, [1, 2])), r"gave shape \(2, 2\) for 2 texts; \(2, 3\) is expected"),
        (answer((0, [1, 2, 3]), (1, [1, 2])), "unequal length"),
        (answer((0, [1, 2, 3]), (1, [1, 2, float("nan")])), "NaN or infinity for text 1"),
        (answer((0, [1, 2, 3]), (1, ["x", "y", "z"])), "no array of numbers"),
    ],
)
def test_wrong_answers_are_refused(server: Server, embedder: OpenAIEmbedder, content: str, message: str) -> None:
    server.acts = [says(200, content)]
    with pytest.raises(EmbedderError, match=message):
        embedder.embed_documents(["a", "b"])
    assert len(server.requests) == 1


def test_the_key_of_the_environment_stays_with_its_server(monkeypatch: pytest.MonkeyPatch, server: Server) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with OpenAIEmbedder("m", dim=3, base_url=f"{server.url}/v1") as embedder:
        embedder.embed_documents(["a"])
    monkeypatch.setenv("OPENAI_BASE_URL", f"{server.url}/v1")
    with OpenAIEmbedder("m", dim=3) as embedder:
        embedder.embed_documents(["a"])
    assert [request.key for request in server.requests] == [None, f"Bearer {KEY}"]


def test_wrong_settings_are_refused() -> None:
    for url in ("ftp://x/v1", "localhost:8000", "http://"):
        with pytest.raises(ConfigError, match="is not a URL"):
            OpenAIEmbedder("m", dim=3, base_url=url)
    with pytest.raises(ConfigError, match="characters that no key has") as caught:
        OpenAIEmbedder("m", dim=3, api_key="sk-abc\nX-Other: 1")
    assert "sk-abc" not in str(caught.value)
    for wrong in ({"batch_texts": 0}, {"retries": -1}, {"timeout_seconds": 0.0}):
        with pytest.raises(ConfigError, match="must be"):
            OpenAIEmbedder("m", dim=3, **wrong)


def test_a_server_that_is_not_there(server: Server) -> None:
    url = f"{server.url}/v1"
    server.server_close()
    with (
        OpenAIEmbedder("m", dim=3, base_url=url, retries=1, backoff_seconds=0.001) as embedder,
        pytest.raises(EmbedderError, match=r"cannot be asked \(ConnectError.*after 2 tries"),
    ):
        embedder.embed_documents(["a"])
