"""What the errors of qdrant-client, REST and gRPC, mean, with the api key masked."""

from __future__ import annotations

from vecbench.errors import CollectionNotFound, ConnectionFailed, StoreError, StoreTimeout, redact

__all__ = ["mask", "translate_error"]


def mask(text: str, secret: str | None) -> str:
    """The text without the secret."""
    return text.replace(secret, "***") if secret else text


def translate_error(error: Exception, doing: str, secret: str | None) -> StoreError | None:
    """Our error for one of qdrant-client\'s, REST or gRPC, told by status, code and class name; None if unknown."""
    text = mask(redact(str(error)), secret)
    status = getattr(error, "status_code", None)
    code = getattr(error, "code", None)
    grpc = getattr(code() if callable(code) else None, "name", "")
    kinds = {k.__name__ for k in (*type(error).__mro__, *type(getattr(error, "source", None)).__mro__)}
    if status in {401, 403} or grpc in {"UNAUTHENTICATED", "PERMISSION_DENIED"}:
        return ConnectionFailed(f"qdrant: {doing} failed: the server refused the credentials; check api_key")
    if grpc == "DEADLINE_EXCEEDED" or status in {408, 504} or "TimeoutException" in kinds:
        return StoreTimeout(f"qdrant: {doing} took too long: {text}")
    if status == 404 or grpc == "NOT_FOUND" or (isinstance(error, ValueError) and "not found" in text):
        return CollectionNotFound(f"qdrant: {doing} failed: the collection is not there (any more)")
    if "ResponseHandlingException" in kinds or grpc == "UNAVAILABLE" or status in {502, 503}:
        return ConnectionFailed(f"qdrant: {doing} failed: the server cannot be reached: {text[:300]}")
    return None
