"""`vecbench truth`: the exact neighbours of a data set's queries, computed once and kept."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import typer

from vecbench.cli.output import complain, console, figure, print_json
from vecbench.errors import ConfigError

if TYPE_CHECKING:
    from vecbench.types import Metric

__all__ = ["truth"]


def truth(
    dataset: Annotated[str, typer.Argument(metavar="NAME|PATH", help="A data set; see `vecbench datasets`.")],
    *,
    metric: Annotated[
        list[str] | None,
        typer.Option(
            "--metric",
            metavar="[euclidean|cosine|dot]",
            help="May be given more than once.  [default: the data set's own, or euclidean and cosine]",
            show_default=False,
        ),
    ] = None,
    k: Annotated[int, typer.Option("--k", help="Neighbours of each query, nearest first.")] = 100,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Compute the exact neighbours of every query, and keep them for the runs to come.

    Candidates come from blocked float32 matrix products, and are ranked in float64: the result is exact, also where
    rows are equally near. What is kept already is not computed again. `vecbench run` does the same by itself.

    \b
    Examples:
      vecbench truth glosses-10k
      vecbench truth ./base.fvecs --metric euclidean --k 1000
    """
    from vecbench.bench.machine import sgemm_gflops
    from vecbench.registry import dataset_source
    from vecbench.truth import default_truth_dir, ground_truth

    source = dataset_source(dataset)
    metrics = _metrics(metric, source.card.metric)
    if k < 1:
        raise ConfigError(f"--k must be at least 1, got {k}")
    busy = console(stderr=True)
    with busy.status(f"loading {source.name} …"):
        data = source.load()
    peak = sgemm_gflops()
    rows = []
    for each in metrics:
        computed: list[int] = []
        with busy.status(f"{each.value} …") as status:

            def show(done: int, total: int, name: str = each.value, computed: list[int] = computed) -> None:
                computed[:] = [done]
                if not quiet:
                    status.update(f"{name}: {done:,} of {total:,} queries")

            start = time.perf_counter()
            found = ground_truth(data, each, k, progress=show)
            seconds = time.perf_counter() - start
        work = 2 * len(data.queries) * len(data.base) * data.dim / 1e9
        rate = work / seconds if computed else None
        rows.append(
            {"metric": each.value, "k": found.k, "queries": len(found.rows), "sha256": found.sha256,
             "seconds": seconds, "gflops": rate, "sgemm_gflops": peak, "folder": str(default_truth_dir())}
        )  # fmt: skip
        if not as_json:
            told = "it was kept already" if rate is None else f"{seconds:.2f} s, {figure(rate, 0)} GFLOP/s"
            typer.echo(
                f"{each.value}: {found.k} neighbours of {len(found.rows):,} queries, {told}, {found.sha256[:16]}"
            )
    if as_json:
        print_json(rows)
    else:
        complain(f"{figure(peak, 0)} GFLOP/s: what this machine's matrix product reaches", head="sgemm")
        complain(str(default_truth_dir()), head="kept in")


def _metrics(given: list[str] | None, own: Metric | None) -> list[Metric]:
    from vecbench.types import Metric

    if not given:
        return [own] if own is not None else [Metric.EUCLIDEAN, Metric.COSINE]
    try:
        return [Metric(name) for name in dict.fromkeys(given)]
    except ValueError:
        unknown = next(name for name in given if name not in set(Metric))
        raise ConfigError(f"--metric {unknown!r} is not known; known: {', '.join(Metric)}") from None
