"""`vecbench rag` and `vecbench split` as a person uses them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest
from typer.testing import CliRunner, Result

import vecbench.cli.opened
from tests.scripted_http import Handler, serving
from vecbench import F
from vecbench.cli.conditions import conditions
from vecbench.cli.main import app
from vecbench.embed.pairs import PublishedPairModel
from vecbench.errors import ConfigError, WeightsNotFound
from vecbench.filters import And, Filter
from vecbench.rag import Rag
from vecbench.rag.answer.templates import TEMPLATES
from vecbench.rag.pipeline import RetrieverName
from vecbench.rag.split import next_sentence

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
    for wrong, said in (
        (("docs", "--size", "100"), "--size needs --by"),
        (("docs/travel.txt", "--pattern", "*.md"), "docs/travel.txt is one file"),
        (("docs/travel.txt", "--ignore", "x"), "docs/travel.txt is one file"),
    ):
        refused = run("rag", "add", *wrong, "--path", "kb2")
        assert (refused.exit_code, said in refused.stderr) == (2, True), refused.output
    assert not Path("kb2").exists()
    Path("shared").mkdir()
    Path("shared/a.txt").write_text("A share that is mounted.")
    assert run("rag", "add", "shared", "--path", "kb3").exit_code == 0
    Path("shared/a.txt").unlink()
    unmounted = run("rag", "add", "shared", "--path", "kb3")
    assert (unmounted.exit_code, "no document is found there" in unmounted.stderr) == (1, True)
    assert "1 documents in 'rag'" in run("rag", "list", "--path", "kb3").stdout
    assert "1 removed" in run("rag", "add", "shared", "--path", "kb3", "--prune").stdout
    Path("docs/bad.pdf").write_text("no pdf")
    some = run("rag", "add", "docs")
    assert some.exit_code == 1
    assert "left out: bad.pdf: it is not a readable PDF" in some.stderr
    assert "2 documents: 2 new" in some.stdout
    other = run("rag", "ask", "What?", "--collection", "other")
    assert other.exit_code == 1
    assert "other" in other.stderr


def test_how_it_is_searched_is_chosen(run: Run) -> None:
    run("rag", "add", "docs")
    question = "Which class is paid on a train?"
    chosen = ["--retriever", "lexical", "--rerank", "lexical", "--json"]
    told = json.loads(run("rag", "ask", question, *chosen).stdout)
    assert told["passages"][0]["source"] == "travel.txt"
    assert told["passages"][0]["distance"] is None
    assert "rerank" in told["timings_ns"]
    only = json.loads(run("rag", "ask", question, "--json", "--where", "source!=travel.txt").stdout)
    assert [p["source"] for p in only["passages"]] == ["contract.md"]
    chat = run("rag", "chat", "--where", "source=contract.md", input=f"{question}\n")
    assert "passages do not hold the answer" in chat.stdout
    refused = run("rag", "ask", question, "--where", "travel.txt")
    assert (refused.exit_code, "is no condition like year>=2024" in refused.stderr) == (2, True)
    assert run("rag", "ask", question, "--retriever", "guess").exit_code == 2
    unknown = run("rag", "ask", question, "--rerank", "magic")
    assert (unknown.exit_code, "no reranker is called 'magic'" in unknown.stderr) == (2, True)
    by_store = ["--retriever", "native-lexical", "--words-language", "simple"]
    told = json.loads(run("rag", "ask", "second class", *by_store, "--json").stdout)
    assert [p["source"] for p in told["passages"]] == ["travel.txt"]
    assert "indexed as simple" in run("rag", "ask", question, "--retriever", "native-hybrid").stderr
    refused = run("rag", "ask", question, "--words-language", "german")
    assert (refused.exit_code, "words_language is for 'native-hybrid'" in refused.stderr) == (2, True)
    other = ["--store", "faiss", "--path", "kb2"]
    assert run("rag", "add", "docs", *other).exit_code == 0
    native = run("rag", "ask", question, *other, "--retriever", "native-hybrid")
    assert (native.exit_code, "faiss keeps a document as it is" in native.stderr) == (1, True)


def test_how_documents_are_cut_is_chosen(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """As `split` shows it; the other way later, and all that is there is cut anew."""
    text = "The notice period is three months. " * 3 + "Work begins at nine. Work ends at five."
    Path("docs/contract.md").write_text(text)
    cut = ["--by", "sentence", "--size", "60"]
    added = json.loads(run("rag", "add", "docs", *cut, "--json").stdout)
    shown = [json.loads(run("split", f"docs/{f}", *cut, "--json").stdout) for f in ("contract.md", "travel.txt")]
    assert len(shown[0]) > 2
    assert added["chunks_embedded"] == sum(map(len, shown))
    again = json.loads(run("rag", "add", "docs", "--by", "discourse", "--size", "200", "--json").stdout)
    assert (again["changed"], again["unchanged"]) == (2, 0)

    def nowhere(model: PublishedPairModel) -> None:
        raise WeightsNotFound(f"{model.files.name} is not here")

    monkeypatch.setattr(next_sentence, "find_pair_model", nowhere)
    for command in (["rag", "add", "docs"], ["split", "docs/contract.md"]):
        missing = run(*command, "--by", "next-sentence")
        assert (missing.exit_code, missing.stderr) == (1, "error: bert-base-uncased is not here\n")


def test_names_are_those_of_the_library() -> None:
    assert get_args(vecbench.cli.opened.Retrieving) == get_args(RetrieverName)
    assert get_args(vecbench.cli.opened.Language) == tuple(TEMPLATES)


def test_another_embedder_is_for_all_three(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    unknown = run("rag", "add", "docs", "--embedder", "word2vec")
    assert (unknown.exit_code, "openai:MODEL" in unknown.stderr) == (2, True)
    assert not Path("kb").exists()

    def answers(handler: Handler) -> None:
        texts = handler.asked.body["input"]
        rows = [{"index": n, "embedding": [1.0, float(len(text))]} for n, text in enumerate(texts)]
        handler.say(200, json.dumps({"data": rows}))

    with serving(answers) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", f"{server.url}/v1")
        added = run("rag", "add", "docs", "--embedder", "openai:short")
        assert added.exit_code == 0, added.output
        asked = run("rag", "ask", "How long is the notice period?", "--embedder", "openai:short")
        assert asked.exit_code == 0, asked.output
        assert server.requests[-1].body["input"] == ["How long is the notice period?"]
    other = run("rag", "ask", "How long is the notice period?")
    assert other.exit_code == 1
    assert "short" in other.stderr
    assert "name the one that made the collection with --embedder" in other.stderr


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        ([], None),
        (["year>=2024"], F("year") >= 2024),
        (["a = b c", "n!=1.5"], And((F("a") == "b c", F("n") != 1.5))),
        (["draft=true", 'code="12"', "x<=-1", "y<2", "z>0"],
         And((F("draft") == True, F("code") == "12", F("x") <= -1, F("y") < 2, F("z") > 0))),  # noqa: E712
        (["a=b=c", "x==3"], And((F("a") == "b=c", F("x") == 3))),
        (["a="], F("a") == ""),
        (["a=[1]"], F("a") == "[1]"),
        (["a=null"], F("a") == "null"),
    ],
)  # fmt: skip
def test_conditions(texts: list[str], expected: Filter | None) -> None:
    assert repr(conditions(texts)) == repr(expected)


@pytest.mark.parametrize("text", ["", "year", "=3", "year~3", "year>new", "year>true", "x=NaN"])
def test_what_is_no_condition(text: str) -> None:
    with pytest.raises(ConfigError, match=r"condition|compare"):
        conditions([text])


def test_documents_are_listed_and_removed(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run("rag", "list").exit_code == 2
    assert not Path("kb").exists()
    run("rag", "add", "docs")
    monkeypatch.setattr("vecbench.embed.minilm.find_model", None)  # no model is needed from here on
    home = Path("docs").resolve().as_posix()
    shown = run("rag", "list").stdout
    assert [line.split() for line in shown.splitlines()] == [
        ["1", home, "contract.md"], ["1", home, "travel.txt"], ["2", "documents", "in", "'rag'"],
    ]  # fmt: skip
    assert run("rag", "remove", "travel.txt", "--origin", "elsewhere").exit_code == 1
    removed = run("rag", "remove", "travel.txt")
    assert (removed.exit_code, removed.stdout) == (0, "1 passages removed\n")
    again = run("rag", "remove", "travel.txt")
    assert (again.exit_code, "has no document 'travel.txt'" in again.stderr) == (1, True)
    (left,) = json.loads(run("rag", "list", "--json").stdout)
    assert (left["source"], left["parts"], len(left["content_sha256"])) == ("contract.md", 1, 64)


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
