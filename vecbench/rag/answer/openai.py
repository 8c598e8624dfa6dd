"""Language models from OpenAI, and from the many servers that speak its `/chat/completions` interface."""

from __future__ import annotations

import json
import math
import os
import random
import socket
import threading
import time
import warnings
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, NoReturn

from vecbench.endpoint import Access, asked_wait_seconds, checked_key, checked_url
from vecbench.errors import ConfigError, MissingDependency, ModelError, redact
from vecbench.rag.answer.sse import event_data
from vecbench.rag.types import Message

__all__ = ["AnswerCutWarning", "OpenAIChat"]

_DEFAULT_URL = "https://api.openai.com/v1"
_KEY_VARIABLE, _URL_VARIABLE = "OPENAI_API_KEY", "OPENAI_BASE_URL"
_RETRIED = frozenset({408, 409, 429})  # and every 5xx
_CONNECT_SECONDS = 10.0
_MOST_SECONDS = 1e6  # a socket's timeout holds little more
_MOST_BYTES = 32 << 20  # of one answer; a model that says more is not answering


class AnswerCutWarning(UserWarning):
    """The model had more to say than `max_tokens` allowed: its answer ends in the middle."""


class _Passing(Exception):
    """A try failed in a way that another one may not; the server asks to wait so long."""

    def __init__(self, problem: str, wait_seconds: float = 0.0) -> None:
        super().__init__(problem)
        self.wait_seconds = wait_seconds


class _Call:
    """One answer that is waited for: until its deadline, or until `leave` says that nobody listens any more."""

    def __init__(self, seconds: float) -> None:
        self.left = threading.Event()
        self.deadline = math.inf
        self._seconds = seconds
        self._lock = threading.Lock()
        self._socket: Any = None  # that the answer comes from

    def begin(self) -> None:
        self.deadline = time.monotonic() + self._seconds

    def leave(self) -> None:
        self.left.set()
        self._cut()

    @contextmanager
    def reading(self, response: Any) -> Iterator[None]:
        """End the connection at the deadline or when the listener leaves, whoever waits for it then.

        The timeouts of httpx bound the wait for the next byte; a server that sends one now and then would never meet
        them.
        """
        with self._lock:
            self._socket = response.extensions["network_stream"].get_extra_info("socket")
        timer = threading.Timer(max(0.0, self.deadline - time.monotonic()), self._cut)
        timer.daemon = True
        timer.start()
        try:
            if self.left.is_set():  # before there was a socket to cut
                self._cut()
            yield
        finally:
            timer.cancel()
            self.read()

    def read(self) -> None:
        """All has come: the connection may be another answer's now."""
        with self._lock:
            self._socket = None

    def _cut(self) -> None:
        with self._lock, suppress(OSError):
            if self._socket is not None:
                # Not the method of a TLS socket: that forgets its TLS state under the thread that reads.
                socket.socket.shutdown(self._socket, socket.SHUT_RDWR)


class _Stream(Iterator[str]):
    """The pieces of an answer; `close` is for the thread that listens, `cancel` for another while that one waits."""

    def __init__(self, pieces: Generator[str, None, None], call: _Call) -> None:
        self._pieces, self._call = pieces, call

    def __next__(self) -> str:
        return next(self._pieces)

    def close(self) -> None:
        self._pieces.close()

    def cancel(self) -> None:
        self._call.leave()


class OpenAIChat:
    """Asks a server for answers of `model`; an `LLM`, and a context manager: `close()` ends its connections.

    base_url: OPENAI_BASE_URL when not given, then OpenAI's own. api_key: OPENAI_API_KEY when not given, but only where
    base_url is not given either: a key from the environment goes to no other server than the environment names. It is
    shown in no repr and in no error. temperature, seed: sent unless None; some models refuse a temperature.
    max_tokens_field: newer models of OpenAI want "max_completion_tokens". options: further fields of the request.
    timeout_seconds: for a whole answer, with all tries and waits, unless the call says another. retries: further tries
    after a lost connection or the statuses 408, 409, 429 and 500 to 599, each after twice the wait of the one before,
    or as long as the server asks, if the time allows it; never once a piece of an answer has been handed on.
    """

    def __init__(
        self,
        model: str,
        *,
        base_url: str | None = None,
        api_key: str | None = None,
        temperature: float | None = 0.0,
        seed: int | None = None,
        max_tokens_field: str = "max_tokens",
        options: Mapping[str, Any] | None = None,
        timeout_seconds: float = 60.0,
        retries: int = 2,
        backoff_seconds: float = 0.5,
    ) -> None:
        try:
            import httpx
        except ImportError as error:
            raise MissingDependency("The client of a language model", module="httpx", extra="rag") from error
        if not model:
            raise ConfigError("the model's name is empty; name it as the server does")
        if retries < 0 or not timeout_seconds > 0 or backoff_seconds < 0:
            raise ConfigError(
                f"{model}: timeout_seconds {timeout_seconds} must be positive, retries {retries} and "
                f"backoff_seconds {backoff_seconds} must not be negative"
            )
        if base_url is None:
            base_url = os.environ.get(_URL_VARIABLE) or _DEFAULT_URL
            api_key = api_key or os.environ.get(_KEY_VARIABLE)
        self._access = Access(checked_url(base_url) + "/chat/completions", checked_key(api_key))
        self._model, self._max_tokens_field = model, max_tokens_field
        asked = {"temperature": temperature, "seed": seed}
        self._options = {**{name: value for name, value in asked.items() if value is not None}, **(options or {})}
        self._timeout_seconds, self._retries, self._backoff_seconds = timeout_seconds, retries, backoff_seconds
        self._httpx = httpx
        headers = {"Content-Type": "application/json", **self._access.headers}
        self._client = httpx.Client(headers=headers, auth=self._access.auth)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._model!r}, url={redact(self._access.url)!r})"

    def __enter__(self) -> OpenAIChat:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """End the connections; a second call is fine."""
        self._client.close()

    @property
    def name(self) -> str:
        """The model, as the server calls it."""
        return self._model

    def complete(self, messages: Sequence[Message], *, max_tokens: int = 512, timeout: float | None = None) -> str:
        """The model's answer. timeout: seconds for the whole of it, all tries included.

        Raises ModelError when the server refuses, cannot be reached, is too slow, or answers no text. Warns with
        AnswerCutWarning when the answer ended at `max_tokens`.
        """
        body, call = self._body(messages, max_tokens, stream=False), self._call(timeout)
        return "".join(self._retried(lambda: self._whole(body, call), call))

    def stream(
        self, messages: Sequence[Message], *, max_tokens: int = 512, timeout: float | None = None
    ) -> Iterator[str]:
        """The same answer in pieces, as they come; the time runs from the first that is asked for.

        An error after the first piece ends it: what came cannot be taken back. Closing the iterator ends the request;
        its `cancel()` does so from another thread, where a piece is waited for: at once if the server has begun to
        answer, otherwise when it begins, at the latest in time.
        """
        body, call = self._body(messages, max_tokens, stream=True), self._call(timeout)
        return _Stream(self._retried(lambda: self._pieces(body, call), call), call)

    def _body(self, messages: Sequence[Message], max_tokens: int, *, stream: bool) -> bytes:
        if max_tokens < 1:
            raise ConfigError(f"{self._model}: max_tokens is {max_tokens}; it must be at least 1")
        if not messages:
            raise ConfigError(f"{self._model}: no messages to answer")
        turns = [{"role": message.role, "content": message.content} for message in messages]
        body = {"model": self._model, "messages": turns, self._max_tokens_field: max_tokens, **self._options}
        return json.dumps({**body, "stream": stream}).encode("ascii")

    def _call(self, timeout: float | None) -> _Call:
        seconds = self._timeout_seconds if timeout is None else timeout
        if not seconds > 0:
            raise ConfigError(f"{self._model}: timeout is {timeout}; it must be positive")
        return _Call(min(seconds, _MOST_SECONDS))

    def _retried(self, attempt: Callable[[], Iterator[str]], call: _Call) -> Generator[str, None, None]:
        call.begin()
        begun = False
        for tries in range(1, self._retries + 2):
            try:
                for piece in _whole_characters(attempt()):
                    begun = True
                    yield piece
            except _Passing as passing:
                problem = f"{passing} (after {tries} tries)" if tries > 1 else str(passing)
                if begun or tries > self._retries:
                    raise self._error(problem) from passing.__cause__
                wait_seconds = self._backoff_seconds * 2 ** (tries - 1) * random.uniform(0.75, 1.25)  # noqa: S311 - only jitter
                wait_seconds = max(wait_seconds, passing.wait_seconds)
                if wait_seconds >= call.deadline - time.monotonic():
                    raise self._error(
                        f"{problem}; the next try is due in {wait_seconds:.1f} s, later than this call may last"
                    ) from passing.__cause__
            else:
                return
            call.left.wait(wait_seconds)

    def _whole(self, body: bytes, call: _Call) -> Iterator[str]:
        with self._answering(body, call) as (_, data):
            yield self._text_of(b"".join(data))

    def _pieces(self, body: bytes, call: _Call) -> Iterator[str]:
        with self._answering(body, call) as (kind, data):
            if kind.startswith("application/json"):  # a server that cannot stream answers whole
                yield self._text_of(b"".join(data))
                return
            ended = said = False
            for event in event_data(data):
                if event == "[DONE]":
                    ended = True
                    break
                text, finish = self._read(event, "delta")
                if text:
                    said = True
                    yield text
                ended = ended or finish is not None
            if not ended:
                raise _Passing("broke off its answer: the stream ended without its end mark")
            if not said:
                self._fail("answered without a word")

    @contextmanager
    def _answering(self, body: bytes, call: _Call) -> Iterator[tuple[str, Iterator[bytes]]]:
        """The content type and the bytes of an answer of status 200; everything else becomes an error here."""
        if self._client.is_closed:
            self._fail("cannot be asked: this client was closed")
        self._check_left(call)
        left = call.deadline - time.monotonic()
        httpx = self._httpx
        timeout = httpx.Timeout(max(left, 0.001), connect=max(0.001, min(left, _CONNECT_SECONDS)))
        try:
            with (
                self._client.stream("POST", self._access.url, content=body, timeout=timeout) as response,
                call.reading(response),
            ):
                if response.status_code != httpx.codes.OK:
                    self._refused(response, call)
                yield response.headers.get("content-type", ""), self._bytes(response, call)
        except httpx.TransportError as error:
            self._check_left(call)
            if time.monotonic() >= call.deadline or isinstance(error, httpx.ReadTimeout | httpx.WriteTimeout):
                raise self._late() from error
            raise _Passing(f"cannot be asked ({type(error).__name__}: {error})") from error
        except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
            # No valid request or answer: again would not help.
            raise self._error(f"cannot be asked ({type(error).__name__}: {error})") from error

    def _bytes(self, response: Any, call: _Call) -> Iterator[bytes]:
        size = 0
        for piece in response.iter_bytes():
            if (size := size + len(piece)) > _MOST_BYTES:
                self._fail(f"answered more than {_MOST_BYTES >> 20} MiB")
            yield piece
        call.read()
        self._check_left(call)  # the end is not the server's then, nor at the deadline: see _Call.reading
        if time.monotonic() >= call.deadline:
            raise self._late()

    def _check_left(self, call: _Call) -> None:
        if call.left.is_set():
            self._fail("was left by its listener")

    def _refused(self, response: Any, call: _Call) -> NoReturn:
        status = response.status_code
        text = b"".join(self._bytes(response, call)).decode("utf-8", "replace")
        with suppress(ValueError, TypeError, KeyError, RecursionError):
            text = str(json.loads(text)["error"]["message"])
        problem = f"answered {status}: {self._shown(text)}"
        if status not in _RETRIED and status < 500:
            self._fail(problem)
        raise _Passing(problem, asked_wait_seconds(response.headers.get("retry-after")))

    def _text_of(self, data: bytes) -> str:
        text, _ = self._read(data.decode("utf-8", "replace"), "message")
        if not text:
            self._fail("answered without a word")
        return text

    def _read(self, text: str, part: str) -> tuple[str, str | None]:
        """The text and the finish reason of an answer ("message") or of a piece of one ("delta")."""
        try:
            answer = json.loads(text)
            if error := answer.get("error"):
                message = error["message"] if isinstance(error, dict) and "message" in error else error
                self._fail(f"failed: {self._shown(str(message))}")
            if not (choices := answer["choices"]):
                return "", None  # a piece that only counts tokens
            said = choices[0].get(part) or {}
            content, finish = said.get("content"), choices[0].get("finish_reason")
            if refusal := said.get("refusal"):
                self._fail(f"refused: {self._shown(str(refusal))}")
            if not isinstance(content, str | None):
                raise TypeError("the content is no text")
        except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError) as error:
            raise self._error(f"answered something that is no chat completion: {self._shown(text)}") from error
        if finish == "content_filter":
            self._fail("stopped at the server's content filter")
        if finish == "length":
            warnings.warn(f"{self._model}: the answer was cut at max_tokens", AnswerCutWarning, stacklevel=2)
        return content or "", finish

    def _late(self) -> ModelError:
        return self._error("did not finish its answer in time")

    def _fail(self, problem: str) -> NoReturn:
        raise self._error(problem)

    def _error(self, problem: str) -> ModelError:
        return ModelError(self._access.masked(f"{self._model} at {self._access.url} {problem}"))

    def _shown(self, text: str) -> str:
        """The beginning of what a server said; masked first, because half a key would not be found."""
        return "".join(_whole_characters([self._access.masked(text)[:300]]))


def _whole_characters(pieces: Iterable[str]) -> Iterator[str]:
    """The pieces without halves of characters, which cannot be printed; what lacks its other half becomes U+FFFD.

    JSON may spell a character as two escapes, "\\ud83d\\ude42", and some servers cut their pieces between them.
    """
    half = ""
    for piece in pieces:
        text = half + piece
        half = text[-1:] if "\ud800" <= text[-1:] <= "\udbff" else ""
        if whole := text.removesuffix(half):
            yield whole.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    if half:
        yield "\ufffd"
