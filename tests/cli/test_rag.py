"""`vecbench rag` and `vecbench split` as a person uses them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from vecbench.cli.main import app
from vecbench.rag import Rag

Run = Callable[..., Result]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """The command, in an empty directory with a folder of documents."""
    monkeypatch.chdir(tmp_path)
    Path("docs").mkdir()
    Path("docs/contract.md").write_text("# Contract\n\n## Leaving\n\nThe notice period is three months.\n")
    Path("docs/travel.txt").write_text("Travel by train is paid in second class.")
    Path("docs/odd.bin").write_bytes(b"\0\1")
    return lambda *arguments, **options: CliRunner().invoke(app, arguments, **options)


def test_add_ask_change_and_add_again(run: Run) -> None:
    first = run("rag", "add", "docs", "--json")
    assert first.exit_code == 0, first.output
    report = json.loads(first.stdout)
    assert (report["documents"], report["added"], report["chunks_embedded"]) == (2, 2, report["passages"])
    assert report["unreadable"][0]["source"] == "odd.bin"
    assert "left out: odd.bin: no loader knows the suffix '.bin'" in first.stderr
    answer = run("rag", "ask", "How long is the notice period?")
    assert answer.stdout.strip() == "The notice period is three months. [1]"
    assert "contract.md (Contract), characters 0 to 58" in answer.stderr  # so short a file is one passage
    Path("docs/travel.txt").write_text("Travel by train is paid in first class.")
    Path("docs/contract.md").unlink()
    again = run("rag", "add", "docs")
    assert "1 documents: 0 new, 1 changed, 0 as they were, 1 removed; 1 passages embedded" in again.stdout
    told = json.loads(run("rag", "ask", "Which class is paid on a train?", "--json", "--k", "1").stdout)
    assert told["passages"][0]["text"] == "Travel by train is paid in first class."
    assert "retrieve" in told["timings_ns"]
    chat = run("rag", "chat", input="Which class is paid on a train?\n\n")
    assert chat.stdout.startswith("Travel by train is paid in first class. [1]")


def test_a_chat_remembers_what_was_said(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[list[str]] = []
    stream = Rag.stream

    def noting(self: Rag, question: str, **options: Any) -> Any:
        told.append([message.content for message in options["history"]])
        return stream(self, question, **options)

    monkeypatch.setattr(Rag, "stream", noting)
    run("rag", "add", "docs")
    chat = run("rag", "chat", input="Which class is paid on a train?\nHow long is the notice period?\n")
    assert chat.exit_code == 0
    assert told == [[], ["Which class is paid on a train?", "Travel by train is paid in second class. [1]"]]


def test_what_is_wrong_is_said_before_anything_is_made(run: Run) -> None:
    asked = run("rag", "ask", "What?")
    assert asked.exit_code == 2
    assert "nothing was added there yet" in asked.stderr
    assert not Path("kb").exists()
    missing = run("rag", "add", "nowhere", "--path", "kb2")
    assert missing.exit_code == 2
    assert "no such file or folder" in missing.stderr
    Path("docs/bad.pdf").write_text("no pdf")
    some = run("rag", "add", "docs")
    assert some.exit_code == 1
    assert "left out: bad.pdf: it is not a readable PDF" in some.stderr
    assert "2 documents: 2 new" in some.stdout
    other = run("rag", "ask", "What?", "--collection", "other")
    assert other.exit_code == 1
    assert "other" in other.stderr


def test_split_shows_chunks_and_their_boundaries(run: Run) -> None:
    shown = run("split", "docs/contract.md", "--size", "40")
    assert shown.exit_code == 0, shown.output
    assert "contract.md 2/2, characters 12 to 58" not in shown.stdout  # longer than 40
    chunks = json.loads(run("split", "docs/contract.md", "--size", "40", "--json").stdout)
    text = Path("docs/contract.md").read_text()
    assert len(chunks) > 1
    assert all(text[c["start"] : c["end"]] == c["text"] and len(c["text"]) <= 40 for c in chunks)
    assert chunks[-1]["headings"] == ["Contract", "Leaving"]
    for by in ("sentence", "discourse"):
        made = json.loads(run("split", "docs/contract.md", "--by", by, "--size", "60", "--json").stdout)
        assert all(text[c["start"] : c["end"]] == c["text"] for c in made)
    tokens = json.loads(run("split", "docs/contract.md", "--unit", "tokens", "--size", "5", "--json").stdout)
    assert len(tokens) > 2
    refused = run("split", "docs/contract.md", "--by", "sentence", "--overlap", "3")
    assert refused.exit_code == 2
    assert "--overlap is for --by recursive" in refused.stderr
