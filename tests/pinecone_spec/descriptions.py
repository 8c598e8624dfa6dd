"""The vendor's OpenAPI descriptions, and a check of what goes over the wire against them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import yaml
from openapi_core import OpenAPI
from openapi_core.datatypes import RequestParameters
from openapi_core.exceptions import OpenAPIError
from werkzeug.datastructures import Headers, ImmutableMultiDict

__all__ = ["CONTROL", "DATA", "Api", "OffSpec", "folder"]

ROOT = Path(__file__).resolve().parents[2]
CONTROL, DATA = "db_control_2026-01.alpha.oas.yaml", "db_data_2026-04.oas.yaml"
_HOST = "http://spec.invalid"  # every path is held against the description as if it lay on one host


class OffSpec(Exception):
    """A request or an answer that the description does not allow."""


def folder() -> Path:
    """Where the descriptions lie: `VECBENCH_PINECONE_API`, else `../shared/pinecone` beside the checkout.

    They are the vendor's and no part of this project.
    """
    told = os.environ.get("VECBENCH_PINECONE_API")
    found = Path(told) if told else ROOT.parent / "shared" / "pinecone"
    missing = [name for name in (CONTROL, DATA) if not (found / name).is_file()]
    if missing:
        raise FileNotFoundError(
            f"Pinecone's API descriptions {', '.join(missing)} are not in {found}; fetch them from "
            "https://github.com/pinecone-io/pinecone-api and set VECBENCH_PINECONE_API to their folder"
        )
    return found


class Api:
    """One of the descriptions."""

    def __init__(self, name: str) -> None:
        described = yaml.safe_load((folder() / name).read_text("utf-8"))
        described["servers"] = [{"url": _HOST}]
        self.repaired = _repair(described)
        self._api = OpenAPI.from_dict(described)

    def check_request(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> None:
        """Raise `OffSpec` unless the description allows the request."""
        try:
            self._api.validate_request(_Request.of(method, path, headers, body))
        except OpenAPIError as e:
            raise OffSpec(_explain(e)) from e

    def check_answer(  # noqa: PLR0917  the request with its answer
        self, method: str, path: str, headers: Mapping[str, str], body: bytes, status: int, answer: bytes
    ) -> None:
        """Raise `OffSpec` unless the description has this answer to the request."""
        try:
            self._api.validate_response(_Request.of(method, path, headers, body), _Answer(status, answer))
        except OpenAPIError as e:
            raise OffSpec(f"{method} {path} -> {status}: {_explain(e)}") from e


def _repair(node: Any) -> int:
    """Arrays carry minLength and maxLength where minItems and maxItems are meant: say it so that it counts."""
    repaired = 0
    if isinstance(node, dict):
        if node.get("type") == "array":
            for wrong, right in (("minLength", "minItems"), ("maxLength", "maxItems")):
                if wrong in node:
                    node[right] = node.pop(wrong)
                    repaired += 1
        node = list(node.values())
    if isinstance(node, list):
        repaired += sum(_repair(inner) for inner in node)
    return repaired


def _explain(error: OpenAPIError) -> str:
    """What was wrong and where, without the values: they may be long."""
    broken = [f"{e.json_path} against {e.validator}" for e in getattr(error.__cause__, "schema_errors", ())]
    return "; ".join([type(error).__name__, *broken]) if broken else f"{type(error).__name__}: {str(error)[:200]}"


@dataclass
class _Request:
    """In the form that openapi-core takes."""

    method: str
    path: str
    parameters: RequestParameters
    body: bytes | None
    content_type: str
    host_url: str = _HOST

    @classmethod
    def of(cls, method: str, path: str, headers: Mapping[str, str], body: bytes) -> _Request:
        parts = urlsplit(path)
        query = ImmutableMultiDict(parse_qsl(parts.query, keep_blank_values=True))
        parameters = RequestParameters(query=query, header=Headers(list(headers.items())))
        kind = headers.get("content-type", "application/json").split(";")[0]
        return cls(method.lower(), parts.path, parameters, body or None, kind)


@dataclass
class _Answer:
    status_code: int
    data: bytes
    content_type: str = "application/json"
    headers: Headers = field(default_factory=Headers)
