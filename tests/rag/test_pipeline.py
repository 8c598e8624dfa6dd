from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

import vecbench.rag.answer
from vecbench import F, Metric, VectorStore, connect
from vecbench.embed import MiniLM
from vecbench.errors import CollectionMismatch, ConfigError, EmbedderMismatch, ModelError, RagError, StoreClosed
from vecbench.rag import (
    LLM,
    LexicalReranker,
    Message,
    Passage,
    Rag,
    VectorRetriever,
)
from vecbench.rag.answer.templates import TEMPLATES, PromptTemplate
from vecbench.rag.intake import FixedModel

from .pipeline_parts import CONTRACT, DOCUMENTS, NO_ANSWER, QUESTION, ROOT, Bag, Parrot, filled


@pytest.fixture
def store() -> Iterator[VectorStore]:
    with connect("memory") as made:
        yield made


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
        with pytest.raises(RagError, match="this Rag was closed"):
            await rag.aio.ask(QUESTION)

    asyncio.run(run())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"k": 0}, "k is a whole number"),
        ({"fetch_k": 2.5}, "fetch_k is a whole number"),
        ({"neighbours": -1}, "neighbours is"),
        ({"language": "fr"}, "language is one of en, zh"),
        ({"retriever": "magic"}, "retriever is hybrid, vector"),
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
