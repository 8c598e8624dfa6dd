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


def show_report(report: Report, out: Console) -> None:
    """Print the tables and the notes beneath them."""
    from vecbench.bench.report import COLUMNS, cells, rows

    k = report.plan["k"]
    columns = [column.format(k=k) for column in COLUMNS]
    lines = rows(report)
    for metric in dict.fromkeys(row.metric for row in lines):
        mine = [row for row in lines if row.metric == metric]
        texts = [list(cells(row, first=first)) for row, first in _firsts(mine)]
        title = f"{metric}, {report.dataset['name']}, k = {k}"
        if out.width >= _WIDE:
            out.print(table(title, columns, texts, right=columns[2:]))
            continue
        search, build = columns[:_SEARCH_COLUMNS], [columns[0], *columns[_SEARCH_COLUMNS:]]
        out.print(table(title, search, [text[:_SEARCH_COLUMNS] for text in texts], right=search[2:]))
        built = [[text[0], *text[_SEARCH_COLUMNS:]] for text in texts if any(text[_SEARCH_COLUMNS:])]
        if built:
            out.print(table(f"{metric}, building", build, built, right=build[1:]))
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
