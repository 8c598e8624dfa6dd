"""What every client of a service by HTTP needs: its address, its key, how long it asks to wait."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

from vecbench.errors import ConfigError, redact

__all__ = ["asked_wait_seconds", "checked_key", "checked_url"]


def checked_url(url: str) -> str:
    """The URL without a slash at its end; ConfigError where it is none of http or https, or has more than a path."""
    try:
        parts = urlsplit(url)
        good = parts.scheme in {"http", "https"} and bool(parts.hostname) and not parts.query and not parts.fragment
    except ValueError:
        good = False
    if not good:
        raise ConfigError(f"base_url {redact(url)!r} is not a URL like https://host/v1")
    return url.rstrip("/")


def checked_key(key: str | None) -> str | None:
    """The key without blanks around it, None for a blank one; ConfigError, which does not show it, for a wrong one."""
    if key is None or not (key := key.strip()):
        return None
    if not (key.isascii() and key.isprintable()):
        raise ConfigError("the API key holds characters that no key has (a line break, a letter outside ASCII?)")
    return key


def asked_wait_seconds(header: str | None) -> float:
    """Seconds of a Retry-After header, which holds a number or a date; 0 where there is none or it is neither."""
    try:
        return max(0.0, float(header or 0))
    except ValueError:
        pass
    try:
        return max(0.0, (parsedate_to_datetime(header or "") - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError):  # TypeError: a date without a time zone
        return 0.0
