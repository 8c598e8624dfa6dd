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
from vecbench.rag import AddReport, Document, Rag, Unreadable, UnreadableWarning
from vecbench.rag.intake import default_splitter, splitter_language
from vecbench.rag.load import CsvLoader, JsonLinesLoader

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


@pytest.mark.parametrize("folder", ["C/F", "C#/F#", "#c"])
@pytest.mark.parametrize("unlisted", [False, True])
def test_what_cannot_be_read_is_kept_whatever_its_name(
    store: VectorStore, tmp_path: Path, folder: str, unlisted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A `#` in a name of a file or folder does not begin the number of a row."""
    gone = tmp_path / "C" / "gone.txt"
    for made in (tmp_path / folder, gone.parent):
        made.mkdir(parents=True, exist_ok=True)
    gone.write_text(CONTRACT)
    file = tmp_path / folder / "fe#es.csv"
    file.write_text("what,euro\nentry,ten\nexit,five\n")
    rag = Rag(store, embedder=Bag())
    assert rag.add(tmp_path).added == 3
    gone.unlink()
    (tmp_path / "other.txt").write_text(CONTRACT)
    listed = os.scandir

    def scandir(path: Any) -> Any:
        if unlisted and Path(path) == file.parent:
            raise PermissionError(13, "Permission denied")
        return listed(path)

    monkeypatch.setattr(os, "scandir", scandir)
    file.write_bytes(b"\0damaged")
    told: list[Unreadable] = []
    report = rag.add(tmp_path, on_error=told.append)
    assert [t.source for t in told] == [folder if unlisted else f"{folder}/fe#es.csv"]
    assert (report.removed, report.spared) == (1, 2)


def test_only_what_cannot_be_read_is_kept(store: VectorStore, tmp_path: Path) -> None:
    for name in ("C# old.md", "C#/a.md", "C/b.md", "C.md", "C# rows.jsonl"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text('{"text": "one"}')
    rag = Rag(store, embedder=Bag())
    assert rag.add(tmp_path).added == 5
    for name in ("C# old.md", "C#/a.md", "C/b.md", "C# rows.jsonl"):
        (tmp_path / name).unlink()
    (tmp_path / "C# logo.xyz").write_text("")
    (tmp_path / "C# more.jsonl").write_text("{")
    told: list[Unreadable] = []
    report = rag.add(tmp_path, on_error=told.append)
    assert [t.source for t in told] == ["C# logo.xyz", "C# more.jsonl#line=1"]
    assert (report.removed, report.spared) == (4, 0)


def test_a_row_with_a_mark_in_its_name_spares_its_file(store: VectorStore, tmp_path: Path) -> None:
    loaders = [JsonLinesLoader(id_field="id")]
    file = tmp_path / "a.jsonl"
    file.write_text('{"id": "x#1", "text": "one"}\n{"id": "y#1", "text": "two"}\n')
    rag = Rag(store, embedder=Bag())
    assert rag.add(tmp_path, loaders=loaders).added == 2
    file.write_text('{"id": "z#1", "text": "nul \\u0000"}\n')
    (tmp_path / "b.txt").write_text("text")
    told: list[Unreadable] = []
    report = rag.add(tmp_path, loaders=loaders, on_error=told.append)
    assert ([t.source for t in told], report.removed, report.spared) == (["a.jsonl#id=z#1"], 0, 2)


def test_a_loader_may_name_documents_as_it_likes(store: VectorStore, tmp_path: Path) -> None:
    class Chapters:
        suffixes = (".book",)
        whole = True

        def load(self, path: Path, source: str) -> Iterator[Document | Unreadable]:
            yield Document("one", "fees#1")
            yield Document("two", "fees#2") if self.whole else Unreadable("fees#2", "it is torn out")
            if self.whole:
                yield Document("three", "fees#3")

    (tmp_path / "a.book").write_text("")
    chapters = Chapters()
    rag = Rag(store, embedder=Bag())
    assert rag.add(tmp_path, loaders=[chapters]).added == 3
    chapters.whole = False
    report = rag.add(tmp_path, loaders=[chapters], on_error=lambda _: None)
    assert (report.unchanged, report.spared, report.removed) == (1, 2, 0)


def test_one_bad_document_does_not_keep_the_folder_out(store: VectorStore, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(
        "".join(json.dumps({"id": id_, "text": text}) + "\n" for id_, text in [(1, "one"), (1, "again"), (2, "two")])
    )
    for name in ("handbook.md", "later.md"):
        (tmp_path / name).write_text(CONTRACT)

    class Mine:
        suffixes = (".md",)
        spoilt: Document | None = None

        def load(self, path: Path, source: str) -> Iterator[Document]:
            yield self.spoilt if self.spoilt and source == "handbook.md" else Document(path.read_text(), source)

    mine = Mine()
    rag = Rag(store, embedder=Bag())

    def add() -> tuple[AddReport, list[Unreadable]]:
        told: list[Unreadable] = []
        return rag.add(tmp_path, loaders=[JsonLinesLoader(id_field="id"), mine], on_error=told.append), told

    for _ in range(2):
        report, (twice,) = add()
        assert (report.documents, report.removed) == (4, 0)
        assert (twice.source, twice.reason[:16]) == ("a.jsonl#id=1", "comes twice from")
    held = rag.sources()
    assert [s.source for s in held] == ["a.jsonl#id=1", "a.jsonl#id=2", "handbook.md", "later.md"]
    wrong: Any = [("x\0y", "handbook.md"), ("x", "handbook.md", {"page": 1}), (b"x", "handbook.md"), ("x", 5)]
    for spoilt in wrong:
        mine.spoilt = Document(*spoilt)
        (tmp_path / "later.md").write_text(f"{spoilt}")
        report, (_, bad) = add()
        assert (bad.source, report.changed) == (str(spoilt[1]), 1)
        assert bad.reason
        assert not bad.reason.startswith("handbook")
        # What is held of the file stays; of 5 nobody knows which file it was.
        assert (report.spared, report.removed) == ((0, 1) if spoilt[1] == 5 else (1, 0))
    with pytest.warns(UnreadableWarning, match="a.jsonl#id=1: comes twice"):
        rag.add(tmp_path / "a.jsonl", loaders=[JsonLinesLoader(id_field="id")], origin="o")


@pytest.mark.parametrize(
    ("what", "error", "said"),
    [
        (["a.md", "b.md"], ConfigError, "str 'a.md' is no Document; .* one path: call it once for each path"),
        ([Path("a.md")], ConfigError, "is no Document"),
        (b"docs", ConfigError, "int 100 is no Document"),
        (DOCUMENTS[0], ConfigError, "one path or a list of documents, got one Document"),
        (None, ConfigError, "got one NoneType"),
        ([Document(None, "y")], DocumentError, "y: a document's text is a str, got NoneType"),  # type: ignore[arg-type]
        ([Document(b"x", "y")], DocumentError, "y: a document's text is a str, got bytes"),  # type: ignore[arg-type]
        ([Document("x", Path("y"))], DocumentError, "y: a document's source is a str"),  # type: ignore[arg-type]
        ([Document("x", 5)], DocumentError, "5: a document's source is a str, got int"),  # type: ignore[arg-type]
        ([Document("x", "y", None)], DocumentError, "y: metadata is a mapping, got NoneType"),  # type: ignore[arg-type]
        ("", ConfigError, r"the path is empty; the working directory is '\.'"),
    ],
)
def test_what_is_no_document_is_said(store: VectorStore, what: Any, error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        Rag(store, embedder=Bag()).add(what)


def test_an_error_can_be_printed(store: VectorStore) -> None:
    with pytest.raises(DocumentError, match=r"^caf\?\.txt: ") as error:
        Rag(store, embedder=Bag()).add([Document("text", os.fsdecode(b"caf\xe9.txt"))])
    assert str(error.value).encode()
