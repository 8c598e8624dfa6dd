"""Found chunks with what stands before and after them, joined again where they are neighbours."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, TypeAlias

from vecbench.collection import Collection
from vecbench.errors import ConfigError
from vecbench.rag.records import number
from vecbench.rag.types import CountTokens, Passage
from vecbench.types import Metadata

__all__ = ["merge_neighbours"]


class _Version(NamedTuple):
    """One content of one document, cut in one way: offsets and numbers of its chunks belong together."""

    origin: str
    source: str
    content_sha256: str
    splitter: str


class _Part(NamedTuple):
    start: int
    end: int
    text: str
    gap: str


_Parts: TypeAlias = dict[int, _Part]


@dataclass(slots=True, eq=False)
class _Span:
    """The parts from `first` to `last` of a document, and the best passage among them, with its rank."""

    rank: int
    best: Passage
    first: int
    last: int


def merge_neighbours(
    passages: Sequence[Passage],
    collection: Collection,
    *,
    window: int = 1,
    most: int | None = None,
    count: CountTokens = len,
) -> list[Passage]:
    """Each passage with the `window` chunks before and after it; what then overlaps or touches becomes one passage.

    most: no passage is made longer than this, counted by `count`: characters, or tokens. It never cuts a chunk.

    `document_text[start:end] == text` holds for the results: where chunks overlap, the text is there once; where
    whitespace was dropped between them it is put back; where anything else was, they stay apart. A passage's id,
    metadata, distance and score are those of its best chunk, without `part`, and the order is that of the best chunks.
    Passages that `ChunkIndex` did not write, or that were merged before, come back as they are.
    """
    if type(window) is not int or window < 0:
        raise ConfigError(f"window is a whole number of chunks, 0 or more, got {window!r}")
    if most is not None and most < 1:
        raise ConfigError(f"most is at least 1, got {most}")
    held = _fetch(collection, passages, window)

    def fits(text: str) -> bool:
        return most is None or count(text) <= most

    groups: dict[_Version, list[_Span]] = {}
    for rank, passage in enumerate(passages):
        if (version := _version(passage.metadata)) is not None:
            part = number(passage.metadata, "part")
            spans = groups.setdefault(version, [])
            _place(_Span(rank, passage, part, part), spans, held[version], window, fits)
    best = {id(span.best): _joined(span, held[version]) for version, spans in groups.items() for span in spans}
    return [best.get(id(p), p) for p in passages if id(p) in best or _version(p.metadata) is None]


def _place(new: _Span, spans: list[_Span], parts: _Parts, window: int, fits: Callable[[str], bool]) -> None:
    """Take a passage, a span of one part, and its neighbours, nearest first, into the span that it is in or its own.

    Other spans of the document that overlap it, or touch it, become one with it.
    """
    part = new.first
    span = next((s for s in spans if s.first <= part <= s.last), new)
    if span is new:
        spans.append(new)
    while True:
        others = [s for s in spans if s is not span]
        near = [
            _Span(span.rank, span.best, side, side)
            for side in (span.first - 1, span.last + 1)
            if side in parts and abs(side - part) <= window and not any(s.first <= side <= s.last for s in others)
        ]
        for other in sorted(near + others, key=lambda s: min(abs(s.first - part), abs(s.last - part))):
            first, last = min(span.first, other.first), max(span.last, other.last)
            text = _text(parts, first, last)
            if text is not None and fits(text):
                break
        else:
            return
        span.first, span.last = first, last
        if other in spans:
            spans.remove(other)
        if other.rank < span.rank:
            span.rank, span.best = other.rank, other.best


def _text(parts: _Parts, first: int, last: int) -> str | None:
    """The document's text over those of these parts that are known; None where it is not known what is between two."""
    text, end = parts[first].text, parts[first].end
    for i in sorted(i for i in parts if first < i <= last):
        part = parts[i]
        if part.start > end:
            if len(part.gap) != part.start - end:  # of its end is the gap, or of that of a part that is not known
                return None
            text += part.gap
            end = part.start
        if part.end > end:
            text += part.text[end - part.start :]
            end = part.end
    return text


def _joined(span: _Span, parts: _Parts) -> Passage:
    text = _text(parts, span.first, span.last)
    if text is None or span.first == span.last:
        return span.best
    start = parts[span.first].start
    metadata = {key: value for key, value in span.best.metadata.items() if key != "part"}
    metadata |= {"start": start, "end": start + len(text)}
    return replace(span.best, text=text, start=start, end=start + len(text), metadata=metadata)


def _version(metadata: Metadata) -> _Version | None:
    found = [metadata.get(key) for key in _Version._fields]
    if number(metadata, "part") < 0 or not all(type(value) is str for value in found):
        return None
    return _Version(*map(str, found))


def _fetch(collection: Collection, passages: Iterable[Passage], window: int) -> dict[_Version, _Parts]:
    """The passages' chunks and, one step further in each round, those before and after them."""
    held: dict[_Version, _Parts] = {}
    edges: list[tuple[_Version, str, Metadata]] = []
    for passage in passages:
        if (version := _version(passage.metadata)) is not None:
            _keep(held.setdefault(version, {}), passage.text, passage.metadata)
            edges += [(version, way, passage.metadata) for way in ("previous", "next")]
    for _ in range(window):
        ids = dict.fromkeys(str(metadata[way]) for _, way, metadata in edges if way in metadata)
        if not ids:
            break
        found = collection.get(list(ids), include=("metadata", "documents"))
        records = dict(zip(found.ids, zip(found.documents or (), found.metadata or (), strict=True), strict=True))
        steps, edges = edges, []
        for version, way, metadata in steps:
            text, there = records.get(str(metadata.get(way)), (None, {}))
            if text is not None and _version(there) == version:  # else the document was changed meanwhile
                _keep(held[version], text, there)
                edges.append((version, way, there))
    return held


def _keep(parts: _Parts, text: str, metadata: Metadata) -> None:
    start = number(metadata, "start")
    parts.setdefault(number(metadata, "part"), _Part(start, start + len(text), text, str(metadata.get("gap", ""))))
