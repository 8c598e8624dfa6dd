"""A report as rows for a table: plain data and Markdown; the command line does the drawing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from vecbench.bench.result import CaseResult, Report, SettingResult

__all__ = ["COLUMNS", "Row", "cells", "markdown_table", "rows"]

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
    return "\n".join(out)
