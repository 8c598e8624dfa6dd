from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable

import pytest
from typer.testing import CliRunner

from vecbench import registry
from vecbench.cli.main import app
from vecbench.cli.naming import checked_stores
from vecbench.memory import MemoryStore
from vecbench.services import manager

Command = Callable[..., subprocess.CompletedProcess[str]]


def test_the_list_has_every_store_and_its_capabilities(vecbench: Command) -> None:
    found = {store["name"]: store for store in json.loads(vecbench("stores", "--json").stdout)}
    assert sorted(found) == registry.adapter_names()
    assert found["memory"]["installed"] is True
    assert found["memory"]["capabilities"]["metrics"] == ["cosine", "dot", "euclidean"]
    assert found["faiss"]["install"] == "pip install 'vecbench[faiss]'"
    assert "1." in found["faiss"]["client_version"]


def test_the_list_imports_no_client() -> None:
    code = (
        "import sys; sys.argv = ['vecbench', 'stores']\n"
        "from vecbench.cli.main import main\n"
        "try: main()\n"
        "except SystemExit as e: print('EXIT', e.code)\n"
        "print('MODULES', *sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "EXIT 0" in done.stdout
    loaded = set(done.stdout.partition("MODULES ")[2].split())
    assert not loaded & {"faiss", "qdrant_edge", "qdrant_client"}


def test_a_missing_client_is_listed_with_its_install_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MemoryStore, "modules", ("no_such_client.sub",))
    monkeypatch.setattr(MemoryStore, "extra", "memory")
    result = CliRunner().invoke(app, ["stores"])
    assert result.exit_code == 0
    assert "memory is not installed: pip install 'vecbench[memory]'" in result.stdout


def test_a_client_without_an_engine_is_not_called_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    class Nowhere:
        def why_not(self) -> str:
            return "no such program"

    monkeypatch.setattr(manager, "find", lambda name: None)
    monkeypatch.setattr(manager, "engine", lambda name: Nowhere())
    runner = CliRunner(env={"COLUMNS": "130"})
    found = {store["name"]: store for store in json.loads(runner.invoke(app, ["stores", "--json"]).stdout)}
    assert found["pgvector"]["installed"]
    assert found["pgvector"]["why_not_here"] == "no such program"
    assert (found["faiss"]["why_not_here"], found["memory"]["why_not_here"]) == (None, None)
    shown = runner.invoke(app, ["stores"]).stdout
    ready = {line.split()[0]: line.split()[1] for line in shown.splitlines() if line.startswith((" pg", " fa", " pi"))}
    assert ready == {"pgvector": "client", "faiss": "yes", "pinecone": "client"}
    assert "pgvector: only the client is here; no such program" in shown
    assert "pinecone: only the client is here; it needs an account" in shown


def test_probe_opens_what_is_embedded() -> None:
    result = CliRunner().invoke(app, ["stores", "--probe", "--json"])
    found = {store["name"]: store for store in json.loads(result.stdout)}
    assert found["memory"]["info"]["label"] == "memory (exact)"
    assert found["faiss"]["info"]["engine_version"]


def test_a_store_that_answers_says_who_it_is(vecbench: Command) -> None:
    done = vecbench("stores", "memory", "faiss")
    assert done.returncode == 0
    assert "memory: answers" in done.stdout
    assert "faiss: answers" in done.stdout


def test_one_that_does_not_answer_is_exit_1_and_the_others_are_still_asked(vecbench: Command) -> None:
    done = vecbench("stores", "memory=http://127.0.0.1:9", "null", "--json")
    assert done.returncode == 1
    first, second = json.loads(done.stdout)
    assert "url" in first["error"]
    assert second["info"]["name"] == "null"


def test_datasets_are_listed(vecbench: Command) -> None:
    cards = json.loads(vecbench("datasets", "--json").stdout)
    assert sorted(card["name"] for card in cards) == registry.dataset_names()
    assert cards[0]["name"] == "glosses-10k"
    shown = vecbench("datasets").stdout
    for name in registry.dataset_names():
        assert name in shown
    assert "10,000 × 384" in shown


def test_one_data_set_is_loaded_and_measured(vecbench: Command) -> None:
    found = json.loads(vecbench("datasets", "glosses-10k", "--json").stdout)
    assert found["geometry"]["n_base"] == found["n_base"] == 10_000
    assert 20 < found["geometry"]["lid_median"] < 30
    shown = vecbench("datasets", "glosses-10k").stdout
    assert found["sha256"] in shown
    assert "intrinsic dimension" in shown


def test_a_comma_in_a_url_begins_no_store() -> None:
    found = checked_stores(["memory=http://u:p,w@h:1,faiss, qdrant:edge", "null"])
    assert [(ref.label, ref.url) for ref in found] == [
        ("memory", "http://u:p,w@h:1"),
        ("faiss", None),
        ("qdrant:edge", None),
        ("null", None),
    ]


def test_all_is_every_store_that_can_run_here(capsys: pytest.CaptureFixture[str]) -> None:
    names = [ref.name for ref in checked_stores(["all"])]
    assert {"faiss", "qdrant", "chroma", "pgvector", "milvus-lite"} <= set(names)
    assert not {"memory", "null", "pinecone"} & set(names)
    assert "left out: pinecone: it needs an account" in capsys.readouterr().err
    named = [ref.label for ref in checked_stores(["qdrant:edge,all"])]
    assert named[0] == "qdrant:edge"
    assert "qdrant" not in named
