"""Adding documents again and again: what is written, embedded and deleted."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from vecbench import HNSW, CollectionSpec, F, Flat, Metric, Records
from vecbench.embed.minilm import MiniLM
from vecbench.errors import CollectionMismatch, CollectionNotFound, ConfigError, DocumentError, EmbedderMismatch
from vecbench.memory import MemoryStore
from vecbench.rag import adding
from vecbench.rag.index import AddProgress, AddReport, ChunkIndex, open_collection
from vecbench.rag.records import RESERVED
from vecbench.rag.types import Chunk, Document, Heading

from .adds import DIM, Digests, Lines, asked, digest, documents, kept, new_index, texts_of


@pytest.fixture
def index() -> ChunkIndex:
    return new_index()


def test_again_writes_nothing_and_a_change_embeds_only_what_changed(index: ChunkIndex) -> None:
    before = documents({"a": "one\ntwo\nthree", "b": "four\nfive"})
    report = index.add(before, origin="o")
    assert report == AddReport(documents=2, added=2, chunks_written=5, chunks_embedded=5)
    assert sorted(asked(index)) == ["five", "four", "one", "three", "two"]
    first = kept(index.collection)
    assert isinstance(index.splitter, Lines)
    index.splitter.cut.clear()
    assert index.add(before, origin="o") == AddReport(documents=2, unchanged=2, chunks_kept=5)
    assert (asked(index), index.splitter.cut, kept(index.collection)) == ([], [], first)

    report = index.add(documents({"a": "zero\none\nthree!\ntwo", "b": "four\nfive"}), origin="o")
    assert report == AddReport(
        documents=2, changed=1, unchanged=1, chunks_written=4, chunks_embedded=2, chunks_kept=2, chunks_deleted=1
    )
    assert sorted(asked(index)) == ["three!", "zero"]
    assert index.splitter.cut == ["zero\none\nthree!\ntwo"]
    assert texts_of(index.collection, "a") == ["zero", "one", "three!", "two"]
    moved = {id_: row for id_, row in kept(index.collection).items() if row[0] == "one"}
    assert moved.keys() <= first.keys()  # the same text keeps its id
    ((_, metadata),) = moved.values()
    assert (metadata["start"], metadata["end"], metadata["part"], metadata["parts"]) == (5, 8, 1, 4)


def test_what_a_record_says(index: ChunkIndex) -> None:
    text = "intro\n\n  first\nsecond"
    document = Document(
        text,
        "s",
        {"year": 2020, "tags": ["x"]},
        headings=[Heading(0, 1, "Top"), Heading(7, 2, "Under")],
        pages=[0, 9],
    )
    index.add([document], origin="o")
    by_part = sorted(kept(index.collection).items(), key=lambda row: int(row[1][1]["part"]))
    ids, rows = [id_ for id_, _ in by_part], [row for _, row in by_part]
    content = {metadata["content_sha256"] for _, metadata in rows}
    assert len(content) == 1
    assert [chunk for chunk, _ in rows] == ["intro", "  first", "second"]
    assert [text[m["start"] : m["end"]] for _, m in rows] == ["intro", "  first", "second"]
    shown = [{k: v for k, v in m.items() if k not in {"content_sha256", "splitter"}} for _, m in rows]
    same = {"year": 2020, "tags": ["x"], "source": "s", "origin": "o", "parts": 3}
    under = ["Top", "Under"]
    assert shown == [
        {**same, "start": 0, "end": 5, "part": 0, "page": 1, "headings": ["Top"], "next": ids[1]},
        {**same, "start": 7, "end": 14, "part": 1, "page": 1, "headings": under, "gap": "\n\n",
         "previous": ids[0], "next": ids[2]},
        {**same, "start": 15, "end": 21, "part": 2, "page": 2, "headings": under, "gap": "\n", "previous": ids[1]},
    ]  # fmt: skip
    assert {key for _, m in rows for key in m} - {"year", "tags"} == RESERVED


def test_metadata_that_changes_is_written_and_nothing_embedded(index: ChunkIndex) -> None:
    index.add([Document("one\ntwo", "a", {"year": 1})], origin="o")
    asked(index)
    report = index.add([Document("one\ntwo", "a", {"year": 2})], origin="o")
    assert (report.changed, report.chunks_written, report.chunks_embedded, report.chunks_deleted) == (1, 2, 0, 0)
    assert asked(index) == []
    assert index.collection.count(F("year") == 2) == 2


def test_another_splitter_cuts_again_and_keeps_the_vectors_of_equal_texts(index: ChunkIndex) -> None:
    index.add(documents({"a": "one\ntwo"}), origin="o")
    asked(index)

    class Halves(Lines):
        def split(self, text: str) -> list[Chunk]:
            return [Chunk("one", 0, 3), Chunk("two"[:2], 4, 6)]

    other = ChunkIndex(index.collection, index.embedder, Halves("halves"))
    report = other.add(documents({"a": "one\ntwo"}), origin="o")
    assert (report.changed, report.chunks_embedded, report.chunks_deleted) == (1, 1, 1)
    assert asked(index) == ["tw"]
    assert texts_of(index.collection, "a") == ["one", "tw"]


def test_equal_texts_are_records_of_their_own_and_embedded_once(index: ChunkIndex) -> None:
    report = index.add(documents({"a": "same\nsame\nsame", "b": "same"}), origin="o")
    assert (report.chunks_written, asked(index)) == (4, ["same"])
    report = index.add(documents({"a": "same\nsame", "b": "same"}), origin="o")
    assert (report.chunks_deleted, report.chunks_embedded) == (1, 0)
    assert texts_of(index.collection, "a") == ["same", "same"]
    index.add(documents({"a": "same"}), origin="another")  # another document, of the same source
    assert index.collection.count() == 4


def test_ids_tell_their_parts_apart(index: ChunkIndex) -> None:
    """No two pairs of origin and source run together."""
    for origin, source in (("a", "bc"), ("ab", "c"), ('a", "b', "c"), ("a", 'b", "c')):
        index.add([Document("text", source)], origin=origin)
    assert index.collection.count() == 4


def test_headings_are_embedded_and_not_stored() -> None:
    embedder = Digests()
    collection = open_collection(MemoryStore(), "c", embedder)
    index = ChunkIndex(collection, embedder, Lines(), context="headings")
    text = "free\nbound"
    index.add([Document(text, "s", headings=[Heading(5, 1, "A"), Heading(5, 2, "B")])], origin="o")
    assert sorted(embedder.asked) == ["A > B\nbound", "free"]
    assert sorted(str(t) for b in collection.scan() for t in b.documents or ()) == ["bound", "free"]
    embedder.asked.clear()
    report = index.add([Document(text, "s", headings=[Heading(5, 1, "Z"), Heading(5, 2, "B")])], origin="o")
    assert embedder.asked == ["Z > B\nbound"]  # another context is another vector
    assert (report.chunks_deleted, collection.count()) == (1, 2)
    plain = ChunkIndex(collection, embedder, Lines())
    assert plain.add([Document(text, "s")], origin="o").changed == 1


def test_a_document_that_became_empty_or_small(index: ChunkIndex) -> None:
    index.add(documents({"a": "one\ntwo", "b": " \n"}), origin="o")
    report = index.add(documents({"a": "\n \n", "b": " \n"}), origin="o")
    assert (report.empty, report.changed, report.chunks_deleted) == (2, 0, 2)
    assert index.collection.count() == 0


@pytest.mark.parametrize("spoil", ["a part twice", "another content"])
def test_as_many_records_as_parts_are_not_enough(index: ChunkIndex, spoil: str) -> None:
    given = documents({"a": "one\ntwo\nthree"})
    index.add(given, origin="o")
    right = kept(index.collection)
    one, two, three = sorted(right.items(), key=lambda row: int(row[1][1]["part"]))
    if spoil == "a part twice":
        rows = [one, ("another id", one[1]), two]
    else:  # behind the last part, which is right
        rows = [three, *((id_, (text, {**m, "content_sha256": "x"})) for id_, (text, m) in (one, two))]
    index.collection.delete(ids=list(right))
    vectors = np.stack([digest(str(text)) for _, (text, _) in rows])
    texts, metadata = [text for _, (text, _) in rows], [m for _, (_, m) in rows]
    index.collection.upsert(Records([id_ for id_, _ in rows], vectors, metadata, texts))
    assert index.add(given, origin="o").unchanged == 0
    assert kept(index.collection) == right


def test_writes_are_seen_before_and_after(index: ChunkIndex, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []

    def noted(name: str) -> Any:
        real = getattr(index.collection, name)

        def call(*given: Any, **more: Any) -> Any:
            calls.append(name)
            return real(*given, **more)

        return call

    for name in ("flush", "scan", "upsert", "delete"):
        monkeypatch.setattr(index.collection, name, noted(name))
    index.add(documents({"a": "one\ntwo"}), origin="o")
    assert calls == ["flush", "scan", "upsert", "flush"]
    calls.clear()
    index.add(documents({"a": "one\nthree"}), origin="o")
    assert calls == ["flush", "scan", "upsert", "flush", "delete", "flush"]  # never less than before


def test_prune_removes_what_did_not_come_and_keep_spares(index: ChunkIndex) -> None:
    index.add(documents({"a": "one", "b": "two\nthree", "c": "four"}), origin="o")
    index.add(documents({"b": "elsewhere"}), origin="another")
    report = index.add(documents({"a": "one"}), origin="o", prune=True, keep={"c"}.__contains__)
    assert (report.removed, report.spared, report.chunks_deleted) == (1, 1, 2)
    assert {(s.origin, s.source, s.parts) for s in index.sources()} == {
        ("o", "a", 1),
        ("o", "c", 1),
        ("another", "b", 1),
    }
    assert [s.source for s in index.sources(origin="another")] == ["b"]


def test_a_stopped_iteration_prunes_nothing(index: ChunkIndex) -> None:
    index.add(documents({"a": "one", "b": "two"}), origin="o")

    def breaks() -> Iterator[Document]:
        yield Document("one", "a")
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        index.add(breaks(), origin="o", prune=True)
    assert index.collection.count() == 2


def test_remove(index: ChunkIndex) -> None:
    index.add(documents({"a": "one\ntwo", "b": "three"}), origin="o")
    index.add(documents({"a": "four"}), origin="p")
    assert index.remove(origin="o", source="a") == 2
    assert index.remove(source="a") == 1
    assert index.remove(origin="nowhere") == 0
    assert texts_of(index.collection, "b") == ["three"]
    with pytest.raises(ConfigError, match="origin or a source"):
        index.remove()


@pytest.mark.parametrize(
    ("document", "said"),
    [
        (Document("t", "s", {"page": 3}), "s: metadata page would hide"),
        (Document("t", ""), "without a source"),
        (Document("t\0", "s"), "s: the document .* NUL"),
        (Document("t\ud800", "s"), "s: the document .* surrogate"),
        (Document("t", "s", {"x": None}), "s: field 'x': NoneType"),  # type: ignore[dict-item]
        (Document("t", "s\0"), "NUL"),
        (Document("t", "s", headings=[Heading(0, 1, "\0")]), "s: field 'headings'"),
    ],
)
def test_what_cannot_be_kept_is_refused_with_its_source(index: ChunkIndex, document: Document, said: str) -> None:
    with pytest.raises(DocumentError, match=said):
        index.add([document], origin="o")
    assert index.collection.count() == 0


def test_a_source_that_comes_twice_is_refused_before_it_is_written(index: ChunkIndex) -> None:
    first = documents({f"{i}": f"text {i}" for i in range(64)})
    with pytest.raises(DocumentError, match=r"^7: comes twice"):
        index.add([*first, Document("another", "7")], origin="o")
    assert texts_of(index.collection, "7") == ["text 7"]
    assert index.collection.count() == 64
    with pytest.raises(ConfigError, match="origin"):
        index.add([], origin="")


def test_a_splitter_with_wrong_offsets_is_refused(index: ChunkIndex) -> None:
    class Wrong(Lines):
        def split(self, text: str) -> list[Chunk]:
            return [Chunk("one", 0, 3), Chunk("two", 5, 8)]

    with pytest.raises(DocumentError, match="a: chunk 1 is not the text from 5 to 8"):
        ChunkIndex(index.collection, index.embedder, Wrong()).add(documents({"a": "one\ntwo"}), origin="o")
    assert index.collection.count() == 0


def test_progress_counts_tokens(index: ChunkIndex) -> None:
    counting = ChunkIndex(index.collection, index.embedder, index.splitter, count_tokens=lambda text: len(text.split()))
    shown: list[AddProgress] = []
    report = counting.add(documents({"a": "one two\nthree", "b": "x " * 7}), origin="o", progress=shown.append)
    assert [(p.documents, p.chunks, p.tokens, p.source) for p in shown] == [
        (2, 0, 5, "b"),
        (2, 0, 10, "b"),
        (2, 3, 10, "b"),
    ]
    assert report.tokens == 10
    assert counting.add(documents({"a": "one two\nthree"}), origin="o").tokens == 0
    assert index.add(documents({"a": "one two\nthree"}), origin="o").tokens is None


def test_watchers_are_told_of_changes_only(index: ChunkIndex) -> None:
    told: list[int] = []
    index.watch(lambda: told.append(1))
    index.add(documents({"a": "one"}), origin="o")
    index.add(documents({"a": "one"}), origin="o")
    assert len(told) == 1
    index.remove(origin="o")
    assert len(told) == 2


def test_many_documents_are_looked_up_at_once(index: ChunkIndex, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adding, "_SOURCES", 2)
    texts = {f"{i}": f"text {i}" for i in range(30)}
    index.add(documents(texts), origin="o")
    scans: list[Any] = []
    scan = index.collection.scan

    def noted(*, where: Any, **more: Any) -> Iterator[Records]:
        scans.append(where)
        return scan(where=where, **more)

    monkeypatch.setattr(index.collection, "scan", noted)
    texts["3"], texts["25"] = "another 3", "another 25"
    few = index.add(documents({"3": "text 3"}), origin="o")
    assert (few.unchanged, scans) == (1, [(F("origin") == "o") & F("source").isin(["3"])])
    scans.clear()
    report = index.add(documents(texts), origin="o")
    assert (report.unchanged, report.changed, report.chunks_deleted) == (28, 2, 2)
    assert len(scans) == 9  # eight batches, and the whole
    assert scans[-1] == (F("origin") == "o")
    scans.clear()
    del texts["7"]
    report = index.add(documents(texts), origin="o", prune=True)
    assert (report.unchanged, report.removed, scans) == (29, 1, [F("origin") == "o"])


def test_many_small_and_one_long_document_go_in_in_parts(index: ChunkIndex) -> None:
    texts = {f"{i}": f"small {i}" for i in range(150)} | {"long": "\n".join(f"line {i}" for i in range(1000))}
    report = index.add(iter(documents(texts)), origin="o")
    assert (report.documents, report.added, report.chunks_written) == (151, 151, 1150)
    assert index.collection.count() == 1150
    assert index.add(iter(documents(texts)), origin="o").unchanged == 151


def test_open_collection() -> None:
    store, embedder = MemoryStore(), Digests()
    with pytest.raises(CollectionNotFound):
        open_collection(store, "c", embedder, create=False)
    made = open_collection(store, "c", embedder, fields={"year": "int"})
    assert (made.spec.metric, made.spec.index, made.spec.embedder) == (Metric.COSINE, HNSW(), embedder.spec)
    assert made.spec.fields == {"year": "int", "source": "str", "origin": "str", "part": "int", "page": "int"}
    assert open_collection(store, "c", embedder) is made
    assert open_collection(store, "c", embedder, metric=Metric.COSINE) is made
    with pytest.raises(CollectionMismatch, match="has metric 'cosine', asked for with 'dot'"):
        open_collection(store, "c", embedder, metric=Metric.DOT)
    flat = open_collection(store, "d", embedder, metric=Metric.EUCLIDEAN, index=Flat())
    assert (flat.spec.metric, flat.spec.index) == (Metric.EUCLIDEAN, Flat())
    store.create_collection(CollectionSpec("anonymous", DIM))
    with pytest.raises(EmbedderMismatch, match="no named embedder"):
        open_collection(store, "anonymous", embedder)
    with pytest.raises(ConfigError, match="context"):
        ChunkIndex(made, embedder, Lines(), context="title")  # type: ignore[arg-type]


def test_a_foreign_record_is_left_alone(index: ChunkIndex) -> None:
    foreign = Records(["mine"], digest("mine")[None], [{"year": 1}], ["mine"])
    index.collection.upsert(foreign)
    index.add(documents({"a": "one"}), origin="o", prune=True)
    assert index.collection.get(["mine"]).ids == ["mine"]


def test_with_the_fixed_model(minilm: MiniLM) -> None:
    store = MemoryStore()
    index = ChunkIndex(open_collection(store, "c", minilm), minilm, Lines())
    shown: list[AddProgress] = []
    report = index.add(documents({"a": "The cat sleeps.\nRates rose again."}), origin="o", progress=shown.append)
    assert report.tokens == shown[-1].tokens == 8  # four words or marks each: the, cat, sleeps, "."
    (best,) = index.collection.search(minilm.embed_queries(["a pet"]), 1, include=("documents",)).hits()
    assert best.document == "The cat sleeps."
