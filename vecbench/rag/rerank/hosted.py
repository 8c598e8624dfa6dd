"""Rerankers behind HTTP: Cohere, Jina, Voyage, and servers that speak the interface of text-embeddings-inference."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from vecbench.endpoint import JsonEndpoint, checked_key, checked_url
from vecbench.errors import ConfigError, ModelError
from vecbench.rag.rerank.order import best_first, check_k
from vecbench.rag.types import Passage

__all__ = ["VENDORS", "HostedReranker", "Vendor", "VendorName"]

VendorName: TypeAlias = Literal["cohere", "jina", "voyage", "tei"]


@dataclass(frozen=True)
class Vendor:
    """The shape of one interface: a POST of question and texts, answered by scores that name the place of their text.

    url: of the service, None where everybody runs their own. path: what a base URL is followed by. key_variables:
    environment variables that may hold the key, the first that is set counts. names_model: the request says which
    model. texts, results, score: names of the fields; results is None where the answer itself is the list. options:
    sent along. batch_texts: the most texts that one request may have.
    """

    url: str | None
    path: str
    key_variables: tuple[str, ...]
    names_model: bool = True
    texts: str = "documents"
    results: str | None = "results"
    score: str = "relevance_score"
    options: Mapping[str, Any] = field(default_factory=dict)
    batch_texts: int = 1000


VENDORS: Mapping[str, Vendor] = {
    "cohere": Vendor("https://api.cohere.com", "/v2/rerank", ("CO_API_KEY", "COHERE_API_KEY")),
    "jina": Vendor("https://api.jina.ai", "/v1/rerank", ("JINA_API_KEY",), options={"return_documents": False}),
    "voyage": Vendor(
        "https://api.voyageai.com",
        "/v1/rerank",
        ("VOYAGE_API_KEY",),
        results="data",
        options={"return_documents": False, "truncation": True},
    ),
    # Raw scores, because a sigmoid's float32 rounds the best ones to equal. 32 texts are what its servers take unless
    # they were started with another --max-client-batch-size.
    "tei": Vendor(
        None,
        "/rerank",
        (),
        names_model=False,
        texts="texts",
        results=None,
        score="score",
        options={"raw_scores": True, "truncate": True},
        batch_texts=32,
    ),
}


class HostedReranker:
    """Asks a service for the score of each passage; a context manager, `close()` ends its connections.

    vendor: "cohere", "jina", "voyage" or "tei" (text-embeddings-inference, which names no model and needs a base_url).
    model: as the vendor calls it. base_url: of another server that speaks the same interface, with scheme and host, and
    what comes before the vendor's own path. api_key: when not given, from the vendor's environment variable (CO_API_KEY
    or COHERE_API_KEY, JINA_API_KEY, VOYAGE_API_KEY), but only where base_url is not given either: a key from the
    environment goes to nobody but its vendor. It is shown in no repr and in no error.
    batch_texts: passages in one request, as many as the vendor takes when not given; all scores are asked for, and the
    best are chosen here. timeout_seconds, retries, backoff_seconds: as of `JsonEndpoint`.

    Question and passages are sent to the vendor. The services were not asked while this was written: tests hold request
    and answer against a server on this machine that checks their published shapes.
    """

    def __init__(
        self,
        vendor: VendorName,
        model: str | None = None,
        *,
        base_url: str | None = None,
        api_key: str | None = None,
        batch_texts: int | None = None,
        timeout_seconds: float = 30.0,
        retries: int = 3,
        backoff_seconds: float = 0.5,
    ) -> None:
        if vendor not in VENDORS:
            raise ConfigError(f"vendor is {vendor!r}; it must be one of {', '.join(VENDORS)}")
        shape = VENDORS[vendor]
        if (model is not None) != shape.names_model or model == "":
            raise ConfigError(
                f"{vendor}: name the model, as the vendor calls it"
                if shape.names_model
                else f"{vendor}: a server has one model, which is not chosen here; leave model={model!r} out"
            )
        batch_texts = shape.batch_texts if batch_texts is None else batch_texts
        if batch_texts < 1:
            raise ConfigError(f"{vendor}: batch_texts {batch_texts} must be positive")
        key = checked_key(api_key)
        if base_url is None:
            if shape.url is None:
                raise ConfigError(f"{vendor}: base_url is needed, say http://127.0.0.1:8080")
            base_url = shape.url
            variables = [name for name in shape.key_variables if os.environ.get(name)]
            key = key or checked_key(os.environ[variables[0]] if variables else None)
            if key is None:
                raise ConfigError(f"{vendor}: no API key; set {' or '.join(shape.key_variables)}, or pass api_key")
        self._name = f"{vendor} {model}" if model else vendor
        self._shape, self._model, self._batch_texts = shape, model, batch_texts
        self._endpoint = JsonEndpoint(
            self._name,
            checked_url(base_url) + shape.path,
            key,
            kind=ModelError,
            what="A hosted reranker",
            extra="rag",
            timeout_seconds=timeout_seconds,
            retries=retries,
            backoff_seconds=backoff_seconds,
        )

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._name!r}, url={self._endpoint.shown!r})"

    def __enter__(self) -> HostedReranker:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """End the connections; a second call is fine."""
        self._endpoint.close()

    def rerank(self, query: str, passages: Sequence[Passage], k: int | None = None) -> list[Passage]:
        """The passages, or the best k, best first; the order that they came in decides between equal scores.

        Raises ConfigError for a k below 1, ModelError when the service refuses, cannot be reached, or does not answer
        with one number for each passage.
        """
        check_k(k)
        scores: list[float] = []
        for start in range(0, len(passages), self._batch_texts):
            scores += self._scores(query, [passage.text for passage in passages[start : start + self._batch_texts]])
        return best_first(passages, scores, k, model=self._name)

    def _scores(self, query: str, texts: list[str]) -> list[float]:
        body: dict[str, Any] = {"query": query, self._shape.texts: texts, **self._shape.options}
        if self._model is not None:
            body["model"] = self._model
        return self._read(self._endpoint.post(body), len(texts))

    def _read(self, response: Any, count: int) -> list[float]:
        """One score for each text, in the order of the texts: the answer numbers them and lists them in its own."""
        found: dict[int, float] = {}
        try:
            answer = response.json()
            for row in answer if self._shape.results is None else answer[self._shape.results]:
                index, score = row["index"], row[self._shape.score]
                if type(index) is not int or type(score) not in {int, float}:
                    raise TypeError("an index or a score is no number")
                if not 0 <= index < count or index in found:
                    raise self._endpoint.error(
                        f"scored text {index} twice, or it is none of the {count} texts asked about"
                    )
                found[index] = float(score)
        except (ValueError, TypeError, KeyError, OverflowError) as error:
            raise self._endpoint.error(
                f"answered no list of scores: {self._endpoint.beginning(response.text)}"
            ) from error
        if len(found) != count:
            missing = next(index for index in range(count) if index not in found)
            raise self._endpoint.error(
                f"scored {len(found)} of {count} texts; text {missing} is the first that is missing"
            )
        if bad := [index for index, score in found.items() if not math.isfinite(score)]:
            raise self._endpoint.error(f"gave {found[bad[0]]} as the score of text {bad[0]}")
        return [found[index] for index in range(count)]
