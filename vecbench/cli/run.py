"""`vecbench run`: measure stores on a data set, show the tables, leave a result file."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from vecbench.cli.naming import MetricNames, checked_stores, metrics, numbers
from vecbench.cli.output import complain, console, require_writable

__all__ = ["run"]


def run(
    *,
    stores: Annotated[
        list[str],
        typer.Option("--stores", "-s", metavar="LIST", help="all, or with commas between: name, name:mode, name=url."),
    ],
    dataset: Annotated[
        str,
        typer.Option(
            "--dataset",
            "-d",
            metavar="NAME|PATH",
            help="See `vecbench datasets`; or vectors, texts, a folder of documents.",
        ),
    ] = ("glosses-10k"),
    metric: MetricNames = None,
    k: Annotated[int, typer.Option("--k", help="Neighbours asked for by each query.")] = 10,
    index: Annotated[
        str,
        typer.Option("--index", metavar="TEXT", help="flat, hnsw:m=16,ef_construction=200 or ivf_flat:nlist=128."),
    ] = "hnsw",
    ef: Annotated[
        str, typer.Option("--ef", metavar="LIST", help="Values of ef_search (of nprobe under ivf_flat) to go through.")
    ] = "16,32,64,128,256",
    exact: Annotated[
        bool, typer.Option("--exact/--no-exact", help="Also measure exact search, where a store has it.")
    ] = True,
    rounds: Annotated[int, typer.Option("--rounds", help="How often every setting is measured.")] = 3,
    queries: Annotated[
        int | None,
        typer.Option(
            "--queries", metavar="N", help="Use the first N queries only.  [default: all]", show_default=False
        ),
    ] = None,
    clients: Annotated[
        str | None,
        typer.Option(
            "--clients",
            metavar="LIST",
            help="Also measure with so many clients asking at once, as 1,8,32.  [default: not]",
            show_default=False,
        ),
    ] = None,
    rate: Annotated[
        str | None,
        typer.Option(
            "--rate",
            metavar="LIST",
            help="And with requests that are due at so many a second, whether answers come or not.",
            show_default=False,
        ),
    ] = None,
    requests: Annotated[
        int | None,
        typer.Option(
            "--requests",
            metavar="N",
            help="Requests in one pass under load.  [default: two for every query]",
            show_default=False,
        ),
    ] = None,
    on: Annotated[
        str | None,
        typer.Option(
            "--on",
            metavar="ADDRESS",
            help="Run the clients on a Ray cluster: ray://host:10001.  [default: here]",
            show_default=False,
        ),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Decides the order of rows and rounds.")] = 1,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            metavar="FILE",
            help="The result file.  [default: vecbench-UTC-DATASET.json in this directory]",
            show_default=False,
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the result file if it exists.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON in place of the tables.")] = False,
) -> None:
    """Measure stores: recall, latency, throughput, build time, memory.

    Every store is filled with the same vectors and asked the same queries, in a process of its own. Recall and latency
    come from the same answers. The tables and a result file with every raw value are what is left.

    \b
    Examples:
      vecbench run --stores qdrant,faiss
      vecbench run --stores all
      vecbench run --stores faiss --index hnsw:m=32,ef_construction=200 --ef 32,64,128
      vecbench run --stores qdrant=http://localhost:6333 --metric cosine --out qdrant.json
      vecbench run --stores pgvector --ef 64 --no-exact --clients 1,4,16 --rate 500

    \b
    Exit codes:
      0    every store was measured, and every request under load was answered
      1    a store failed, or requests to one under load; the rest is in the tables and the file
      2    the command line cannot be used; nothing was run
      130  Ctrl-C; what was measured is kept
    """
    # All that can be wrong with the command line is found before anything runs.
    refs = checked_stores(stores)
    from vecbench.bench.load import Load
    from vecbench.bench.plan import Plan
    from vecbench.cli.documents import found_source
    from vecbench.errors import ConfigError
    from vecbench.index import parse_index

    if rate is not None and clients is None:
        raise ConfigError("--rate needs --clients: how many wait for answers at once")
    if requests is not None and clients is None:
        raise ConfigError("--requests needs --clients: it is of a pass under load")
    pressed = () if clients is None else numbers("--clients", clients)
    rates = () if rate is None else numbers("--rate", rate)
    built, walked = parse_index(index), numbers("--ef", ef)
    if out is not None:
        require_writable(out, force=force)
    plan = Plan(
        stores=tuple(refs),
        dataset=dataset,
        metrics=metrics(metric),
        k=k,
        index=built,
        ef=walked,
        exact=exact,
        rounds=rounds,
        seed=seed,
        queries=queries,
        loads=tuple(Load(count, per_second) for count in pressed for per_second in (None, *rates)),
        requests=requests,
        on=None if on == "here" else on,
    )
    source = found_source(dataset)  # only now: a folder of documents is cut for it
    plan = replace(plan, metrics=metrics(metric, source.card.metric))
    path = _result_path(out, source.name)
    require_writable(path, force=force)

    from vecbench.bench import runner
    from vecbench.cli.progress import showing
    from vecbench.cli.tables import show_report

    saved = False
    with _interrupted_once():
        with showing(quiet=quiet) as on_event:
            report = runner.run(plan, on_event=on_event, dataset=source)
        try:
            complain(str(report.save(path, replace=force)), head="result file")
            saved = True
        except OSError as e:
            complain(f"the result could not be written to {path}: {e.strerror or e}")
    if as_json:
        typer.echo(report.model_dump_json(indent=1))
    else:
        show_report(report, console())
    for failure in report.failures():
        complain(failure)
    if report.interrupted:
        complain("interrupted; what was measured until then is kept")
        raise typer.Exit(130)
    if report.failed or not saved:
        raise typer.Exit(1)


@contextmanager
def _interrupted_once() -> Iterator[None]:
    """Ctrl-C ends the run; pressed again it does nothing, until what was measured is written."""

    def interrupt(_signal: int, _frame: object) -> NoReturn:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield  # elsewhere Python sets no handlers
        return
    before = signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _result_path(out: Path | None, dataset: str) -> Path:
    from datetime import UTC, datetime

    if out is not None:
        return out
    name = "".join(c if c.isalnum() or c == "-" else "_" for c in dataset)
    return Path(f"vecbench-{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{name}.json")
