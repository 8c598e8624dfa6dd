"""What whoever catches an error can read, in which no secret may be."""

from __future__ import annotations


def said(error: BaseException | None, kind: type[BaseException] = BaseException) -> str:
    """An error and all that stand behind it, in both spellings.

    kind: of these only such; in the clients' own errors, which stay the cause, a server may repeat what it was sent.
    """
    out, seen = "", set[int]()
    while error is not None and id(error) not in seen:  # pymilvus and grpc raise errors that cause themselves
        seen.add(id(error))
        if isinstance(error, kind):
            out += f"{error!r} {error}\n"
        error = error.__cause__ or error.__context__
    assert out, "nobody said anything: no secret could be found"
    return out
