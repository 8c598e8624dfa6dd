"""Retrieval on real questions: NPL (English) and DRCD (Chinese)."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from vecbench import Collection, Flat, Records, connect
from vecbench.embed import MiniLM, UnknownTokensWarning
from vecbench.rag.index import open_collection
from vecbench.rag.rerank import LexicalReranker
from vecbench.rag.retrieve import HybridRetriever, LexicalRetriever, VectorRetriever
from vecbench.rag.types import Retriever
from vecbench.relevance import Judgements, ndcg
from vecbench.store import VectorStore
from vecbench.types import MetadataValue

PUBLISHED = 0.434  # nDCG@10 of all-MiniLM-L6-v2 on NPL, by exact cosine


class Npl:
    """Abstracts with their frozen vectors, 93 questions, and which abstracts answer them."""

    def __init__(self, data: Path) -> None:
        texts = re.split(r"\n\s*/\s*\n", (data / "npl" / "doc-text").read_text("utf-8"))
        pairs = (re.fullmatch(r"\s*(\d+)\s+(.*)", text, re.DOTALL) for text in texts)
        self.documents = {found[1]: " ".join(found[2].split()) for found in pairs if found}
        questions = re.split(r"\n/\s*\n?", (data / "npl" / "query-text").read_text("utf-8"))
        asked = (re.fullmatch(r"\s*(\d+)\s+(.*)", text, re.DOTALL) for text in questions)
        self.questions = [" ".join(found[2].split()).lower() for found in asked if found]
        answers = [part.split() for part in re.split(r"/", (data / "npl" / "rlv-ass").read_text("utf-8"))]
        self.judgements = Judgements([dict.fromkeys(part[1:], 1) for part in answers if part])
        self.vectors = np.load(data / "npl_minilm" / "docs_f32.npy", allow_pickle=False)
        ids = json.loads((data / "npl_minilm" / "ids.json").read_text("utf-8"))[0]
        self.ids = [str(i) for i in ids]

    def fill(self, store: VectorStore, embedder: MiniLM) -> Collection:
        made = open_collection(store, "npl", embedder, index=Flat() if "flat" in store.capabilities.indexes else None)
        metadata: list[dict[str, MetadataValue]] = [
            {"source": id_, "start": 0, "end": len(self.documents[id_])} for id_ in self.ids
        ]
        made.upsert(Records(self.ids, self.vectors, metadata, [self.documents[id_] for id_ in self.ids]))
        made.optimize()
        made.flush()
        return made

    def score(self, retriever: Retriever) -> float:
        ranked = [[p.id for p in retriever.retrieve(question, 10)] for question in self.questions]
        return float(np.nanmean(ndcg(self.judgements, ranked, 10)))


@pytest.fixture(scope="module")
def npl(real_data: Path) -> Npl:
    return Npl(real_data)


def test_the_frozen_vectors_are_the_models(npl: Npl, minilm: MiniLM) -> None:
    assert (len(npl.documents), len(npl.questions), len(npl.judgements)) == (11_426, 93, 93)  # 3 of 11,429 have no text
    rows = np.arange(0, len(npl.ids), 400)
    made = minilm.embed_documents([npl.documents[npl.ids[i]] for i in rows])
    assert np.einsum("ij,ij->i", made, npl.vectors[rows]).min() > 0.9999


@pytest.mark.slow
@pytest.mark.parametrize("name", ["faiss", "qdrant", "chroma", "milvus-lite", "pgvector"])
def test_every_store_gives_the_same_quality(npl: Npl, minilm: MiniLM, name: str) -> None:
    with connect(name) as store:
        assert npl.score(VectorRetriever(npl.fill(store, minilm), minilm)) == pytest.approx(PUBLISHED, abs=0.005)


def test_words_and_both_beside_vectors(npl: Npl, minilm: MiniLM) -> None:
    with connect("faiss") as store:
        collection = npl.fill(store, minilm)
        vectors, words = VectorRetriever(collection, minilm), LexicalRetriever(collection)
        by_words, by_both = npl.score(words), npl.score(HybridRetriever([vectors, words]))
        assert by_words > 0.4
        assert by_both > max(by_words, PUBLISHED) + 0.03
        reranker = LexicalReranker()
        ranked = [[p.id for p in reranker.rerank(q, vectors.retrieve(q, 30), 10)] for q in npl.questions]
        reranked = float(np.nanmean(ndcg(npl.judgements, ranked, 10)))
        words.close()
    print(f"nDCG@10: words {by_words:.4f}, both {by_both:.4f}, vectors reranked by words {reranked:.4f}")
    assert reranked > PUBLISHED - 0.05


def test_chinese_warns_and_is_found_by_words(minilm: MiniLM, real_data: Path) -> None:
    data = json.loads((real_data / "drcd" / "DRCD_dev.json").read_text("utf-8"))["data"]
    paragraphs = [paragraph for article in data for paragraph in article["paragraphs"]]
    texts = [paragraph["context"] for paragraph in paragraphs]
    questions = [(qa["question"], str(i)) for i, p in enumerate(paragraphs) for qa in p["qas"]][::7]
    with pytest.warns(UnknownTokensWarning, match="unknown to all-MiniLM-L6-v2; retrieval will be poor"):
        vectors = minilm.embed_documents(texts[:40])
    with connect("memory") as store:
        collection = open_collection(store, "drcd", minilm)
        rows = np.resize(vectors, (len(texts), vectors.shape[1]))  # the words alone are asked
        collection.upsert(
            Records(
                [str(i) for i in range(len(texts))],
                rows,
                [{"source": str(i), "start": 0, "end": len(text)} for i, text in enumerate(texts)],
                texts,
            )
        )
        words = LexicalRetriever(collection)
        found = [answer in [p.id for p in words.retrieve(question, 10)] for question, answer in questions]
        words.close()
    assert len(questions) > 400
    print(f"DRCD: recall@10 by words {np.mean(found):.4f} over {len(questions)} questions")
    assert np.mean(found) >= 0.95
