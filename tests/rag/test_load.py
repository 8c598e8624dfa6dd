"""Files as documents: what is read, from which files, with which offsets, and what is said of the rest."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tracemalloc
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from vecbench.checks import check_documents, check_metadata
from vecbench.errors import ConfigError, DocumentError
from vecbench.rag.load import CsvLoader, JsonLinesLoader, Unreadable, UnreadableWarning, headings_at, load, page_at
from vecbench.rag.types import Document, Heading


def read(path: Path, **options: Any) -> tuple[list[Document], dict[str, str]]:
    """The documents, and what was reported, by source."""
    reported: list[Unreadable] = []
    documents = list(load(path, on_error=reported.append, **options))
    check_documents([d.text for d in documents])
    check_metadata([d.metadata for d in documents])
    assert len({d.source for d in documents}) == len(documents)
    return documents, {file.source: file.reason for file in reported}


def only(path: Path, **options: Any) -> Document:
    documents, reported = read(path, **options)
    assert not reported
    (document,) = documents
    return document


def test_a_folder_in_order_with_what_was_left_out(tmp_path: Path) -> None:
    for name, text in {
        "b.txt": "b",
        "a/z.md": "z",
        "a/y.txt": "y",
        "c.xyz": "?",
        ".hidden/x.txt": "x",
        "e.txt": " ",
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "dir.md").mkdir()
    documents, reported = read(tmp_path)
    assert [(d.source, d.text) for d in documents] == [("a/y.txt", "y"), ("a/z.md", "z"), ("b.txt", "b")]
    assert list(reported) == ["c.xyz"]
    assert "no loader knows the suffix '.xyz'" in reported["c.xyz"]
    assert [d.source for d in read(tmp_path, pattern="*.md")[0]] == ["a/z.md"]
    assert [d.source for d in read(tmp_path, pattern="a/*.txt")[0]] == ["a/y.txt"]
    with pytest.warns(UnreadableWarning, match=r"^c\.xyz: no loader"):
        list(load(tmp_path))
    with pytest.raises(DocumentError, match="there is no such file"):
        load(tmp_path / "nowhere")
    with pytest.raises(DocumentError, match=r"c\.xyz: no loader knows"):
        list(load(tmp_path / "c.xyz"))


def test_ignore_rules_are_those_of_git(tmp_path: Path) -> None:
    names = ["a.txt", "keep.log", "x.log", "build/a.txt", "sub/build/b.txt", "sub/a.txt", "sub/x.log", "sub/deep/c.txt"]
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    (tmp_path / ".gitignore").write_text("*.log\n!keep.log\n/build/\n")
    (tmp_path / "sub" / ".gitignore").write_text("deep/\n!x.log\n")
    found = [d.source for d in read(tmp_path)[0]]
    assert found == ["a.txt", "keep.log", "sub/a.txt", "sub/build/b.txt", "sub/x.log"]
    if shutil.which("git"):
        subprocess.run(["git", "init", "-q", tmp_path], check=True)
        done = subprocess.run(
            ["git", "-C", tmp_path, "check-ignore", *names], capture_output=True, text=True, check=False
        )
        assert set(found) == set(names) - set(done.stdout.split())
    assert "sub/a.txt" not in [d.source for d in read(tmp_path, ignore=["sub/"])[0]]
    (tmp_path / ".vecbenchignore").write_text("a.txt\n")
    assert "a.txt" not in [d.source for d in read(tmp_path)[0]]


def test_links_do_not_lead_out_nor_in_circles(tmp_path: Path) -> None:
    (tmp_path / "secret.txt").write_text("secret")
    folder = tmp_path / "docs"
    folder.mkdir()
    (folder / "a.txt").write_text("a")
    (folder / "loop").symlink_to(folder)
    (folder / "out.txt").symlink_to(tmp_path / "secret.txt")
    (folder / "in.txt").symlink_to(folder / "a.txt")
    os.mkfifo(folder / "pipe.txt")
    documents, reported = read(folder)
    assert [d.source for d in documents] == ["a.txt", "in.txt"]
    assert set(reported) == {"out.txt", "pipe.txt"}
    assert "leads out of the folder" in reported["out.txt"]


@pytest.mark.parametrize(
    ("encoding", "text"),
    [
        ("utf-8", "Zoë’s naïve café"),
        ("utf-8-sig", "Zoë’s naïve café"),
        ("utf-16", "Zoë 中文"),
        ("utf-32", "Zoë 中文"),
        ("gb18030", "这是一个关于向量数据库的简短说明，用来测试编码的识别。检索增强生成需要可靠的文本。" * 4),
        ("shift_jis", "これは文字コードの判定を確かめるための短い文章です。日本語のテキストを読みます。" * 4),
        ("cp1252", "Les élèves français étaient très étonnés à l’été. “Déjà vu”, répétait-il. " * 4),
    ],
)
def test_encodings(tmp_path: Path, encoding: str, text: str) -> None:
    (tmp_path / "a.txt").write_bytes(text.replace("\n", "\r\n").encode(encoding))
    assert only(tmp_path / "a.txt").text == text


def test_what_is_no_text_is_reported(tmp_path: Path) -> None:
    (tmp_path / "binary.txt").write_bytes(bytes(range(256)) * 20)
    (tmp_path / "cut.txt").write_bytes(b"\xff\xfea\x00b")
    (tmp_path / "good.txt").write_bytes(b"one\r\ntwo\rthree")
    documents, reported = read(tmp_path)
    assert set(reported) == {"binary.txt", "cut.txt"}
    assert documents[0].text == "one\ntwo\nthree"


def test_markdown_keeps_its_text_and_knows_its_headings(tmp_path: Path) -> None:
    text = "# Top *one*\n\nIntro.\n\n```\n# no heading\n```\n\nSecond\n------\n\nx\n\n### Third `c`\n\ny\n\n# Next\nz\n"
    (tmp_path / "a.md").write_text(text)
    document = only(tmp_path / "a.md")
    assert document.text == text
    assert [(h.level, h.title) for h in document.headings] == [
        (1, "Top one"),
        (2, "Second"),
        (3, "Third c"),
        (1, "Next"),
    ]
    assert [text[h.start :].partition("\n")[0] for h in document.headings] == [
        "# Top *one*",
        "Second",
        "### Third `c`",
        "# Next",
    ]
    assert document.metadata["title"] == "Top one"
    assert headings_at(document, text.index("\ny")) == ["Top one", "Second", "Third c"]
    assert headings_at(document, text.index("\nz")) == ["Next"]
    assert page_at(document, 3) is None


def test_places_skip_what_a_higher_heading_has_ended() -> None:
    document = Document("x" * 50, "a", {}, [Heading(5, 2, "b"), Heading(10, 3, "c"), Heading(20, 2, "d")], [0, 30])
    assert headings_at(document, 4) == []
    assert headings_at(document, 15) == ["b", "c"]
    assert headings_at(document, 25) == ["d"]
    assert [page_at(document, i) for i in (0, 29, 30, 49)] == [1, 1, 2, 2]


def test_html_gives_what_a_reader_sees(tmp_path: Path) -> None:
    page = """<!doctype html><html lang="en"><head><meta charset="iso-8859-1"><title> A  page </title>
    <style>p{}</style></head><body><nav>Menu</nav><h1>Caf\xe9 &amp; more</h1><p>One <b>bold</b> word,
    two&nbsp;lines.<!-- not this --></p><script>alert(1)</script><ul><li>first<li>second</ul><h2>Sub</h2>
    <pre>a  b\n c</pre></body></html>"""
    (tmp_path / "a.html").write_bytes(page.encode("iso-8859-1"))
    document = only(tmp_path / "a.html")
    assert document.text == "Café & more\n\nOne bold word, two lines.\n\nfirst\n\nsecond\n\nSub\n\na  b\n c"
    assert document.metadata == {"format": "html", "title": "A page", "language": "en"}
    for heading in document.headings:
        assert document.text[heading.start :].startswith(heading.title)
    assert [(h.level, h.title) for h in document.headings] == [(1, "Café & more"), (2, "Sub")]


def test_hostile_html_is_bounded(tmp_path: Path) -> None:
    (tmp_path / "deep.html").write_text("<div>" * 20_000 + "end")
    bomb = '<!DOCTYPE a [<!ENTITY a "aaaaaaaaaa">' + "".join(
        f'<!ENTITY {b} "{f"&{a};" * 10}">' for a, b in zip("abcdefgh", "bcdefghi", strict=True)
    )
    (tmp_path / "bomb.html").write_text(f"{bomb}]><p>&i; end</p>")
    documents, reported = read(tmp_path)
    assert all(len(d.text) < 10_000 for d in documents)
    assert len(documents) + len(reported) == 2


def pdf(texts: list[str]) -> bytes:
    """A PDF of one line a page, written by hand."""
    n = len(texts)
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Count %d /Kids [%s] >>" % (n, b" ".join(b"%d 0 R" % (4 + 2 * i) for i in range(n))),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>",
    ]
    for i, text in enumerate(texts):
        stream = b"BT /F1 12 Tf 72 700 Td (%s) Tj ET" % text.encode("cp1252") if text else b""
        objects.append(
            b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Resources << /Font << /F1 3 0 R >> >> "
            b"/Contents %d 0 R >>" % (5 + 2 * i)
        )
        objects.append(b"<< /Length %d >>\nstream\n%s\nendstream" % (len(stream), stream))
    out, offsets = bytearray(b"%PDF-1.4\n"), []
    for number, body in enumerate(objects, 1):
        offsets.append(len(out))
        out += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    table = len(out)
    out += b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    out += b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    out += b"trailer << /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF" % (len(objects) + 1, table)
    return bytes(out)


def test_pdf_pages(tmp_path: Path) -> None:
    (tmp_path / "a.pdf").write_bytes(pdf(["First page", "", "Third page"]))
    document = only(tmp_path / "a.pdf")
    assert document.text == "First page\n\n\n\nThird page"
    assert page_at(document, document.text.index("Third")) == 3
    assert document.metadata == {"format": "pdf", "pages_without_text": 1}


def test_pdfs_that_hold_no_text(tmp_path: Path) -> None:
    (tmp_path / "scan.pdf").write_bytes(pdf(["", ""]))
    (tmp_path / "cut.pdf").write_bytes(pdf(["text"])[:200])
    (tmp_path / "not.pdf").write_text("I am a text.")
    from pypdf import PdfReader, PdfWriter

    (tmp_path / "good.pdf").write_bytes(pdf(["good"]))
    writer = PdfWriter(clone_from=PdfReader(tmp_path / "good.pdf"))
    writer.encrypt("secret", algorithm="RC4-128")
    writer.write(tmp_path / "locked.pdf")
    documents, reported = read(tmp_path)
    assert [d.source for d in documents] == ["good.pdf"]
    assert "run OCR" in reported["scan.pdf"]
    assert "password" in reported["locked.pdf"]
    assert all("not a readable PDF" in reported[name] for name in ("cut.pdf", "not.pdf"))


def test_docx_in_order(tmp_path: Path) -> None:
    import docx

    document = docx.Document()
    document.core_properties.title = "Handbook"
    document.add_heading("Part", 1)
    document.add_paragraph("Before the table.")
    table = document.add_table(rows=1, cols=2)
    table.cell(0, 0).text, table.cell(0, 1).text = "left", "right"
    document.add_heading("Sub", 2)
    document.add_paragraph("After.")
    document.save(str(tmp_path / "a.docx"))
    found = only(tmp_path / "a.docx")
    assert found.text == "Part\n\nBefore the table.\n\nleft | right\n\nSub\n\nAfter."
    assert headings_at(found, found.text.index("After")) == ["Part", "Sub"]
    assert found.metadata["title"] == "Handbook"
    (tmp_path / "cut.docx").write_bytes((tmp_path / "a.docx").read_bytes()[:300])
    with (
        zipfile.ZipFile(tmp_path / "bomb.docx", "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("word/document.xml", "w", force_zip64=True) as part,
    ):
        for _ in range(101):
            part.write(b" " * 4_000_000)
    documents, reported = read(tmp_path)
    assert [d.source for d in documents] == ["a.docx"]
    assert "unpacks to 404,000,000 bytes" in reported["bomb.docx"]
    assert "not a readable DOCX" in reported["cut.docx"]


def test_csv_rows(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('name;what\nAda;"first; of\nall"\n;\nBob;x\n', "utf-8-sig")
    documents, _ = read(tmp_path / "a.csv")
    assert [(d.source, d.text) for d in documents] == [
        ("a.csv#row=1", "name: Ada\nwhat: first; of\nall"),
        ("a.csv#row=3", "name: Bob\nwhat: x"),
    ]
    documents, _ = read(tmp_path / "a.csv", loaders=[CsvLoader("what")])
    assert (documents[0].text, documents[0].metadata) == ("first; of\nall", {"format": "csv", "name": "Ada"})
    with pytest.raises(DocumentError, match=r"no column 'body'; it has: name, what"):
        list(load(tmp_path / "a.csv", loaders=[CsvLoader("body")]))
    (tmp_path / "b.csv").write_text("a,b\n1,2,3\n4,5\n6\n")
    documents, reported = read(tmp_path / "b.csv")
    assert [d.source for d in documents] == ["b.csv#row=2"]
    assert reported == {
        "b.csv#row=1": "it has 3 cells under 2 columns",
        "b.csv#row=3": "it has 1 cells under 2 columns",
    }


def test_jsonl_lines(tmp_path: Path) -> None:
    lines = [
        '{"text": "one", "n": 1, "deep": {"a": 1}, "tags": ["x"], "none": null, "id": "k"}',
        "not json",
        '{"title": "no text"}',
        "[" * 5000,
        "",
        '{"text": "bad \\ud800"}',
        '{"text": "two", "huge": 1e999, "big": 99999999999999999999}',
    ]
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    for path in (tmp_path, tmp_path / "a.jsonl"):  # the one file that was asked for is no more strict than a folder
        documents, reported = read(path)
        assert [d.source for d in documents] == ["a.jsonl#line=1", "a.jsonl#line=7"]
        assert list(reported) == [f"a.jsonl#line={number}" for number in (2, 3, 4, 6)]
    assert [d.text for d in documents] == ["one", "two"]
    assert documents[0].metadata == {"format": "jsonl", "n": 1, "tags": ["x"], "id": "k"}
    assert documents[1].metadata == {"format": "jsonl"}
    assert "no usable JSON" in reported["a.jsonl#line=2"]
    assert "lone surrogate" in reported["a.jsonl#line=6"]
    named, _ = read(tmp_path, loaders=[JsonLinesLoader(id_field="id")])
    assert [d.source for d in named] == ["a.jsonl#id=k"]


def test_lines_of_a_large_file_are_read_one_by_one(tmp_path: Path) -> None:
    with (tmp_path / "a.jsonl").open("w") as out:
        for i in range(20_000):
            out.write(json.dumps({"text": f"{i} " + "word " * 100}) + "\n")  # 10 MB
    tracemalloc.start()
    count = sum(1 for _ in load(tmp_path / "a.jsonl"))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 20_000
    assert peak < 1_000_000


def test_documents_come_before_the_last_file_is_opened(tmp_path: Path) -> None:
    class Counting:
        suffixes = (".txt",)
        opened = 0

        def load(self, path: Path, source: str) -> Iterator[Document]:
            self.opened += 1
            yield Document(path.read_text(), source)

    for i in range(5):
        (tmp_path / f"{i}.txt").write_text("x")
    loader = Counting()
    documents = load(tmp_path, loaders=[loader])
    assert next(documents).source == "0.txt"
    assert loader.opened == 1


def test_a_file_that_is_too_large_is_reported(tmp_path: Path) -> None:
    with (tmp_path / "a.txt").open("wb") as out:
        out.truncate(70_000_000)
    _, reported = read(tmp_path)
    assert "70,000,000 bytes" in reported["a.txt"]


def test_an_empty_path_is_not_the_working_directory() -> None:
    with pytest.raises(ConfigError, match="the path is empty"):
        load("")


def test_a_wrong_rule_is_a_config_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="rule of ignore or pattern"):
        list(load(tmp_path, ignore=["a[", "***/!", "!"]))
