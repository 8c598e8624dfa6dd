"""What Chroma's errors mean. They differ between the embedded engine and a server, so names, status and text tell."""

from __future__ import annotations

from collections.abc import Iterator

from vecbench.errors import (
    CollectionExists,
    CollectionNotFound,
    ConnectionFailed,
    DimensionMismatch,
    StoreError,
    StoreRejected,
    StoreTimeout,
    UnsupportedFilter,
    redact,
)

__all__ = ["mask", "translate_error"]

_TOO_LARGE = ("Expression tree is too large", "too many SQL variables", "recursion limit exceeded")


def mask(text: str, secret: str | None) -> str:
    """The text, cut short, without the secret."""
    text = redact(text)
    return (text.replace(secret, "***") if secret else text)[:300]


def translate_error(error: Exception, doing: str, secret: str | None = None) -> StoreError:  # noqa: PLR0911  one a kind
    """Our error for one of Chroma's or of its HTTP library's."""
    chain = list(_chain(error))
    kinds = {kind.__name__ for e in chain for kind in type(e).__mro__}
    statuses = (getattr(getattr(e, "response", None), "status_code", None) for e in chain)
    status = next(filter(None, statuses), None)
    text = mask(str(error), secret)
    if "TimeoutException" in kinds or status in {408, 504}:
        return StoreTimeout(f"chroma: {doing} took too long: {text or type(error).__name__}")
    if status in {401, 403} or kinds & {"ChromaAuthError", "AuthorizationError"}:
        return ConnectionFailed(f"chroma: {doing} failed: the server refused the credentials; check api_key")
    if "TransportError" in kinds or status in {502, 503}:
        return ConnectionFailed(f"chroma: {doing} failed: the server cannot be reached: {text or type(error).__name__}")
    if "NotFoundError" in kinds:
        return CollectionNotFound(f"chroma: {doing} failed: the collection is not there (any more)")
    if "already exists" in text:
        return CollectionExists(f"chroma: {doing} failed: {text}")
    if "embedding with dimension" in text:
        return DimensionMismatch(f"chroma: {doing} failed: {text}")
    if any(words in text for words in _TOO_LARGE):
        return UnsupportedFilter(f"chroma: {doing} failed: the filter is too large for SQLite: {text}")
    return StoreRejected(f"chroma: {doing} failed: {type(error).__name__}: {text}")


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """The error and what it was raised from; the client wraps an HTTP status in a plain `Exception`."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
