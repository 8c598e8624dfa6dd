"""Which stores are tested, and the table in adapters/README.md that is made from what was run.

pytest                                the stores whose engines come from Python packages
pytest --stores weaviate,faiss        these; a missing engine is an error
pytest --stores all                   every store; tests/engines brings what no package has
pytest --stores all --support-table   writes the table anew; without the option a stale one fails
"""

from __future__ import annotations

import os
import re
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from vecbench.filters import OPERATORS

PACKAGES = ("memory", "faiss", "qdrant", "chroma", "pgvector", "milvus")
# Their engines need tests/engines/get.py; Pinecone has none, and needs the vendor's API descriptions.
ENGINES = ("redisearch", "weaviate", "elasticsearch", "pinecone")
HERE = Path(__file__).parent
PAGE = HERE.parent / "adapters" / "README.md"
_MARKS = ("<!-- support table: generated, see tests/conftest.py -->", "<!-- end of support table -->")
_COLUMNS = (
    "store", "run as", "engine", "indexes run", "metrics", "filters", "exact search", "ef_search", "vectors back",
    "kept",
)  # fmt: skip
_results: dict[str, list[tuple[dict[str, Any] | None, str]]] = defaultdict(list)


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
    chosen(config)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Tests of a store that was not asked for are not collected at all: no skips."""
    if collection_path.parent.name in {"conformance", "adapters", "rag"}:  # adapters/ has a folder for each store
        name = collection_path.stem.removeprefix("test_").removeprefix("native_").partition("_")[0]
        if name in {*PACKAGES, *ENGINES} and name not in chosen(config):
            return True
    if collection_path.parent.name == "pinecone_spec" and "pinecone" not in chosen(config):
        return True
    if collection_path.parent.name in {"engines", "packaging"}:
        return chosen(config) != {*PACKAGES, *ENGINES}  # they need more than the packages of this environment
    return None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Tests on real data sets, which are not part of the project, run when everything is asked for: no skips."""
    if chosen(config) != {*PACKAGES, *ENGINES}:
        left_out = [item for item in items if "real_data" in getattr(item, "fixturenames", ())]
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder with npl, npl_minilm, drcd and bigann10k: `VECBENCH_TEST_DATA`, else `../shared/data`."""
    told = os.environ.get("VECBENCH_TEST_DATA")
    found = Path(told) if told else HERE.parents[1] / "shared" / "data"
    if not found.is_dir():
        pytest.fail(f"{found}: the data sets are not there; name their folder with VECBENCH_TEST_DATA")
    return found


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Called where the session is, also when the tests run in several processes."""
    if report.when == "call" and "/conformance/" in f"/{report.nodeid}":
        facts: Any = dict(report.user_properties).get("vecbench")
        _results[report.nodeid.rpartition("::")[0]].append((facts, getattr(report, "wasxfail", "")))


def pytest_sessionfinish(session: pytest.Session) -> None:
    config = session.config
    run = {facts["name"] for outcomes in _results.values() for facts, _ in outcomes if facts is not None}
    if hasattr(config, "workerinput") or session.testsfailed or not {*PACKAGES, *ENGINES} <= run:
        return  # another process has the session; or not all of it was run
    if any(config.getoption(option) for option in ("keyword", "markexpr", "lf")):
        return
    made = table()
    text = PAGE.read_text("utf-8")
    start, end = text.index(_MARKS[0]) + len(_MARKS[0]), text.index(_MARKS[1])
    if text[start:end].strip() == made.strip():
        return
    if config.getoption("--support-table"):
        PAGE.write_text(f"{text[:start]}\n{made}\n{text[end:]}", "utf-8")
        return
    print(f"\n{PAGE} is stale; write it anew with: pytest --stores all --support-table\n{made}")
    session.exitstatus = pytest.ExitCode.TESTS_FAILED


def table() -> str:
    """A row per store and deployment, from what its tests were run on."""
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    for outcomes in _results.values():
        for facts, why in outcomes:
            if facts is not None:
                row = rows.setdefault((facts["name"], f"{facts['label']}, {facts['deployment']}"), {"kinds": set()})
                kept = row.get("persistent", False) or facts["persistent"]
                row.update(facts, persistent=kept)
                row["kinds"].add(facts["index"])
                if why:
                    row.setdefault("limits", set()).add(why)
    lines = ["| " + " | ".join(_COLUMNS) + " |", "|---" * len(_COLUMNS) + "|"]
    lines += [_line(name, how, row) for (name, how), row in sorted(rows.items())]
    notes = [
        f"* `{name}` ({how}): {why.replace('reason: ', '').replace('|', '/')}"
        for (name, how), row in sorted(rows.items())
        for why in sorted(row.get("limits", ()))
    ]
    if notes:
        lines += ["", "Known gaps, each a strict expected failure of the suite:", *notes]
    return "\n".join(lines)


def _line(name: str, how: str, row: dict[str, Any]) -> str:
    everything = set(row["filters"]) == OPERATORS
    filters = "all 13" if everything else f"{len(row['filters'])} of 13"
    cells = [
        f"[`{name}`](vecbench_{name.replace('-lite', '')}/README.md)" if name != "memory" else "`memory`",
        how,
        _version(row),
        ", ".join(sorted(row["kinds"])),
        ", ".join(row["metrics"]),
        filters + (", declared fields only" if row["declared_fields"] else ""),
        "yes" if row["exact_search"] else "on flat" if "flat" in row["indexes"] else "no",
        {"query": "per query", "collection": "per collection", "none": "fixed"}[row["ef_search"]],
        "to the bit" if row["preserves_vectors"] else "to rounding",
        "yes" if row["persistent"] else "no",
    ]
    return "| " + " | ".join(cells) + " |"


def _version(row: dict[str, Any]) -> str:
    """Major and minor: the table must not go stale with every patch."""
    if row["engine"] == "vecbench":
        return "–"
    return f"{row['engine']} " + re.sub(r"(\d+\.\d+)[\w.+-]*", r"\1", row["engine_version"])
