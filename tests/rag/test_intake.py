from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from vecbench import VectorStore, connect
from vecbench.embed import MiniLM
from vecbench.errors import ConfigError, DocumentError
from vecbench.rag import (
    Document,
    Rag,
    Unreadable,
    UnreadableWarning,
)
from vecbench.rag.intake import default_splitter, splitter_language
from vecbench.rag.load import CsvLoader

from .pipeline_parts import CONTRACT, DOCUMENTS, Bag, filled


@pytest.fixture
def store() -> Iterator[VectorStore]:
    with connect("memory") as made:
        yield made


def test_a_file_that_cannot_be_read_is_told_and_kept(store: VectorStore, tmp_path: Path) -> None:
    for name in ("a.txt", "b.txt"):
        (tmp_path / name).write_text(f"About {name}: {CONTRACT}", "utf-8")
    rag = Rag(store, embedder=Bag())
    rag.add(tmp_path)
    (tmp_path / "a.txt").write_bytes(b"\x00\x01\x02\xff" * 400)
    with pytest.warns(UnreadableWarning, match=r"a\.txt"):
        report = rag.add(tmp_path)
    assert (report.documents, report.removed, report.spared) == (1, 0, 1)
    assert [s.source for s in rag.sources()] == ["a.txt", "b.txt"]
    told: list[Unreadable] = []
    rag.add(tmp_path, on_error=told.append)
    assert [file.source for file in told] == ["a.txt"]
    (tmp_path / "a.txt").unlink()
    assert rag.add(tmp_path).removed == 1


def test_which_files_are_read_can_be_said(store: VectorStore, tmp_path: Path) -> None:
    for name in ("a.md", "b.txt", "c.csv", "old/a.md"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(f"title,body\n{name},{CONTRACT}" if name == "c.csv" else CONTRACT, "utf-8")
    rag = Rag(store, embedder=Bag())
    rag.add(tmp_path, pattern="*.md", ignore=["old/"])
    assert [s.source for s in rag.sources()] == ["a.md"]
    rag.add(tmp_path, loaders=[CsvLoader("body")])
    assert [s.source for s in rag.sources()] == ["a.md", "b.txt", "c.csv#row=1", "old/a.md"]
    (row,) = (p for p in rag.retrieve("notice period", 9) if p.source == "c.csv#row=1")
    assert row.metadata["title"] == "c.csv"
    assert rag.add(tmp_path, pattern="*.txt").removed == 3


def test_what_is_left_of_a_file_that_breaks_is_kept(store: VectorStore, tmp_path: Path) -> None:
    """The rows of a file are documents of their own: they must not be taken for gone because a later one is broken."""
    lines = [json.dumps({"text": f"Line {n}: {CONTRACT}"}) for n in range(3)]
    file = tmp_path / "sub" / "data.jsonl"
    file.parent.mkdir()
    file.write_text("\n".join(lines), "utf-8")
    rag = Rag(store, embedder=Bag())
    assert rag.add(tmp_path).added == 3
    file.write_text("\n".join([lines[0], "{", lines[2]]), "utf-8")
    with pytest.warns(UnreadableWarning, match=r"sub/data\.jsonl#line=2: "):
        report = rag.add(tmp_path)
    assert (report.unchanged, report.removed, report.spared) == (2, 0, 1)
    file.write_text(lines[0], "utf-8")
    assert rag.add(tmp_path).removed == 2


def test_a_folder_that_cannot_be_listed_is_kept(
    store: VectorStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a.txt", "sub/b.txt", "sub/deep/c.txt", "subway.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(f"{name}: {CONTRACT}", "utf-8")
    rag = Rag(store, embedder=Bag())
    rag.add(tmp_path)
    (tmp_path / "subway.txt").unlink()
    listed = os.scandir

    def scandir(path: Any) -> Any:
        if Path(path) in shut:
            raise PermissionError(13, "Permission denied")
        return listed(path)

    monkeypatch.setattr(os, "scandir", scandir)
    shut = {tmp_path / "sub"}
    with pytest.warns(UnreadableWarning, match="sub: Permission denied"):
        report = rag.add(tmp_path)
    assert (report.documents, report.removed, report.spared) == (1, 1, 2)
    shut = {tmp_path}
    with pytest.warns(UnreadableWarning, match="Permission denied"):
        assert rag.add(tmp_path).spared == 3


def test_files_of_unknown_kinds_are_told_together(store: VectorStore, tmp_path: Path) -> None:
    for name in ("a.txt", "b.xyz", "c.xyz", "LICENCE"):
        (tmp_path / name).write_text(CONTRACT, "utf-8")
    rag = Rag(store, embedder=Bag())
    with pytest.warns(UnreadableWarning) as warned:
        assert rag.add(tmp_path).added == 1
    assert [str(w.message).partition(": ")[2] for w in warned] == [
        "no loader knows these, which were left out: 2 .xyz, 1 LICENCE"
    ]
    told: list[Unreadable] = []
    rag.add(tmp_path, on_error=told.append)
    assert [file.source for file in told] == ["LICENCE", "b.xyz", "c.xyz"]


def test_documents_have_origins(store: VectorStore) -> None:
    rag = filled(store)
    assert rag.add(DOCUMENTS[:1], origin="other").added == 1
    assert [(s.origin, s.source) for s in rag.sources()] == [
        *(("documents", d.source) for d in DOCUMENTS),
        ("other", "contract.md"),
    ]
    assert rag.add(DOCUMENTS[:1]).removed == 0  # documents are not all there is, unless that is said
    assert rag.add(DOCUMENTS[:1], prune=True).removed == 2
    assert [s.source for s in rag.sources(origin="documents")] == ["contract.md"]
    assert rag.remove(origin="other") >= 1
    with pytest.raises(DocumentError, match="comes twice"):
        rag.add([DOCUMENTS[0], DOCUMENTS[1], DOCUMENTS[0]])
    with pytest.raises(ConfigError, match="on_error: for files only"):
        rag.add(DOCUMENTS, on_error=print)
    with pytest.raises(ConfigError, match="ignore, pattern: for files only"):
        rag.add(DOCUMENTS, pattern="*.md", ignore=["a"])
    with pytest.raises(ConfigError, match="origin or a source"):
        rag.remove()


def test_progress_counts_on_from_kind_to_kind(store: VectorStore) -> None:
    told: list[tuple[int, int]] = []
    rag = Rag(store, embedder=Bag())
    report = rag.add(DOCUMENTS, progress=lambda p: told.append((p.documents, p.chunks)))
    assert told == sorted(told)
    assert told[-1] == (3, report.chunks_written)


@pytest.mark.parametrize(
    ("source", "text", "language"),
    [
        ("a.md", "text", "markdown"),
        ("a.py", "x = 1", "python"),
        ("a.html", "what is left of a page", "text"),
        ("a", "合同的通知期为三个月。", "chinese"),
        ("page.html", "合同的通知期为三个月。", "chinese"),
        ("a.md", "合同的通知期为三个月。", "markdown"),
    ],
)
def test_the_kind_of_text_chooses_the_splitter(source: str, text: str, language: str) -> None:
    assert splitter_language(Document(text, source)) == language
    splitter = default_splitter(language, Bag())
    assert splitter.chunk_size == 223  # 254, less an eighth for headings
    assert splitter.chunk_overlap == 27


def test_chinese_is_cut_after_its_sentences() -> None:
    chunks = default_splitter("chinese", Bag()).split("合同的通知期为三个月，到季度末为止。" * 60)
    assert len(chunks) > 1
    assert all(chunk.text[0] == "合" and chunk.text[-1] == "。" for chunk in chunks)


def test_a_change_is_found_by_its_words(store: VectorStore) -> None:
    rag = Rag(store, embedder=Bag(), retriever="lexical")
    rag.add([Document("The fee is due on Monday.", "a.txt")])
    assert [p.source for p in rag.retrieve("Monday")] == ["a.txt"]
    rag.add([Document("The fee is due on Friday.", "a.txt")])  # as many chunks as before
    assert [p.source for p in rag.retrieve("Friday")] == ["a.txt"]
    assert rag.retrieve("Monday") == []


def test_chunks_fit_the_model_with_their_headings(minilm: MiniLM) -> None:
    splitter = default_splitter("text", minilm)
    chunks = splitter.split("The notice period is three months. " * 200)
    assert len(chunks) > 1
    assert all(len(minilm.token_spans(chunk.text)) <= 223 for chunk in chunks)
