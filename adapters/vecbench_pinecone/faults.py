"""What the SDK's errors mean, with the api key masked; and waiting with a deadline."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from vecbench.errors import (
    CollectionNotFound,
    ConnectionFailed,
    StoreError,
    StoreRejected,
    StoreTimeout,
    redact,
)

__all__ = ["mask", "no_namespace", "translate_error", "wait_until"]


def mask(text: str, secret: str) -> str:
    """The text without secrets."""
    return redact(text.replace(secret, "***"))


def no_namespace(error: Exception) -> bool:
    """Whether the service says that nothing was ever written to the index: an update or a delete there is a 404."""
    return getattr(error, "status_code", None) == 404 and "namespace" in str(error).lower()


def translate_error(error: Exception, doing: str, secret: str) -> StoreError | None:
    """Our error for one of the SDK's, told by status and class; None for what is none of the SDK's."""
    kinds = {kind.__name__ for kind in type(error).__mro__}
    if "PineconeError" not in kinds:
        return None
    text = mask(str(error), secret)[:500]
    status = getattr(error, "status_code", None)
    if "PineconeTimeoutError" in kinds or status in {408, 504}:
        return StoreTimeout(f"pinecone: {doing} took too long: {text}")
    if status == 401:
        return ConnectionFailed(f"pinecone: {doing} failed: the service refused the credentials; check api_key")
    if status == 404:
        return CollectionNotFound(f"pinecone: {doing} failed: the index is not there (any more): {text}")
    if "PineconeConnectionError" in kinds or status in {500, 502, 503}:
        return ConnectionFailed(f"pinecone: {doing} failed: the service cannot be reached: {text}")
    throttled = "throttled, and so were the retries: " if status == 429 else ""
    return StoreRejected(f"pinecone: {doing} failed: {throttled}{text}")


def wait_until(done: Callable[[], bool], timeout: float, what: str) -> None:
    """Ask again and again, ever less often, until it is done; `StoreTimeout` at the deadline."""
    deadline = time.monotonic() + timeout
    pause, between = threading.Event(), 0.02
    while not done():
        left = deadline - time.monotonic()
        if left <= 0:
            raise StoreTimeout(f"pinecone: {what} after {timeout:g} s")
        pause.wait(min(between, left))
        between = min(1.0, 2 * between)
