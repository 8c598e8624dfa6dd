"""What whoever catches an error can read, in which no secret may be."""

from __future__ import annotations


def said(error: BaseException | None) -> str:
    """An error and all that stand behind it, as a traceback has them, in both spellings."""
    out, seen = "", set[int]()
    while error is not None and id(error) not in seen:  # pymilvus and grpc raise errors that cause themselves
        seen.add(id(error))
        out += f"{error!r} {error}\n"
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    assert out, "nobody said anything: no secret could be found"
    return out
