"""Against a real HTTP server on this machine that answers as it is told."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from tests.scripted_http import Act, Handler, Server, says, serving
from vecbench.errors import ConfigError, ModelError
from vecbench.rag.answer.openai import AnswerCutWarning, OpenAIChat
from vecbench.rag.types import LLM, Message

KEY = "sk-very+secret/0123456789"
ASK = [Message("system", "Be brief."), Message("user", "Wie heißt das? 什么")]
ANSWER = "Drei Monate – 三个月\u2028 [1]"


def whole(content: Any = ANSWER, finish: str = "stop", **more: Any) -> str:
    return json.dumps({"choices": [{"message": {"content": content}, "finish_reason": finish}], **more})


def piece(text: str | None, finish: str | None = None) -> str:
    return json.dumps({"choices": [{"delta": {"content": text}, "finish_reason": finish}]}, ensure_ascii=False)


def events(*data: str) -> bytes:
    return "".join(f"data: {line}\n\n" for line in data).encode()


def streams(*pieces: bytes) -> Act:
    """Each piece sent on its own, then the end of the connection."""

    def act(handler: Handler) -> None:
        handler.begin()
        for data in pieces:
            handler.wfile.write(data)
            handler.wfile.flush()

    return act


def listen(chat: OpenAIChat, heard: list[str]) -> None:
    for text in chat.stream(ASK):
        heard.append(text)  # noqa: PERF402 - what came before an error is wanted


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as running:
        yield running


@pytest.fixture
def chat(server: Server) -> Iterator[OpenAIChat]:
    with OpenAIChat(
        "some-model",
        base_url=server.url + "/v1/",
        api_key=f" {KEY}\n",
        retries=2,
        backoff_seconds=0.001,
        timeout_seconds=10,
    ) as made:
        yield made


def test_a_whole_answer(server: Server, chat: OpenAIChat) -> None:
    server.acts = [says(200, whole())]
    assert chat.complete(ASK, max_tokens=77) == ANSWER
    assert isinstance(chat, LLM)
    assert chat.name == "some-model"
    (request,) = server.requests
    assert (request.path, request.key) == ("/v1/chat/completions", f"Bearer {KEY}")
    assert request.body == {
        "model": "some-model",
        "messages": [{"role": m.role, "content": m.content} for m in ASK],
        "max_tokens": 77,
        "temperature": 0.0,
        "stream": False,
    }


def test_options_go_along(server: Server) -> None:
    with OpenAIChat(
        "m",
        base_url=f"{server.url}/v1",
        temperature=None,
        seed=7,
        max_tokens_field="max_completion_tokens",
        options={"top_p": 1},
    ) as chat:
        server.acts = [says(200, whole())]
        chat.complete(ASK)
    (request,) = server.requests
    assert {"seed": 7, "top_p": 1, "max_completion_tokens": 512}.items() <= request.body.items()
    assert request.body.keys().isdisjoint({"temperature", "max_tokens"})
    assert request.key is None


def test_a_streamed_answer(server: Server, chat: OpenAIChat) -> None:
    server.acts = [
        streams(
            b": a comment\r\n\r\nevent: message\r\nid: 3\r\n" + events(piece("", None)),
            events(piece("Drei Monate")),
            events(json.dumps({"choices": [], "usage": {"total_tokens": 9}})),
            events(piece(" – "), piece(None), piece("三个月\u2028 [1]", "stop"), "[DONE]"),
        )
    ]
    assert list(chat.stream(ASK)) == ["Drei Monate", " – ", "三个月\u2028 [1]"]
    assert server.requests[0].body["stream"] is True


def test_a_stream_without_its_mark_but_with_a_reason_is_whole(server: Server, chat: OpenAIChat) -> None:
    server.acts = [streams(events(piece("yes", "stop"))), says(200, whole("not streamed"))]
    assert list(chat.stream(ASK)) == ["yes"]
    assert list(chat.stream(ASK)) == ["not streamed"]  # a server that cannot stream


@pytest.mark.parametrize("act", [says(429, "slow down", Retry_After="0.001"), says(503), says(0)])
@pytest.mark.parametrize("streaming", [False, True])
def test_passing_failures_are_tried_again(server: Server, chat: OpenAIChat, act: Act, streaming: bool) -> None:
    server.acts = [act, act, says(200, whole())]
    assert ("".join(chat.stream(ASK)) if streaming else chat.complete(ASK)) == ANSWER
    assert len(server.requests) == 3


@pytest.mark.parametrize(
    ("act", "tries", "message"),
    [
        (says(429, "slow down"), 3, "answered 429: slow down (after 3 tries)"),
        (says(500, json.dumps({"error": {"message": "out of memory"}})), 3, "answered 500: out of memory (after 3"),
        (says(0), 3, "cannot be asked (RemoteProtocolError"),
        (says(401, json.dumps({"error": {"message": f"bad key {KEY}"}})), 1, "answered 401: bad key ***"),
        (says(400, "x" * 290 + KEY), 1, "answered 400: " + "x" * 290 + "***"),
        (says(404, "[1"), 1, "answered 404: [1"),
        (says(302, "", Location="http://127.0.0.1:9/"), 1, "answered 302"),
        (says(200, "<html>hello</html>"), 1, "no chat completion: <html>"),
        (says(200, "[]"), 1, "no chat completion"),
        (says(200, '{"choices": [{"message": {"content": 3}}]}'), 1, "no chat completion"),
        (says(200, '{"choices": [3]}'), 1, "no chat completion"),
        (says(200, '{"choices": []}'), 1, "without a word"),
        (says(200, whole("")), 1, "without a word"),
        (says(200, "[" * 100_000), 1, "no chat completion"),
        (says(200, json.dumps({"error": {"message": "no such model"}})), 1, "failed: no such model"),
        (says(200, json.dumps({"error": "overloaded"})), 1, "failed: overloaded"),
        (says(200, whole("half", "content_filter")), 1, "content filter"),
        (says(200, json.dumps({"choices": [{"message": {"refusal": "I must not"}}]})), 1, "refused: I must not"),
    ],
)
def test_lasting_failures_are_told_without_the_key(
    server: Server, chat: OpenAIChat, act: Act, tries: int, message: str
) -> None:
    server.acts = [act] * 5
    with pytest.raises(ModelError) as caught:
        chat.complete(ASK)
    assert len(server.requests) == tries
    assert message in str(caught.value)
    assert "some-model at http://127.0.0.1:" in str(caught.value)
    assert KEY not in f"{caught.value} {caught.value.__cause__!r} {chat!r}"
    assert KEY[:10] not in str(caught.value)


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (streams(events(piece("One"), piece(" two"))), "broke off"),  # no mark, no reason
        (streams(events(piece("One"), piece(" two")), b'data: {"cho'), "no chat completion"),
        (
            streams(events(piece("One"), piece(" two"), json.dumps({"error": {"message": "out of memory"}}))),
            "out of memory",
        ),
    ],
)
def test_a_stream_that_breaks_is_not_begun_again(server: Server, chat: OpenAIChat, act: Act, message: str) -> None:
    server.acts = [act] * 3
    heard: list[str] = []
    with pytest.raises(ModelError, match=message):
        listen(chat, heard)
    assert heard == ["One", " two"]
    assert len(server.requests) == 1


def test_a_connection_lost_in_the_middle_is_tried_again_only_for_a_whole_answer(
    server: Server, chat: OpenAIChat
) -> None:
    def lost(handler: Handler) -> None:
        handler.begin("application/json", length=10_000)
        handler.wfile.write(b'{"choices"')

    server.acts = [lost, says(200, whole())]
    assert chat.complete(ASK) == ANSWER

    def lost_later(handler: Handler) -> None:
        handler.begin(length=10_000)
        handler.wfile.write(events(piece("One")))

    server.acts = [lost_later]
    heard = chat.stream(ASK)
    assert next(heard) == "One"
    with pytest.raises(ModelError, match="cannot be asked"):
        next(heard)
    assert len(server.requests) == 3


def silent(handler: Handler) -> None:
    handler.server.over.wait(30)


def dripping(handler: Handler) -> None:
    """A comment now and then, so that no wait for a byte is long."""
    handler.begin()
    handler.wfile.write(events(piece("One")))
    while not handler.server.over.wait(0.02):
        handler.wfile.write(b": still here\n\n")


@pytest.mark.parametrize("act", [silent, dripping])
@pytest.mark.parametrize("streaming", [False, True])
def test_a_slow_answer_ends_in_time(server: Server, chat: OpenAIChat, act: Act, streaming: bool) -> None:
    server.acts = [act] * 3
    with pytest.raises(ModelError, match="did not finish its answer in time"):
        "".join(chat.stream(ASK, timeout=0.15)) if streaming else chat.complete(ASK, timeout=0.15)
    assert not server.over.is_set()
    assert len(server.requests) == 1


def test_the_end_comes_on_time_also_while_nothing_is_sent(
    server: Server, chat: OpenAIChat, monkeypatch: pytest.MonkeyPatch
) -> None:
    import httpx

    spoke_again = threading.Event()

    def begun(handler: Handler) -> None:
        handler.begin()
        handler.wfile.write(events(piece("One")))
        if not handler.server.over.wait(5):
            spoke_again.set()
            handler.wfile.write(events(piece(" two", "stop")))

    endless = httpx.Timeout(None)
    monkeypatch.setattr(httpx, "Timeout", lambda *_, **__: endless)  # so that only the whole answer's end can help
    server.acts = [begun]
    with pytest.raises(ModelError, match="in time"):
        list(chat.stream(ASK, timeout=0.1))
    assert not spoke_again.is_set()


def test_a_wait_that_is_too_long_is_not_begun(server: Server, chat: OpenAIChat) -> None:
    server.acts = [says(429, "slow down", Retry_After="3600")]
    with pytest.raises(ModelError, match=r"answered 429: slow down; the next try is due in 3600\.0 s, later than"):
        chat.complete(ASK)
    assert len(server.requests) == 1


def test_a_listener_who_leaves_ends_the_request(server: Server, chat: OpenAIChat) -> None:
    hung_up = threading.Event()

    def endless(handler: Handler) -> None:
        handler.begin()
        try:
            while True:
                handler.wfile.write(events(piece("on and on " * 100)))
        except OSError:
            hung_up.set()

    server.acts = [endless]
    heard = chat.stream(ASK)
    assert next(heard).startswith("on and on")
    heard.close()  # type: ignore[attr-defined]  # a generator
    assert hung_up.wait(10)


def test_an_answer_at_its_limit_warns(server: Server, chat: OpenAIChat) -> None:
    server.acts = [says(200, whole("and then", "length")), streams(events(piece("and then", "length")))]
    with pytest.warns(AnswerCutWarning, match="some-model: the answer was cut at max_tokens"):
        assert chat.complete(ASK) == "and then"
    with pytest.warns(AnswerCutWarning):
        assert list(chat.stream(ASK)) == ["and then"]


def test_too_much_is_refused(server: Server, chat: OpenAIChat, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vecbench.rag.answer.openai._MOST_BYTES", 1 << 20)
    server.acts = [says(200, whole("x" * (1 << 20)))]
    with pytest.raises(ModelError, match="answered more than 1 MiB"):
        chat.complete(ASK)


def test_the_environment_names_server_and_key(monkeypatch: pytest.MonkeyPatch, server: Server) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", f"{server.url}/v1")
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    server.acts = [says(200, whole())] * 2
    with OpenAIChat("m") as chat:
        chat.complete(ASK)
    with OpenAIChat("m", base_url=f"{server.url}/v1") as chat:  # another server than the environment's gets no key
        chat.complete(ASK)
    assert [request.key for request in server.requests] == [f"Bearer {KEY}", None]
    monkeypatch.delenv("OPENAI_BASE_URL")
    with OpenAIChat("m") as chat:
        assert repr(chat) == "OpenAIChat('m', url='https://api.openai.com/v1/chat/completions')"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"model": ""}, "name is empty"),
        ({"base_url": "ftp://x"}, "not a URL"),
        ({"base_url": "https://user:pass@[bad/v1"}, r"\*\*\*@"),
        ({"base_url": "https://h/v1?key=3"}, "not a URL"),
        ({"api_key": "a\nb"}, "characters that no key has"),
        ({"timeout_seconds": 0}, "must be positive"),
        ({"retries": -1}, "must not be negative"),
    ],
)
def test_wrong_settings_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        OpenAIChat(**{"model": "m", **arguments})
    assert "pass@" not in str(caught.value)


def test_wrong_calls_are_refused_at_once(chat: OpenAIChat) -> None:
    for call in (chat.complete, chat.stream):
        with pytest.raises(ConfigError, match="max_tokens is 0"):
            call(ASK, max_tokens=0)
        with pytest.raises(ConfigError, match="timeout is -1"):
            call(ASK, timeout=-1)
        with pytest.raises(ConfigError, match="no messages"):
            call([])
