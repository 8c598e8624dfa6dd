"""What is printed of documents, file names and servers' answers cannot steer the terminal."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from vecbench.cli import main
from vecbench.cli.output import complain, console, plain, print_json, say, table, working

HOSTILE = "a\x1b[2J\x1b]0;owned\x07\x9b31m\x00\x08\rb\x7f[/red] [bold]c"
SHOWN = r"a\x1b[2J\x1b]0;owned\x07\x9b31m\x00\x08\x0db\x7f[/red] [bold]c"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (HOSTILE, SHOWN),
        ("", ""),
        ("one\ttwo\nthree\r\nfour", "one\ttwo\nthree\nfour"),
        ("naïve 中文 🙂 \u200d\u3000\xa0", "naïve 中文 🙂 \u200d\u3000\xa0"),
        ("not\udcffutf-8", r"not\udcffutf-8"),
    ],
)
def test_control_characters_are_spelled_out(text: str, shown: str) -> None:
    assert plain(text) == shown


def test_lines_and_errors(capsys: pytest.CaptureFixture[str]) -> None:
    say(HOSTILE)
    say("-", end="")
    complain(HOSTILE, head="note")
    assert capsys.readouterr() == (f"{SHOWN}\n-", f"note: {SHOWN}\n")


def test_tables_and_titles(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    out = console()
    out.print(HOSTILE)
    out.rule(HOSTILE)
    out.print(table(HOSTILE, [HOSTILE], [[HOSTILE]]))
    printed = capsys.readouterr().out
    assert printed.count(SHOWN) == 5
    assert "\x1b[2J" not in printed
    assert "\x9b" not in printed


def test_what_is_being_done(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """On a terminal; square brackets are no markup there either."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    with working(f"first {HOSTILE}") as told:
        pass
    with working("first") as told:
        told(f"then {HOSTILE}")
    shown = capsys.readouterr().err
    assert f"first {SHOWN}" in shown
    assert f"then {SHOWN}" in shown
    assert "\x1b[2J" not in shown


def test_json_stays_what_it_was(capsys: pytest.CaptureFixture[str]) -> None:
    value = {"text": f"{HOSTILE} \udcff 中文"}
    print_json(value)
    printed = capsys.readouterr().out
    assert json.loads(printed) == value
    assert "中文" in printed
    assert not any(c in printed for c in "\x1b\x07\x7f\x9b\udcff")


def test_chunks_of_a_hostile_file(tmp_path: Path) -> None:
    file = tmp_path / "a[red].txt"
    file.write_bytes("One.\x1b[2J\x07\x9b31m\r\nTwo. [/red]".encode())
    done = CliRunner().invoke(main.app, ["split", str(file)])
    assert done.exit_code == 0, done.output
    assert "One.\\x1b[2J\\x07\\x9b31m\nTwo. [/red]\n" in done.stdout
    assert "a[red].txt 1/1" in done.stdout
