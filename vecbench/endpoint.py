"""What every client of a service by HTTP needs: its address, its key, and JSON asked for until it comes."""

from __future__ import annotations

import math
import random
import threading
from base64 import b64encode
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import unquote, urlsplit

from vecbench.errors import ConfigError, MissingDependency, VecbenchError, redact

__all__ = ["Access", "JsonEndpoint", "asked_wait_seconds", "checked_key", "checked_url"]

_LONGEST_WAIT_SECONDS = 60.0
_RETRIED = frozenset({408, 409, 429})  # and every 5xx


class Access:
    """Where a service is and what lets us in: `url` without user name and password, which are in `auth`.

    httpx logs every URL that it asks. headers: with the key, where there is one.
    """

    def __init__(self, url: str, key: str | None) -> None:
        parts = urlsplit(url)
        login, _, host = parts.netloc.rpartition("@")
        self.url = parts._replace(netloc=host).geturl()
        self.auth: tuple[str, str] | None = None
        self.headers = {"Authorization": f"Bearer {key}"} if key else {}
        secrets = [key]
        if login:
            name, _, password = login.partition(":")
            self.auth = name, password = unquote(name), unquote(password)
            secrets += [password, b64encode(f"{name}:{password}".encode()).decode("ascii")]
        # The longest first: one may be a part of another.
        self._secrets = sorted(filter(None, secrets), key=len, reverse=True)

    def masked(self, text: str) -> str:
        """The text without key and password, and without what looks like one."""
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return redact(text)


class JsonEndpoint:
    """Posts JSON to one address, and tries again what may pass; a context manager's `close` is its owner's to call.

    name: of the service or model, for errors. kind: the class of error that is raised. what, extra: named where httpx
    is not installed. timeout_seconds: to connect, and between two pieces of an answer. retries: further tries after a
    timeout, a lost connection, or the statuses 408, 409, 429 and 500 to 599, each after twice the wait of the one
    before, or as long as the server asks, at most a minute. The key is in no repr and in no error.
    """

    def __init__(
        self,
        name: str,
        url: str,
        key: str | None,
        *,
        kind: type[VecbenchError],
        what: str,
        extra: str,
        timeout_seconds: float,
        retries: int,
        backoff_seconds: float,
    ) -> None:
        if retries < 0 or not timeout_seconds > 0 or backoff_seconds < 0:
            raise ConfigError(
                f"{name}: timeout_seconds {timeout_seconds} must be positive, retries {retries} and backoff_seconds "
                f"{backoff_seconds} must not be negative"
            )
        try:
            import httpx
        except ImportError as error:
            raise MissingDependency(what, module="httpx", extra=extra) from error
        self._access = Access(url, key)
        self._name, self._url, self._kind = name, self._access.url, kind
        self._retries, self._backoff_seconds = retries, backoff_seconds
        self._httpx = httpx
        self._client = httpx.Client(headers=self._access.headers, auth=self._access.auth, timeout=timeout_seconds)

    @property
    def shown(self) -> str:
        """The address without what may be secret."""
        return redact(self._url)

    def close(self) -> None:
        """End the connections; a second call is fine."""
        self._client.close()

    def post(self, body: dict[str, Any]) -> Any:
        """The response of status 200; the error, with what the server said, where none comes."""
        if self._client.is_closed:
            raise self.error("cannot be asked: this client was closed")
        for attempt in range(self._retries + 1):
            wait_seconds = self._backoff_seconds * 2**attempt * random.uniform(0.75, 1.25)  # noqa: S311 - only jitter
            cause: Exception | None = None
            try:
                response = self._client.post(self._url, json=body)
            except self._httpx.TransportError as error:
                cause, problem = error, f"cannot be asked ({type(error).__name__}: {error})"
            except (self._httpx.HTTPError, self._httpx.InvalidURL, ValueError) as error:
                # No valid request or answer: again would not help.
                raise self.error(f"cannot be asked ({type(error).__name__}: {error})") from error
            else:
                status = response.status_code
                if status == self._httpx.codes.OK:
                    return response
                problem = f"answered {status}: {self.beginning(response.text)}"
                if status not in _RETRIED and status < 500:
                    raise self.error(problem)
                wait_seconds = max(wait_seconds, asked_wait_seconds(response.headers.get("retry-after")))
            if attempt == self._retries:
                raise self.error(f"{problem} (after {attempt + 1} tries)") from cause
            _pause(min(wait_seconds, _LONGEST_WAIT_SECONDS))
        raise AssertionError("the last attempt returned or raised")

    def beginning(self, text: str) -> str:
        """The beginning of what a server said; masked first, because half a key would not be found."""
        return self._access.masked(text)[:300]

    def error(self, problem: str) -> VecbenchError:
        """The error that says who had which problem."""
        return self._kind(self._access.masked(f"{self._name} at {self._url} {problem}"))


def _pause(seconds: float) -> None:
    threading.Event().wait(seconds)


def checked_url(url: str) -> str:
    """The URL without a slash at its end; ConfigError where it is none of http or https, or has more than a path."""
    try:
        parts = urlsplit(url)
        good = parts.scheme in {"http", "https"} and url.isprintable() and not parts.query and not parts.fragment
        # A port that is no number is a ValueError, and so is a host that cannot be looked up: "a..b".
        good = good and parts.port != 0 and bool((parts.hostname or "").encode("idna"))
    except ValueError:
        good = False
    if not good:
        raise ConfigError(f"base_url {redact(url)!r} is not a URL like https://host/v1")
    return url.rstrip("/")


def checked_key(key: str | None) -> str | None:
    """The key without blanks around it, None for a blank one; ConfigError, which does not show it, for a wrong one."""
    if key is None or not (key := key.strip()):
        return None
    if not (key.isascii() and key.isprintable()):
        raise ConfigError("the API key holds characters that no key has (a line break, a letter outside ASCII?)")
    return key


def asked_wait_seconds(header: str | None) -> float:
    """Seconds of a Retry-After header, which holds a number or a date; 0 where there is none or it is neither."""
    try:
        seconds = float(header or 0)
        return max(0.0, seconds) if math.isfinite(seconds) else 0.0
    except ValueError:
        pass
    try:
        return max(0.0, (parsedate_to_datetime(header or "") - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError):  # TypeError: a date without a time zone
        return 0.0
