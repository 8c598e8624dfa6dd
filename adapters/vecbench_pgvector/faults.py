"""What the errors of psycopg and PostgreSQL mean, told by class and SQLSTATE, with the password masked."""

from __future__ import annotations

from typing import Any

from vecbench.errors import (
    CollectionNotFound,
    ConnectionFailed,
    DimensionMismatch,
    StoreError,
    StoreRejected,
    StoreTimeout,
    redact,
)

__all__ = ["translate_error", "words"]

# https://www.postgresql.org/docs/current/errcodes-appendix.html
_TIMEOUT = {"57014", "55P03"}  # query_canceled, lock_not_available
_UNREACHABLE = {"57P01", "57P02", "57P03", "57P05", "53300"}  # shutting down, crashed, starting, idle too long, full


def words(error: BaseException, secret: str | None) -> str:
    """What the vendor says, in one line and without secrets."""
    diag = getattr(error, "diag", None)
    parts = [getattr(diag, name, None) for name in ("message_primary", "message_detail", "message_hint")]
    text = redact("; ".join(p for p in parts if p) or str(error) or type(error).__name__)
    if secret:
        text = text.replace(secret, "***")
    return " ".join(text.split())[:500]


def translate_error(pg: Any, error: Exception, doing: str, secret: str | None) -> StoreError | None:
    """Our error for one of psycopg's; None for what is none of them."""
    if not isinstance(error, pg.Error):
        return None
    kind, what = _kind(pg, error, str(getattr(error, "sqlstate", None) or ""))
    return kind(f"pgvector: {doing} failed: {what}{words(error, secret)}")


def _kind(pg: Any, error: Exception, state: str) -> tuple[type[StoreError], str]:
    if isinstance(error, pg.errors.ConnectionTimeout) or state in _TIMEOUT:
        return StoreTimeout, "it took too long: "
    if state.startswith("28"):
        return ConnectionFailed, "the server refused the credentials: "
    lost = isinstance(error, pg.OperationalError | pg.InterfaceError) and not state
    if lost or state.startswith("08") or state in _UNREACHABLE:
        return ConnectionFailed, "no connection to the server: "
    if state == "42P01":
        return CollectionNotFound, "the collection is not there (any more): "
    if state == "22000" and "dimensions" in str(error):
        return DimensionMismatch, ""
    rights = "the account needs the right to use the schema, and to create tables in it for new collections: "
    return StoreRejected, rights if state == "42501" else ""
