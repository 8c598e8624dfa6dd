"""What the errors of weaviate-client, REST and gRPC, mean, with the API key masked."""

from __future__ import annotations

from collections.abc import Callable

from vecbench.errors import CollectionNotFound, ConnectionFailed, StoreError, StoreTimeout, redact

__all__ = ["grpc_codes", "mask", "translate_error"]

_LATE = {"WeaviateTimeoutError", "TimeoutException"}
_GONE = {
    "TransportError",
    "WeaviateConnectionError",
    "WeaviateGRPCUnavailableError",
    "WeaviateRetryError",
    "WeaviateStartUpError",
}
_NO_CLASS = ("could not find class", "class not found", "not present in schema", "no such class")


def mask(text: str, secret: str | None) -> str:
    """The text without the secret."""
    return text.replace(secret, "***") if secret else text


def _chain(error: BaseException) -> list[BaseException]:
    """The error and those behind it: the client drops gRPC's status, which only its predecessor still has."""
    out: list[BaseException] = []
    at: BaseException | None = error
    while at is not None and at not in out:
        out.append(at)
        at = at.__cause__ or at.__context__
    return out


def grpc_codes(error: BaseException) -> set[str]:
    """The names of the gRPC status codes in an error's history."""
    codes = [getattr(e, "code", None) for e in _chain(error)]
    return {str(getattr(code(), "name", "")) for code in codes if callable(code)} - {""}


def translate_error(
    error: Exception, doing: str, *, secret: str | None, away: Callable[[], str | None]
) -> StoreError | None:
    """Our error for one of weaviate-client's; None if unknown. away: the address that accepts no connection, if any."""
    text = mask(redact(str(error)), secret)[:500]
    kinds = {k.__name__ for e in _chain(error) for k in type(e).__mro__}
    codes, status = grpc_codes(error), getattr(error, "status_code", None)
    if (
        status in {401, 403}
        or codes & {"UNAUTHENTICATED", "PERMISSION_DENIED"}
        or "InsufficientPermissionsError" in kinds
    ):
        return ConnectionFailed(f"weaviate: {doing} failed: the server refused the credentials; check api_key")
    if status == 404 or any(words in text.lower() for words in _NO_CLASS):
        return CollectionNotFound(f"weaviate: {doing} failed: the collection is not there (any more)")
    late = "DEADLINE_EXCEEDED" in codes or bool(kinds & _LATE)
    if late and away() is None:
        return StoreTimeout(f"weaviate: {doing} took too long: {text}")
    if late or "UNAVAILABLE" in codes or kinds & _GONE:
        return ConnectionFailed(f"weaviate: {doing} failed: the server cannot be reached: {text}")
    return None
