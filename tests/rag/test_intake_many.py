"""Adds of many documents, of several threads, and of paths that are one another's: nothing doubled, nothing lost."""

from __future__ import annotations

import asyncio
import os
import shutil
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from vecbench import F, VectorStore, connect
from vecbench.errors import ConfigError, DocumentError
from vecbench.rag import Document, Rag, adding
from vecbench.rag.index import ChunkIndex
from vecbench.types import Records

from .adds import Digests, Lines
from .pipeline_parts import Bag


@pytest.fixture
def store() -> Iterator[VectorStore]:
    with connect("memory") as made:
        yield made


@pytest.fixture
def rag(store: VectorStore) -> Rag:
    return Rag(store, embedder=Bag(), neighbours=0)


def texts_of(rag: Rag) -> list[str]:
    return sorted(str(text) for batch in rag.collection.scan() for text in batch.documents or ())


def test_lookups_do_not_grow_with_the_batches(rag: Rag, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some stores compare every record for each lookup; a lookup for each batch and kind of file is quadratic there."""
    monkeypatch.setattr(adding, "_SOURCES", 2)
    documents = [Document(f"text = {i}", f"{i}.{('md', 'py', 'txt')[i % 3]}") for i in range(40)]
    assert rag.add(documents).added == 40
    scans: list[Any] = []
    scan = rag.collection.scan

    def noted(*, where: Any, **more: Any) -> Iterator[Records]:
        scans.append(where)
        return scan(where=where, **more)

    monkeypatch.setattr(rag.collection, "scan", noted)
    assert rag.add(documents).unchanged == 40
    assert len(scans) == 9  # eight batches, and the whole
    scans.clear()
    report = rag.add(documents[1:], prune=True)
    assert (report.unchanged, report.removed, scans) == (39, 1, [F("origin") == "documents"])


def test_each_kind_of_file_has_its_splitter(rag: Rag) -> None:
    rag.add([Document("x = 1", "a.py"), Document("# x", "b.md"), Document("y = 2", "c.py")])
    cut = {str(m["source"]): m["splitter"] for batch in rag.collection.scan() for m in batch.metadata or ()}
    assert cut["a.py"] == cut["c.py"] != cut["b.md"]
    again = Rag(rag.collection.store, embedder=Bag())
    assert again.add([Document("# x", "b.md"), Document("x = 1", "a.py")]).unchanged == 2


def at_once(first: Callable[[Callable[[], None]], object], second: Callable[[], object]) -> None:
    """`first(meanwhile)` in this thread; its call of `meanwhile` lets `second` begin in another and try to end."""
    thread = Thread(target=second, daemon=True)

    def meanwhile() -> None:
        thread.start()
        thread.join(0.2)

    first(meanwhile)
    thread.join(30)
    assert not thread.is_alive()


def test_adds_of_one_collection_take_turns_and_asking_does_not_wait(store: VectorStore, rag: Rag) -> None:
    rag.add([Document("The fee is one euro.", "price")])
    asked: list[str] = []

    def first(meanwhile: Callable[[], None]) -> None:
        def slow() -> Iterator[Document]:
            meanwhile()
            asker = Thread(target=lambda: asked.append(str(rag.ask("What is the fee?"))))
            asker.start()
            asker.join(30)
            yield Document("The fee is two euro.", "price")

        rag.add(slow(), prune=True)  # what is held was read before

    other = Rag(store, embedder=Bag())
    at_once(first, lambda: other.add([Document("The fee is three euro.", "price")]))
    assert asked == ["The fee is one euro. [1]"]
    assert texts_of(rag) == ["The fee is three euro."]


def test_remove_waits_for_an_add(rag: Rag) -> None:
    def first(meanwhile: Callable[[], None]) -> None:
        def slow() -> Iterator[Document]:
            meanwhile()
            yield Document("text", "a")

        rag.add(slow())

    at_once(first, lambda: rag.remove("a"))
    assert texts_of(rag) == []


def test_tasks_that_add_at_once(store: VectorStore) -> None:
    async def run() -> None:
        with Rag(store, embedder=Bag()) as rag:
            await rag.aio.add([Document("The fee is 1 euro.", "price")])
            await asyncio.gather(*(rag.aio.add([Document(f"The fee is {n} euro.", "price")]) for n in range(2, 8)))
            assert len(texts_of(rag)) == 1

    asyncio.run(run())


def test_other_collections_do_not_wait(store: VectorStore) -> None:
    a, b, c = (ChunkIndex(Rag(store, name, embedder=Digests()).collection, Digests(), Lines()) for name in "aab")
    assert adding.lock_of(a.collection) is adding.lock_of(b.collection)
    assert adding.lock_of(a.collection) is not adding.lock_of(c.collection)


def test_a_path_has_one_origin(rag: Rag, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "docs" / "sub").mkdir(parents=True)
    (tmp_path / "docs" / "a.txt").write_text("text")
    monkeypatch.chdir(tmp_path)
    assert rag.add("docs").added == 1
    monkeypatch.chdir(tmp_path / "docs")
    for same in (".", "", "sub/..", f"{tmp_path}/docs/", tmp_path / "docs", "../docs"):
        if same:
            assert rag.add(same).unchanged == 1
        else:
            with pytest.raises(ConfigError, match="path is empty"):
                rag.add(same)
    assert {s.origin for s in rag.sources()} == {(tmp_path / "docs").as_posix()}


def test_a_link_is_an_origin_wherever_it_leads(rag: Rag, tmp_path: Path) -> None:
    for release in ("1", "2"):
        (tmp_path / release / "docs").mkdir(parents=True)
        (tmp_path / release / "docs" / f"{release}.txt").write_text(f"Release {release}.")
        (tmp_path / "current").unlink(missing_ok=True)
        (tmp_path / "current").symlink_to(tmp_path / release / "docs")
        assert rag.add(tmp_path / "current").added == 1
    assert {s.origin for s in rag.sources()} == {(tmp_path / "current").as_posix()}
    assert texts_of(rag) == ["Release 2."]
    # What `..` means after a link is decided by where that leads.
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "mine.txt").write_text("Mine.")
    rag.add(tmp_path / "docs")
    assert rag.add(f"{tmp_path}/current/../docs").added == 1
    assert {s.origin for s in rag.sources()} == {(tmp_path / name).as_posix() for name in ("current", "docs", "2/docs")}


def test_paths_inside_one_another_are_told(store: VectorStore, tmp_path: Path) -> None:
    docs, fees = tmp_path / "docs", tmp_path / "docs" / "sub" / "fees.md"
    fees.parent.mkdir(parents=True)
    fees.write_text("The fee is ten euro.")
    for number, (first, second) in enumerate([(docs, fees), (fees, docs), (fees.parent, docs), (docs, fees.parent)]):
        rag = Rag(store, f"c{number}", embedder=Bag())
        rag.add(first)
        with pytest.warns(UserWarning, match=f"^{second}: .* twice now, from {first} too") as warned:
            rag.add(second)
        (told,) = warned
        assert f"remove(origin={second.as_posix()!r}) or remove(origin={first.as_posix()!r})" in str(told.message)
        assert told.filename == __file__
        rag.add(second)  # told once


def test_paths_that_share_no_document_are_not_told(rag: Rag, tmp_path: Path) -> None:
    for name in ("docs/a.md", "docs/big/a.txt", "docs/big/rows.csv", "docs2/a.md", "docs/big/sub/b.md"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("what,euro\nentry,ten\n")
    rag.add(tmp_path / "docs" / "big" / "rows.csv")
    rag.add(tmp_path / "docs", ignore=["*.csv", "a.txt"])
    (tmp_path / "docs" / "big" / "a.md").write_text("not docs/a.md")
    rag.add(tmp_path / "docs" / "big", ignore=["sub", "*.csv"])  # a.txt, a.md
    rag.add(tmp_path / "docs2")
    rag.add(tmp_path / "docs" / "a.md", origin="mine")
    assert len(texts_of(rag)) == 7
    with pytest.warns(UserWarning, match=r"twice now, from .*rows\.csv too"):
        rag.add(tmp_path / "docs" / "big", pattern="*.csv", origin=None, prune=False)


def test_a_link_to_what_was_added_is_told(rag: Rag, tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "a.txt").write_text("text")
    (tmp_path / "link").symlink_to(tmp_path / "docs")
    rag.add(tmp_path / "docs")
    with pytest.warns(UserWarning, match=r"link: .* twice now, from .*docs too"):
        rag.add(tmp_path / "link")


def test_an_empty_folder_removes_nothing_unless_that_is_said(rag: Rag, tmp_path: Path) -> None:
    docs = tmp_path / "docs"
    docs.mkdir()
    assert rag.add(docs).documents == 0  # nothing there, nothing held
    for name in ("a.txt", "b.txt"):
        (docs / name).write_text(name)
    rag.add(docs)
    shutil.rmtree(docs)
    docs.mkdir()
    with pytest.raises(DocumentError, match=r"docs: no document is found there .* prune=True"):
        rag.add(docs)
    with pytest.raises(DocumentError, match="no document is found there"):
        rag.add(docs, pattern="*.md")
    assert rag.add(docs, prune=False).removed == 0
    assert texts_of(rag) == ["a.txt", "b.txt"]
    assert rag.add(docs, prune=True).removed == 2
    for wrong in (0, 1, "no"):
        with pytest.raises(ConfigError, match="prune is True, False or None"):
            rag.add(docs, prune=wrong)  # type: ignore[arg-type]


def test_no_warning_costs_a_lookup_of_what_is_known(rag: Rag, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a.txt", "b.txt"):
        (tmp_path / name).write_text(name)
    rag.add(tmp_path)
    (tmp_path / "c.txt").write_text("c")
    scans: list[Any] = []
    scan = rag.collection.scan

    def noted(*, where: Any, **more: Any) -> Iterator[Records]:
        scans.append(where)
        return scan(where=where, **more)

    monkeypatch.setattr(rag.collection, "scan", noted)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert rag.add(os.fspath(tmp_path)).added == 1
    assert scans == [F("origin") == tmp_path.as_posix()]
