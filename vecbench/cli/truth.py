"""`vecbench truth`: the exact neighbours of a data set's queries, computed once and kept."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vecbench.cli.naming import MetricNames, metrics
from vecbench.cli.output import complain, figure, print_json, require_writable, say, working
from vecbench.errors import ConfigError

if TYPE_CHECKING:
    from vecbench.dataset import Dataset
    from vecbench.neighbours import Largest
    from vecbench.truth import GroundTruth
    from vecbench.types import Metric

__all__ = ["truth"]

_LEAST_MB = 64


def truth(
    dataset: Annotated[
        str, typer.Argument(metavar="NAME|PATH", help="A data set, see `vecbench datasets`; or a file or folder.")
    ],
    *,
    metric: MetricNames = None,
    k: Annotated[int, typer.Option("--k", help="Neighbours of each query, nearest first.")] = 100,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE.npz", help="Write them too: arrays rows, ids, distances (queries × k)."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that exists.")] = False,
    threads: Annotated[
        int | None, typer.Option("--threads", metavar="N", help="[default: every processor]", show_default=False)
    ] = None,
    memory: Annotated[
        int, typer.Option("--memory", metavar="MB", help="Memory to use beside the vectors; it changes no result.")
    ] = 512,
    on: Annotated[
        str | None,
        typer.Option(
            "--on",
            metavar="ray://HOST:PORT",
            help="Compute on a Ray cluster (extra `ray`), to the same bits; --memory is for each of its CPUs.",
        ),
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Compute the exact neighbours of every query, and keep them for the runs to come.

    Candidates come from blocked float32 matrix products, on a GPU where FAISS has one, and are ranked in float64: the
    result is exact, also where rows are equally near. What is kept already is not computed again. A long computation
    keeps its parts: after Ctrl-C or a crash, the same command goes on from there. `vecbench run` computes what it needs
    by itself.

    \b
    Examples:
      vecbench truth glosses-10k
      vecbench truth ./base.fvecs --metric euclidean --k 1000
      vecbench truth ./base.fbin --on ray://head:10001
    """
    from vecbench.cli.documents import found_source
    from vecbench.work import open_workers

    for option, number, least in (("--k", k, 1), ("--threads", threads, 1), ("--memory", memory, _LEAST_MB)):
        if number is not None and number < least:
            raise ConfigError(f"{option} must be at least {least}, got {number}")
    afar = on not in {None, "here"}
    if afar and threads is not None:
        raise ConfigError("--threads is for this machine; a cluster uses all of its CPUs")
    metrics(metric)
    if out is not None:
        if out.suffix != ".npz":
            raise ConfigError(f"--out {out}: the name must end in .npz")
        require_writable(out, force=force)
    source = found_source(dataset)  # only now: a folder of documents is cut for it
    asked = metrics(metric, source.card.metric)
    if out is not None and len(asked) > 1:
        raise ConfigError(f"--out holds the neighbours under one metric; choose with --metric {asked[0].value}")
    with working(f"loading {source.name} …"):
        data = source.load()
    with open_workers(on) as workers:
        options = {"threads": threads, "memory_bytes": memory * 2**20, "workers": workers if afar else None}
        _compute(data, asked, k, options, out=out, quiet=quiet, as_json=as_json)


def _compute(
    data: Dataset,
    asked: tuple[Metric, ...],
    k: int,
    options: dict[str, Any],
    *,
    out: Path | None,
    quiet: bool,
    as_json: bool,
) -> None:
    from vecbench.bench.machine import sgemm_gflops
    from vecbench.truth import default_truth_dir, ground_truth

    afar = options["workers"] is not None
    peak, device = (None, None) if afar else (sgemm_gflops(), _device())
    rows: list[dict[str, Any]] = []
    folder = default_truth_dir()
    for each in asked:
        with working(f"{each.value} …") as show:
            meter = _Meter(data, each, None if quiet else show)
            found = ground_truth(data, each, k, progress=meter, largest=device, **options)
            seconds, rate = meter.seconds(), meter.gflops()
        rows.append(
            {"metric": each.value, "k": found.k, "queries": len(found.rows), "sha256": found.sha256,
             "seconds": seconds, "gflops": rate, "sgemm_gflops": peak, "gpu": device is not None, "cluster": afar,
             "folder": str(folder) if folder.is_dir() else None}
        )  # fmt: skip
        if out is not None:
            _write(out, data, found)
        if not as_json:
            told = "it was kept already" if rate is None else f"{seconds:.2f} s, {figure(rate, 0)} GFLOP/s"
            say(f"{each.value}: {found.k} neighbours of {len(found.rows):,} queries, {told}, {found.sha256[:16]}")
    if as_json:
        print_json(rows)
        return
    if peak is not None:
        complain(f"{figure(peak, 0)} GFLOP/s: what this machine's matrix product reaches", head="sgemm")
    if folder.is_dir():  # else a warning has said why
        complain(str(folder), head="kept in")


class _Meter:
    """Shows how far a computation is, how fast, and how long it will take; it is told (queries done, all queries)."""

    def __init__(self, data: Dataset, metric: Metric, show: Callable[[str], None] | None) -> None:
        self._work = 2 * len(data.queries) * len(data.base) * data.dim / 1e9
        self._metric, self._show = metric, show
        self._start = time.perf_counter()
        self._first: tuple[float, float] | None = None  # time and share: what was done before may be an earlier call's

    def __call__(self, done: int, total: int) -> None:
        now, share = time.perf_counter(), done / total
        if self._first is None:
            self._first = (now, share)
        if self._show is None or share == self._first[1]:
            return
        rate = (share - self._first[1]) / (now - self._first[0])
        self._show(
            f"{self._metric.value}: {share:.0%} of {total:,} queries, {figure(rate * self._work, 0)} GFLOP/s, "
            f"{figure((1 - share) / rate, 0)} s left"
        )

    def seconds(self) -> float:
        return time.perf_counter() - self._start

    def gflops(self) -> float | None:
        """The rate of what was computed just now; None where nothing was."""
        if self._first is None:
            return None
        if self._first[1] < 0.1:  # hardly anything was kept of an earlier call
            return self._work / self.seconds()
        left = 1 - self._first[1]
        return self._work * left / (time.perf_counter() - self._first[0]) if left else self._work / self.seconds()


def _device() -> Largest | None:
    """The first GPU that an installed package can use, through the entry points "vecbench.devices"."""
    from importlib.metadata import entry_points

    devices = (point.load()() for point in entry_points(group="vecbench.devices"))
    return next((device for device in devices if device is not None), None)


def _write(out: Path, data: Dataset, found: GroundTruth) -> None:
    import numpy as np

    ids = np.array([[data.ids[row] for row in rows] for rows in found.rows.tolist()], np.str_)
    part = out.with_name(out.name + ".part")
    try:
        with part.open("wb") as file:
            np.savez(file, rows=found.rows, ids=ids, distances=found.distances)
        part.replace(out)
    except OSError as e:
        part.unlink(missing_ok=True)
        raise ConfigError(f"{out} cannot be written: {e.strerror or e}") from e
