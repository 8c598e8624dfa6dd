"""`vecbench datasets`, `datasets add` and `datasets check`, on data sets of the user's own."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import typer
from typer.testing import CliRunner, Result

from vecbench.cli import main
from vecbench.cli.datasets import group
from vecbench.dataset import Dataset
from vecbench.embed.minilm import MINILM_MODEL
from vecbench.embed.weights import find_model
from vecbench.errors import DatasetError
from vecbench.registry import dataset_names, dataset_source
from vecbench.types import Metric

ROWS = np.arange(1, 401, dtype=np.float32).reshape(100, 4)
CARD = """
name = "remote"
title = "Remote"
description = ""
source = "nowhere"
licence = "none"
dim = 4
n_base = 100
n_queries = 1
synthetic = false
[[files]]
name = "v.npy"
urls = ["https://example.org/v.npy"]
bytes = 5000000
"""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    weights = find_model(MINILM_MODEL).weights.parent  # found where it is before the cache moves
    monkeypatch.setenv("VECBENCH_MODEL_DIR", str(weights))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)
    np.save(tmp_path / "base.npy", ROWS)
    np.save(tmp_path / "asked.npy", ROWS[::10] + 0.5)
    return tmp_path


def datasets(*args: str) -> Result:
    """The group below the command's own root, which makes exit codes of errors."""
    root = typer.Typer(cls=main.app.info.cls, pretty_exceptions_enable=False)
    root.add_typer(group, name="datasets")
    root.command("other")(lambda: None)  # a root of one command would have no group
    return CliRunner().invoke(root, ["datasets", *args])


def test_what_was_added_is_listed_measured_and_searched(home: Path) -> None:
    done = datasets("add", "base.npy", "--name", "mine", "--queries", "asked.npy", "--metric", "cosine")
    assert done.exit_code == 0, done.output
    assert "added: mine: 100 × 4, card" in done.stderr
    source = dataset_source("mine")
    assert source.card.metric is Metric.COSINE
    assert source.card.sha256 == Dataset.from_arrays("x", ROWS, ROWS[::10] + 0.5).sha256
    assert "mine" in datasets().stdout
    listed = {card["name"]: card for card in json.loads(datasets("--json").stdout)}
    assert sorted(listed) == dataset_names()
    assert listed["mine"]["fetch"] is None
    shown = json.loads(datasets("mine", "--json").stdout)
    assert shown["geometry"]["n_base"] == 100
    assert source.card.sha256 in datasets("mine").stdout
    assert json.loads(datasets("./base.npy", "--json").stdout)["n_queries"] == 10  # held out


def test_help_names_the_commands(home: Path) -> None:
    done = datasets("--help")
    assert done.exit_code == 0
    assert "add" in done.stdout
    assert "check" in done.stdout
    assert not any(line.strip(" │").startswith("show ") for line in done.stdout.splitlines())
    assert "--queries" in datasets("add", "-h").stdout


@pytest.mark.parametrize(
    ("args", "complaint"),
    [
        (("add", "base.npy", "--name", "glosses-10k"), "called 'glosses-10k' already"),
        (("add", "base.npy", "--name", "check"), "or a command is"),
        (("add", "base.npy", "--name", "No Name"), "lower-case words"),
        (("add", "folder", "--name", "../../x"), "lower-case words"),
        (("add", "base.npy", "--metric", "hamming"), "--metric 'hamming' is not known"),
        (("add", "nothing.npy"), "does not exist"),
        (("add", "base.npy", "--queries", "nothing.npy"), "cannot be read"),
        (("add", "card.toml", "--metric", "dot"), "is a card"),
        (("check", "nothing"), "no data set is called 'nothing'"),
    ],
)
def test_what_cannot_be_is_said_and_nothing_is_registered(args: tuple[str, ...], complaint: str, home: Path) -> None:
    (home / "card.toml").write_text(CARD)
    (home / "folder").mkdir()
    done = datasets(*args)
    assert done.exit_code == 2, done.output
    assert complaint in done.stderr
    assert not (home / "data").exists()


def test_a_card_to_fetch_is_listed_with_its_size_and_a_broken_one_is_left_out(home: Path) -> None:
    (home / "card.toml").write_text(CARD)
    assert datasets("add", "card.toml", "--name", "far").exit_code == 0
    assert "unpinned" in datasets().stdout
    cards = json.loads(datasets("--json").stdout)
    assert cards[0]["name"] == "glosses-10k"  # what is to be fetched comes after what is here
    assert next(card for card in cards if card["name"] == "far")["fetch"] == "5 MB, unpinned"
    (home / "data" / "vecbench" / "datasets" / "far" / "card.toml").write_text("= broken")
    done = datasets("--json")
    assert done.exit_code == 0
    assert "left out: card" in done.stderr
    assert "glosses-10k" in done.stdout


def test_a_card_to_fetch_says_without_network_what_to_put_where(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VECBENCH_OFFLINE", "1")
    (home / "card.toml").write_text(CARD)
    done = datasets("check", "./card.toml")
    assert done.exit_code == 1
    assert "FAIL" in done.stdout
    assert f"at {home / 'cache' / 'vecbench' / 'datasets' / 'remote' / 'v.npy'}" in done.stdout


def found(*args: str) -> dict[str, tuple[str, str]]:
    done = datasets("check", *args, "--json")
    return {row["what"]: (row["state"], row["detail"]) for row in json.loads(done.stdout)}


def test_a_check_finds_what_is_odd(home: Path) -> None:
    rows = ROWS.copy()
    rows[7] = rows[3]
    rows[9] = 0
    np.save(home / "base.npy", rows)
    np.save(home / "query.npy", np.stack([rows[5], rows[5], ROWS[0] + 0.25]))
    near = np.argsort(((np.load(home / "query.npy")[:, None] - rows[None]) ** 2).sum(-1), axis=1, kind="stable")
    np.save(home / "groundtruth.npy", near[:, :20])
    report = found("base.npy")
    assert report["vectors"][1].startswith("100 + 3 of 4")
    assert report["duplicates"] == ("note", "1.00% of the base repeat an earlier row")
    assert report["held out"][1].startswith("2 of 3 queries equal a base row")
    assert report["zero vectors"] == ("note", "1, first base row 9: they have no cosine distance")
    assert report["sha256"][0] == "note"
    assert report["neighbours"][0] == "ok"
    assert datasets("check", "base.npy").exit_code == 0
    np.save(home / "groundtruth.npy", near[:, ::-1][:, :20])  # the farthest
    assert found("base.npy")["neighbours"][0] == "FAIL"
    assert datasets("check", "base.npy").exit_code == 1
    near[1, 3] = -1
    np.save(home / "groundtruth.npy", near[:, :20])
    assert found("base.npy")["neighbours"] == ("FAIL", "neighbours name row -1; the base has 100 rows")
    np.save(home / "groundtruth.npy", near[:2])
    assert "2 rows of neighbours came for 3 queries" in found("base.npy")["neighbours"][1]


def test_a_zero_vector_is_a_failure_where_cosine_is_meant(home: Path) -> None:
    rows = ROWS.copy()
    rows[9] = 0
    np.save(home / "base.npy", rows)
    refused = datasets("add", "base.npy", "--name", "mine", "--metric", "cosine")
    assert (refused.exit_code, "row 9 of base is zero" in refused.stderr) == (2, True)
    assert not (home / "data").exists()
    (home / "card.toml").write_text(f'{CARD.partition("[[files]]")[0]}path = "base.npy"\nqueries = "asked.npy"\n')
    assert found("./card.toml")["reading"][0] == "FAIL"  # its n_queries is another
    text = (home / "card.toml").read_text().replace("n_queries = 1", 'n_queries = 10\nmetric = "cosine"')
    (home / "card.toml").write_text(text)
    assert found("./card.toml")["zero vectors"][0] == "FAIL"


@pytest.mark.parametrize("name", ["v.npy", "wide.npy", "v.fvecs", "v.jsonl"])
def test_a_value_that_is_none_is_a_finding_in_every_format(name: str, home: Path) -> None:
    """Some formats show it when they are converted, others when the mapped rows are looked at."""
    rows = ROWS.copy()
    rows[5, 3] = np.nan
    if name.endswith(".npy"):
        np.save(name, rows.astype(np.float64) if name == "wide.npy" else rows)
    elif name == "v.fvecs":
        Path(name).write_bytes(b"".join(np.int32(4).tobytes() + row.tobytes() for row in rows))
    else:
        Path(name).write_text("".join(json.dumps({"vector": row.tolist()}) + "\n" for row in rows))
    done = datasets("check", name, "--json")
    assert done.exit_code == 1, done.output
    (row,) = json.loads(done.stdout)
    assert (row["state"], row["what"], "row 5" in row["detail"]) == ("FAIL", "reading", True)
    assert datasets("check", name).stdout.startswith("FAIL  reading: ")


def test_what_fails_after_the_reading_is_a_finding_too(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def cut_off(vectors: object) -> float:
        raise DatasetError("base.npy ends in row 3: it was cut off meanwhile")

    monkeypatch.setattr("vecbench.geometry.duplicate_rate", cut_off)
    done = datasets("check", "base.npy", "--json")
    assert done.exit_code == 1
    assert [row["state"] for row in json.loads(done.stdout)] == ["ok", "note", "ok", "FAIL"]


def test_judgements_are_told_and_held_to(home: Path) -> None:
    folder = home / "judged"
    (folder / "qrels").mkdir(parents=True)
    (folder / "corpus.jsonl").write_text("".join(f'{{"_id": "d{i}", "text": "text {i}"}}\n' for i in range(3)))
    (folder / "queries.jsonl").write_text('{"_id": "q", "text": "which?"}\n')
    (folder / "qrels" / "test.tsv").write_text("q\td0\t2\nq\td1\t0\n")
    digest = hashlib.sha256(b'["q",[["d0",2],["d1",0]]]\n').hexdigest()
    assert f"judgements sha256     {digest} (not known beforehand)\n" in datasets("./judged").stdout
    assert datasets("add", "./judged").exit_code == 0
    assert f"judgements sha256     {digest} (checked)\n" in datasets("judged").stdout
    assert found("judged")["judgements"][0] == "ok"
    assert found("judged")["judgements sha256"] == ("ok", f"{digest}, as its card says")
    assert found("./judged")["judgements sha256"] == ("note", f"{digest}, its card names none")
    (folder / "qrels" / "test.tsv").write_text("q\td0\t0\nq\td1\t2\n")
    swapped = hashlib.sha256(b'["q",[["d0",0],["d1",2]]]\n').hexdigest()
    what, (state, detail) = found("judged").popitem()
    assert (what, state) == ("reading", "FAIL")
    assert f"the judgements have sha256 {swapped}, its card says {digest}" in detail


def test_a_file_that_has_changed_since_it_was_added(home: Path) -> None:
    assert datasets("add", "base.npy", "--name", "mine").exit_code == 0
    assert found("mine")["sha256"][0] == "ok"
    np.save(home / "base.npy", ROWS + 1)
    assert found("mine") == {"reading": ("FAIL", found("mine")["reading"][1])}
    assert "not the ones" in found("mine")["reading"][1]


def test_a_folder_of_documents_becomes_passages_and_held_out_queries(home: Path) -> None:
    folder = home / "My Handbook"
    folder.mkdir()
    for number in range(30):
        text = f"Rule {number}: the door of room {number} is to be closed at night."
        (folder / f"part{number}.txt").write_text(text)
    (folder / "bad.pdf").write_text("no pdf")
    (folder / "odd.bin").write_bytes(b"x")
    done = datasets("add", str(folder))
    assert done.exit_code == 0, done.output
    assert "cut: 30 documents" in done.stderr
    assert "left out: bad.pdf" in done.stderr
    assert "odd.bin" not in done.stderr
    assert "held out of the base" in done.stderr
    report = found("my-handbook")
    assert report["vectors"] == ("ok", "27 + 3 of 384, float32, all finite")
    data = dataset_source("my-handbook").load()
    assert data.documents is not None
    assert {id_.partition("#")[0] for id_ in [*data.ids, *data.query_ids]} == {f"part{n}.txt" for n in range(30)}
    (nearest,) = np.argsort(-(data.base @ data.queries[0]))[:1]
    assert data.documents[int(nearest)].text.startswith("Rule ")
    assert datasets("add", str(folder)).exit_code == 2


def test_a_folder_of_documents_is_measured_as_it_is(home: Path) -> None:
    """Without a name: cut anew each time, so that it is what the folder holds now."""
    folder = home / "My Handbook"
    folder.mkdir()
    for number in range(30):
        (folder / f"part{number}.txt").write_text(f"Rule {number}: the door of room {number} is closed at night.")

    def run(*arguments: str) -> Result:
        return CliRunner().invoke(main.app, arguments)

    options = ["--metric", "euclidean", "--rounds", "1", "--ef", "16", "--no-exact", "--json", "--quiet"]
    measure, truth = ("run", "-s", "faiss", "-d", str(folder)), ("truth", str(folder))
    for wrong in (
        (*measure, "--ef", "many"),
        (*measure, "--k", "0"),
        (*measure, "--rounds", "0"),
        (*measure, "--metric", "manhattan"),
        (*truth, "--k", "0"),
        (*truth, "--metric", "manhattan"),
        (*truth, "--out", "neighbours.txt"),
    ):
        refused = run(*wrong)
        assert (refused.exit_code, "cut:" in refused.stderr) == (2, False), (wrong, refused.output)
    done = run("run", "-s", "faiss", "-d", str(folder), *options, "-o", "r.json")
    assert done.exit_code == 0, done.output
    assert f"cut: 30 documents of {folder}, 30 passages" in done.stderr
    report = json.loads(done.stdout)
    assert (report["plan"]["dataset"], report["dataset"]["n_base"], report["dataset"]["n_queries"]) == (
        "my-handbook", 27, 3,
    )  # fmt: skip
    assert report["cases"][0]["settings"][0]["recall_mean"] == 1
    (folder / "part0.txt").unlink()
    exact = run("truth", "My Handbook", "--k", "5", "--metric", "cosine", "--quiet")
    assert exact.exit_code == 0, exact.output
    assert "cut: 29 documents" in exact.stderr
    assert datasets("check", str(folder)).exit_code == 0
    shown = datasets("My Handbook", "--json")
    assert json.loads(shown.stdout)["n_base"] == 26
    kept = [path.name for path in (home / "cache").rglob("corpus*")]
    assert kept == ["corpus.jsonl"]
    assert "my-handbook" not in dataset_names()


def test_a_folder_of_one_passage_is_too_little(home: Path) -> None:
    (home / "notes").mkdir()
    (home / "notes" / "a.txt").write_text("One.")
    done = datasets("add", "notes")
    assert done.exit_code == 2
    assert "1 documents with 1 passages" in done.stderr
    assert not (home / "data" / "vecbench" / "datasets" / "notes").exists()


def test_what_could_not_be_added_leaves_nothing(home: Path) -> None:
    (home / "notes").mkdir()
    for number in range(3):
        (home / "notes" / f"{number}.txt").write_text(f"Note {number}.")
    done = datasets("add", "notes", "--queries", "nothing.jsonl")  # found out when the passages are written
    assert done.exit_code == 2
    assert "cut: 3 documents" in done.stderr
    assert not (home / "data" / "vecbench" / "datasets" / "notes").exists()


def test_what_a_killed_cut_left_is_swept(home: Path) -> None:
    (home / "notes").mkdir()
    for number in range(3):
        (home / "notes" / f"{number}.txt").write_text(f"Note {number}.")
    kept = home / "data" / "vecbench" / "datasets" / "notes"
    kept.mkdir(parents=True)
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    for pid in (gone.pid, os.getppid()):
        (kept / f"corpus.jsonl.{pid}.part").touch()
    assert datasets("add", "notes").exit_code == 0
    assert {path.name for path in kept.iterdir()} == {
        "card.toml", "corpus.jsonl", f"corpus.jsonl.{os.getppid()}.part",
    }  # fmt: skip


def test_a_folder_of_vectors_without_a_layout_is_told_the_layouts(home: Path) -> None:
    (home / "vectors").mkdir()
    for name in ("a", "b"):
        np.save(home / "vectors" / name, ROWS)
    for command in ("add", "check"):
        done = datasets(command, "./vectors")
        assert done.exit_code == (2 if command == "add" else 1)
        assert "none of the known layouts (corpus.jsonl; train.parquet; base and query" in done.output
    assert not (home / "data").exists()


def test_split_says_what_it_left_out(home: Path) -> None:
    (home / "t.jsonl").write_text('{"text": "One."}\n{"text": \n{"text": "Two."}\n')
    done = CliRunner().invoke(main.app, ["split", "t.jsonl"])
    assert done.exit_code == 1, done.output
    assert ("One.\n" in done.stdout, "Two.\n" in done.stdout) == (True, True)
    assert done.stderr.startswith("left out: t.jsonl#line=2: ")
    folder = CliRunner().invoke(main.app, ["split", "."])
    assert (folder.exit_code, folder.stderr) == (2, "error: . is a folder; name a file in it\n")
