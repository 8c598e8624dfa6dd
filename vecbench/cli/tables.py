"""A report on the terminal: a table per metric, and beneath it what is needed to believe it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from vecbench.cli.output import figure, table

if TYPE_CHECKING:
    from rich.console import Console

    from vecbench.bench.report import Row
    from vecbench.bench.result import Report

__all__ = ["footnotes", "show_report"]

_WIDE = 112  # columns that the whole table takes; on a narrower terminal the build figures get one of their own
_SEARCH_COLUMNS = 7
_WIDE_ONLY = ("p95 ms", "in flight")  # of the table of loads


def show_report(report: Report, out: Console) -> None:
    """Print the tables and the notes beneath them."""
    from vecbench.bench.report import COLUMNS, LOAD_COLUMNS, cells, load_cells, rows

    k = report.plan["k"]
    columns = [column.format(k=k) for column in COLUMNS]
    lines = rows(report)
    for metric in dict.fromkeys(row.metric for row in lines):
        mine = [row for row in lines if row.metric == metric]
        texts = [list(cells(row, first=first)) for row, first in _firsts(mine)]
        title = f"{metric}, {report.dataset['name']}, k = {k}"
        if out.width >= _WIDE:
            out.print(table(title, columns, texts, right=columns[2:]))
        else:
            search, build = columns[:_SEARCH_COLUMNS], [columns[0], *columns[_SEARCH_COLUMNS:]]
            out.print(table(title, search, [text[:_SEARCH_COLUMNS] for text in texts], right=search[2:]))
            built = [[text[0], *text[_SEARCH_COLUMNS:]] for text in texts if any(text[_SEARCH_COLUMNS:])]
            if built:
                out.print(table(f"{metric}, building", build, built, right=build[1:]))
        loaded = [text for row, first in _firsts(mine) for text in load_cells(row, first=first)]
        if loaded:
            shown = [i for i, name in enumerate(LOAD_COLUMNS) if out.width >= _WIDE or name not in _WIDE_ONLY]
            heads = [LOAD_COLUMNS[i].format(k=k) for i in shown]
            texts = [[text[i] for i in shown] for text in loaded]
            out.print(table(f"{metric}, under load", heads, texts, right=heads[2:-1]))
    for key, value in footnotes(report):
        out.print(f"{key:<10}{value}", soft_wrap=True)


def _firsts(rows: Sequence[Row]) -> Iterator[tuple[Row, bool]]:
    last = None
    for row in rows:
        yield row, row.case is not last
        last = row.case


def footnotes(report: Report) -> Iterator[tuple[str, str]]:
    """Names and sentences: harness, stores, machine, data set, and what must not be concluded."""
    if report.null_cost_ns is not None:
        cost_us = report.null_cost_ns / 1000
        yield "harness", f"{cost_us:.2f} µs a query are the harness's own (a store that does nothing); not subtracted"
    used = {load.how for case in report.cases for setting in case.settings for load in setting.loads}
    for how in sorted(used):
        alone = [(n.clients, n.qps) for n in report.null_loads if n.how == how and n.rate is None]
        reached = ", ".join(f"{qps:,.0f} queries/s with {clients}" for clients, qps in alone)
        yield "", f"{'clients on the cluster' if how == 'ray' else how} reach, on that store, {reached}"
    yield from _loads(report)
    places: dict[str, list[str]] = {}
    for case in report.cases:
        if (v := case.versions) is None or v.label in places.setdefault(v.deployment, []):
            continue
        places[v.deployment].append(v.label)
        yield "store", f"{v.label}: {v.engine} {v.engine_version}, client {v.client} {v.client_version}, {v.deployment}"
    places = {place: labels for place, labels in places.items() if labels}
    if len(places) > 1:
        groups = "; ".join(f"{place}: {', '.join(labels)}" for place, labels in places.items())
        yield "caution", f"these stores run in different places ({groups}): do not rank one group against another"
    for case in report.cases:
        for note in case.notes:
            yield "note", f"{case.store}, {case.metric}: {note}"
    yield from _quality(report)
    yield "plan", _plan(report.plan)
    yield "data set", _dataset(report.dataset)
    for note in report.dataset.get("notes", ()):
        yield "", str(note)
    m = report.machine
    yield (
        "machine",
        f"{m.processor}, {m.cores_usable} of {m.cores_logical} cores, {m.memory_bytes / 2**30:.0f} GiB, {m.system}, "
        f"Python {m.python}, load {m.load_average_1min:.1f}",
    )
    if m.sgemm_gflops_after is not None:
        yield "", f"matrix product before and after: {m.sgemm_gflops_before:g} and {m.sgemm_gflops_after:g} GFLOP/s"


def _loads(report: Report) -> Iterator[tuple[str, str]]:
    """What the verdicts mean, where one is not ok; the first error of each case."""
    from vecbench.bench.load import Load

    cases = [(case, s.name, load) for case in report.cases for s in case.settings for load in s.loads]
    found = {load.verdict for _, _, load in cases}
    for how in dict.fromkeys(load.how for _, _, load in cases):
        stores = ", ".join(dict.fromkeys(case.store for case, _, load in cases if load.how == how))
        where = {
            "threads": "threads of the process that holds the engine",
            "processes": "processes of this machine, each with its own connection",
            "ray": "spread over a Ray cluster, each with its own connection",
        }
        yield "clients", f"{stores}: {where[how]}"
    if "client-bound" in found:
        yield "load", "client-bound: the clients, or the machine they share with it, held the store up; not its limit"
    if "behind" in found:
        yield "load", "behind: requests were due faster than answers came; latencies grow with the length of the run"
    if clocks := max((load.clock_ns for _, _, load in cases), default=0):
        yield "load", f"the clocks of the clients' machines were compared to within {clocks / 1e6:.2f} ms"
    for case, name, load in cases:
        if load.failed:
            pressed = Load(load.clients, load.rate).name
            yield "failed", f"{case.store}, {case.metric}, {name}, {pressed}: {load.failed:,}: {load.error}"


def _quality(report: Report) -> Iterator[tuple[str, str]]:
    """By what people judged relevant, where they did: of each store's last setting, beside the exact neighbours'."""
    for metric, best in report.exact_quality.items():
        cases = [(case.store, case.settings[-1]) for case in report.cases if case.metric == metric and case.settings]
        rows = [("exact neighbours", best), *((f"{name}, {s.name}", s.quality) for name, s in cases)]
        for label, found in rows:
            if found is not None:
                figures = {"nDCG@10": found.ndcg_at_10, "MRR@10": found.mrr_at_10, "recall@100": found.recall_at_100}
                told = ", ".join(f"{name} {figure(value, 4)}" for name, value in figures.items() if value is not None)
                yield "relevance", f"{metric}, {label}: {told or 'ask for more with --k'}"


def _plan(plan: dict[str, Any]) -> str:
    index = dict(plan["index"])
    kind, native = index.pop("kind"), index.pop("native", None)
    if native:
        index |= native
    parameters = ", ".join(f"{key}={value}" for key, value in index.items() if not key.endswith(("search", "nprobe")))
    return (
        f"{kind}{f' ({parameters})' if parameters else ''}; {plan['rounds']} rounds, one query at a time, "
        f"seed {plan['seed']}; ± is half the 95 % interval over queries"
    )


def _dataset(data: dict[str, Any]) -> str:
    g = data["geometry"]
    return (
        f"{data['name']}: {g['n_base']:,} × {g['dim']}, {g['n_queries']:,} queries, LID {figure(g['lid_median'], 1)}, "
        f"contrast {figure(g['contrast_10'])} (10th), norms {g['norm_p5']:.4g}–{g['norm_p95']:.4g}, "
        f"duplicates {g['duplicate_rate']:.2%}"
    )
