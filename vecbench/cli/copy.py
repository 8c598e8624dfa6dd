"""`vecbench copy`: a collection from one store to another."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vecbench.cli.naming import missing_module
from vecbench.cli.output import complain, console, print_json, say
from vecbench.errors import CollectionNotFound, ConfigError, MissingDependency, VecbenchError, redact

if TYPE_CHECKING:
    from rich.progress import TaskID

    from vecbench.collection import Collection
    from vecbench.registry import StoreRef
    from vecbench.store import VectorStore
    from vecbench.transfer import CopyPlan, CopyReport
    from vecbench.verify import Progress

__all__ = ["copy"]

_LISTED = 10


def copy(
    source: Annotated[str, typer.Argument(metavar="SRC", help="The store to copy from: name, name:mode or name=url.")],
    destination: Annotated[str, typer.Argument(metavar="DST", help="The store to copy to, named likewise.")],
    *,
    from_path: Annotated[
        Path | None, typer.Option("--from-path", metavar="DIR", help="Where an embedded SRC keeps its data.")
    ] = None,
    to_path: Annotated[
        Path | None, typer.Option("--to-path", metavar="DIR", help="Where an embedded DST keeps its data.")
    ] = None,
    collection: Annotated[
        str | None,
        typer.Option(
            "--collection",
            "-c",
            metavar="NAME",
            help="The collection to copy.  [default: the only one]",
            show_default=False,
        ),
    ] = None,
    to_collection: Annotated[
        str | None,
        typer.Option(
            "--to-collection", metavar="NAME", help="What to call the copy.  [default: the same]", show_default=False
        ),
    ] = None,
    index: Annotated[
        str | None,
        typer.Option(
            "--index",
            metavar="TEXT",
            help="flat, hnsw:m=16,ef_construction=200 or ivf_flat:nlist=128.  [default: the source's]",
            show_default=False,
        ),
    ] = None,
    batch_size: Annotated[int, typer.Option("--batch-size", metavar="N", help="Records in memory at a time.")] = 1000,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with a copy that was stopped; one that has not begun begins.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Write nothing; say what DST cannot hold and what would be lost.")
    ] = False,
    verify: Annotated[
        bool, typer.Option("--verify/--no-verify", help="Compare every record with its copy at the end.")
    ] = True,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print what was done as JSON.")] = False,
) -> None:
    """Copy a collection from one store to another, and verify the copy.

    Ids, vectors, metadata, documents, the embedder's identity and the declared fields go over; the index is built anew.
    Nothing that exists is replaced or deleted. A copy that was stopped is continued by the same command with --resume.

    \b
    Examples:
      vecbench copy faiss qdrant --from-path kb --to-path kb2 --collection docs
      vecbench copy faiss qdrant=http://localhost:6333 --from-path kb --dry-run
      vecbench copy qdrant=http://localhost:6333 faiss --to-path backup -c docs --index flat
      vecbench copy faiss faiss --from-path kb --to-path kb -c docs --to-collection docs-32 --index hnsw:m=32

    \b
    Exit codes:
      0    the copy is complete, and equal to its source (with --dry-run: it would fit)
      1    it is not: a store failed, or verification found a difference; the message names it
      2    the command line cannot be used; nothing was written
      130  Ctrl-C; what was copied is kept, go on with --resume
    """
    from vecbench.index import parse_index

    here, there = _ref(source), _ref(destination)
    chosen = None if index is None else parse_index(index)
    if batch_size < 1:
        raise ConfigError(f"--batch-size must be a whole number of at least 1, got {batch_size}")
    with ExitStack() as stack:
        found, dst = _open(stack, (here, from_path), (there, to_path), collection, dry_run=dry_run)
        # A dry run does not make the directory: a store that is opened without one stands for it.
        forgets = not dst.capabilities.persistent and not (dry_run and to_path is not None)
        refused = f"{there.label} keeps nothing after this command; name a directory with --to-path" if forgets else ""

        from vecbench.transfer import plan_copy

        if dry_run:
            plan = plan_copy(found, dst, to_collection, index=chosen, resume=resume)
            obstacles = [*map(str, plan.obstacles), *([refused] if refused else [])]
            _tell_plan(found, dst, plan, [redact(text) for text in obstacles], as_json=as_json)
            return
        if refused:
            raise ConfigError(refused)
        report = _copy(
            found,
            dst,
            to_collection,
            quiet=quiet,
            options={"index": chosen, "batch_size": batch_size, "resume": resume, "verify": verify},
        )
        _tell_report(found, report, as_json=as_json)


def _ref(text: str) -> StoreRef:
    """The store that `text` names; it exists, and its client is installed."""
    from vecbench.registry import StoreRef, adapter

    ref = StoreRef.parse(text)
    store = adapter(ref.name)
    if module := missing_module(store):
        raise MissingDependency(f"store {ref.name!r}", module=module, extra=store.extra or ref.name)
    return ref


def _open(
    stack: ExitStack,
    source: tuple[StoreRef, Path | None],
    destination: tuple[StoreRef, Path | None],
    name: str | None,
    *,
    dry_run: bool,
) -> tuple[Collection, VectorStore]:
    """The collection to copy and the store to copy it to; both are closed with `stack`."""
    (here, from_path), (there, to_path) = source, destination
    if from_path is not None and not from_path.exists():
        raise ConfigError(f"--from-path {from_path} does not exist")  # opening a store would make it
    src = stack.enter_context(_connect(here, from_path))
    if not src.capabilities.persistent:
        raise ConfigError(
            f"{here.label} starts empty, so there is nothing to copy; name its directory with --from-path"
        )
    found = _choose(src, here, name)
    if dry_run and to_path is not None and not to_path.exists():
        to_path = None
    if here == there and (from_path and from_path.resolve()) == (to_path and to_path.resolve()):
        return found, src  # an embedded store is opened once
    return found, stack.enter_context(_connect(there, to_path))


def _connect(ref: StoreRef, path: Path | None) -> VectorStore:
    """With a path the embedded engine there; without, an engine that `vecbench services up` started comes first."""
    from vecbench.services.target import open_target

    return ref.connect(path=path) if path is not None else open_target(ref).store


def _choose(store: VectorStore, ref: StoreRef, name: str | None) -> Collection:
    names = store.list_collections()
    if name is None and len(names) == 1:
        name = names[0]
    known = ", ".join(map(repr, names[:_LISTED])) + (", …" if len(names) > _LISTED else "")
    if name is None and names:
        raise ConfigError(f"{ref.label} has {len(names)} collections; name one with --collection: {known}")
    if name is None or name not in names:
        which = "" if name is None else f" {name!r}"
        raise CollectionNotFound(f"{ref.label} has no collection{which} there; it has {known or 'none'}")
    return store.get_collection(name)


def _copy(found: Collection, dst: VectorStore, name: str | None, *, quiet: bool, options: dict[str, Any]) -> CopyReport:
    """Copy; when that stops half-way, say how to go on."""
    from vecbench.transfer import GO_ON
    from vecbench.transfer import copy as transfer

    try:
        with _showing(quiet=quiet) as show:
            return transfer(found, dst, name, progress=show, **options)
    except (VecbenchError, KeyboardInterrupt) as e:
        if GO_ON in getattr(e, "__notes__", ()):
            complain(f"what was copied is kept; go on with: {_again()}", head="hint")
        raise


def _again() -> str:
    """The command line that continues this one, secrets masked."""
    arguments = [redact(argument) for argument in sys.argv[1:]]
    secret = " (with the secret in place of ***)" if arguments != sys.argv[1:] else ""
    return shlex.join(["vecbench", *arguments, *([] if "--resume" in arguments else ["--resume"])]) + secret


@contextmanager
def _showing(*, quiet: bool) -> Iterator[Progress]:
    """A function that shows how far a copy is: a bar per phase on a terminal, now and then a line elsewhere."""
    if quiet:
        yield lambda phase, done, total: None
    elif not (screen := console(stderr=True)).is_terminal:
        yield _Lines()
    else:
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
        from rich.progress import Progress as Bars

        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Bars(*columns, console=screen) as bars:
            tasks: dict[str, TaskID] = {}

            def show(phase: str, done: int, total: int) -> None:
                if phase not in tasks:
                    tasks[phase] = bars.add_task(phase)
                bars.update(tasks[phase], completed=done, total=total)

            yield show


class _Lines:
    """A line when a phase begins, and one every ten seconds."""

    def __init__(self) -> None:
        self._start, self._said, self._phase = time.monotonic(), 0.0, ""

    def __call__(self, phase: str, done: int, total: int) -> None:
        seconds = time.monotonic() - self._start
        if phase == self._phase and seconds - self._said < 10:
            return
        self._phase, self._said = phase, seconds
        counts = f": {done:,} of {total:,}" if total > 1 else ""
        say(f"{seconds:6.1f} s  {phase}{counts}", stderr=True)


def _tell_plan(found: Collection, dst: VectorStore, plan: CopyPlan, obstacles: list[str], *, as_json: bool) -> None:
    spec = plan.spec
    if as_json:
        from vecbench.index import index_to_dict

        print_json(
            {
                "source": _place(found.store, found.spec.name),
                "destination": _place(dst, spec.name),
                "rows": plan.rows,
                "dim": spec.dim,
                "metric": spec.metric.value,
                "index": index_to_dict(spec.index),
                "embedder": None if spec.embedder is None else spec.embedder.describe(),
                "fits": not obstacles,
                "obstacles": obstacles,
                "losses": list(plan.losses),
            }
        )
    else:
        say(f"{_arrow(found, dst, spec.name)}: {plan.rows:,} × {spec.dim}, {spec.metric}, {spec.index.kind}")
        for loss in plan.losses:
            say(f"note: {loss}")
        say("nothing was written (dry run)")
        for text in obstacles:
            complain(text)
    if obstacles:
        raise typer.Exit(1)


def _tell_report(found: Collection, report: CopyReport, *, as_json: bool) -> None:
    copied, verified = report.collection, report.verified
    if as_json:
        print_json(
            {
                "source": _place(found.store, found.spec.name),
                "destination": _place(copied.store, copied.spec.name),
                "rows": report.rows,
                "written": report.written,
                "seconds": round(report.seconds, 3),
                "losses": list(report.losses),
                "verified": None
                if verified is None
                else {
                    "rows": verified.rows,
                    "vectors": "bits" if verified.bits else "rounding",
                    "searches": verified.searches,
                    "exact": verified.exact,
                },
            }
        )
        return
    before = report.rows - report.written
    already = f", {before:,} of them before" if before else ""
    say(
        f"{_arrow(found, copied.store, copied.spec.name)}: "
        f"{report.rows:,} records copied{already}, in {report.seconds:.1f} s"
    )
    if verified is None:
        say("not verified (--no-verify)")
    else:
        vectors = "vector (bit for bit)" if verified.bits else "vector (to float32 rounding)"
        searches = f"{verified.searches} searches, {'exact' if verified.exact else 'not exact'}"
        say(f"verified: every id, {vectors}, metadata and document; {searches}")
    for loss in report.losses:
        say(f"note: {loss}")


def _place(store: VectorStore, name: str) -> dict[str, str]:
    return {"store": store.info.label, "collection": name}


def _arrow(found: Collection, dst: VectorStore, name: str) -> str:
    return f"{found.store.info.label} {found.spec.name!r} → {dst.info.label} {name!r}"
