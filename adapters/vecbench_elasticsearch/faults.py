"""What the errors of elasticsearch-py, and of single items in an answer, mean."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vecbench.errors import (
    CollectionExists,
    CollectionNotFound,
    ConnectionFailed,
    StoreError,
    StoreRejected,
    StoreTimeout,
    redact,
)

__all__ = ["item_error", "mask", "translate_error"]


def mask(text: object, secrets: tuple[str, ...]) -> str:
    """The text without secrets."""
    out = str(text)
    for secret in secrets:
        out = out.replace(secret, "***")
    return redact(out)


def translate_error(  # noqa: PLR0911  one line per kind of error
    error: Exception, doing: str, target: str, secrets: tuple[str, ...]
) -> StoreError | None:
    """Our error for one of the client's; None where only the vendor's words tell."""
    import elasticsearch as client

    text = mask(error, secrets)[:500]
    if isinstance(error, client.ConnectionTimeout):
        return StoreTimeout(f"elasticsearch: {doing} took too long at {target}: {text}")
    if isinstance(error, client.ConnectionError):
        return ConnectionFailed(f"elasticsearch: {doing} failed: {target} cannot be reached: {text}")
    if isinstance(error, client.SerializationError | client.UnsupportedProductError):
        return ConnectionFailed(f"elasticsearch: {doing} failed: something else answers at {target}: {text}")
    if not isinstance(error, client.ApiError):
        return None
    status = error.status_code
    if status in {401, 403}:
        return ConnectionFailed(
            f"elasticsearch: {doing} failed: {target} refused the credentials ({status}); "
            "check username and password or api_key, and what they may do"
        )
    if status in {408, 504}:
        return StoreTimeout(f"elasticsearch: {doing} took too long at {target}: {text}")
    if status in {502, 503}:
        return ConnectionFailed(f"elasticsearch: {doing} failed: {target} is not ready: {text}")
    if "index_not_found_exception" in text:
        return CollectionNotFound(f"elasticsearch: {doing} failed: the collection is not there (any more)")
    if "resource_already_exists_exception" in text:
        return CollectionExists(f"elasticsearch: {doing} failed: somebody else created it meanwhile")
    if status == 413:
        return StoreRejected(f"elasticsearch: {doing} failed: the request is larger than http.max_content_length")
    return None


def item_error(error: Mapping[str, Any], doing: str) -> StoreError:
    """Our error for what one item of a bulk, mget or msearch answer says."""
    if error.get("type") == "index_not_found_exception":
        return CollectionNotFound(f"elasticsearch: {doing} failed: the collection is not there (any more)")
    causes = [error, *error.get("root_cause", ())]
    reason = "; ".join(dict.fromkeys(f"{c.get('type')}: {c.get('reason')}" for c in causes))
    return StoreRejected(f"elasticsearch: {doing} failed: {redact(reason)[:500]}")
