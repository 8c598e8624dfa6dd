"""What loaders make of the odd things in real files: nothing seen is lost, nothing comes that a store would refuse."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vecbench.errors import DocumentError
from vecbench.memory import MemoryStore
from vecbench.rag import Rag
from vecbench.rag.load import CsvLoader, JsonLinesLoader, Unreadable, headings_at, load, page_at
from vecbench.rag.records import RESERVED, content_sha256
from vecbench.rag.types import Document, Heading


def only(path: Path, content: str | None = None) -> Document:
    if content is not None:
        path.write_text(content, "utf-8")
    (document,) = load(path)
    content_sha256(document)  # refuses what the pipeline could not store
    for heading in document.headings:
        assert document.text[heading.start :].lstrip("# ").startswith(heading.title[:3])
    return document


def test_front_matter_is_no_heading(tmp_path: Path) -> None:
    text = '---\ntitle: "Our page"\ntags: [a, b]\n---\n\n# Real\n\ntext\n'
    document = only(tmp_path / "a.md", text)
    assert document.text == text
    assert document.metadata == {"format": "markdown", "title": "Our page"}
    assert document.headings == (Heading(text.index("# Real"), 1, "Real"),)


@pytest.mark.parametrize(
    ("yaml", "title"),
    [
        ("title: Plain words", "Plain words"),
        ("title: 'quoted'", "quoted"),
        ("title: word # a comment", None),
        ("title: [a, list]", None),
        ("title: &anchor x", None),
        ("title: |\n  folded", None),
        ("other: x\n  title: nested", None),
    ],
)
def test_a_title_is_believed_where_it_is_plain(tmp_path: Path, yaml: str, title: str | None) -> None:
    document = only(tmp_path / "a.md", f"---\n{yaml}\n---\ntext\n")
    assert document.metadata.get("title") == title


def test_two_rules_are_no_front_matter(tmp_path: Path) -> None:
    document = only(tmp_path / "a.md", "---\n\n# One\n\ntext\n\n---\n\n# Two\n")
    assert [h.title for h in document.headings] == ["One", "Two"]


def test_headings_that_are_quoted_or_listed_are_not_the_documents(tmp_path: Path) -> None:
    document = only(tmp_path / "a.md", "# Real\n\n> # Quoted\n\n- # item\n\ntwo\nlines\n---\n\ntext\n")
    assert [(h.level, h.title) for h in document.headings] == [(1, "Real"), (2, "two lines")]
    assert headings_at(document, document.text.index("text")) == ["Real", "two lines"]


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(1, 6)), max_size=12), st.integers(0, 40))
def test_enclosing_headings(steps: list[tuple[int, int]], offset: int) -> None:
    headings: list[Heading] = []
    at = 0
    for step, level in steps:
        at += step
        headings.append(Heading(at, level, f"{len(headings)}"))
    expected: list[Heading] = []
    for heading in headings:  # as a reader keeps them in mind, going through the text
        if heading.start <= offset:
            expected = [*(h for h in expected if h.level < heading.level), heading]
    for kind in (tuple(headings), headings):
        assert headings_at(Document("", "a", {}, kind), offset) == [h.title for h in expected]


def test_places_are_found_in_a_document_of_very_many_headings() -> None:
    headings = tuple(Heading(10 * i, 2 if i else 1, f"{i}") for i in range(50_000))
    document = Document("", "a", {}, headings)
    begun = time.process_time()
    assert all(headings_at(document, 10 * i + 5) == ["0", f"{i}"] for i in range(1, 50_000))
    assert time.process_time() - begun < 20  # 0.1 s; a walk back to the first each time takes more than a minute


def test_the_page_of_an_empty_page_is_the_next_that_has_text() -> None:
    document = Document("abcdef", "a", {}, (), (0, 3, 3))
    assert [page_at(document, i) for i in (0, 2, 3, 5)] == [1, 1, 3, 3]


@pytest.mark.parametrize(
    ("page", "text"),
    [
        ("<table><tr><td>a</td><td> b </td></tr><tr><th>c</th><td></td><td>d</td></tr></table>", "a | b\n\nc |  | d"),
        ("<table><tr><td><p>one</p></td><td>two</td></tr></table>", "one\n\ntwo"),
        ("<form action=x><h2>All</h2><p>of the page</p></form>", "All\n\nof the page"),
        ("<p>line one<br>line <i>t</i>wo</p>", "line one\nline two"),
        ("<p>seen</p><p hidden>not</p><div style='color:red; Display : none'>nor</div>", "seen"),
        (
            "<details><summary>sum</summary>more</details><address>street</address>after",
            "sum\n\nmore\n\nstreet\n\nafter",
        ),
        ("<p>start</p>" + "<font>x " * 3000 + "<p>the rest</p>", "start\n\n" + "x " * 2999 + "x\n\nthe rest"),
        ("<p>a&#x1f;b&#31;c&nbsp;d</p>", None),
    ],
)
def test_html(tmp_path: Path, page: str, text: str | None) -> None:
    document = only(tmp_path / "a.html", page)
    if text is not None:
        assert document.text == text
    else:
        assert "\x1f" not in document.text


def test_a_row_of_very_many_cells_is_read_in_time(tmp_path: Path) -> None:
    begun = time.process_time()
    document = only(tmp_path / "a.html", "<table><tr>" + "<td>x</td>" * 20_000)
    assert document.text == " | ".join("x" * 20_000)
    assert time.process_time() - begun < 20


def test_docx_loses_nothing_that_is_read(tmp_path: Path) -> None:
    import docx
    from docx.oxml import parse_xml
    from docx.oxml.ns import nsdecls

    w = nsdecls("w")
    made = docx.Document()
    paragraph = made.add_paragraph("before ")
    for xml in (
        f'<w:ins {w} w:id="1" w:author="x"><w:r><w:t>put in</w:t></w:r></w:ins>',
        f'<w:del {w} w:id="2" w:author="x"><w:r><w:delText>taken out</w:delText></w:r></w:del>',
        f'<w:moveFrom {w} w:id="3" w:author="x"><w:r><w:t>moved away</w:t></w:r></w:moveFrom>',
        f"<w:r {w}><w:tab/><w:t>end</w:t></w:r>",
    ):
        paragraph._p.append(parse_xml(xml))
    control = f"<w:sdt {w}><w:sdtContent><w:p><w:r><w:t>control</w:t></w:r></w:p></w:sdtContent></w:sdt>"
    made.element.body.insert(0, parse_xml(control))
    table = made.add_table(rows=2, cols=3)
    table.cell(0, 0).text = "merged"
    table.cell(0, 0).merge(table.cell(0, 2))
    table.cell(1, 0).text, table.cell(1, 2).text = "x", "z"
    table.cell(1, 1).add_table(1, 1).cell(0, 0).text = "nested"
    outlined = made.add_paragraph("Outlined")
    outlined._p.get_or_add_pPr().append(parse_xml(f'<w:outlineLvl {w} w:val="1"/>'))
    derived = made.styles.add_style("Ours", 1)
    derived.base_style = made.styles["Heading 3"]
    made.add_paragraph("Derived", style="Ours")
    made.save(str(tmp_path / "a.docx"))
    document = only(tmp_path / "a.docx")
    assert document.text == ("control\n\nbefore put in\tend\n\nmerged\nx | nested | z\n\nOutlined\n\nDerived")
    assert [(h.level, h.title) for h in document.headings] == [(2, "Outlined"), (3, "Derived")]


def test_fields_that_vecbench_keeps_for_itself_are_renamed(tmp_path: Path) -> None:
    row = dict.fromkeys([*sorted(RESERVED), "format", "source_"], "x")
    (tmp_path / "a.jsonl").write_text(json.dumps({"text": "one", **row}))
    (tmp_path / "b.csv").write_text(",".join(["text", *row]) + "\none" + ",x" * len(row))
    documents = list(load(tmp_path, loaders=[CsvLoader("text"), JsonLinesLoader()]))
    expected = {f"{name}_" for name in RESERVED | {"format"}} | {"source__", "format"}
    assert [(d.text, set(d.metadata)) for d in documents] == [("one", expected)] * 2
    for document in documents:
        content_sha256(document)


@settings(max_examples=100, deadline=None)
@given(
    st.dictionaries(
        st.text(max_size=4), st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.lists(st.text())
    )
)
def test_every_line_is_fit_for_a_store_or_reported(
    tmp_path_factory: pytest.TempPathFactory, row: dict[str, object]
) -> None:
    path = tmp_path_factory.mktemp("lines") / "a.jsonl"
    path.write_text(json.dumps({**row, "text": "t"}) + '\n{"text": "last"}\n')
    reported: list[Unreadable] = []
    documents = list(load(path, on_error=reported.append))
    assert documents[-1].text == "last"
    assert len(documents) + len(reported) == 2
    for document in documents:
        content_sha256(document)


def test_tables_that_are_not_what_they_say(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    for content, message in {
        "a,b,a\n1,2,3\n": "two of its columns are called 'a'",
        'a,b\n1,"2\n3,4\n': "after row 0",
    }.items():
        path.write_text(content)
        with pytest.raises(DocumentError, match=message):
            list(load(path))
    path.write_text('"a,b,c";d\n1;2\n')  # the commas are the name's
    assert only(path).text == "a,b,c: 1\nd: 2"
    path.write_text("")
    assert list(load(path)) == []


def test_a_line_that_has_no_end_is_not_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vecbench.rag.load.rows._LONGEST_LINE", 100)
    (tmp_path / "a.jsonl").write_text(f'{{"text": "{"x" * 950}"}}\n{{"text": "two"}}\n')
    reported: list[Unreadable] = []
    assert [d.source for d in load(tmp_path, on_error=reported.append)] == ["a.jsonl#line=2"]
    assert [(r.source, r.reason) for r in reported] == [("a.jsonl#line=1", "it has more than 100 bytes")]


def test_what_cannot_be_read_now_is_not_forgotten(tmp_path: Path, minilm: object) -> None:
    folder = tmp_path / "docs"
    (folder / "sub").mkdir(parents=True)
    (folder / "a.txt").write_text("alpha")
    (folder / "sub" / "b.txt").write_text("beta")
    (folder / "rows.jsonl").write_text('{"text": "one"}\n{"text": "two"}\n')
    rag = Rag(MemoryStore(), collection="kb")
    reported: list[Unreadable] = []
    rag.add(folder, on_error=reported.append)
    before = [s.source for s in rag.sources()]
    assert len(before) == 4
    (folder / "rows.jsonl").write_text('{"text": "one"}\nbroken\n')  # a part of it
    rag.add(folder, on_error=reported.append)
    assert [s.source for s in rag.sources()] == before
    (folder / "rows.jsonl").unlink()
    (folder / "rows.jsonl").symlink_to(tmp_path / "gone")  # the whole
    (folder / "sub").rename(tmp_path / "sub")
    (folder / "sub").symlink_to(tmp_path / "sub")  # a folder
    rag.add(folder, on_error=reported.append)
    assert [s.source for s in rag.sources()] == before
    assert {r.source for r in reported} == {"rows.jsonl#line=2", "rows.jsonl", "sub"}
    (folder / "rows.jsonl").unlink()  # it is gone, and so is what came of it
    rag.add(folder, on_error=reported.append)
    assert [s.source for s in rag.sources()] == ["a.txt", "sub/b.txt"]


def test_a_bad_line_of_the_one_file_costs_no_good_one(tmp_path: Path, minilm: object) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "one"}\nbroken\n{"text": "three"}\n')
    rag = Rag(MemoryStore(), collection="kb")
    reported: list[Unreadable] = []
    assert rag.add(tmp_path / "a.jsonl", on_error=reported.append).added == 2
    assert [r.source for r in reported] == ["a.jsonl#line=2"]
