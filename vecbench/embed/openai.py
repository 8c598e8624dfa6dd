"""Embeddings from OpenAI, and from the many servers that speak its `/embeddings` interface."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from vecbench.embed.spec import EmbedderSpec, Progress
from vecbench.embed.texts import checked_texts, checked_vectors
from vecbench.endpoint import JsonEndpoint, checked_key, checked_url
from vecbench.errors import ConfigError, EmbedderError
from vecbench.types import Vectors

__all__ = ["OpenAIEmbedder"]

_DEFAULT_URL = "https://api.openai.com/v1"
_KEY_VARIABLE, _URL_VARIABLE = "OPENAI_API_KEY", "OPENAI_BASE_URL"


class OpenAIEmbedder:
    """Asks a server for vectors of `dim` dimensions; a context manager, `close()` ends its connections.

    dim: None asks the server for one vector now, and takes its length (`EmbedderError` where none comes).
    base_url: OPENAI_BASE_URL when not given, then OpenAI's own. api_key: OPENAI_API_KEY when not given, but only where
    base_url is not given either: a key from the environment goes to no other server than the environment names. It is
    shown in no repr and in no error. send_dimensions: ask the server for `dim` dimensions, where the model can shorten.
    revision: what you know of the server's model state; part of the identity, like the prefixes.
    batch_texts: texts in one request. timeout_seconds, retries, backoff_seconds: as of `JsonEndpoint`.
    """

    def __init__(
        self,
        model: str,
        *,
        dim: int | None = None,
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
        if batch_texts < 1:
            raise ConfigError(f"{model}: batch_texts {batch_texts} must be positive")
        if send_dimensions and dim is None:
            raise ConfigError(f"{model}: send_dimensions asks for `dim` dimensions; give dim")
        if base_url is None:
            base_url = os.environ.get(_URL_VARIABLE) or _DEFAULT_URL
            api_key = api_key or os.environ.get(_KEY_VARIABLE)
        self._send_dimensions, self._batch_texts = send_dimensions, batch_texts
        self._endpoint = JsonEndpoint(
            model,
            checked_url(base_url) + "/embeddings",
            checked_key(api_key),
            kind=EmbedderError,
            what="The OpenAI-compatible embedder",
            extra="openai",
            timeout_seconds=timeout_seconds,
            retries=retries,
            backoff_seconds=backoff_seconds,
        )
        self.spec = EmbedderSpec(
            name=model,
            dim=self._learnt_dim(model) if dim is None else dim,
            revision=revision,
            max_tokens=max_tokens,
            normalised=normalised,
            query_prefix=query_prefix,
            document_prefix=document_prefix,
        )

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.spec.name!r}, dim={self.spec.dim}, url={self._endpoint.shown!r})"

    def __enter__(self) -> OpenAIEmbedder:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """End the connections; a second call is fine."""
        self._endpoint.close()

    def embed_documents(self, texts: Sequence[str], *, progress: Progress | None = None) -> Vectors:
        """Vectors of `texts`, float32 (n, dim), in their order; `progress(done, total)` counts texts.

        Raises EmbedderError when the server refuses, cannot be reached, or answers with something else.
        """
        return self._embed([self.spec.document_prefix + text for text in checked_texts(texts)], progress)

    def embed_queries(self, texts: Sequence[str]) -> Vectors:
        """The same with the prefix for queries."""
        return self._embed([self.spec.query_prefix + text for text in checked_texts(texts)], None)

    def _learnt_dim(self, model: str) -> int:
        """The length of the vectors that the server makes; ends the connections where it makes none."""
        try:
            response = self._endpoint.post({"model": model, "input": ["a"], "encoding_format": "float"})
            (vector,) = self._embeddings(response, 1)
            if not isinstance(vector, list) or not vector:
                raise self._endpoint.error(f"answered no vector: {self._endpoint.beginning(response.text)}")
            return len(vector)
        except BaseException:
            self.close()
            raise

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
        return self._vectors(self._endpoint.post(body), len(batch))

    def _vectors(self, response: Any, count: int) -> Vectors:
        return checked_vectors(self._embeddings(response, count), self.spec, count)

    def _embeddings(self, response: Any, count: int) -> list[Any]:
        """In the order of the texts: the answer numbers them and may list them in any order."""
        try:
            rows = {row["index"]: row["embedding"] for row in response.json()["data"]}
        except (ValueError, TypeError, KeyError) as error:
            raise self._endpoint.error(
                f"answered no list of embeddings: {self._endpoint.beginning(response.text)}"
            ) from error
        if sorted(rows) != list(range(count)):
            raise self._endpoint.error(f"answered {len(rows)} embeddings, not those of the {count} texts asked for")
        return [rows[index] for index in range(count)]
