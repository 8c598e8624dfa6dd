"""What the errors of pymilvus, its own and gRPC's, mean, with the credentials masked."""

from __future__ import annotations

from collections.abc import Sequence

from vecbench.errors import CollectionNotFound, ConnectionFailed, StoreError, StoreRejected, StoreTimeout, redact

__all__ = ["mask", "translate_error"]

_NOT_FOUND = {4, 100}  # of older and of newer servers
_LIMIT = 400


def mask(text: str, secrets: Sequence[str]) -> str:
    """The text without the secrets, cut to a length that a message can have."""
    for secret in secrets:
        text = text.replace(secret, "***")
    return redact(text)[:_LIMIT]


def translate_error(name: str, error: Exception, doing: str, secrets: Sequence[str]) -> StoreError | None:
    """Our error for one of pymilvus's, told by gRPC's status and Milvus's code; None if unknown."""
    said = str(getattr(error, "message", "") or getattr(error, "details", lambda: "")() or error)
    text = mask(said, secrets)
    code = getattr(error, "code", None)
    code = code() if callable(code) else code
    status = getattr(code, "name", "")
    if not status and isinstance(error.__cause__, Exception):
        cause = getattr(error.__cause__, "code", None)
        status = getattr(cause() if callable(cause) else cause, "name", "")
    if status in {"UNAUTHENTICATED", "PERMISSION_DENIED"} or "auth check failure" in said:
        return ConnectionFailed(f"{name}: {doing} failed: the server refused the credentials")
    if status == "DEADLINE_EXCEEDED" or "timeout" in said.lower():
        return StoreTimeout(f"{name}: {doing} took too long: {text}")
    if status == "UNAVAILABLE" or "Fail connecting to server" in said:
        return ConnectionFailed(f"{name}: {doing} failed: the server cannot be reached: {text}")
    if isinstance(code, int) and code in _NOT_FOUND and "collection" in said:
        return CollectionNotFound(f"{name}: {doing} failed: the collection is not there (any more)")
    if type(error).__module__.startswith(("pymilvus", "grpc", "milvus_lite")):
        return StoreRejected(f"{name}: {doing} failed: {text}")
    return None
