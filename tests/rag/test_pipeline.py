from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vecbench.rag.answer
from vecbench import F, Metric, VectorStore, connect
from vecbench.embed import MiniLM
from vecbench.embed.spec import EmbedderSpec, Progress
from vecbench.errors import CollectionMismatch, ConfigError, DocumentError, EmbedderMismatch, ModelError, StoreClosed
from vecbench.rag import (
    LLM,
    Document,
    LexicalReranker,
    Message,
    Passage,
    Rag,
    VectorRetriever,
)
from vecbench.rag.answer.templates import TEMPLATES, PromptTemplate
from vecbench.rag.intake import FixedModel, default_splitter, splitter_language
from vecbench.rag.retrieve.words import tokens
from vecbench.types import Vectors

ROOT = Path(__file__).resolve().parents[2]
MS = 1_000_000
NO_ANSWER = TEMPLATES["en"].no_answer
QUESTION = "How long is the notice period?"
CONTRACT = "The notice period is three months to the end of a quarter."
DOCUMENTS = [
    Document(f"# Contract\n\nWork begins at nine.\n\n{CONTRACT}", "contract.md", {"year": 2024}),
    Document("Holidays are thirty days a year. They lapse in March.", "holidays.txt", {"year": 2025}),
    Document("def notice(period):\n    return period * 3\n", "notice.py", {"year": 2025}),
]


class Bag:
    """Vectors of the words of a text: alike where words are shared."""

    def __init__(self, name: str = "bag") -> None:
        self.spec = EmbedderSpec(name=name, dim=64, max_tokens=256)
        self.texts = 0

    def embed_documents(self, texts: Sequence[str], *, progress: Progress | None = None) -> Vectors:
        self.texts += len(texts)
        vectors = np.full((len(texts), self.spec.dim), 0.01, np.float32)
        for row, text in enumerate(texts):
            for word in tokens(text):
                vectors[row, sum(word.encode()) % self.spec.dim] += 1
        return vectors

    def embed_queries(self, texts: Sequence[str]) -> Vectors:
        return self.embed_documents(texts)


class Clock:
    now = 0

    def __call__(self) -> int:
        return self.now

    def wait(self, ms: float) -> None:
        self.now += round(ms * MS)


class Parrot:
    """A model that says what it is told to, and keeps what it is asked. It may take its time, by a clock of ours."""

    name = "parrot"

    def __init__(self, *pieces: str, clock: Clock | None = None, ms: float = 0) -> None:
        self.pieces, self.clock, self.ms = pieces, clock, ms
        self.asked: list[tuple[Sequence[Message], int, float | None]] = []
        self.closed = 0

    def complete(self, messages: Sequence[Message], *, max_tokens: int = 512, timeout: float | None = None) -> str:
        return "".join(self.stream(messages, max_tokens=max_tokens, timeout=timeout))

    def stream(
        self, messages: Sequence[Message], *, max_tokens: int = 512, timeout: float | None = None
    ) -> Iterator[str]:
        self.asked.append((messages, max_tokens, timeout))
        left = float("inf") if timeout is None else timeout * 1000
        try:
            for piece in self.pieces:
                if self.clock is not None:
                    self.clock.wait(min(self.ms, left))
                if (left := left - self.ms) < 0:
                    raise ModelError("parrot did not finish its answer in time")
                if piece == "!":
                    raise ModelError("parrot is broken")
                yield piece
        finally:
            self.closed += 1


@pytest.fixture
def store() -> Iterator[VectorStore]:
    with connect("memory") as made:
        yield made


def filled(store: VectorStore, **options: Any) -> Rag:
    rag = Rag(store, embedder=options.pop("embedder", None) or Bag(), **options)
    rag.add(DOCUMENTS)
    return rag


@pytest.mark.parametrize("name", ["qdrant", "faiss"])
def test_from_folder_to_answer(name: str, tmp_path: Path) -> None:
    docs = tmp_path / "docs"
    docs.mkdir()
    for document in DOCUMENTS:
        (docs / document.source).write_text(document.text, "utf-8")
    bag = Bag()
    with connect(name, path=tmp_path / "kb") as store, Rag(store, "handbook", embedder=bag) as rag:
        report = rag.add(docs)
        assert (report.documents, report.added, report.unchanged) == (3, 3, 0)
        answer = rag.ask(QUESTION)
        assert str(answer) == f"{CONTRACT} [1]"
        (citation,) = answer.citations
        assert (citation.number, citation.passage.source) == (1, "contract.md")
        assert CONTRACT in citation.passage.text
        text = (docs / "contract.md").read_text("utf-8")
        assert text[citation.passage.start : citation.passage.end] == citation.passage.text
        assert list(answer.timings_ns) == ["retrieve", "neighbours", "extractive", "citations"]
        assert min(answer.timings_ns.values()) > 0
        assert answer.notes == ()
    # Another process, later: only what changed is embedded, what is gone is removed.
    bag = Bag()
    (docs / "holidays.txt").write_text("Holidays are forty days a year.", "utf-8")
    (docs / "notice.py").unlink()
    with connect(name, path=tmp_path / "kb") as store, Rag(store, "handbook", embedder=bag) as rag:
        report = rag.add(docs)
        assert (report.documents, report.changed, report.unchanged, report.removed, report.spared) == (2, 1, 1, 1, 0)
        assert bag.texts == report.chunks_embedded == 1
        assert [s.source for s in rag.sources()] == ["contract.md", "holidays.txt"]
        assert str(rag.ask("How many days are holidays?")) == "Holidays are forty days a year. [1]"
        assert rag.remove("contract.md") >= 1
        assert str(rag.ask(QUESTION)) == NO_ANSWER
        assert rag.ask(QUESTION).notes == ()


def test_a_file_that_cannot_be_read_is_told_and_kept(store: VectorStore, tmp_path: Path) -> None:
    from vecbench.rag import Unreadable, UnreadableWarning

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
    with pytest.raises(ConfigError, match="on_error is for files"):
        rag.add(DOCUMENTS, on_error=print)
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


def test_chunks_fit_the_model_with_their_headings(minilm: MiniLM) -> None:
    splitter = default_splitter("text", minilm)
    chunks = splitter.split("The notice period is three months. " * 200)
    assert len(chunks) > 1
    assert all(len(minilm.token_spans(chunk.text)) <= 223 for chunk in chunks)


def test_another_embedder_is_refused_first(store: VectorStore) -> None:
    filled(store)
    with pytest.raises(EmbedderMismatch, match="other"):
        Rag(store, embedder=Bag("other"))
    with pytest.raises(EmbedderMismatch, match="all-MiniLM-L6-v2"):  # known without loading it
        Rag(store)
    with pytest.raises(CollectionMismatch, match="metric"):
        Rag(store, embedder=Bag(), metric=Metric.DOT)


def test_the_fixed_model_is_loaded_when_needed(
    store: VectorStore, minilm: MiniLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[int] = []

    def load() -> MiniLM:
        loaded.append(1)
        return minilm

    monkeypatch.setattr("vecbench.rag.intake.fixed_model", load)
    rag = Rag(store)
    assert isinstance(rag.embedder, FixedModel)
    assert not loaded
    rag.add(DOCUMENTS[1:2])
    assert str(rag.ask("How many holidays are there in a year?")) == "Holidays are thirty days a year. [1]"
    assert loaded == [1]


def test_answers_cite_the_right_page_of_this_project(minilm: MiniLM, tmp_path: Path) -> None:
    for page in ROOT.glob("adapters/*/README.md"):
        (tmp_path / f"{page.parent.name}.md").write_text(page.read_text("utf-8"), "utf-8")
    with connect("faiss") as store, Rag(store, embedder=minilm) as rag:
        assert rag.add(tmp_path).documents == 9
        for question, expected in [
            ("How do I set an API key for a Qdrant server?", "vecbench_qdrant.md"),
            ("Why does Qdrant build no graph for small collections?", "vecbench_qdrant.md"),
            ("Which version of the extension does pgvector need?", "vecbench_pgvector.md"),
            ("Is Pinecone's server run in tests?", "vecbench_pinecone.md"),
            ("Does FAISS keep its data in a directory?", "vecbench_faiss.md"),
        ]:
            answer = rag.ask(question)
            assert expected in {citation.passage.source for citation in answer.citations}, question
            assert answer.citations[0].passage.text in (tmp_path / answer.citations[0].passage.source).read_text(
                "utf-8"
            )
        assert str(rag.ask("Who was Napoleon?")) == NO_ANSWER


@pytest.mark.parametrize("retriever", ["hybrid", "vector", "lexical", "own"])
@pytest.mark.parametrize("reranker", [None, "lexical", LexicalReranker()])
def test_every_stage_can_be_chosen(store: VectorStore, retriever: Any, reranker: Any) -> None:
    rag = filled(store, reranker=reranker, fetch_k=3, k=2)
    if retriever == "own":
        retriever = VectorRetriever(rag.collection, Bag())
    rag = Rag(store, embedder=Bag(), retriever=retriever, reranker=reranker, fetch_k=3, k=2)
    answer = rag.ask(QUESTION)
    assert answer.citations[0].passage.source == "contract.md"
    assert len(answer.passages) <= 2
    assert ("rerank" in answer.timings_ns) == (reranker is not None)
    assert [p.source for p in rag.retrieve(QUESTION, 1)] == ["contract.md"]
    (found,) = rag.retrieve("notice period", 1, where=F("year") == 2025)
    assert found.source == ("notice.py" if retriever != "own" else found.source)
    rag.close()


def test_a_reranker_sees_fetch_k_and_the_rest_follows(store: VectorStore) -> None:
    seen: list[int] = []

    class Backwards:
        def rerank(self, query: str, passages: Sequence[Passage], k: int | None = None) -> list[Passage]:
            seen.append(len(passages))
            return list(passages)[::-1]

    rag = filled(store, retriever="vector", neighbours=0)
    plain = rag.retrieve(QUESTION, 3)
    rag = Rag(store, embedder=Bag(), retriever="vector", neighbours=0, reranker=Backwards(), fetch_k=2)
    assert [p.id for p in rag.retrieve(QUESTION, 3)] == [plain[1].id, plain[0].id, plain[2].id]
    assert seen == [2]


def test_the_model_gets_the_prompt_and_its_citations_are_checked(store: VectorStore) -> None:
    llm = Parrot("Three months [1]. ", 'It says "the notice period is forty years or more" [1][9].')
    assert isinstance(llm, LLM)
    rag = filled(store, llm=llm, count_tokens=lambda text: len(text.split()), answer_tokens=99, k=2)
    history = [Message("user", "Hello."), Message("assistant", "Hello.")]
    answer = rag.ask(QUESTION, history=history)
    assert answer.text == 'Three months [1]. It says "the notice period is forty years or more" [1].'
    assert [c.number for c in answer.citations] == [1]
    assert answer.notes == (
        "the answer cited [9], where no passage is; removed",
        "the quotation 'the notice period is forty years or more' stands in no cited passage",
    )
    ((messages, max_tokens, timeout),) = llm.asked
    assert (max_tokens, timeout) == (99, None)
    assert [m.role for m in messages] == ["system", "user", "assistant", "user"]
    assert messages[-1].content.endswith(QUESTION)
    for number, passage in enumerate(answer.passages, 1):
        assert f'id="{number}" source="{passage.source}"' in messages[-1].content
        assert passage.text in messages[-1].content
    assert list(answer.timings_ns) == ["retrieve", "neighbours", "prompt", "llm", "citations"]


def test_passages_that_do_not_fit_are_told(store: VectorStore) -> None:
    words = {"count_tokens": lambda text: len(text.split()), "llm": Parrot("Yes [2].")}
    rag = filled(store, prompt_tokens=170, **words)
    answer = rag.ask(QUESTION)
    assert len(answer.passages) < 3
    assert any("did not fit into the prompt" in note for note in answer.notes)
    assert all(1 <= c.number <= len(answer.passages) for c in answer.citations)


def test_nothing_found_asks_nobody(store: VectorStore) -> None:
    llm = Parrot("made up")
    answer = Rag(store, embedder=Bag(), llm=llm).ask(QUESTION)
    assert (answer.text, answer.notes, answer.passages) == (NO_ANSWER, ("nothing was found",), ())
    assert not llm.asked


def test_languages_and_templates(store: VectorStore) -> None:
    assert str(Rag(store, embedder=Bag(), language="zh").ask("通知期多长？")) == TEMPLATES["zh"].no_answer
    llm = Parrot("Aye [1].")
    template = PromptTemplate("Talk like a sailor.", "$passages\n$question", "Nay.")
    filled(store, llm=llm, template=template).ask(QUESTION)
    assert llm.asked[0][0][0].content == "Talk like a sailor."


def test_a_stream_is_the_answer_in_pieces(store: VectorStore) -> None:
    rag = filled(store, llm=Parrot("Three ", "months [1]", "[7]."))
    stream = rag.stream(QUESTION)
    assert list(stream) == ["Three ", "months [1]", "[7]."]
    assert stream.answer.text == "Three months [1]."
    assert stream.answer is stream.answer
    assert rag.stream(QUESTION).answer.text == "Three months [1]."  # what was not heard is heard first
    assert "".join(filled(store).stream(QUESTION)) == f"{CONTRACT} [1]"


def test_a_stream_may_be_left(store: VectorStore) -> None:
    llm = Parrot("Three ", "months ", "[1].")
    with filled(store, llm=llm).stream(QUESTION) as stream:
        assert next(stream) == "Three "
        assert llm.closed == 0
    assert llm.closed == 1
    assert list(stream) == []
    assert stream.answer.text == "Three "
    assert "the answer was not heard to its end" in stream.answer.notes


def test_a_model_that_fails_is_an_error(store: VectorStore) -> None:
    rag = filled(store, llm=Parrot("Three ", "!"))
    with pytest.raises(ModelError, match="broken"):
        rag.ask(QUESTION)
    with pytest.raises(ModelError, match="broken"):
        rag.ask(QUESTION, budget_ms=60_000)  # not for lack of time
    stream = rag.stream(QUESTION)
    assert next(stream) == "Three "
    for _ in range(2):
        with pytest.raises(ModelError, match="broken"):
            _ = stream.answer


class Slow:
    """A retriever and reranker that take their time, by a clock of ours."""

    def __init__(self, clock: Clock, passages: list[Passage], each_ms: float) -> None:
        self.clock, self.passages, self.each_ms = clock, passages, each_ms
        self.depths: list[int] = []

    def rerank(self, query: str, passages: Sequence[Passage], k: int | None = None) -> list[Passage]:
        self.depths.append(len(passages))
        self.clock.wait(self.each_ms * len(passages))
        return list(passages)

    def retrieve(self, query: str, k: int = 10, *, where: Any = None) -> list[Passage]:
        self.clock.wait(5)
        return self.passages[:k]


def slow(store: VectorStore, clock: Clock, **options: Any) -> tuple[Rag, Slow]:
    made = Slow(clock, [Passage(f"p{n}", f"{CONTRACT} {n}", f"{n}.md", 0, len(CONTRACT) + 2) for n in range(20)], 10)
    rag = Rag(store, embedder=Bag(), retriever=made, reranker=made, clock=clock, neighbours=0, fetch_k=20, **options)
    return rag, made


def test_a_budget_first_takes_from_reranking(store: VectorStore) -> None:
    clock = Clock()
    rag, stages = slow(store, clock)
    answer = rag.ask(QUESTION)
    assert stages.depths == [20]
    assert answer.timings_ns["rerank"] == 200 * MS
    before = clock.now
    answer = rag.ask(QUESTION, budget_ms=100)
    assert stages.depths[-1] == 9  # 100, less 5 kept back and 5 for the search
    assert clock.now - before == 95 * MS
    assert answer.notes == ("only 9 of 20 passages were reranked, to keep the latency budget",)
    answer = rag.ask(QUESTION, budget_ms=30)
    assert len(stages.depths) == 2
    assert answer.notes == ("no passages were reranked, to keep the latency budget",)
    assert "rerank" not in answer.timings_ns
    assert str(answer).startswith(CONTRACT)


def test_a_model_gets_what_is_left(store: VectorStore) -> None:
    clock = Clock()
    llm = Parrot("Three months ", "[1].", clock=clock, ms=100)
    rag, stages = slow(store, clock, llm=llm, answer_tokens=400)
    assert rag.ask(QUESTION).notes == ()
    answer = rag.ask(QUESTION, budget_ms=300)  # 300 - 15 - 5 - 200 for the model
    assert stages.depths == [20, 8]
    assert answer.text == "Three months [1]."
    assert llm.asked[-1][2] == pytest.approx(0.2)
    # Too little time for it: sentences of the passages, and the reranking gets its time back.
    answer = rag.ask(QUESTION, budget_ms=100)
    assert len(llm.asked) == 2
    assert answer.text.startswith(CONTRACT)
    assert answer.notes == (
        "only 9 of 20 passages were reranked, to keep the latency budget",
        "sentences of the passages answer, not the language model, to keep the latency budget",
    )


def test_a_model_that_is_late_is_replaced(store: VectorStore) -> None:
    clock = Clock()
    llm = Parrot("Three ", "months.", clock=clock, ms=3000)
    rag, _ = slow(store, clock, llm=llm, k=2)
    answer = rag.ask(QUESTION, budget_ms=2000)
    assert clock.now <= 2000 * MS
    assert answer.text.startswith(CONTRACT)
    assert [c.number for c in answer.citations] == [1]
    assert "the language model was too late (parrot did not finish its answer in time)" in answer.notes
    llm.ms = 1200
    before = clock.now
    stream = rag.stream(QUESTION, budget_ms=2000)
    assert list(stream) == ["Three "]  # cannot be taken back
    assert clock.now - before <= 2000 * MS
    assert any("breaks off at the end of the latency budget" in note for note in stream.answer.notes)
    with pytest.raises(ConfigError, match="budget_ms is 0"):
        rag.ask(QUESTION, budget_ms=0)


def test_a_listener_who_pauses_does_not_count_as_the_model(store: VectorStore) -> None:
    clock = Clock()
    rag, _ = slow(store, clock, llm=Parrot("Three ", "months [1].", clock=clock, ms=10))
    stream = rag.stream(QUESTION)
    for _ in stream:
        clock.wait(60_000)
    assert stream.answer.timings_ns["llm"] == 20 * MS


def test_neighbours_and_words_go_too(store: VectorStore) -> None:
    clock = Clock()
    long = Document(
        "\n\n".join(f"Paragraph {n}. " + "words of a sentence that goes on " * 25 for n in range(6)), "a.txt"
    )
    rag = Rag(store, embedder=Bag(), clock=clock)
    rag.add([long])
    whole = rag.retrieve("Paragraph 3.", 1)
    for _ in range(9):
        rag.costs.learn("neighbours", 50 * MS)
    alone = rag.retrieve("Paragraph 3.", 1, budget_ms=40)
    assert len(alone[0].text) < len(whole[0].text)
    assert alone[0].text in whole[0].text
    assert whole[0].score is not None  # of the fusion
    for _ in range(9):
        rag.costs.learn("hybrid", 50 * MS)
    vectors_only = rag.retrieve("Paragraph 3.", 1, budget_ms=40)
    assert vectors_only[0].score is None
    notes = rag.ask("Paragraph 3.", budget_ms=40).notes
    assert notes[:2] == (
        "passages were not joined with their neighbours, to keep the latency budget",
        "passages were searched by vectors only, to keep the latency budget",
    )


def test_only_what_was_opened_is_closed(store: VectorStore, tmp_path: Path) -> None:
    with filled(store, words_path=tmp_path / "words") as rag:
        rag.ask(QUESTION)
    rag.close()
    assert store.list_collections() == ["rag"]
    with Rag(store, embedder=Bag(), words_path=tmp_path / "words") as rag:  # the directory was given back
        assert str(rag.ask(QUESTION)).startswith(CONTRACT)
    store.close()
    with pytest.raises(StoreClosed):
        Rag(store, embedder=Bag())


def test_several_threads_may_ask(store: VectorStore) -> None:
    rag = filled(store)
    answers: list[str] = []
    threads = [threading.Thread(target=lambda: answers.append(str(rag.ask(QUESTION)))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [f"{CONTRACT} [1]"] * 4


def test_the_same_awaited(store: VectorStore) -> None:
    async def run() -> None:
        with Rag(store, embedder=Bag(), llm=Parrot("Three ", "months [1].")) as rag:
            assert (await rag.aio.add(DOCUMENTS)).added == 3
            assert len(await rag.aio.sources()) == 3
            assert (await rag.aio.retrieve(QUESTION, 1))[0].source == "contract.md"
            answers = await asyncio.gather(*(rag.aio.ask(QUESTION) for _ in range(3)))
            assert {answer.text for answer in answers} == {"Three months [1]."}
            async with await rag.aio.stream(QUESTION) as stream:
                assert [piece async for piece in stream] == ["Three ", "months [1]."]
                assert (await stream.answer()).citations[0].number == 1
            async with await rag.aio.stream(QUESTION) as stream:
                assert await anext(stream) == "Three "
            assert "the answer was not heard to its end" in (await stream.answer()).notes
            assert await rag.aio.remove("contract.md") >= 1

    asyncio.run(run())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"k": 0}, "k is a whole number"),
        ({"fetch_k": 2.5}, "fetch_k is a whole number"),
        ({"neighbours": -1}, "neighbours is"),
        ({"language": "fr"}, "language is one of en, zh"),
        ({"retriever": "magic"}, "retriever is 'hybrid'"),
        ({"reranker": "magic"}, "reranker is None"),
        ({"context": "magic"}, "context is"),
        ({"retriever": Parrot(), "words_path": "x"}, "words_path is for"),
    ],
)
def test_wrong_options_are_refused(store: VectorStore, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Rag(store, embedder=Bag(), **options)
    assert store.list_collections() == []


@pytest.mark.parametrize("question", ["", " \n"])
def test_a_blank_question_is_refused(store: VectorStore, question: str) -> None:
    with pytest.raises(ConfigError, match="blank"):
        filled(store).ask(question)
    with pytest.raises(ConfigError, match="k is"):
        filled(store).ask(QUESTION, k=0)


def test_importing_loads_no_model_parser_or_client() -> None:
    code = (
        "import sys, vecbench.rag\n"
        "assert 'vecbench.rag.pipeline' not in sys.modules\n"
        "from vecbench.rag import Rag, OpenAIChat, Extractive\n"
        "import vecbench.rag.aio\n"
        "heavy = {'httpx', 'onnxruntime', 'tokenizers', 'pysbd', 'bs4', 'lxml', 'pypdf', 'docx', 'markdown_it'}\n"
        "print(sorted(heavy & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_public_name_is_there() -> None:
    for package in (vecbench.rag, vecbench.rag.answer):
        for name in package.__all__:
            assert getattr(package, name) is not None
        assert set(package.__all__) <= set(dir(package))
        with pytest.raises(AttributeError, match="no attribute 'magic'"):
            _ = package.magic
