"""Server-sent events: the data of each, from bytes that may be cut anywhere."""

from __future__ import annotations

import codecs
from collections.abc import Iterable, Iterator

__all__ = ["event_data"]


def event_data(pieces: Iterable[bytes]) -> Iterator[str]:
    """The data of each event, as soon as its end has come; comments, names and ids of events are passed over.

    Lines end with LF, CR LF or CR. What is no UTF-8 becomes U+FFFD. Data that lacks the blank line at its end, where a
    stream was cut or a server is careless, comes last.
    """
    data: list[str] = []
    for line in _lines(pieces):
        if not line:
            if data:
                yield "\n".join(data)
            data = []
        else:
            field, _, value = line.partition(":")
            if field == "data":
                data.append(value.removeprefix(" "))
    if data:
        yield "\n".join(data)


def _lines(pieces: Iterable[bytes]) -> Iterator[str]:
    """Lines without their ends. `str.splitlines` would also cut at U+2028 and others, which JSON allows in a string."""
    decoder = codecs.getincrementaldecoder("utf-8-sig")("replace")
    rest: list[str] = []  # pieces of a line that has not ended; joined once, or a long line would cost its square
    after_return = False
    for piece in pieces:
        text = decoder.decode(piece)
        if not text:
            continue
        if after_return:
            text = text.removeprefix("\n")  # the second half of a CR LF whose first has ended the line
        after_return = text.endswith("\r")
        *ended, last = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
        for line in ended:
            yield "".join(rest) + line
            rest = []
        rest.append(last)
    if line := "".join(rest) + decoder.decode(b"", True):
        yield line
