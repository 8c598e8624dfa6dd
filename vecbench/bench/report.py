"""A report as rows for a table: plain data and Markdown; the command line does the drawing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from vecbench.bench.result import CaseResult, Report, SettingResult

__all__ = ["COLUMNS", "LOAD_COLUMNS", "Row", "cells", "load_cells", "markdown_table", "rows"]

COLUMNS = (
    "store",
    "search",
    "recall@{k}",
    "p50 ms",
    "p95 ms",
    "p99 ms",
    "QPS",
    "ingest s",
    "index s",
    "memory MB",
    "disk MB",
)
LOAD_COLUMNS = (
    "store",
    "search",
    "clients",
    "recall@{k}",
    "QPS",
    "p50 ms",
    "p95 ms",
    "p99 ms",
    "in flight",
    "verdict",
)


@dataclass(frozen=True, slots=True)
class Row:
    """One line: a case, and one of its settings; `setting` is None for a case without valid numbers."""

    metric: str
    case: CaseResult
    setting: SettingResult | None


def rows(report: Report) -> list[Row]:
    """All lines, by metric, then by deployment, then in the order of the plan."""
    deployments = ("embedded", "local-process", "remote")
    out: list[Row] = []
    for metric in dict.fromkeys(c.metric for c in report.cases):
        cases = [c for c in report.cases if c.metric == metric]
        cases.sort(key=lambda c: deployments.index(c.versions.deployment) if c.versions else len(deployments))
        for case in cases:
            if case.status == "ok" and case.settings:
                out.extend(Row(metric, case, s) for s in case.settings)
            else:
                out.append(Row(metric, case, None))
    return out


def cells(row: Row, *, first: bool) -> Sequence[str]:
    """The texts of one line under `COLUMNS`; the build figures only in the first line of a case."""
    s, p = row.setting, row.case.phases
    if s is None:
        return [row.case.store, row.case.status, *[""] * (len(COLUMNS) - 2)]
    build = ["", "", "", ""]
    if first and p is not None:
        memory = "–"
        if p.memory_before_bytes is not None and p.memory_after_bytes is not None:
            memory = f"{max(0, p.memory_after_bytes - p.memory_before_bytes) / 1e6:.0f}"
        disk = "–" if p.disk_bytes is None else f"{p.disk_bytes / 1e6:.1f}"
        build = [f"{p.ingest_ns / 1e9:.2f}", f"{p.optimize_ns / 1e9:.2f}", memory, disk]
    half = (s.recall_interval[1] - s.recall_interval[0]) / 2
    return [
        row.case.versions.label if first and row.case.versions else "",
        s.name,
        f"{s.recall_mean:.4f} ±{half:.4f}",
        f"{s.p50_ns / 1e6:.3f}",
        f"{s.p95_ns / 1e6:.3f}",
        f"{s.p99_ns / 1e6:.3f}",
        f"{s.qps_serial:,.0f}",
        *build,
    ]


def load_cells(row: Row, *, first: bool) -> list[list[str]]:
    """The texts under `LOAD_COLUMNS` of every load of one line; none for a line that was not measured under load."""
    label = row.case.versions.label if row.case.versions else row.case.store
    lines: list[list[str]] = []
    if row.setting is None:
        return lines
    for load in row.setting.loads:
        new = not lines
        failed = f", {load.failed:,} failed" if load.failed else ""
        times = ["–" if ns < 0 else f"{ns / 1e6:.3f}" for ns in (load.p50_ns, load.p95_ns, load.p99_ns)]
        lines.append(
            [
                label if first and new else "",
                row.setting.name if new else "",
                str(load.clients) if load.rate is None else f"{load.clients} @ {load.rate:g}/s",
                f"{load.recall_mean:.4f}",
                f"{load.qps:,.0f}",
                *times,
                f"{load.in_flight:.1f}",
                load.verdict + failed,
            ]
        )
    return lines


def markdown_table(report: Report) -> str:
    """The tables of all metrics in Markdown, for a page."""
    out: list[str] = []
    k = report.plan["k"]
    by_metric: dict[str, list[Row]] = {}
    for row in rows(report):
        by_metric.setdefault(row.metric, []).append(row)
    for metric, lines in by_metric.items():
        out += [f"**{metric}**", "", "| " + " | ".join(COLUMNS).format(k=k) + " |", "|---" * len(COLUMNS) + "|"]
        last = None
        for row in lines:
            out.append("| " + " | ".join(cells(row, first=row.case is not last)) + " |")
            last = row.case
        out.append("")
        loaded = [texts for row in lines for texts in load_cells(row, first=True)]
        if loaded:
            out += [f"**{metric}, under load**", "", "| " + " | ".join(LOAD_COLUMNS).format(k=k) + " |"]
            out += ["|---" * len(LOAD_COLUMNS) + "|", *("| " + " | ".join(texts) + " |" for texts in loaded), ""]
    return "\n".join(out)
