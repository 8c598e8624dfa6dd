"""What the errors of redis-py and of the server mean."""

from __future__ import annotations

import re

from vecbench.errors import CollectionNotFound, ConnectionFailed, StoreError, StoreRejected, StoreTimeout, redact

__all__ = ["translate_error"]

# What a class of redis-py's, or a piece of what the server said, means: the first that fits.
_MEANINGS: tuple[tuple[str, type[StoreError], str], ...] = (
    ("AuthenticationError", ConnectionFailed, "the server refused the credentials"),
    ("AuthenticationWrongNumberOfArgsError", ConnectionFailed, "the server refused the credentials"),
    ("NoPermissionError", ConnectionFailed, "the server does not permit it to this user"),
    ("TimeoutError", StoreTimeout, "no answer in time"),
    ("timeout limit was reached", StoreTimeout, "no answer in time"),
    ("BusyLoadingError", ConnectionFailed, "the server is still loading its data; try again"),
    ("WatchError", CollectionNotFound, "another client has just dropped it"),
    ("ConnectionError", ConnectionFailed, "the server cannot be reached"),
    ("InvalidResponse", ConnectionFailed, "what answers there is no Redis"),
    ("no such index", CollectionNotFound, "the collection is not there (any more)"),
    ("unknown index name", CollectionNotFound, "the collection is not there (any more)"),
    ("search_index_not_found", CollectionNotFound, "the collection is not there (any more)"),  # Redis 8's words
    ("", StoreRejected, "the server refused"),
)
# A pipeline's error begins with the command, and so with what somebody wrote into a record.
_QUOTED = re.compile(r"Command # \d+ \(.*\) of pipeline caused error: ", re.DOTALL)


def translate_error(error: Exception, doing: str, target: str, secret: str | None) -> StoreError | None:
    """Our error for one of redis-py's; None where it is not redis-py's. The secret is masked in the server's words."""
    classes = {k.__name__ for k in type(error).__mro__}
    if "RedisError" not in classes:
        return None
    text = _QUOTED.sub("", str(error))
    ours, means = next((o, m) for sign, o, m in _MEANINGS if sign in classes or sign in text.lower())
    if secret:
        text = text.replace(secret, "***")
    return ours(f"redisearch: {doing} failed: {means} ({target}): {redact(text)[:300]}")
