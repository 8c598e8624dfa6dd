"""Texts with queries and judgements, and the vectors made of them: once, and going on where a killed process was."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from vecbench.dataset import Dataset, DatasetCard, Text, TextDataset, embed_dataset
from vecbench.embed.spec import EmbedderSpec, Progress
from vecbench.errors import ChecksumMismatch, DatasetError
from vecbench.formats.blocks import mapped_file
from vecbench.formats.found import hold_out_texts
from vecbench.formats.layout import open_set
from vecbench.formats.lines import LineTexts
from vecbench.relevance import Judgements
from vecbench.sources import path_source, pinned, register, user_source
from vecbench.types import Vectors


class Toy:
    """An embedder that counts what it is asked; a text's vector is its length and its first character."""

    def __init__(self, name: str = "toy", fail_after: int | None = None) -> None:
        self.spec = EmbedderSpec(name=name, dim=2)
        self.embedded = 0
        self.fail_after = fail_after

    def embed_documents(self, texts: Sequence[str], *, progress: Progress | None = None) -> Vectors:
        if self.fail_after is not None and self.embedded + len(texts) > self.fail_after:
            raise KeyboardInterrupt
        self.embedded += len(texts)
        if progress:
            progress(len(texts), len(texts))
        return np.array([[len(text), ord((text or " ")[0])] for text in texts], np.float32)

    def embed_queries(self, texts: Sequence[str]) -> Vectors:
        return -self.embed_documents(texts)


def beir(folder: Path, *, split: str = "test", qrels: str | None = None, queries: bool = True) -> Path:
    folder.mkdir(exist_ok=True)
    corpus = [
        {"_id": "d1", "title": "One", "text": "first text", "metadata": {}},
        {"_id": "d2", "title": "", "text": "zwei\u2028Zeilen"},
        {"_id": 3, "text": "third"},
    ]
    (folder / "corpus.jsonl").write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in corpus), "utf-8")
    if queries:
        asked = [{"_id": "q3", "text": "c?"}, {"_id": "q1", "text": "a?"}, {"_id": "unjudged", "text": "x?"}]
        (folder / "queries.jsonl").write_text("".join(json.dumps(row) + "\n" for row in asked))
        (folder / "qrels").mkdir(exist_ok=True)
        text = "query-id\tcorpus-id\tscore\nq1\td1\t2\nq1\tgone\t1\nq3\t3\t1\nq3\td2\t0\n" if qrels is None else qrels
        (folder / "qrels" / f"{split}.tsv").write_text(text)
    return folder


def opened(path: Path, queries: Path | None = None) -> TextDataset:
    found = open_set(path, queries=queries)
    assert isinstance(found, TextDataset)
    return found


@pytest.mark.parametrize("split", ["test", "dev"])
def test_the_beir_layout(split: str, tmp_path: Path) -> None:
    found = opened(beir(tmp_path / "set", split=split))
    assert list(found.documents) == [
        Text("d1", "One first text"),
        Text("d2", "zwei\u2028Zeilen"),
        Text("3", "third"),
    ]
    assert found.documents[1].text == "zwei\u2028Zeilen"
    assert found.documents[-2:] == list(found.documents)[1:]
    assert [text.id for text in found.queries] == ["q3", "q1"]  # the order of queries.jsonl, judged ones only
    assert found.judgements is not None
    assert list(found.judgements) == [{"3": 1, "d2": 0}, {"d1": 2, "gone": 1}]
    assert found.notes == ("1 judged documents are not in the corpus and cannot be found",)


@pytest.mark.parametrize(
    ("qrels", "complaint"),
    [
        ("q1\td1\t-1\n", r"test.tsv:1: query-id, corpus-id and a whole score"),
        ("q1\td1\t0.5\n", "a whole score"),
        ("q1 d1 1\n", "a whole score"),
        ("q1\td1\t1\nq1\td1\t1\n", r"test.tsv:2: 'd1' is judged twice"),
        ("nobody\td1\t1\n", "'nobody' is not in queries.jsonl"),
        ("query-id\tcorpus-id\tscore\n", "holds no judgement"),
    ],
)
def test_wrong_judgements(qrels: str, complaint: str, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=complaint):
        opened(beir(tmp_path / "set", qrels=qrels))


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ('{"_id": "d1", "text": "again"}', r"corpus.jsonl:4: id 'd1' is that of an earlier line"),
        ('{"_id": "d4", "text": null}', "'text' is NoneType"),
        ('{"_id": "d4", "body": "x"}', r"no field 'text'; the fields there are: '_id', 'body'"),
        ('{"_id": "", "text": "x"}', "an id is a string"),
        ('{"_id": "d4", "text": "\\udc00"}', "lone surrogate"),
        ('{"_id": "d4", "text": "x"', "not a JSON object"),
    ],
)
def test_a_wrong_line_is_named(line: str, complaint: str, tmp_path: Path) -> None:
    folder = beir(tmp_path / "set")
    with (folder / "corpus.jsonl").open("a") as file:
        file.write(line + "\n")
    with pytest.raises(DatasetError, match=complaint):
        opened(folder)


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    (tmp_path / "t.jsonl").write_bytes(b'{"text": "\xff"}\n')
    with pytest.raises(DatasetError, match=r"t.jsonl:1"):
        opened(tmp_path / "t.jsonl")


def test_lines_without_ids_are_numbered_and_queries_may_be_given(tmp_path: Path) -> None:
    (tmp_path / "t.jsonl").write_text("".join(f'{{"text": "text {i}"}}\n' for i in range(25)))
    (tmp_path / "q.jsonl").write_text('{"id": "mine", "text": "what?"}\n')
    found = opened(tmp_path / "t.jsonl", tmp_path / "q.jsonl")
    assert (found.documents[4], len(found.documents)) == (Text("5", "text 4"), 25)
    assert list(found.queries) == [Text("mine", "what?")]
    assert found.judgements is None


def test_texts_without_queries_hold_some_out(tmp_path: Path) -> None:
    (tmp_path / "t.jsonl").write_text("".join(f'{{"text": "text {i}"}}\n' for i in range(25)))
    found = opened(tmp_path / "t.jsonl")
    assert 2 <= len(found.queries) <= 3
    held = [text.id for text in found.queries]
    assert len({int(id_) % 10 for id_ in held}) == 1  # every tenth
    assert sorted([*held, *(text.id for text in found.documents)], key=int) == [str(i) for i in range(1, 26)]
    assert found.documents[:3] == [found.documents[i] for i in range(3)]
    assert "held out of the base" in found.notes[0]
    assert opened(tmp_path / "t.jsonl").sha256 == found.sha256
    texts = LineTexts(tmp_path / "t.jsonl")
    assert len({hold_out_texts(texts, seed=seed).queries[0].id for seed in range(20)}) > 3
    large = hold_out_texts([Text(str(i), "x") for i in range(30_000)])
    assert len(large.queries) == 1000
    assert len(large.documents) == 29_000
    with pytest.raises(DatasetError, match="one text"):
        hold_out_texts([Text("1", "x")])


def test_the_hash_of_texts_tells_where_one_ends() -> None:
    one = TextDataset([Text("a", "bc")], [Text("q", "")])
    assert one.sha256 != TextDataset([Text("ab", "c")], [Text("q", "")]).sha256
    assert one.sha256 != TextDataset([Text("q", "")], [Text("a", "bc")]).sha256
    assert one.sha256 == TextDataset([Text("a", "bc")], [Text("q", "")]).sha256
    # Written out by hand: embedded vectors are kept under it, so it must not become another.
    assert one.sha256 == hashlib.sha256(b"1\n1 a2 bc" + b"1\n1 q0 ").hexdigest()
    with pytest.raises(DatasetError, match="one of each"):
        TextDataset([], [Text("q", "")])


def test_the_hash_of_judgements_is_their_own(tmp_path: Path) -> None:
    found = opened(beir(tmp_path / "set"))
    lines = b'["q3",[["3",1],["d2",0]]]\n' + b'["q1",[["d1",2],["gone",1]]]\n'
    assert found.judgements_sha256 == hashlib.sha256(lines).hexdigest()
    other = opened(beir(tmp_path / "set", qrels="q1\tgone\t1\nq1\td1\t2\nq3\td2\t1\nq3\t3\t0\n"))
    assert other.sha256 == found.sha256
    assert other.judgements_sha256 != found.judgements_sha256
    shuffled = opened(beir(tmp_path / "set", qrels="q3\td2\t0\nq1\tgone\t1\nq1\td1\t2\nq3\t3\t1\n"))
    assert shuffled.judgements_sha256 == found.judgements_sha256
    assert replace(found, judgements=None).judgements_sha256 == hashlib.sha256(b"").hexdigest()


def test_squad_as_drcd_has_it(real_data: Path) -> None:
    found = opened(real_data / "drcd" / "DRCD_dev.json")
    raw = json.loads((real_data / "drcd" / "DRCD_dev.json").read_text("utf-8"))
    paragraphs = {p["id"]: p for article in raw["data"] for p in article["paragraphs"]}
    assert len(found.documents) == len(paragraphs) == 1000
    assert len(found.queries) == 3524
    assert found.judgements is not None
    for query, judged in list(zip(found.queries, found.judgements, strict=True))[::97]:
        (id_,) = judged
        assert query.text in {question["question"] for question in paragraphs[id_]["qas"]}
        assert judged[id_] == 1
    assert found.documents[7].text == paragraphs[found.documents[7].id]["context"]


@pytest.mark.parametrize(
    "content",
    [
        "[1]",
        '{"data": [{"paragraphs": [{"context": 1, "qas": []}]}]}',
        '{"data": [{}]}',
        "{",
        '{"data": [{"paragraphs": [{"context": "x", "qas": [{"question": "y"}]}]}]}',
        '{"data": [{"paragraphs": [{"context": "\\ud800", "qas": []}]}]}',
    ],
)
def test_json_that_is_not_laid_out_so(content: str, tmp_path: Path) -> None:
    (tmp_path / "t.json").write_text(content)
    with pytest.raises(DatasetError, match=r"t\.json is not laid out as SQuAD"):
        open_set(tmp_path / "t.json")


CARD = DatasetCard(
    name="toys", title="Toys", description="", source="here", licence="none", dim=2, n_base=1, n_queries=1, sha256="",
    synthetic=False, notes=("mine",),
)  # fmt: skip


def test_vectors_of_texts_are_made_once_and_mapped(home: Path, tmp_path: Path) -> None:
    texts = opened(beir(tmp_path / "set"))
    toy = Toy()
    seen: list[tuple[int, int]] = []
    data = embed_dataset(texts, toy, CARD, progress=lambda done, total: seen.append((done, total)))
    np.testing.assert_array_equal(data.base, [[14, ord("O")], [11, ord("z")], [5, ord("t")]])
    np.testing.assert_array_equal(data.queries, [[-2, -ord("c")], [-2, -ord("a")]])
    assert (list(data.ids), list(data.query_ids)) == (["d1", "d2", "3"], ["q3", "q1"])
    assert data.judgements is texts.judgements
    assert data.judgements_sha256 == texts.judgements_sha256
    assert data.documents is not None
    assert data.documents[0].text == "One first text"
    assert (data.card.n_base, data.card.n_queries, data.card.embedder) == (3, 2, toy.spec)
    assert data.card.notes == ("mine", *texts.notes)
    assert mapped_file(data.base) is not None
    assert seen[-1] == (3, 3)
    assert not list((home / "cache").rglob("parts"))  # the shards are not kept beside the whole
    again = Toy()
    assert embed_dataset(texts, again, CARD).sha256 == data.sha256
    assert again.embedded == 0
    other = Toy("another")
    embed_dataset(texts, other, CARD)
    assert other.embedded == 5


def test_a_killed_process_goes_on_where_it_was(home: Path, tmp_path: Path) -> None:
    texts = TextDataset([Text(str(i), f"text {i}") for i in range(5000)], [Text("q", "which?")])
    dying = Toy(fail_after=4500)
    with pytest.raises(KeyboardInterrupt):
        embed_dataset(texts, dying, CARD, cache=tmp_path)
    assert dying.embedded == 4096
    living = Toy()
    data = embed_dataset(texts, living, CARD, cache=tmp_path)
    assert living.embedded == 5001 - 4096
    np.testing.assert_array_equal(data.base[4321], [len("text 4321"), ord("t")])


def test_texts_that_change_while_they_are_embedded_make_no_vectors(home: Path, tmp_path: Path) -> None:
    folder = beir(tmp_path / "set")
    before = (folder / "corpus.jsonl").read_text("utf-8")
    texts = opened(folder)
    assert texts.sha256  # hashed, then edited, then embedded, then put back
    (folder / "corpus.jsonl").write_text(before.replace("third", "other"), "utf-8")
    with pytest.raises(DatasetError, match="changed while they were read"):
        embed_dataset(texts, Toy(), CARD)
    (folder / "corpus.jsonl").write_text(before, "utf-8")
    data = embed_dataset(opened(folder), Toy(), CARD)
    np.testing.assert_array_equal(data.base[2], [5, ord("t")])


def test_a_data_set_wants_as_many_judgements_and_documents_as_rows() -> None:
    rows = np.ones((2, 2), np.float32)
    data = Dataset.from_arrays("mine", rows, rows)
    texts = [Text("0", "a")]
    with pytest.raises(DatasetError, match="1 documents for 2 base"):
        replace(data, documents=texts)
    with pytest.raises(DatasetError, match="1 judgements for 2 queries"):
        replace(data, judgements=Judgements([{"0": 1}]))


def test_changed_texts_are_noticed(home: Path, tmp_path: Path) -> None:
    folder = beir(tmp_path / "set")
    register(pinned(path_source(folder, name="mine")), set())
    source = user_source("mine")
    assert source.texts is not None
    assert len(source.texts().documents) == 3
    text = (folder / "corpus.jsonl").read_text("utf-8")
    (folder / "corpus.jsonl").write_text(text.replace("third", "other"), "utf-8")
    changed = user_source("mine")
    assert changed.texts is not None
    with pytest.raises(ChecksumMismatch, match="they were changed"):
        changed.texts()


def test_changed_judgements_are_noticed(home: Path, tmp_path: Path) -> None:
    folder = beir(tmp_path / "set")
    card = register(pinned(path_source(folder, name="mine")), set())
    qrels = folder / "qrels" / "test.tsv"
    qrels.write_text(qrels.read_text().replace("q3\t3\t1\nq3\td2\t0", "q3\t3\t0\nq3\td2\t1"))
    source = user_source("mine")
    assert source.texts is not None
    with pytest.raises(ChecksumMismatch, match=r"the judgements have sha256 .* they were changed"):
        source.texts()
    with pytest.raises(ChecksumMismatch, match="the judgements have sha256"):
        source.load()
    held = [line for line in card.read_text("utf-8").splitlines() if not line.startswith("judgements_sha256")]
    card.write_text("\n".join(held), "utf-8")
    old = user_source("mine")
    assert old.texts is not None
    assert old.texts().judgements is not None  # a card that was written before they were held to


def test_judgements_that_came_later_are_noticed(home: Path, tmp_path: Path) -> None:
    folder = beir(tmp_path / "set")
    (folder / "qrels" / "test.tsv").unlink()
    register(pinned(path_source(folder, name="mine")), set())
    (folder / "qrels" / "test.tsv").write_text("q1\td1\t2\nq3\t3\t1\nunjudged\td1\t0\n")
    source = user_source("mine")
    assert source.texts is not None
    with pytest.raises(ChecksumMismatch, match="the judgements"):
        source.texts()
