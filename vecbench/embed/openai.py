"""Embeddings from OpenAI, and from the many servers that speak its `/embeddings` interface."""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from vecbench.embed.spec import EmbedderSpec, Progress
from vecbench.embed.texts import checked_texts, checked_vectors
from vecbench.errors import ConfigError, EmbedderError, MissingDependency, redact
from vecbench.types import Vectors

__all__ = ["OpenAIEmbedder"]

_DEFAULT_URL = "https://api.openai.com/v1"
_KEY_VARIABLE, _URL_VARIABLE = "OPENAI_API_KEY", "OPENAI_BASE_URL"
_RETRIED = frozenset({408, 409, 429, 500, 502, 503, 504})
_LONGEST_WAIT_SECONDS = 60.0


class OpenAIEmbedder:
    """Asks a server for vectors of `dim` dimensions; a context manager, `close()` ends its connections.

    base_url: OPENAI_BASE_URL when not given, then OpenAI's own. api_key: OPENAI_API_KEY when not given, but only where
    base_url is not given either: a key from the environment goes to no other server than the environment names. It is
    shown in no repr and in no error. send_dimensions: ask the server for `dim` dimensions, where the model can shorten.
    revision: what you know of the server's model state; part of the identity, like the prefixes.
    batch_texts: texts in one request. retries: further tries after a timeout, a lost connection, or the statuses 408,
    409, 429, 500, 502, 503 and 504, each after twice the wait of the one before, or as long as the server asks.
    """

    def __init__(
        self,
        model: str,
        *,
        dim: int,
        base_url: str | None = None,
        api_key: str | None = None,
        revision: str = "",
        max_tokens: int | None = None,
        normalised: bool = False,
        query_prefix: str = "",
        document_prefix: str = "",
        send_dimensions: bool = False,
        batch_texts: int = 256,
        timeout_seconds: float = 60.0,
        retries: int = 5,
        backoff_seconds: float = 0.5,
    ) -> None:
        try:
            import httpx
        except ImportError as error:
            raise MissingDependency("The OpenAI-compatible embedder", module="httpx", extra="openai") from error
        if batch_texts < 1 or retries < 0 or timeout_seconds <= 0 or backoff_seconds < 0:
            raise ConfigError(
                f"OpenAI-compatible embedder: batch_texts {batch_texts} and timeout_seconds {timeout_seconds} must be "
                f"positive, retries {retries} and backoff_seconds {backoff_seconds} must not be negative"
            )
        if base_url is None:
            base_url = os.environ.get(_URL_VARIABLE) or _DEFAULT_URL
            api_key = api_key or os.environ.get(_KEY_VARIABLE)
        self._url = _checked_url(base_url) + "/embeddings"
        self._key = _checked_key(api_key)
        self.spec = EmbedderSpec(
            name=model,
            dim=dim,
            revision=revision,
            max_tokens=max_tokens,
            normalised=normalised,
            query_prefix=query_prefix,
            document_prefix=document_prefix,
        )
        self._send_dimensions, self._batch_texts = send_dimensions, batch_texts
        self._retries, self._backoff_seconds = retries, backoff_seconds
        headers = {"Authorization": f"Bearer {self._key}"} if self._key else {}
        self._httpx = httpx
        self._client = httpx.Client(headers=headers, timeout=timeout_seconds)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.spec.name!r}, dim={self.spec.dim}, url={redact(self._url)!r})"

    def __enter__(self) -> OpenAIEmbedder:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """End the connections; a second call is fine."""
        self._client.close()

    def embed_documents(self, texts: Sequence[str], *, progress: Progress | None = None) -> Vectors:
        """Vectors of `texts`, float32 (n, dim), in their order; `progress(done, total)` counts texts.

        Raises EmbedderError when the server refuses, cannot be reached, or answers with something else.
        """
        return self._embed([self.spec.document_prefix + text for text in checked_texts(texts)], progress)

    def embed_queries(self, texts: Sequence[str]) -> Vectors:
        """The same with the prefix for queries."""
        return self._embed([self.spec.query_prefix + text for text in checked_texts(texts)], None)

    def _embed(self, texts: list[str], progress: Progress | None) -> Vectors:
        vectors = np.empty((len(texts), self.spec.dim), np.float32)
        for start in range(0, len(texts), self._batch_texts):
            batch = texts[start : start + self._batch_texts]
            vectors[start : start + len(batch)] = self._request(batch)
            if progress:
                progress(start + len(batch), len(texts))
        return vectors

    def _request(self, batch: list[str]) -> Vectors:
        body: dict[str, Any] = {"model": self.spec.name, "input": batch, "encoding_format": "float"}
        if self._send_dimensions:
            body["dimensions"] = self.spec.dim
        for attempt in range(self._retries + 1):
            wait_seconds = self._backoff_seconds * 2**attempt * random.uniform(0.75, 1.25)  # noqa: S311 - only jitter
            cause: Exception | None = None
            try:
                response = self._client.post(self._url, json=body)
            except self._httpx.TransportError as error:
                cause, problem = error, f"cannot be asked ({type(error).__name__}: {error})"
            else:
                if response.status_code == self._httpx.codes.OK:
                    return self._vectors(response, len(batch))
                problem = f"answered {response.status_code}: {response.text[:300]}"
                if response.status_code not in _RETRIED:
                    raise self._error(problem)
                wait_seconds = max(wait_seconds, _asked_wait_seconds(response.headers.get("retry-after")))
            if attempt == self._retries:
                raise self._error(f"{problem} (after {attempt + 1} tries)") from cause
            threading.Event().wait(min(wait_seconds, _LONGEST_WAIT_SECONDS))
        raise AssertionError("the last attempt returned or raised")

    def _vectors(self, response: Any, count: int) -> Vectors:
        """The vectors in the order of the texts: the answer numbers them and may list them in any order."""
        try:
            rows = {row["index"]: row["embedding"] for row in response.json()["data"]}
        except (ValueError, TypeError, KeyError) as error:
            raise self._error(f"answered no list of embeddings: {response.text[:300]}") from error
        if sorted(rows) != list(range(count)):
            raise self._error(f"answered {len(rows)} embeddings, not those of the {count} texts asked for")
        return checked_vectors([rows[index] for index in range(count)], self.spec, count)

    def _error(self, problem: str) -> EmbedderError:
        text = redact(f"{self.spec.name} at {self._url} {problem}")
        return EmbedderError(text.replace(self._key, "***") if self._key else text)


def _checked_url(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ConfigError(f"base_url {redact(url)!r} is not a URL like {_DEFAULT_URL}")
    return url.rstrip("/")


def _checked_key(key: str | None) -> str | None:
    """The key without blanks around it; what cannot be a header is refused here, without being shown."""
    if key is None or not (key := key.strip()):
        return None
    if not (key.isascii() and key.isprintable()):
        raise ConfigError("the API key holds characters that no key has (a line break, a letter outside ASCII?)")
    return key


def _asked_wait_seconds(header: str | None) -> float:
    """Seconds of a Retry-After header; 0 where there is none or it names a date."""
    try:
        return max(0.0, float(header or 0))
    except ValueError:
        return 0.0
