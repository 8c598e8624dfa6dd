"""The house keeps its shape: shelves stay shelves, the core imports no client, the contracts hold."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("shelf", ["adapters", "datasets", "docker", "results", "tests"])
def test_a_shelf_is_no_package(shelf: str) -> None:
    """`import datasets` must stay the other package's: a folder with somebody else's name is never importable."""
    assert not (ROOT / shelf / "__init__.py").exists()


def loaded_after(code: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys, json; print(json.dumps(sorted(sys.modules)))"],
        capture_output=True,
        text=True,
        check=True,
    )
    return {name.split(".")[0] for name in json.loads(done.stdout.splitlines()[-1])}


CLIENTS = {"faiss", "qdrant_edge", "qdrant_client", "onnxruntime", "tokenizers", "grpc", "pytest", "hypothesis"}


def test_import_vecbench_imports_nothing_else() -> None:
    assert not loaded_after("import vecbench") & (CLIENTS | {"numpy", "pydantic", "rich", "typer"})


def test_finding_every_adapter_imports_no_client() -> None:
    code = "from vecbench.registry import adapter, adapter_names\nfor n in adapter_names(): adapter(n)"
    modules = loaded_after(code)
    assert {"vecbench_faiss", "vecbench_qdrant", "numpy"} <= modules
    assert not modules & CLIENTS


def test_opening_one_store_imports_no_other_client() -> None:
    modules = loaded_after("import vecbench; vecbench.connect('faiss').close()")
    assert "faiss" in modules
    assert not modules & {"qdrant_edge", "qdrant_client", "onnxruntime"}


def test_import_contracts() -> None:
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "from importlinter.cli import lint_imports_command; lint_imports_command()",
            "--no-cache",
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "4 kept, 0 broken" in done.stdout


def test_entry_points_name_what_exists() -> None:
    for group in ("vecbench.adapters", "vecbench.datasets"):
        points = [p for p in entry_points(group=group) if p.value.startswith("vecbench")]
        assert points
        for point in points:
            assert point.load() is not None
