from __future__ import annotations

import json
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from vecbench import HNSW, CollectionSpec, Flat, IVFFlat, Metric, Records, VectorStore, connect, registry
from vecbench.cli.main import app
from vecbench.memory import MemoryCollection, MemoryStore
from vecbench.spec import CollectionSpec as Spec

Command = Callable[..., subprocess.CompletedProcess[str]]


def _fill(store: VectorStore, n: int = 50, name: str = "docs", index: Any = None) -> None:
    made = store.create_collection(CollectionSpec(name, 8, Metric.EUCLIDEAN, index or HNSW()))
    vectors = np.random.default_rng(1).normal(size=(n, 8)).astype(np.float32)
    made.upsert(Records([str(i) for i in range(n)], vectors, [{"n": i} for i in range(n)], ["text"] * n))
    made.flush()


@pytest.fixture
def kb(tmp_path: Path) -> Path:
    """A directory of faiss with one collection, where the command runs."""
    with connect("faiss", path=tmp_path / "kb") as store:
        _fill(store)
    return tmp_path / "kb"


def _files(path: Path) -> dict[str, bytes]:
    return {str(p.relative_to(path)): p.read_bytes() for p in path.rglob("*") if p.is_file() and p.name != "lock"}


def test_help_explains_itself(vecbench: Command) -> None:
    done = vecbench("copy", "--help")
    assert done.returncode == 0
    for line in (
        "    vecbench copy faiss qdrant --from-path kb --to-path kb2 --collection docs\n",
        "    130  Ctrl-C; what was copied is kept, go on with --resume\n",
    ):
        assert line in done.stdout
    assert "vecbench copy faiss qdrant" in vecbench("--help").stdout


def test_a_copy_and_what_is_said_of_it(vecbench: Command, tmp_path: Path, kb: Path) -> None:
    before = _files(kb)
    done = vecbench("copy", "faiss", "qdrant", "--from-path", "kb", "--to-path", "kb2")
    assert done.returncode == 0, done.stderr
    assert "faiss 'docs' → qdrant-edge 'docs': 50 records copied, in " in done.stdout
    assert (
        "verified: every id, vector (to float32 rounding), metadata and document; 20 searches, exact\n" in done.stdout
    )
    phases = [line.partition(" s  ")[2].partition(":")[0] for line in done.stderr.splitlines()]
    assert phases == ["copying", "indexing", "verifying"]
    assert _files(kb) == before
    with connect("qdrant", path=tmp_path / "kb2") as store:
        found = store.get_collection("docs").get(["7"])
        assert (found.metadata, found.documents) == ([{"n": 7}], ["text"])


def test_json_and_quiet(vecbench: Command, kb: Path) -> None:
    done = vecbench("copy", "faiss", "faiss", "--from-path", str(kb), "--to-path", "two", "--json", "--quiet")
    said = json.loads(done.stdout)
    assert said.pop("seconds") > 0
    assert said == {
        "source": {"store": "faiss", "collection": "docs"},
        "destination": {"store": "faiss", "collection": "docs"},
        "rows": 50,
        "written": 50,
        "losses": [],
        "verified": {"rows": 50, "vectors": "bits", "searches": 20, "exact": True},
    }
    assert done.stderr == ""
    again = vecbench("copy", "faiss", "faiss", "--from-path", str(kb), "--to-path", "two", "--resume", "--no-verify")
    assert "50 records copied, 50 of them before" in again.stdout
    assert "not verified" in again.stdout


def test_within_one_directory(vecbench: Command, tmp_path: Path, kb: Path) -> None:
    """One store object serves both ends: a directory can be opened once only."""
    same = ["copy", "faiss", "faiss", "--from-path", "kb", "--to-path", "./kb"]
    done = vecbench(*same, "--to-collection", "flat", "--index", "flat")
    assert done.returncode == 0, done.stderr
    with connect("faiss", path=kb) as store:
        assert store.list_collections() == ["docs", "flat"]
        assert store.get_collection("flat").spec.index == Flat()
    done = vecbench(*same, "-c", "docs")
    assert done.returncode == 2
    assert "onto itself" in done.stderr


def test_a_dry_run_writes_nothing(vecbench: Command, tmp_path: Path, kb: Path) -> None:
    before = _files(tmp_path)
    done = vecbench("copy", "faiss", "qdrant", "--from-path", "kb", "--to-path", "kb2", "--dry-run")
    assert done.returncode == 0, done.stderr
    assert "faiss 'docs' → qdrant-edge 'docs': 50 × 8, euclidean, hnsw\n" in done.stdout
    assert "note: vectors come back to float32 rounding" in done.stdout
    assert "nothing was written" in done.stdout
    assert not (tmp_path / "kb2").exists()
    assert _files(tmp_path) == before


def test_a_dry_run_says_all_that_does_not_fit(vecbench: Command, tmp_path: Path) -> None:
    with connect("faiss", path=tmp_path / "kb") as store:
        _fill(store, index=IVFFlat(nlist=4))
    done = vecbench("copy", "faiss", "qdrant", "--from-path", "kb", "--dry-run", "--json")
    assert done.returncode == 1
    said = json.loads(done.stdout)
    assert (said["rows"], said["dim"], said["metric"], said["index"]["kind"]) == (50, 8, "euclidean", "ivf_flat")
    assert said["fits"] is False
    assert len(said["obstacles"]) == 2
    assert "no ivf_flat index; it has flat, hnsw" in said["obstacles"][0]
    assert "keeps nothing after this command" in said["obstacles"][1]
    args = ["copy", "faiss", "qdrant", "--from-path", "kb", "--to-path", "kb2", "--dry-run"]
    done = vecbench(*args)
    assert done.returncode == 1
    assert done.stderr.count("error:") == 1
    assert vecbench(*args, "--index", "hnsw:m=8").returncode == 0


@pytest.mark.parametrize(
    ("args", "code", "said"),
    [
        (["fais", "qdrant"], 2, "did you mean 'faiss'?"),
        (["faiss:gpu", "qdrant", "--from-path", "kb"], 2, "has no mode 'gpu'"),
        (["faiss", "qdrant", "--from-path", "nowhere"], 2, "--from-path nowhere does not exist"),
        (["faiss", "qdrant", "--to-path", "kb2"], 2, "name its directory with --from-path"),
        (["memory", "qdrant", "--to-path", "kb2"], 2, "nothing to copy"),
        (["faiss", "qdrant", "--from-path", "kb"], 2, "qdrant keeps nothing after this command"),
        (["faiss", "memory", "--from-path", "kb"], 2, "memory keeps nothing after this command"),
        (["faiss", "qdrant", "--from-path", "kb", "--to-path", "kb2", "-c", "dosc"], 1, "'dosc' there; it has 'docs'"),
        (["faiss", "qdrant", "--from-path", "kb", "--to-path", "kb2", "-c", ""], 1, "no collection ''"),
        (["faiss", "qdrant", "--from-path", "kb", "--to-path", "kb2", "--to-collection", ""], 2, "name has 1 to 255"),
        (["faiss", "qdrant", "--from-path", "kb", "--to-path", "kb2", "--index", "tree"], 2, "unknown index 'tree'"),
        (["faiss", "qdrant", "--from-path", "kb", "--to-path", "kb2", "--index", "ivf_flat"], 1, "no ivf_flat index"),
        (["faiss", "qdrant", "--from-path", "kb", "--to-path", "kb2", "--batch-size", "0"], 2, "--batch-size"),
        (["faiss", "faiss=http://h", "--from-path", "kb"], 2, "faiss"),
        (["faiss", "qdrant=http://h", "--from-path", "kb", "--to-path", "x"], 2, "a url or a path, not both"),
        (["faiss", "--from-path", "kb"], 2, "DST"),
    ],
)
def test_a_mistake_is_one_message_and_nothing_is_written(
    vecbench: Command, kb: Path, args: list[str], code: int, said: str
) -> None:
    before = _files(kb)
    done = vecbench("copy", *args, "--quiet")
    assert (done.returncode, done.stdout) == (code, ""), done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert "hint" not in done.stderr
    assert _files(kb) == before


def test_several_collections_are_listed(vecbench: Command, tmp_path: Path, kb: Path) -> None:
    with connect("faiss", path=kb) as store:
        _fill(store, name="more")
    done = vecbench("copy", "faiss", "qdrant", "--from-path", "kb", "--to-path", "kb2")
    assert done.returncode == 2
    assert "has 2 collections; name one with --collection: 'docs', 'more'" in done.stderr


def test_an_existing_collection_is_left_alone(vecbench: Command, tmp_path: Path, kb: Path) -> None:
    with connect("qdrant", path=tmp_path / "kb2") as store:
        _fill(store, 3)
        store.get_collection("docs").upsert(Records(["mine"], np.ones((1, 8), np.float32)))
    args = ["copy", "faiss", "qdrant", "--from-path", "kb", "--to-path", "kb2"]
    for more, said in (([], "exists"), (["--resume"], "holds 'mine'"), (["--dry-run"], "exists")):
        done = vecbench(*args, *more)
        assert done.returncode == 1
        assert said in done.stderr
        assert "go on with" not in done.stderr
    with connect("qdrant", path=tmp_path / "kb2") as store:
        assert store.get_collection("docs").count() == 4


@pytest.mark.parametrize(
    "args",
    [
        ["qdrant=http://ann:hunter2@127.0.0.1:9", "faiss", "--to-path", "x"],
        ["faiss", "qdrant=http://ann:hunter2@127.0.0.1:9", "--from-path", "kb"],
        ["faiss", "qdrant=http://127.0.0.1:9?api_key=hunter2", "--from-path", "kb", "--dry-run"],
        ["http://ann:hunter2@host", "faiss", "--to-path", "x"],
        ["faiss", "pgvector=postgresql://ann:hunter2,x@127.0.0.1:9/db", "--from-path", "kb", "--to-path", "x"],
    ],
)
def test_secrets_of_a_url_are_never_printed(vecbench: Command, kb: Path, args: list[str]) -> None:
    done = vecbench("copy", *args)
    assert done.returncode in {1, 2}
    assert done.stderr
    assert "hunter2" not in done.stdout + done.stderr


# Half-way -------------------------------------------------------------------------------------------------------------


def test_ctrl_c_is_130_with_the_line_that_goes_on(vecbench: Command, tmp_path: Path) -> None:
    with connect("faiss", path=tmp_path / "kb") as store:
        _fill(store, 20_000)
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "vecbench", "copy", "faiss", "qdrant", "--from-path", "kb", "--to-path", "my kb"),
            *("--batch-size", "100"),
        ],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A shell starts background jobs with SIGINT ignored, and children inherit it: the test sends a real Ctrl-C.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509  no threads run here
    )
    assert process.stderr is not None
    for line in process.stderr:
        if "copying" in line:
            process.send_signal(signal.SIGINT)
            break
    out, rest = process.communicate(timeout=120)
    assert process.returncode == 130, rest
    assert out == ""
    hint, interrupted = rest.splitlines()[-2:]
    assert interrupted == "error: interrupted"
    line = hint.partition("go on with: ")[2]
    assert line == "vecbench copy faiss qdrant --from-path kb --to-path 'my kb' --batch-size 100 --resume"
    with connect("qdrant", path=tmp_path / "my kb") as store:
        before = store.get_collection("docs").count()
    assert before < 20_000
    done = vecbench(*shlex.split(line)[1:], "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["written"] == 20_000 - before


class Planted(MemoryStore):
    """Says that it is persistent; the tests keep it."""

    capabilities = replace(MemoryStore.capabilities, persistent=True)


class Spoiling(Planted):
    class Floats(MemoryCollection):
        def _upsert(self, records: Records) -> None:
            super()._upsert(replace(records, metadata=[{"n": float(str(m["n"]))} for m in records.metadata or []]))

    def _create(self, spec: Spec) -> MemoryCollection:
        self._collections[spec.name] = made = self.Floats(self, spec)
        return made


class Failing(Planted):
    class Full(MemoryCollection):
        def _upsert(self, records: Records) -> None:
            if len(self._rows) >= 20:
                raise OSError("the disk is full")
            super()._upsert(records)

    def _create(self, spec: Spec) -> MemoryCollection:
        self._collections[spec.name] = made = self.Full(self, spec)
        return made


def _between(monkeypatch: pytest.MonkeyPatch, there: VectorStore, *args: str) -> Any:
    """The result of `vecbench copy memory qdrant` with two stores of ours behind the names."""
    here = Planted()
    _fill(here)

    def connected(name: str, **options: Any) -> VectorStore:
        return {"memory": here, "qdrant": there}[name]

    monkeypatch.setattr(registry, "connect", connected)
    line = ["copy", "memory", "qdrant=http://ann:hunter2@host", *args]
    monkeypatch.setattr(sys, "argv", ["vecbench", *line])
    return CliRunner().invoke(app, line)


def test_what_verification_finds_is_exit_1_and_named(monkeypatch: pytest.MonkeyPatch) -> None:
    there = Spoiling()
    result = _between(monkeypatch, there)
    assert result.exit_code == 1
    assert "record '0', metadata: field 'n' is 0.0, at the source 0 (float for int)" in result.stderr
    assert "go on with" not in result.stderr  # it would not help
    assert "copied" not in result.stdout


def test_a_store_that_fails_half_way_is_exit_1_with_the_line_that_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    result = _between(monkeypatch, Failing(), "--batch-size", "10")
    assert result.exit_code == 1
    assert "the disk is full" in result.stderr
    wanted = "go on with: vecbench copy memory 'qdrant=http://***@host' --batch-size 10 --resume (with the secret"
    assert wanted in result.stderr
    assert "hunter2" not in result.output
