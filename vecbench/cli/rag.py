"""`vecbench rag`: answers from your own documents, over any store."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vecbench.cli.output import complain, console, print_json
from vecbench.errors import ConfigError

if TYPE_CHECKING:
    from vecbench.rag import Rag
    from vecbench.rag.types import Answer, Message

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

The documents stay in the store: another `ask`, or another program, finds them there.
""",
)

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


@rag.command("add")
def add(
    what: Annotated[Path, typer.Argument(metavar="PATH", help="A file or a folder of documents.")],
    *,
    store: _Store = "qdrant",
    path: _Path = "kb",
    collection: _Collection = "rag",
    prune: Annotated[bool, typer.Option("--prune/--no-prune", help="Remove what is no longer in the folder.")] = True,
    pattern: Annotated[
        str, typer.Option("--pattern", metavar="GLOB", help="Which files of the folder, say '*.md'.")
    ] = "**/*",
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
    unreadable: list[Any] = []
    out = console(stderr=True)
    with _open(store, path, collection) as opened, out.status("loading the model …") as status:

        def show(now: Any) -> None:
            tokens = "" if now.tokens is None else f", {now.tokens:,} tokens embedded"
            line = f"{now.documents:,} documents, {now.chunks:,} passages{tokens}: {now.source}"
            status.update(line[:_LONGEST_LINE])

        if not what.exists():
            raise ConfigError(f"{what}: there is no such file or folder")
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
        typer.echo(
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
    k: _K = 6,
    llm: _Model = None,
    budget_ms: _Budget = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print answer, passages and timings as JSON.")] = False,
) -> None:
    """Answer a question, and name the passages that the answer comes from."""
    with _open(store, path, collection, llm=llm, must_exist=True) as opened:
        answer = opened.ask(question, k=k, budget_ms=budget_ms)
    if as_json:
        print_json(asdict(answer))
        return
    typer.echo(answer.text)
    _sources(answer)


@rag.command("chat")
def chat(
    *,
    store: _Store = "qdrant",
    path: _Path = "kb",
    collection: _Collection = "rag",
    k: _K = 6,
    llm: _Model = None,
    budget_ms: _Budget = None,
) -> None:
    """Ask one question after the other; an empty line or Ctrl-D ends."""
    from vecbench.rag.types import Message

    history: list[Message] = []
    with _open(store, path, collection, llm=llm, must_exist=True) as opened:
        for question in _questions():
            answering = opened.stream(question, k=k, budget_ms=budget_ms, history=history)
            for piece in answering:
                typer.echo(piece, nl=False)
            typer.echo()
            _sources(answering.answer)
            history += [Message("user", question), Message("assistant", answering.answer.text)]


def _questions() -> Iterator[str]:
    while True:
        if sys.stdin.isatty():
            typer.echo("\n? ", nl=False)
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
        typer.echo(f"  [{citation.number}] {p.source}{where}, characters {p.start:,} to {p.end:,}", err=True)
    for note in answer.notes:
        complain(note, head="note")
    typer.echo(f"  milliseconds: {milliseconds}", err=True)


@contextmanager
def _open(
    store: str, path: str | None, collection: str, *, llm: str | None = None, must_exist: bool = False
) -> Iterator[Rag]:
    """The documents of a collection. must_exist: an empty collection is not made by asking it."""
    from vecbench.rag import Rag
    from vecbench.rag.answer import OpenAIChat
    from vecbench.registry import StoreRef

    ref = StoreRef.parse(store)
    options = {} if ref.url is not None else {"path": path}
    model = None if llm is None else OpenAIChat(llm)
    if must_exist and ref.url is None and path is not None and not Path(path).exists():
        raise ConfigError(f"{path}: nothing was added there yet; `vecbench rag add PATH` does")
    with ref.connect(**options) as opened:
        if must_exist:
            opened.get_collection(collection)
        with Rag(opened, collection=collection, llm=model) as made:
            yield made
