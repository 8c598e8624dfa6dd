"""Rerankers: a cross-encoder of logits made by hand, words, and services played by an HTTP server on this machine."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import vecbench.rag.rerank
from tests.scripted_http import Handler, Server, says, serving
from vecbench.endpoint import asked_wait_seconds
from vecbench.errors import ConfigError, MissingDependency, ModelError
from vecbench.rag.rerank import CrossEncoderReranker, HostedReranker, LexicalReranker, reranker_named
from vecbench.rag.rerank.hosted import VENDORS
from vecbench.rag.types import Passage, Reranker

KEY = "key+very/secret-0123456789"


def passages(*texts: str) -> list[Passage]:
    return [
        Passage(f"p{row}", text, "a.txt", row * 100, row * 100 + len(text), {"row": row}, distance=row / 10)
        for row, text in enumerate(texts)
    ]


def ids(found: Sequence[Passage]) -> list[str]:
    return [passage.id for passage in found]


class ByHand:
    """The logit of a pair is what the passage says."""

    fingerprint = "by-hand"

    def __init__(self, labels: int = 1) -> None:
        self.labels = labels
        self.asked: list[tuple[str, str]] = []

    def logits(self, pairs: Sequence[tuple[str, str]]) -> npt.NDArray[np.float32]:
        self.asked += pairs
        rows = [[float(number) for number in text.split()] for _, text in pairs]
        return np.array(rows, np.float32).reshape(len(pairs), self.labels)


def test_cross_encoder_orders_by_its_logit() -> None:
    encoder = ByHand()
    given = passages("-1.5", "4", "0.25", "4", "-20")
    found = CrossEncoderReranker(encoder).rerank("why?", given)
    assert ids(found) == ["p1", "p3", "p2", "p0", "p4"]  # the equal ones in the order that they came in
    assert [passage.score for passage in found] == [4, 4, 0.25, -1.5, -20]
    assert encoder.asked == [("why?", passage.text) for passage in given]
    assert (found[2].metadata, found[2].start, found[2].distance) == ({"row": 2}, 200, 0.2)
    assert [passage.score for passage in given] == [None] * 5
    assert ids(CrossEncoderReranker(encoder).rerank("why?", given, k=2)) == ["p1", "p3"]
    assert ids(CrossEncoderReranker(encoder).rerank("why?", given, k=9)) == ids(found)


def test_cross_encoder_of_two_labels_orders_as_the_probability() -> None:
    given = passages("5 6", "-3 0", "9 9.5")  # the second logit alone would put p2 first
    found = CrossEncoderReranker(ByHand(2)).rerank("why?", given)
    assert ids(found) == ["p1", "p0", "p2"]
    assert [passage.score for passage in found] == [3, 1, 0.5]
    with pytest.raises(ConfigError, match="gives 3 logits"):
        CrossEncoderReranker(ByHand(3))


@pytest.mark.parametrize("reranker", [CrossEncoderReranker(ByHand()), LexicalReranker()], ids=["cross", "lexical"])
def test_what_every_reranker_does(reranker: Any) -> None:
    assert isinstance(reranker, Reranker)
    assert reranker.rerank("why?", []) == []
    assert len(reranker.rerank("", passages("1", "2"))) == 2
    for k in (0, -1):
        with pytest.raises(ConfigError, match=f"k is {k}"):
            reranker.rerank("why?", passages("1"), k=k)


@pytest.mark.parametrize("number", ["nan", "inf"])
def test_a_score_that_is_no_number_is_refused(number: str) -> None:
    with pytest.raises(ModelError, match=r"cross-encoder\(by-hand\): the score of passage 1 \('p1'\) is " + number):
        CrossEncoderReranker(ByHand()).rerank("why?", passages("1", number))


def test_lexical_prefers_rare_words_short_passages_and_repetition() -> None:
    def order(query: str, *texts: str) -> list[str]:
        return ids(LexicalReranker().rerank(query, passages(*texts)))

    assert order("the zebra", "the the the", "a zebra ran", "the dog ran", "the cat ran") == ["p1", "p0", "p2", "p3"]
    assert order("zebra", "no stripes", "one zebra and a great many words beside it", "one zebra") == ["p2", "p1", "p0"]
    assert order("zebra", "zebra horse", "zebra zebra", "horse horse") == ["p1", "p0", "p2"]
    assert order("ZEBRA?", "horse.", "(Zebra)") == ["p1", "p0"]
    assert order("通知期", "合同的期限", "通知期是三个月") == ["p1", "p0"]
    assert order("nothing here", "a", "b", "c") == ["p0", "p1", "p2"]
    assert order("word", "", "", "") == ["p0", "p1", "p2"]


def test_lexical_score_is_bm25() -> None:
    found = LexicalReranker(k1=1.5, b=0.5).rerank("cat cat dog", passages("cat cat bird", "dog", "fish fish"))
    # three passages of 3, 1 and 2 words, 2 on average; "cat" and "dog" are each in one of three
    weight = math.log(1 + 2.5 / 1.5)
    cat = weight * 2 * 2.5 / (2 + 1.5 * (0.5 + 0.5 * 3 / 2))
    dog = weight * 1 * 2.5 / (1 + 1.5 * (0.5 + 0.5 * 1 / 2))
    assert ids(found) == (["p0", "p1", "p2"] if cat > dog else ["p1", "p0", "p2"])
    assert sorted(passage.score or 0 for passage in found) == pytest.approx(sorted([cat, dog, 0]), rel=1e-12)


def test_lexical_parameters() -> None:
    for wrong in ({"k1": -1}, {"b": 1.1}, {"k1": float("nan")}, {"k1": float("inf")}):
        with pytest.raises(ConfigError, match="k1 is"):
            LexicalReranker(**wrong)
    assert LexicalReranker().fingerprint != LexicalReranker(b=0.5).fingerprint


# What each interface requires and allows, and how it answers: from the vendors' published references.
REQUIRED = {
    "/v2/rerank": ({"model", "query", "documents"}, {"top_n", "max_tokens_per_doc"}),
    "/jina/v1/rerank": ({"model", "query", "documents"}, {"top_n", "return_documents"}),
    "/voyage/v1/rerank": ({"model", "query", "documents"}, {"top_k", "return_documents", "truncation"}),
    "/rerank": ({"query", "texts"}, {"raw_scores", "return_text", "truncate", "truncation_direction"}),
}


def right(handler: Handler) -> None:
    """The score of a text is its length; best first, as the services answer."""
    path, _, body = handler.asked
    required, allowed = REQUIRED[path]
    if not required <= set(body) <= required | allowed or handler.headers["Content-Type"] != "application/json":
        handler.say(422, f"wrong fields {sorted(body)}")
        return
    texts = body["texts" if path == "/rerank" else "documents"]
    order = sorted(range(len(texts)), key=lambda index: -len(texts[index]))
    rows = [{"index": index, "relevance_score": float(len(texts[index]))} for index in order]
    if path == "/rerank" and len(texts) > 32:
        handler.say(413, "batch size > maximum allowed batch size 32")
    elif path == "/rerank":
        handler.say(200, json.dumps([{"index": index, "score": len(texts[index])} for index in order]))
    elif path == "/voyage/v1/rerank":
        answer = {"object": "list", "data": rows, "model": "m", "usage": {"total_tokens": 8}}
        handler.say(200, json.dumps(answer))
    else:
        handler.say(200, json.dumps({"id": "1", "results": rows, "meta": {"api_version": {"version": "2"}}}))


@pytest.fixture
def server() -> Iterator[Server]:
    with serving(right) as running:
        yield running


@pytest.fixture
def cohere(server: Server) -> Iterator[HostedReranker]:
    with HostedReranker(
        "cohere", "some-model", base_url=server.url + "/", api_key=KEY, retries=2, backoff_seconds=0.001
    ) as made:
        yield made


TEXTS = ["bb", "dddd", "a", "ccc", "CCC"]


@pytest.mark.parametrize(
    ("vendor", "prefix", "body"),
    [
        ("cohere", "", {"model": "m", "query": "why?", "documents": TEXTS}),
        ("jina", "/jina", {"model": "m", "query": "why?", "documents": TEXTS, "return_documents": False}),
        (
            "voyage",
            "/voyage",
            {"model": "m", "query": "why?", "documents": TEXTS, "return_documents": False, "truncation": True},
        ),
        ("tei", "", {"query": "why?", "texts": TEXTS, "raw_scores": True, "truncate": True}),
    ],
)
def test_each_interface(server: Server, vendor: Any, prefix: str, body: dict[str, Any]) -> None:
    model = None if vendor == "tei" else "m"
    with HostedReranker(vendor, model, base_url=server.url + prefix, api_key=KEY) as reranker:
        found = reranker.rerank("why?", passages(*TEXTS))
        assert ids(reranker.rerank("why?", passages(*TEXTS), k=2)) == ["p1", "p3"]
    assert ids(found) == ["p1", "p3", "p4", "p0", "p2"]
    assert [passage.score for passage in found] == [4, 3, 3, 2, 1]
    assert found[0].metadata == {"row": 1}
    assert server.requests == [(prefix + VENDORS[vendor].path, f"Bearer {KEY}", body)] * 2
    assert isinstance(reranker, Reranker)


def test_many_passages_go_in_batches(server: Server) -> None:
    texts = ["x" * length for length in range(1, 101)]
    with HostedReranker("tei", base_url=server.url) as reranker:
        found = reranker.rerank("why?", passages(*texts), k=3)
        assert reranker.rerank("why?", []) == []
    assert [passage.score for passage in found] == [100, 99, 98]
    assert [len(body["texts"]) for _, _, body in server.requests] == [32, 32, 32, 4]
    assert server.requests[0][1] is None
    with HostedReranker("cohere", "m", base_url=server.url, batch_texts=60) as reranker:
        assert len(reranker.rerank("why?", passages(*texts))) == 100
    assert [len(body["documents"]) for _, _, body in server.requests[4:]] == [60, 40]


@pytest.mark.parametrize("status", [0, 408, 429, 500, 503, 529])
def test_passing_failures_are_tried_again(server: Server, cohere: HostedReranker, status: int) -> None:
    server.acts = [says(status, "slow down", Retry_After="0.001")] * 2
    assert ids(cohere.rerank("why?", passages("a", "bb"))) == ["p1", "p0"]
    assert len(server.requests) == 3


def test_waits_as_long_as_the_server_asks(
    server: Server, cohere: HostedReranker, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []
    monkeypatch.setattr("vecbench.endpoint._pause", waits.append)
    server.acts = [says(429, Retry_After="7"), says(503, Retry_After="86400")]
    cohere.rerank("why?", passages("a"))
    assert waits == [7, 60]


def test_retry_after_is_a_number_or_a_date() -> None:
    soon = format_datetime(datetime.now(UTC) + timedelta(seconds=30), usegmt=True)
    assert asked_wait_seconds("12") == 12
    assert 25 < asked_wait_seconds(soon) <= 30
    for nothing in (None, "", "-3", "later", "Wed, 21 Oct 2015 07:28:00 GMT", "nan", "inf"):
        assert asked_wait_seconds(nothing) == 0


@pytest.mark.parametrize(("status", "tries"), [(0, 3), (429, 3), (500, 3), (400, 1), (401, 1), (404, 1), (302, 1)])
def test_lasting_failures_are_told_without_the_key(
    server: Server, cohere: HostedReranker, status: int, tries: int
) -> None:
    server.acts = [says(status, f"key {KEY} of Bearer {KEY} is bad", Location="http://127.0.0.1:9/")] * 5
    with pytest.raises(ModelError) as caught:
        cohere.rerank("why?", passages("a"))
    assert len(server.requests) == tries
    message = str(caught.value)
    assert "cohere some-model at http://127.0.0.1" in message
    assert f"answered {status}" in message or status == 0
    assert (f"after {tries} tries" in message) == (tries > 1)
    assert KEY not in message
    assert KEY not in repr(caught.value.__cause__)
    assert KEY not in repr(cohere)


def results(*rows: tuple[Any, Any]) -> str:
    return json.dumps({"results": [{"index": index, "relevance_score": score} for index, score in rows]})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("<html>hello</html>", "no list of scores"),
        ("[]", "no list of scores"),
        ('{"data": []}', "no list of scores"),
        ('{"results": null}', "no list of scores"),
        ('{"results": [{"index": 0}]}', "no list of scores"),
        ('{"results": ["index"]}', "no list of scores"),
        (results((0, 0.5), ("1", 0.5)), "no list of scores"),
        (results((0, 0.5), (True, 0.5)), "no list of scores"),
        (results((0, 0.5), (1, "0.5")), "no list of scores"),
        (results((0, 0.5), (1, None)), "no list of scores"),
        (results((0, 0.5)), "scored 1 of 2 texts; text 1 is the first that is missing"),
        (results(), "scored 0 of 2 texts"),
        (results((0, 0.5), (0, 0.5)), "scored text 0 twice"),
        (results((0, 0.5), (2, 0.5)), "scored text 2"),
        (results((0, 0.5), (-1, 0.5)), "scored text -1"),
        (results((0, 0.5), (1, float("nan"))), "gave nan as the score of text 1"),
        (results((0, float("inf")), (1, 1)), "gave inf as the score of text 0"),
        (results((0, 10**400), (1, 1)), "no list of scores"),
    ],
)
def test_wrong_answers_are_refused(server: Server, cohere: HostedReranker, content: str, message: str) -> None:
    server.acts = [says(200, content)]
    with pytest.raises(ModelError, match=message):
        cohere.rerank("why?", passages("a", "b"))
    assert len(server.requests) == 1


def test_an_answer_that_is_no_http_is_told(server: Server, cohere: HostedReranker) -> None:
    server.acts = [says(200, "not gzip", Content_Encoding="gzip")]
    with pytest.raises(ModelError, match=r"cannot be asked \(DecodingError"):
        cohere.rerank("why?", passages("a"))


def test_a_server_that_does_not_answer_or_is_not_there(server: Server) -> None:
    url = server.url
    server.server_close()
    options: dict[str, Any] = {"base_url": url, "retries": 1, "backoff_seconds": 0.001}
    with (
        HostedReranker("tei", **options) as reranker,
        pytest.raises(ModelError, match=r"tei at .* cannot be asked \(ConnectError.*after 2 tries"),
    ):
        reranker.rerank("why?", passages("a"))


@pytest.mark.parametrize(
    ("vendor", "variables"),
    [("cohere", ["CO_API_KEY", "COHERE_API_KEY"]), ("jina", ["JINA_API_KEY"]), ("voyage", ["VOYAGE_API_KEY"])],
)
def test_the_key_of_the_environment_goes_to_its_vendor_only(
    monkeypatch: pytest.MonkeyPatch, server: Server, vendor: Any, variables: list[str]
) -> None:
    for name in variables:
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ConfigError, match=f"{vendor}: no API key; set {variables[0]}"):
        HostedReranker(vendor, "m")
    for name in variables:
        with monkeypatch.context() as context:
            context.setenv(name, KEY)
            with HostedReranker(vendor, "m") as reranker:
                assert reranker._endpoint._client.headers["Authorization"] == f"Bearer {KEY}"
                assert reranker._endpoint._url == {
                    "cohere": "https://api.cohere.com/v2/rerank",
                    "jina": "https://api.jina.ai/v1/rerank",
                    "voyage": "https://api.voyageai.com/v1/rerank",
                }.get(vendor)
            with HostedReranker(vendor, "m", base_url=server.url) as reranker:
                assert "Authorization" not in reranker._endpoint._client.headers


def test_wrong_settings_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"vendor": "nobody"}, "vendor is 'nobody'; it must be one of cohere, jina, voyage, tei"),
        ({"model": None}, "cohere: name the model"),
        ({"model": ""}, "cohere: name the model"),
        ({"vendor": "tei"}, "tei: a server has one model"),
        ({"vendor": "tei", "model": None, "base_url": None}, "tei: base_url is needed"),
        ({"base_url": "ftp://x"}, "is not a URL"),
        ({"base_url": "localhost:80"}, "is not a URL"),
        ({"base_url": "http://[::1"}, "is not a URL"),
        ({"base_url": "http://x/?key=1"}, "is not a URL"),
        ({"batch_texts": 0}, "must be positive"),
        ({"retries": -1}, "must not be negative"),
        ({"timeout_seconds": 0}, "must be positive"),
        ({"timeout_seconds": float("nan")}, "must be positive"),
    ]
    for options, message in wrong:
        with pytest.raises(ConfigError, match=message):
            HostedReranker(**{"vendor": "cohere", "model": "m", "base_url": "http://127.0.0.1:1", **options})
    with pytest.raises(ConfigError, match="characters that no key has") as caught:
        HostedReranker("cohere", "m", api_key="secret\nX-Other: 1")
    assert "secret" not in str(caught.value)
    with (
        HostedReranker("cohere", "m", base_url="http://127.0.0.1:1", api_key=KEY) as reranker,
        pytest.raises(ConfigError, match="k is 0"),
    ):
        reranker.rerank("why?", passages("a"), k=0)
    monkeypatch.setitem(sys.modules, "httpx", None)
    with pytest.raises(MissingDependency, match=r"pip install 'vecbench\[rag\]'"):
        HostedReranker("cohere", "m", base_url="http://127.0.0.1:1")


def test_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vecbench.rag.rerank.named.CrossEncoderReranker", lambda: "the cross-encoder")
    monkeypatch.setenv("CO_API_KEY", KEY)
    monkeypatch.delenv("VOYAGE_API_KEY", raising=False)
    assert isinstance(reranker_named("lexical"), LexicalReranker)
    cross_encoder: Any = reranker_named("cross-encoder")
    assert cross_encoder == "the cross-encoder"
    assert repr(reranker_named("cohere:rerank-v3.5")) == (
        "HostedReranker('cohere rerank-v3.5', url='https://api.cohere.com/v2/rerank')"
    )
    assert repr(reranker_named("tei:http://127.0.0.1:8080")) == (
        "HostedReranker('tei', url='http://127.0.0.1:8080/rerank')"
    )
    for wrong in ("", "cohere", "cohere:", "jina", "tei:", "bm25", ":x", "openai:x"):
        with pytest.raises(ConfigError, match="no reranker is called"):
            reranker_named(wrong)
    with pytest.raises(ConfigError, match="voyage: no API key; set VOYAGE_API_KEY"):
        reranker_named("voyage:rerank-2")


def test_public_names_are_there() -> None:
    for name in vecbench.rag.rerank.__all__:
        assert getattr(vecbench.rag.rerank, name).__module__.startswith("vecbench.rag.rerank.")
        assert name in dir(vecbench.rag.rerank)
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        vecbench.rag.rerank.Nothing  # noqa: B018 - reading it is the test
