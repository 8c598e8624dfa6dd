from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from vecbench.bench.result import Report
from vecbench.bench.runner import Event
from vecbench.cli.main import app
from vecbench.cli.output import console
from vecbench.cli.progress import showing
from vecbench.cli.run import _interrupted_once
from vecbench.cli.tables import footnotes, show_report
from vecbench.memory import MemoryStore, NullStore

Command = Callable[..., subprocess.CompletedProcess[str]]
SMALL = ["--queries", "5", "--rounds", "1", "--ef", "16", "--no-exact", "--metric", "euclidean"]


def test_a_run_leaves_tables_a_file_and_its_name(vecbench: Command, tmp_path: Path) -> None:
    done = vecbench("run", "--stores", "memory,faiss", *SMALL, "--metric", "cosine")
    assert done.returncode == 0, done.stderr
    (path,) = tmp_path.glob("vecbench-*-glosses-10k.json")
    assert f"result file: {path.name}" in done.stderr
    assert "memory, cosine: ingest" in done.stderr
    report = Report.load(path)
    assert [(case.store, case.metric, case.status) for case in report.cases] == [
        ("memory", "euclidean", "ok"),
        ("faiss", "euclidean", "ok"),
        ("memory", "cosine", "ok"),
        ("faiss", "cosine", "ok"),
    ]
    for wanted in ("euclidean, glosses-10k", "cosine, glosses-10k", "recall@10", "p99 ms", "QPS", "ingest s"):
        assert wanted in done.stdout
    for wanted in ("harness", "µs a query", "memory (exact): vecbench", "machine", "LID"):
        assert wanted in done.stdout
    assert "caution" not in done.stdout  # both run embedded


def test_a_run_under_load(vecbench: Command, tmp_path: Path) -> None:
    load = ["--clients", "1,2", "--rate", "400", "--requests", "20"]
    done = vecbench("run", "--stores", "memory", *SMALL, *load, "--out", "r.json")
    assert done.returncode == 0, done.stderr
    assert "failed" not in done.stdout + done.stderr
    assert "euclidean, under load" in done.stdout
    for wanted in ("1 @ 400/s", "2 @ 400/s", "verdict", "threads reach, on that store"):
        assert wanted in done.stdout
    (case,) = Report.load(tmp_path / "r.json").cases
    assert [(load.clients, load.rate) for load in case.settings[0].loads] == [(1, None), (1, 400), (2, None), (2, 400)]


SHAKY = """
import threading
from vecbench.errors import StoreTimeout
from vecbench.memory import MemoryCollection, MemoryStore

calls = threading.local()

class Collection(MemoryCollection):
    def _search(self, *arguments):
        calls.made = getattr(calls, "made", 0) + 1
        if calls.made == 7 and threading.current_thread() is not threading.main_thread():  # five are for warming up
            raise StoreTimeout("no answer from http://ann:hunter2@host")
        return super()._search(*arguments)

class Store(MemoryStore):
    name = "shaky"

    @classmethod
    def open(cls, **options):
        return cls()

    def _create(self, spec):
        with self._lock:
            made = self._collections[spec.name] = Collection(self, spec)
        return made
"""


def test_requests_that_fail_under_load_are_exit_1_and_the_others_are_measured(
    vecbench: Command, tmp_path: Path
) -> None:
    info = tmp_path / "plugin" / "shaky-1.dist-info"
    info.mkdir(parents=True)
    (tmp_path / "plugin" / "shaky.py").write_text(SHAKY, "utf-8")
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: shaky\nVersion: 1\n", "utf-8")
    (info / "entry_points.txt").write_text("[vecbench.adapters]\nshaky = shaky:Store\n", "utf-8")
    options = [*SMALL, "--clients", "2", "--requests", "20", "--out", "r.json"]
    done = vecbench("run", "--stores", "shaky", *options, PYTHONPATH=str(tmp_path / "plugin"))
    assert done.returncode == 1
    said = "shaky, euclidean, ef=16, 2 clients: 2 of 20 requests failed, the first with StoreTimeout: no answer from"
    assert said in done.stderr
    assert done.stderr.count("error: ") == 1
    assert "failed    shaky, euclidean, ef=16, 2 clients: 2" in done.stdout
    (case,) = Report.load(tmp_path / "r.json").cases
    (under,) = case.settings[0].loads
    assert (case.status, case.settings[0].recall_mean, under.failed) == ("ok", 1.0, 2)
    assert under.recall_mean == pytest.approx(18 / 20)
    assert "hunter2" not in done.stdout + done.stderr + (tmp_path / "r.json").read_text("utf-8")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--rate", "400"], "--rate needs --clients"),
        (["--requests", "400"], "--requests needs --clients"),
        (["--clients", "0"], "--clients '0'"),
        (["--clients", "1000"], "clients must be 1 to 512"),
        (["--on", "ray://127.0.0.1:1"], "--clients"),
        (["--clients", "2", "--on", "ray://127.0.0.1:1"], "memory has none; name it as name=url"),
    ],
)
def test_a_load_that_cannot_be_is_exit_2(vecbench: Command, tmp_path: Path, options: list[str], said: str) -> None:
    done = vecbench("run", "--stores", "memory", *SMALL, *options)
    assert done.returncode == 2
    assert said in done.stderr
    assert list(tmp_path.glob("*.json")) == []


def test_json_is_all_that_stdout_gets(vecbench: Command, tmp_path: Path) -> None:
    done = vecbench("run", "--stores", "memory", *SMALL, "--json", "--quiet", "--out", "r.json")
    assert done.returncode == 0, done.stderr
    assert done.stderr == "result file: r.json\n"
    assert json.loads(done.stdout) == json.loads((tmp_path / "r.json").read_text("utf-8"))
    assert json.loads(done.stdout)["cases"][0]["settings"][0]["recall_mean"] == 1.0


def test_a_failed_store_is_exit_1_the_others_are_measured_and_its_url_stays_secret(
    vecbench: Command, tmp_path: Path
) -> None:
    done = vecbench("run", "--stores", "memory=http://ann:hunter2@host:1,faiss", *SMALL, "--out", "r.json")
    assert done.returncode == 1
    assert "memory, euclidean: failed" in done.stderr
    text = (tmp_path / "r.json").read_text("utf-8")
    assert [case["status"] for case in json.loads(text)["cases"]] == ["failed", "ok"]
    assert "hunter2" not in done.stdout + done.stderr + text


def test_a_missing_client_is_exit_2_with_one_line_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MemoryStore, "modules", ("no_such_client",))
    monkeypatch.setattr(MemoryStore, "extra", "memory")
    monkeypatch.setattr(NullStore, "modules", ("no_other_client",))
    monkeypatch.setattr(NullStore, "extra", "null")
    result = CliRunner().invoke(app, ["run", "--stores", "memory,null"])
    assert result.exit_code == 2
    assert "pip install 'vecbench[memory,null]'" in result.stderr
    assert "loading" not in result.stderr


@pytest.mark.parametrize("out", ["missing/r.json", "file/r.json", "."])
def test_an_output_that_cannot_be_written_is_said_before_anything_runs(
    vecbench: Command, tmp_path: Path, out: str
) -> None:
    (tmp_path / "file").write_text("")
    done = vecbench("run", "--stores", "null", "--out", out)
    assert done.returncode == 2
    assert "--out" in done.stderr
    assert "loading" not in done.stderr


def test_a_result_is_not_overwritten_unless_forced(vecbench: Command, tmp_path: Path) -> None:
    (tmp_path / "r.json").write_text("precious")
    done = vecbench("run", "--stores", "null", *SMALL, "--out", "r.json")
    assert done.returncode == 2
    assert "--force" in done.stderr
    assert (tmp_path / "r.json").read_text() == "precious"
    assert vecbench("run", "--stores", "null", *SMALL, "--out", "r.json", "--force").returncode == 0
    assert Report.load(tmp_path / "r.json").cases[0].store == "null"


def test_ctrl_c_keeps_what_was_measured(tmp_path: Path) -> None:
    command = ["run", "--stores", "memory", *SMALL, "--rounds", "100000", "--out", "r.json"]
    process = subprocess.Popen(
        [sys.executable, "-m", "vecbench", *command],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ},
        # A shell starts background jobs with SIGINT ignored, and children inherit it: the test sends a real Ctrl-C.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509  no threads run here
    )
    assert process.stderr is not None
    said = ""
    for line in process.stderr:
        said += line
        if "round 3" in line:
            process.send_signal(signal.SIGINT)
            break
    out, rest = process.communicate(timeout=120)
    assert process.returncode == 130, said + rest
    assert "interrupted" in rest
    report = Report.load(tmp_path / "r.json")
    assert report.interrupted
    assert report.cases[0].settings[0].latencies_ns.shape[0] >= 2
    assert "recall@10" in out


def test_an_impatient_second_ctrl_c_loses_nothing() -> None:
    before = signal.getsignal(signal.SIGINT)
    after: list[str] = []
    with _interrupted_once():
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            signal.raise_signal(signal.SIGINT)
            after.append("what was measured is written")
    assert after
    assert signal.getsignal(signal.SIGINT) is before


def test_a_result_that_cannot_be_written_is_exit_1(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_self: Report, _path: Path, *, replace: bool = False) -> Path:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Report, "save", full)
    out = tmp_path / "r.json"
    out.write_text("{}")
    done = CliRunner().invoke(app, ["run", "-s", "null", *SMALL, "-o", str(out), "--force", "--quiet"])
    assert done.exit_code == 1
    assert f"the result could not be written to {out}: No space left on device" in done.stderr
    assert "result file" not in done.stderr


def test_lines_of_progress_come_once_a_phase(capsys: pytest.CaptureFixture[str]) -> None:
    with showing(quiet=False) as on_event:
        assert on_event is not None
        for done in range(5):
            on_event(Event("faiss, cosine", "ingest", done, 5))
        on_event(Event("faiss, cosine", "failed", 1, 1, "it [broke]"))
        on_event(Event("faiss, cosine", "done", 1, 1))
    lines = capsys.readouterr().err.splitlines()
    assert [line.partition(" s  ")[2] for line in lines] == [
        "faiss, cosine: ingest",
        "faiss, cosine: failed: it [broke]",
    ]


def test_quiet_shows_no_progress() -> None:
    with showing(quiet=True) as on_event:
        assert on_event is None


@pytest.mark.parametrize("width", [80, 120])
def test_tables_fit_and_never_rank_across_deployments_in_silence(
    vecbench: Command, tmp_path: Path, capsys: pytest.CaptureFixture[str], width: int
) -> None:
    assert vecbench("run", "--stores", "memory,faiss", *SMALL, "--out", "r.json").returncode == 0
    report = Report.load(tmp_path / "r.json")
    versions = report.cases[1].versions
    assert versions is not None
    versions.deployment = "remote"
    out = console()
    out.width = width
    show_report(report, out)
    shown = capsys.readouterr().out
    table = shown[: shown.index("harness")].splitlines()
    assert max(map(len, table)) <= width
    assert not any("…" in line for line in table)
    caution = dict(footnotes(report))["caution"]
    assert "embedded: memory (exact); remote: faiss" in caution
    assert caution in shown
