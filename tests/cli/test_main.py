"""What holds for every verb: help is cheap, errors are lines with an exit code, secrets stay out."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import pytest
from typer.testing import CliRunner

import vecbench as package
from vecbench import registry
from vecbench.cli.main import app, main

Command = Callable[..., subprocess.CompletedProcess[str]]
HEAVY = ("numpy", "pydantic", "rich", "faiss", "qdrant_edge", "qdrant_client", "onnxruntime", "psutil")


@pytest.mark.parametrize("argv", [["--help"], ["run", "--help"], ["--version"]])
def test_help_imports_nothing_heavy(argv: list[str]) -> None:
    code = (
        f"import sys; sys.argv = ['vecbench', *{argv!r}]\n"
        "from vecbench.cli.main import main\n"
        "try: main()\n"
        "except SystemExit as e: print('EXIT', e.code)\n"
        "print('MODULES', *sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = done.stdout.rpartition("MODULES ")[2].split()
    assert "EXIT 0" in done.stdout
    assert "vecbench.cli.run" in loaded
    theirs = {"pydantic"} if argv[0] == "run" else set()  # Typer itself parses a verb's options with it
    assert (set(HEAVY) - theirs) & set(loaded) == set()


def test_help_names_verbs_exit_codes_and_a_first_command(vecbench: Command) -> None:
    done = vecbench("--help")
    assert done.returncode == 0
    for wanted in ("run", "stores", "datasets", "embed", "130", "vecbench run --stores qdrant,faiss"):
        assert wanted in done.stdout


def test_version(vecbench: Command) -> None:
    assert vecbench("--version").stdout == f"vecbench {package.__version__}\n"


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["run", "--stores", "fais"], "did you mean 'faiss'?"),
        (["run", "--stores", "memory:ram"], "has no mode 'ram'"),
        (["run", "--stores", ","], "no store is named"),
        (["run", "--stores", "null,null"], "named twice"),
        (["run", "--stores", "null", "--dataset", "gloses-10k"], "did you mean 'glosses-10k'?"),
        (["run", "--stores", "null", "--index", "hnsw:m=lots"], "expected name=whole number, got 'm=lots'"),
        (["run", "--stores", "null", "--index", "tree"], "unknown index 'tree'"),
        (["run", "--stores", "null", "--ef", "16,x"], "--ef '16,x'"),
        (["run", "--stores", "null", "--ef", "16,16"], "occurs twice"),
        (["run", "--stores", "null", "--metric", "manhattan"], "known: euclidean, cosine, dot"),
        (["run", "--stores", "null", "--k", "0"], "k must be 1 to"),
        (["run"], "--stores"),
        (["stores", "fais"], "did you mean 'faiss'?"),
        (["datasets", "nothing"], "no data set is called 'nothing'"),
        (["fly"], "fly"),
    ],
)
def test_a_mistake_is_one_message_and_exit_2(vecbench: Command, args: list[str], said: str) -> None:
    done = vecbench(*args)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize(
    "args",
    [
        ["run", "--stores", "nosuch=http://ann:hunter2@host:1"],
        ["run", "--stores", "null", "null=http://ann:hunter2@host:1"],
        ["run", "--stores", "=http://ann:hunter2@host:1"],
        ["stores", "memory=http://ann:hunter2@host:1"],
        ["stores", "memory=http://host:1?api_key=hunter2"],
        ["datasets", "http://ann:hunter2@host:1"],
    ],
)
def test_secrets_of_a_url_are_never_printed(vecbench: Command, args: list[str]) -> None:
    done = vecbench(*args)
    assert done.returncode in {1, 2}
    assert done.stderr
    assert "hunter2" not in done.stdout + done.stderr


def test_square_brackets_in_a_message_are_printed_as_they_are(vecbench: Command) -> None:
    assert "[bold]fais[/]" in vecbench("run", "--stores", "[bold]fais[/]").stderr


def _broken() -> list[str]:
    raise ZeroDivisionError("of ours")


def test_a_defect_is_short_and_exit_70(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(registry, "adapter_names", _broken)
    monkeypatch.setattr(sys, "argv", ["vecbench", "stores"])
    monkeypatch.delenv("VECBENCH_DEBUG", raising=False)
    with pytest.raises(SystemExit) as left:
        main()
    said = capsys.readouterr().err
    assert left.value.code == 70
    assert "ZeroDivisionError: of ours" in said
    assert "VECBENCH_DEBUG=1" in said
    assert "Traceback" not in said


def test_debug_shows_the_traceback(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(registry, "adapter_names", _broken)
    monkeypatch.setattr(sys, "argv", ["vecbench", "stores"])
    monkeypatch.setenv("VECBENCH_DEBUG", "1")
    with pytest.raises(SystemExit) as left:
        main()
    assert left.value.code == 70
    assert "Traceback" in capsys.readouterr().err


def test_interrupt_is_130(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted() -> list[str]:
        raise KeyboardInterrupt

    monkeypatch.setattr(registry, "adapter_names", interrupted)
    result = CliRunner().invoke(app, ["stores"])
    assert result.exit_code == 130
    assert "interrupted" in result.stderr
