"""Which stores are tested, and the table in adapters/README.md that is made from what was run.

pytest                                the stores whose engines come from Python packages
pytest --stores weaviate,faiss        these; a missing engine is an error
pytest --stores all                   every store; tests/engines brings what no package has
pytest --stores all --support-table   writes the table anew; without the option a stale one fails
"""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from vecbench.capabilities import Capabilities, StoreInfo
from vecbench.filters import OPERATORS

PACKAGES = ("memory", "faiss", "qdrant", "chroma", "pgvector", "milvus", "pinecone")
ENGINES = ("redisearch", "weaviate", "elasticsearch")  # their engines need tests/engines/get.py
HERE = Path(__file__).parent
PAGE = HERE.parent / "adapters" / "README.md"
_MARKS = ("<!-- support table: generated, see tests/conftest.py -->", "<!-- end of support table -->")
_COLUMNS = (
    "store", "run as", "engine", "indexes run", "metrics", "filters", "exact search", "ef_search", "vectors back",
    "kept",
)  # fmt: skip
_RESULTS = pytest.StashKey[dict[str, list[Any]]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("vecbench")
    group.addoption("--stores", default=",".join(PACKAGES), help="Stores to test, with commas between, or all.")
    group.addoption("--support-table", action="store_true", help="Write the table in adapters/README.md anew.")


def chosen(config: pytest.Config) -> set[str]:
    """The stores asked for; an unknown name is an error."""
    names = {name.strip() for name in config.getoption("--stores").split(",") if name.strip()}
    if "all" in names:
        return {*PACKAGES, *ENGINES}
    unknown = names - {*PACKAGES, *ENGINES}
    if unknown:
        raise pytest.UsageError(
            f"--stores: no tests of {', '.join(sorted(unknown))}; known: {', '.join((*PACKAGES, *ENGINES))}, all"
        )
    return names


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_RESULTS] = defaultdict(list)
    chosen(config)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Tests of a store that was not asked for are not collected at all: no skips."""
    if collection_path.parent.name in {"conformance", "adapters"} and collection_path.suffix == ".py":
        name = collection_path.stem.removeprefix("test_").partition("_")[0]
        if name in {*PACKAGES, *ENGINES} and name not in chosen(config):
            return True
    if collection_path.parent.name in {"engines", "packaging"}:
        return chosen(config) != {*PACKAGES, *ENGINES}  # they need more than the packages of this environment
    return None


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
    report = yield
    if report.when == "call" and "conformance" in item.path.parts:
        facts = dict(item.user_properties).get("vecbench")
        item.config.stash[_RESULTS][item.nodeid.rpartition("::")[0]].append(
            (facts, report.outcome, getattr(report, "wasxfail", ""))
        )
        report.user_properties = [p for p in report.user_properties if p[0] != "vecbench"]  # no text, so not for XML
    return report


def pytest_sessionfinish(session: pytest.Session) -> None:
    config = session.config
    if chosen(config) != {*PACKAGES, *ENGINES} or session.testsfailed or session.testscollected == 0:
        return
    if any(config.getoption(option) for option in ("keyword", "markexpr", "collectonly", "lf")):
        return
    results = config.stash[_RESULTS]
    run = {facts["info"].name for outcomes in results.values() for facts, _, _ in outcomes if facts is not None}
    if not {*PACKAGES, *ENGINES} <= run:
        return  # some files only
    made = table(results)
    text = PAGE.read_text("utf-8")
    start, end = text.index(_MARKS[0]) + len(_MARKS[0]), text.index(_MARKS[1])
    if text[start:end].strip() == made.strip():
        return
    if config.getoption("--support-table"):
        PAGE.write_text(f"{text[:start]}\n{made}\n{text[end:]}", "utf-8")
        return
    print(f"\n{PAGE} is stale; write it anew with: pytest --stores all --support-table\n{made}")
    session.exitstatus = pytest.ExitCode.TESTS_FAILED


def table(results: dict[str, list[Any]]) -> str:
    """A row per store and deployment, from what its tests were run on."""
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    for classname, outcomes in results.items():
        facts = next((f for f, _, _ in outcomes if f is not None), None)
        if facts is None:
            continue
        info, can = facts["info"], facts["capabilities"]
        row = rows.setdefault((info.name, f"{info.label}, {info.deployment}"), {"info": info, "can": can})
        row.setdefault("indexes", set()).add(facts["index"])
        row.setdefault("classes", set()).add(classname)
        row["persistent"] = row.get("persistent", False) or can.persistent
        row.setdefault("limits", set()).update(why for _, _, why in outcomes if why)
    head = (
        "| store | run as | engine | indexes run | metrics | filters | exact search | ef_search | vectors back | kept |"
    )
    lines = [head, "|---" * head.count(" | ") + "|---|"]
    notes: list[str] = []
    for (name, how), row in sorted(rows.items()):
        lines.append(_line(name, how, row["info"], row["can"], row))
        notes += [f"* `{name}` ({how}): {_plain(why)}" for why in sorted(row["limits"])]
    if notes:
        lines += ["", "Known gaps, each a strict expected failure of the suite:", *notes]
    return "\n".join(lines)


def _line(name: str, how: str, info: StoreInfo, can: Capabilities, row: dict[str, Any]) -> str:
    filters = "all 13" if can.filters == OPERATORS else f"{len(can.filters)} of 13"
    cells = [
        f"[`{name}`](vecbench_{name.replace('-lite', '')}/README.md)" if name != "memory" else "`memory`",
        how,
        _version(info),
        ", ".join(sorted(row["indexes"])),
        ", ".join(sorted(can.metrics)),
        filters + (", declared fields only" if can.declared_fields else ""),
        "yes" if can.exact_search else "on flat" if "flat" in can.indexes else "no",
        {"query": "per query", "collection": "per collection", "none": "fixed"}[can.ef_search],
        "to the bit" if can.preserves_vectors else "to rounding",
        "yes" if row["persistent"] else "no",
    ]
    return "| " + " | ".join(cells) + " |"


def _version(info: StoreInfo) -> str:
    """Major and minor: the table must not go stale with every patch."""
    if info.engine == "vecbench":
        return "–"
    short = re.sub(r"(\d+\.\d+)[\w.+-]*", r"\1", info.engine_version)
    return f"{info.engine} {short}"


def _plain(text: str) -> str:
    return text.replace("reason: ", "").replace("|", "\\|")
