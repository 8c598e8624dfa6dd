"""A chat that nobody listens to any more, halves of characters, and secrets in the URL."""

from __future__ import annotations

import json
import logging
import math
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.scripted_http import Act, Handler, Server, says, serving
from vecbench.errors import ModelError
from vecbench.rag.answer.openai import OpenAIChat, _whole_characters
from vecbench.rag.types import Message

ASK = [Message("user", "What is the fee?")]
SECONDS = 10  # after which a wait has failed


def whole(content: str) -> str:
    return json.dumps({"choices": [{"message": {"content": content}, "finish_reason": "stop"}]})


def events(*pieces: str) -> bytes:
    """With every character outside ASCII as an escape, or two."""
    return b"".join(b"data: %s\n\n" % json.dumps({"choices": [{"delta": {"content": p}}]}).encode() for p in pieces)


def says_and_waits(*pieces: str, hung_up: threading.Event, length: int | None = None) -> Act:
    def act(handler: Handler) -> None:
        handler.begin(length=length)
        handler.wfile.write(events(*pieces))
        if not handler.connection.recv(1):
            hung_up.set()

    return act


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as running:
        yield running


@pytest.fixture
def chat(server: Server) -> Iterator[OpenAIChat]:
    with OpenAIChat("m", base_url=server.url, retries=2, backoff_seconds=0.001, timeout_seconds=SECONDS) as made:
        yield made


def waiting_for(pieces: Any) -> tuple[threading.Thread, list[Exception]]:
    """A thread that waits for a piece, and the error that it gets."""
    errors: list[Exception] = []

    def wait() -> None:
        try:
            next(pieces)
        except Exception as error:
            errors.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    return thread, errors


@pytest.mark.parametrize("length", [None, 10_000])  # to the client, an end or a lost connection
def test_cancelling_ends_the_request_while_a_piece_is_waited_for(
    server: Server, chat: OpenAIChat, length: int | None
) -> None:
    hung_up = threading.Event()
    server.acts = [says_and_waits("Ten ", hung_up=hung_up, length=length)]
    pieces: Any = chat.stream(ASK)
    assert next(pieces) == "Ten "
    thread, errors = waiting_for(pieces)
    pieces.cancel()
    assert hung_up.wait(SECONDS / 2)
    thread.join(SECONDS / 2)
    assert [str(error) for error in errors] == [f"m at {server.url}/chat/completions was left by its listener"]
    assert len(server.requests) == 1  # a connection that we cut is not tried again
    assert list(pieces) == []


def test_what_is_cancelled_before_the_answer_begins_ends_when_it_does(server: Server, chat: OpenAIChat) -> None:
    asked, go_on, hung_up = threading.Event(), threading.Event(), threading.Event()

    def slow(handler: Handler) -> None:
        asked.set()
        assert go_on.wait(SECONDS)
        says_and_waits("Ten ", hung_up=hung_up)(handler)

    server.acts = [slow]
    pieces: Any = chat.stream(ASK)
    thread, errors = waiting_for(pieces)
    assert asked.wait(SECONDS)
    pieces.cancel()
    go_on.set()
    assert hung_up.wait(SECONDS / 2)
    thread.join(SECONDS / 2)
    pieces.close()
    assert len(server.requests) == 1
    assert all("was left by its listener" in str(error) for error in errors)


def test_no_further_try_is_waited_for(server: Server, chat: OpenAIChat, monkeypatch: pytest.MonkeyPatch) -> None:
    server.acts = [says(503, "busy", Retry_After=str(SECONDS - 1))]
    pieces: Any = chat.stream(ASK)

    def cancelling(*_: float) -> float:
        pieces.cancel()
        return 1.0

    monkeypatch.setattr("random.uniform", cancelling)  # which is asked before the wait
    thread, errors = waiting_for(pieces)
    thread.join(SECONDS / 2)
    assert not thread.is_alive()
    assert "was left by its listener" in str(errors[0])
    assert len(server.requests) == 1


def test_cancelling_what_has_come_leaves_the_connection_to_others(server: Server, chat: OpenAIChat) -> None:
    ports: list[int] = []

    def answers(handler: Handler) -> None:
        ports.append(handler.client_address[1])
        handler.say(200, whole("Ten [1]"))  # whole: this server cannot stream

    server.usual = answers
    pieces: Any = chat.stream(ASK)
    assert next(pieces) == "Ten [1]"
    pieces.cancel()
    assert chat.complete(ASK) == "Ten [1]"
    assert len(set(ports)) == 1


def test_halves_of_a_character_are_joined(server: Server, chat: OpenAIChat) -> None:
    def act(handler: Handler) -> None:
        handler.begin()
        handler.wfile.write(events("Ten \ud83d", "\ude42 or", " \ud83d", "x\ude42", "\ud83d") + b"data: [DONE]\n\n")

    server.acts = [act, says(200, whole("\ude42 Ten \ud83d\ude42 \ud83d"))]
    assert list(chat.stream(ASK)) == ["Ten ", "🙂 or", " ", "\ufffdx\ufffd", "\ufffd"]
    assert chat.complete(ASK) == "\ufffd Ten 🙂 \ufffd"


def test_an_error_can_be_printed(server: Server, chat: OpenAIChat) -> None:
    server.acts = [says(401, '{"error": {"message": "no \\ud83d"}}')]
    with pytest.raises(ModelError, match="answered 401: no \ufffd"):
        chat.complete(ASK)


@given(st.lists(st.text(st.sampled_from("a🙂\ufeff\ud83d\ude42\ud83e"), min_size=1, max_size=3)))
def test_any_pieces_are_whole_characters(pieces: list[str]) -> None:
    found = list(_whole_characters(pieces))
    together = "".join(pieces).encode("utf-16-le", "surrogatepass")
    assert "".join(found) == together.decode("utf-16-le", "replace")
    assert "" not in found
    for piece in found:
        piece.encode()


def test_a_password_in_the_url_is_in_no_log_and_no_error(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    server.acts = [says(200, whole("Ten")), says(403, "hunter2 may not")]
    with OpenAIChat("m", base_url=server.url.replace("://", "://ann:hunter2@")) as chat:
        assert chat.complete(ASK) == "Ten"
        assert server.requests[0].key == "Basic YW5uOmh1bnRlcjI="  # of "ann:hunter2"
        with pytest.raises(ModelError, match=r"answered 403: \*\*\* may not") as caught:
            chat.complete(ASK)
    assert f"POST {server.url}/chat/completions" in caplog.text
    assert "hunter2" not in f"{caplog.text} {caught.value} {chat!r}"


def test_a_closed_chat_is_an_error_of_ours(server: Server, chat: OpenAIChat) -> None:
    chat.close()
    for ask in (chat.complete, lambda messages: "".join(chat.stream(messages))):
        with pytest.raises(ModelError, match="cannot be asked: this client was closed"):
            ask(ASK)
    assert not server.requests


def test_a_host_that_only_httpx_refuses_is_an_error_of_ours() -> None:
    with OpenAIChat("m", base_url="http://xn--/v1") as chat, pytest.raises(ModelError, match="cannot be asked"):
        chat.complete(ASK)


@pytest.mark.parametrize("seconds", [math.inf, 1e12])
def test_a_timeout_may_be_endless(server: Server, chat: OpenAIChat, seconds: float) -> None:
    server.acts = [says(200, whole("Ten"))]
    assert chat.complete(ASK, timeout=seconds) == "Ten"
