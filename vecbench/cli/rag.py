"""`vecbench rag`: answers from your own documents, over any store."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vecbench.cli.opened import Answering, Language, Retrieving, held_rag, opened_rag
from vecbench.cli.output import complain, print_json, say, working
from vecbench.cli.split import BySense, splitter_by_sense
from vecbench.errors import ConfigError

if TYPE_CHECKING:
    from vecbench.rag.types import Answer

__all__ = ["rag"]

_LONGEST_LINE = 100

rag = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="""Answer questions from your own documents, over any store.

\b
Start here (no server; without --llm no model either, but sentences of the documents):
  vecbench rag add docs/
  vecbench rag ask "How long is the notice period?"

\b
With a language model behind any OpenAI-compatible address:
  OPENAI_BASE_URL=http://localhost:11434/v1 vecbench rag ask "…" --llm llama3

\b
The model that turns texts into vectors knows English. For others take another, in `ask` and `chat` too:
  vecbench rag add docs/ --embedder sentence-transformers:intfloat/multilingual-e5-small

The documents stay in the store: another `ask`, or another program, finds them there.
""",
)

_EVERY = "**/*"

_Store = Annotated[
    str, typer.Option("--store", "-s", metavar="NAME", help="name, name:mode or name=url; see `vecbench stores`.")
]
_Path = Annotated[
    str | None, typer.Option("--path", "-p", metavar="DIR", help="Where the store keeps its data; not with a url.")
]
_Collection = Annotated[str, typer.Option("--collection", "-c", help="The collection's name.")]
_Model = Annotated[
    str | None,
    typer.Option("--llm", metavar="MODEL", help="Answer with this model (OPENAI_BASE_URL, OPENAI_API_KEY)."),
]
_K = Annotated[int, typer.Option("--k", help="Passages for an answer.")]
_Budget = Annotated[
    float | None, typer.Option("--budget-ms", help="What an answer may take; stages are left out to hold it.")
]
_Embedder = Annotated[
    str | None,
    typer.Option(
        "--embedder",
        metavar="NAME",
        help="sentence-transformers:MODEL, fastembed:MODEL or openai:MODEL, the same for add, ask and chat.  "
        "[default: all-MiniLM-L6-v2, which knows English]",
        show_default=False,
    ),
]
_Retriever = Annotated[
    Retrieving,
    typer.Option("--retriever", help="What is searched; native: the words by the store itself, where it can."),
]
_WordsLanguage = Annotated[
    str | None,
    typer.Option(
        "--words-language",
        metavar="NAME",
        help="What the store itself takes the words for, with a native retriever.  [default: english]",
        show_default=False,
    ),
]
_Rerank = Annotated[
    str | None,
    typer.Option(
        "--rerank",
        metavar="NAME",
        help="Put the best passages in a better order: lexical, cross-encoder (90 MB, fetched once), cohere:MODEL, "
        "jina:MODEL, voyage:MODEL or tei:URL.",
    ),
]
_Language = Annotated[Language, typer.Option("--language", help="Of the instructions to the model.")]
_Where = Annotated[
    list[str] | None,
    typer.Option("--where", metavar="FIELD=VALUE", help="Only such passages (also != < <= > >=); may be given often."),
]


@rag.command("add")
def add(
    what: Annotated[Path, typer.Argument(metavar="PATH", help="A file or a folder of documents.")],
    *,
    store: _Store = "qdrant",
    path: _Path = "kb",
    collection: _Collection = "rag",
    embedder: _Embedder = None,
    by: Annotated[
        BySense | None,
        typer.Option(
            "--by",
            help="Cut so, as `vecbench split` shows.  [default: recursively, in tokens of the embedder]",
            show_default=False,
        ),
    ] = None,
    size: Annotated[
        int | None,
        typer.Option(
            "--size", help="The most of a passage in characters, with --by.  [default: 800]", show_default=False
        ),
    ] = None,
    prune: Annotated[
        bool | None,
        typer.Option(
            "--prune/--no-prune",
            help="Remove what is no longer in the folder.  [default: yes, unless nothing is found there]",
            show_default=False,
        ),
    ] = None,
    pattern: Annotated[
        str, typer.Option("--pattern", metavar="GLOB", help="Which files of the folder, say '*.md'.")
    ] = _EVERY,
    ignore: Annotated[
        list[str] | None,
        typer.Option("--ignore", metavar="RULE", help="More to leave out, as in .gitignore; may be given often."),
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print what was done as JSON.")] = False,
) -> None:
    """Load, split, embed and store a file or a folder; again later, only what changed.

    \b
    Exit codes:
      0  all documents are in
      1  some files could not be read; the others are in
      2  the command line cannot be used
    """
    if not what.exists():
        raise ConfigError(f"{what}: there is no such file or folder")
    if size is not None and by is None:
        raise ConfigError("--size needs --by; without it passages are measured in tokens of the embedder")
    if what.is_file() and (pattern != _EVERY or ignore):
        raise ConfigError(f"--pattern and --ignore choose among the files of a folder; {what} is one file")
    splitter = None if by is None else splitter_by_sense(by, 800 if size is None else size)
    unreadable: list[Any] = []
    with (
        opened_rag(store, path, collection, embedder, splitter=splitter) as opened,
        working("loading the model …") as told,
    ):

        def show(now: Any) -> None:
            tokens = "" if now.tokens is None else f", {now.tokens:,} tokens embedded"
            line = f"{now.documents:,} documents, {now.chunks:,} passages{tokens}: {now.source}"
            told(line[:_LONGEST_LINE])

        report = opened.add(
            what,
            prune=prune,
            pattern=pattern,
            ignore=ignore or (),
            on_error=unreadable.append,
            progress=None if quiet else show,
        )
        passages = opened.collection.count()
    for file in unreadable:
        complain(f"{file.source}: {file.reason}", head="left out")
    if as_json:
        print_json({**asdict(report), "unreadable": [asdict(file) for file in unreadable], "passages": passages})
    else:
        tokens = "" if report.tokens is None else f", {report.tokens:,} tokens"
        say(
            f"{report.documents:,} documents: {report.added:,} new, {report.changed:,} changed, "
            f"{report.unchanged:,} as they were, {report.removed:,} removed; "
            f"{report.chunks_embedded:,} passages embedded{tokens}; "
            f"{passages:,} passages in {collection!r}"
        )
    if any(not file.unknown_kind for file in unreadable):
        raise typer.Exit(1)


@rag.command("ask")
def ask(
    question: Annotated[str, typer.Argument(help="In words.")],
    *,
    store: _Store = "qdrant",
    path: _Path = "kb",
    collection: _Collection = "rag",
    embedder: _Embedder = None,
    where: _Where = None,
    retriever: _Retriever = "hybrid",
    words_language: _WordsLanguage = None,
    rerank: _Rerank = None,
    k: _K = 6,
    llm: _Model = None,
    language: _Language = "en",
    budget_ms: _Budget = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print answer, passages and timings as JSON.")] = False,
) -> None:
    """Answer a question, and name the passages that the answer comes from."""
    from vecbench.cli.conditions import conditions

    chosen = conditions(where or ())
    answering = Answering(llm, language, retriever, words_language, rerank)
    with opened_rag(store, path, collection, embedder, answering) as opened:
        answer = opened.ask(question, k=k, where=chosen, budget_ms=budget_ms)
    if as_json:
        print_json(asdict(answer))
        return
    say(answer.text)
    _sources(answer)


@rag.command("chat")
def chat(
    *,
    store: _Store = "qdrant",
    path: _Path = "kb",
    collection: _Collection = "rag",
    embedder: _Embedder = None,
    where: _Where = None,
    retriever: _Retriever = "hybrid",
    words_language: _WordsLanguage = None,
    rerank: _Rerank = None,
    k: _K = 6,
    llm: _Model = None,
    language: _Language = "en",
    budget_ms: _Budget = None,
) -> None:
    """Ask one question after the other; an empty line or Ctrl-D ends."""
    from vecbench.cli.conditions import conditions
    from vecbench.rag.types import Message

    chosen, history = conditions(where or ()), list[Message]()
    answering = Answering(llm, language, retriever, words_language, rerank)
    with opened_rag(store, path, collection, embedder, answering) as opened:
        for question in _questions():
            pieces = opened.stream(question, k=k, where=chosen, budget_ms=budget_ms, history=history)
            for piece in pieces:
                say(piece, end="")
            say()
            _sources(pieces.answer)
            history += [Message("user", question), Message("assistant", pieces.answer.text)]


@rag.command("list")
def list_documents(
    *,
    store: _Store = "qdrant",
    path: _Path = "kb",
    collection: _Collection = "rag",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List the documents: where they come from, and how many passages each has."""
    with held_rag(store, path, collection) as opened:
        found = sorted(opened.sources(), key=lambda document: (document.origin, document.source))
    if as_json:
        print_json([asdict(document) for document in found])
        return
    for document in found:
        say(f"{document.parts:>6,}  {document.origin}  {document.source}")
    say(f"{len(found):,} documents in {collection!r}")


@rag.command("remove")
def remove(
    source: Annotated[str, typer.Argument(help="A document, as `list` shows it in the last column.")],
    *,
    store: _Store = "qdrant",
    path: _Path = "kb",
    collection: _Collection = "rag",
    origin: Annotated[
        str | None, typer.Option("--origin", help="Only what comes from there, where several have such a document.")
    ] = None,
) -> None:
    """Remove a document; adding its folder again brings it back. Exit code 1: there is none."""
    with held_rag(store, path, collection) as opened:
        passages = opened.remove(source, origin=origin)
    if not passages:
        complain(f"{collection!r} has no document {source!r}; `vecbench rag list` shows which there are")
        raise typer.Exit(1)
    say(f"{passages:,} passages removed")


def _questions() -> Iterator[str]:
    while True:
        if sys.stdin.isatty():
            say("\n? ", end="")
        line = sys.stdin.readline().strip()
        if not line:
            return
        yield line


def _sources(answer: Answer) -> None:
    milliseconds = ", ".join(f"{stage} {ns / 1e6:,.0f}" for stage, ns in answer.timings_ns.items())
    for citation in answer.citations:
        p = citation.passage
        page = p.metadata.get("page")
        headings = p.metadata.get("headings")
        where = f", page {page}" if page is not None else f" ({' > '.join(headings)})" if headings else ""  # type: ignore[arg-type]  # headings are a list
        say(f"  [{citation.number}] {p.source}{where}, characters {p.start:,} to {p.end:,}", stderr=True)
    for note in answer.notes:
        complain(note, head="note")
    say(f"  milliseconds: {milliseconds}", stderr=True)
