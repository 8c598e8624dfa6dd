"""`vecbench split`: where a file would be cut, shown."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TypeAlias

import typer

from vecbench.cli.output import complain, console, print_json
from vecbench.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

    from vecbench.rag.load import Unreadable
    from vecbench.rag.types import CountTokens, Document, Splitter

__all__ = ["BySense", "split", "splitter_by_sense"]

BySense: TypeAlias = Literal["sentence", "next-sentence", "discourse"]
SplitBy: TypeAlias = Literal["recursive", "sentence", "next-sentence", "discourse"]


def split(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A text, Markdown, HTML, PDF, DOCX, CSV or JSONL file.")],
    *,
    by: Annotated[
        SplitBy,
        typer.Option(
            "--by",
            help="recursive: at the separators of its kind of file. sentence. next-sentence: where BERT (440 MB, "
            "fetched once) thinks that a sentence does not follow. discourse: not between what depends on each other.",
        ),
    ] = "recursive",
    size: Annotated[int, typer.Option("--size", help="The most of a chunk, in the unit.")] = 800,
    overlap: Annotated[int, typer.Option("--overlap", help="What neighbouring chunks share (recursive only).")] = 0,
    unit: Annotated[
        Literal["characters", "tokens"], typer.Option("--unit", help="tokens: those of the fixed model.")
    ] = "characters",
    as_json: Annotated[bool, typer.Option("--json", help="Print the chunks with their offsets as JSON.")] = False,
) -> None:
    """Show the chunks of a file with their boundaries.

    \b
    Examples:
      vecbench split README.md
      vecbench split report.pdf --by sentence --size 1200
      vecbench split notes.md --unit tokens --size 200 --overlap 20 --json
    Exit code 1: a row or page could not be read; it is named, and the rest is shown.
    """
    from vecbench.rag.load import headings_at, load, page_at

    if file.is_dir():
        raise ConfigError(f"{file} is a folder; name a file in it")
    if not file.is_file():
        raise ConfigError(f"{file}: there is no such file")
    out = console()
    rows = []
    unreadable: list[Unreadable] = []
    splitter_of = _splitter_of(by, size, overlap, unit)
    for document in load(file, on_error=unreadable.append):
        chunks = splitter_of(document).split(document.text)
        for number, chunk in enumerate(chunks, 1):
            headings, page = headings_at(document, chunk.start), page_at(document, chunk.start)
            if as_json:
                row = {"source": document.source, "start": chunk.start, "end": chunk.end, "text": chunk.text}
                rows.append(row | {"page": page, "headings": headings})
                continue
            place = [f"{document.source} {number}/{len(chunks)}", f"characters {chunk.start:,} to {chunk.end:,}"]
            if page is not None:
                place.append(f"page {page}")
            if headings:
                place.append(" > ".join(headings))
            out.rule(", ".join(place), align="left", style="dim")
            out.print(chunk.text, soft_wrap=True)
    if as_json:
        print_json(rows)
    for part in unreadable:
        complain(f"{part.source}: {part.reason}", head="left out")
    if unreadable:
        raise typer.Exit(1)


def _splitter_of(by: SplitBy, size: int, overlap: int, unit: str) -> Callable[[Document], Splitter]:
    from vecbench.rag.split import RecursiveSplitter, TokenLength, language_of

    if overlap and by != "recursive":
        raise ConfigError("--overlap is for --by recursive: the others cut where sense ends, and share nothing")
    length: CountTokens = len
    if unit == "tokens":
        from vecbench.embed import fixed_model

        length = TokenLength(fixed_model())
    if by == "recursive":
        return lambda document: RecursiveSplitter.for_language(
            language_of(document.source), chunk_size=size, chunk_overlap=overlap, length=length
        )
    made = splitter_by_sense(by, size, length)
    return lambda _document: made


def splitter_by_sense(by: BySense, size: int, length: CountTokens = len) -> Splitter:
    """A splitter for every kind of document, in chunks of up to `size` in the unit of `length`."""
    from vecbench.rag.split import DiscourseSplitter, NextSentenceSplitter, SentenceSplitter

    if by == "sentence":
        return SentenceSplitter(size, length=length)
    if by == "next-sentence":
        return NextSentenceSplitter(chunk_size=size, length=length)
    return DiscourseSplitter(chunk_size=size, length=length)
