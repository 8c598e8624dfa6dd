"""By vector, with maximal marginal relevance, fused: against oracles that are plain and slow."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import vecbench.rag.retrieve
from vecbench import F, Flat, Metric, Records, connect
from vecbench.collection import Collection
from vecbench.embed.minilm import MiniLM
from vecbench.errors import ConfigError, DocumentError, EmbedderMismatch, UnsupportedOperation
from vecbench.filters import Filter
from vecbench.index import SearchParams
from vecbench.memory import MemoryStore
from vecbench.rag.index import ChunkIndex, open_collection
from vecbench.rag.retrieve import (
    MMR,
    HybridRetriever,
    LexicalRetriever,
    NativeLexicalRetriever,
    VectorRetriever,
    fuse,
    merge_neighbours,
)
from vecbench.rag.types import Document, Passage, Retriever
from vecbench.types import Vectors

from .adds import Letters, Lines


def filled(texts: Sequence[str], metric: Metric = Metric.EUCLIDEAN, store: str = "memory") -> Collection:
    embedder = Letters()
    collection = open_collection(connect(store), "c", embedder, metric=metric, index=Flat())
    vectors = embedder.embed_documents(texts)
    collection.upsert(
        Records([f"{i}" for i in range(len(texts))], vectors, [{"n": i} for i in range(len(texts))], texts)
    )
    collection.flush()
    return collection


def ids(passages: Sequence[Passage]) -> list[str]:
    return [p.id for p in passages]


def test_the_nearest_within_the_distance() -> None:
    collection = filled(["a", "aa", "aaab", "h"])
    found = VectorRetriever(collection, Letters()).retrieve("a", k=3)
    assert [(p.id, p.text, p.source, p.start, p.end, p.metadata, p.score) for p in found[:2]] == [
        ("0", "a", "0", 0, 1, {"n": 0}, None),
        ("1", "aa", "1", 0, 2, {"n": 1}, None),
    ]
    assert [p.distance for p in found] == pytest.approx([0, 1, math.sqrt(2)])  # of h; aaab is √5 away
    near = VectorRetriever(collection, Letters(), max_distance=1.0)
    assert ids(near.retrieve("a")) == ["0", "1"]  # the bound itself is within
    assert near.retrieve("hhhhhh") == []
    assert ids(near.retrieve("a", where=F("n") >= 1)) == ["1"]
    assert isinstance(near, Retriever)


@pytest.mark.parametrize("metric", list(Metric))
def test_the_distance_is_in_the_unit_of_the_metric(metric: Metric) -> None:
    """Against a query of one "a", the text "aab" is √2, 1 − 2/√5 and −2 away."""
    collection = filled(["aab", "h"], metric)
    truth = {Metric.EUCLIDEAN: math.sqrt(2), Metric.COSINE: 1 - 2 / math.sqrt(5), Metric.DOT: -2.0}[metric]
    for bound, found in ((truth + 1e-6, ["0"]), (truth - 1e-6, [])):
        retriever = VectorRetriever(collection, Letters(), max_distance=bound)
        assert ids(retriever.retrieve("a", where=F("n") == 0)) == found


def test_what_is_wrong_is_refused() -> None:
    collection = filled(["a"])
    with pytest.raises(EmbedderMismatch, match=r"letters .*others"):
        VectorRetriever(collection, Letters("others"))
    swapped = VectorRetriever(collection, Letters())
    swapped.embedder = Letters("others")
    with pytest.raises(EmbedderMismatch, match=r"letters .*others"):
        swapped.retrieve("a")
    with pytest.raises(ConfigError, match="NaN"):
        VectorRetriever(collection, Letters(), max_distance=math.nan)
    with pytest.raises(UnsupportedOperation):
        VectorRetriever(collection, Letters(), params=SearchParams(native={"x": 1})).retrieve("a")
    lexical = LexicalRetriever(collection)
    for retriever in (VectorRetriever(collection, Letters(), mmr=MMR()), lexical, HybridRetriever([lexical])):
        for k in (0, -1, True, 1.5):
            with pytest.raises(ConfigError, match="k must be"):
                retriever.retrieve("a", k=k)  # type: ignore[arg-type]
    collection.upsert(Records(["textless"], np.ones((1, 8), np.float32)))
    with pytest.raises(DocumentError, match="'textless' has no document"):
        VectorRetriever(collection, Letters()).retrieve("a")
    for make, said in (
        (lambda: MMR(1.1), "relevance"),
        (lambda: MMR(math.nan), "relevance"),
        (lambda: MMR(fetch_k=0), "fetch_k"),
        (lambda: HybridRetriever([]), "at least one"),
        (lambda: HybridRetriever([lexical], weights=[1, 1]), "weights"),
        (lambda: HybridRetriever([lexical], weights=[-1]), "weights"),
        (lambda: HybridRetriever([lexical], fetch=0), "fetch"),
        (lambda: HybridRetriever([lexical], rank_constant=-1), "rank_constant"),
        (lambda: fuse([], rank_constant=math.inf), "rank_constant"),
        (lambda: merge_neighbours([], collection, window=-1), "window"),
        (lambda: merge_neighbours([], collection, most=0), "most"),
    ):
        with pytest.raises(ConfigError, match=said):
            make()
    lexical.close()


# Maximal marginal relevance -------------------------------------------------------------------------------------------


def similarity(a: Vectors, b: Vectors, metric: Metric) -> float:
    x, y = a.astype(float), b.astype(float)
    if metric is Metric.EUCLIDEAN:
        return 1 / (1 + math.dist(x, y))
    dot = float(sum(p * q for p, q in zip(x, y, strict=True)))
    return dot if metric is Metric.DOT else dot / math.sqrt(float(sum(x * x) * sum(y * y)))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 12), st.integers(1, 12), st.floats(0, 1), st.sampled_from(list(Metric)))
def test_mmr_is_the_formula(seed: int, n: int, k: int, relevance: float, metric: Metric) -> None:
    rng = np.random.default_rng(seed)
    query, vectors = rng.normal(size=4).astype(np.float32), rng.normal(size=(n, 4)).astype(np.float32)
    chosen = MMR(relevance).choose(query, vectors, k, metric)
    assert len(chosen) == len(set(chosen)) == min(k, n)
    for turn, row in enumerate(chosen):
        gains = {
            i: (relevance if turn else 1) * similarity(query, vectors[i], metric)
            - (1 - relevance) * max((similarity(vectors[i], vectors[j], metric) for j in chosen[:turn]), default=0)
            for i in range(n)
            if i not in chosen[:turn]
        }
        assert gains[row] == pytest.approx(max(gains.values()), abs=1e-9)


def test_mmr_takes_the_different_one() -> None:
    """ "aaa" points where "a" does: for variety, "ab" comes before it, and after "a"."""
    collection = filled(["a", "aaa", "aaab", "ab"], Metric.COSINE)
    assert ids(VectorRetriever(collection, Letters()).retrieve("a", 3)) == ["0", "1", "2"]
    assert ids(VectorRetriever(collection, Letters(), mmr=MMR(1.0)).retrieve("a", 3)) == ["0", "1", "2"]
    diverse = VectorRetriever(collection, Letters(), mmr=MMR(0.3, fetch_k=4)).retrieve("a", 2)
    assert [(p.id, round(p.distance or 0, 6)) for p in diverse] == [("0", 0), ("3", round(1 - 1 / math.sqrt(2), 6))]
    few = VectorRetriever(collection, Letters(), mmr=MMR(0.3, fetch_k=2))
    assert ids(few.retrieve("a", 2)) == ["0", "1"]  # no more than fetch_k are chosen from
    assert len(few.retrieve("a", 4)) == 4
    bounded = VectorRetriever(collection, Letters(), mmr=MMR(0.0), max_distance=0.2)
    assert ids(bounded.retrieve("a", 4)) == ["0", "2", "1"]  # all but the one beyond the bound


# Fusion ---------------------------------------------------------------------------------------------------------------


class Fixed:
    """Answers what it was given."""

    def __init__(self, *found: Passage) -> None:
        self.found, self.asked = list(found), [(0, "")]

    def retrieve(self, query: str, k: int = 10, *, where: Filter | None = None) -> list[Passage]:
        self.asked.append((k, query))
        return self.found[:k]


def named(name: str, *, distance: float | None = None) -> Passage:
    return Passage(name, name, name, 0, len(name), distance=distance)


def test_reciprocal_rank_fusion_is_the_sum_of_reciprocals() -> None:
    found = fuse([[named("x"), named("y")], [named("y", distance=0.5), named("z"), named("x")]])
    assert [(p.id, p.distance) for p in found] == [("y", 0.5), ("x", None), ("z", None)]
    assert [p.score for p in found] == pytest.approx([1 / 62 + 1 / 61, 1 / 61 + 1 / 63, 1 / 62])
    found = fuse([[named("x")], [named("y")]], weights=[1, 3], rank_constant=1)
    assert [(p.id, p.score) for p in found] == [("y", 1.5), ("x", 0.5)]
    assert ids(fuse([[named("b")], [named("a")]])) == ["a", "b"]  # equal: by id
    twice = fuse([[named("x"), named("x"), named("y")]])
    assert [p.score for p in twice] == pytest.approx([1 / 61, 1 / 62])  # the same again is no other rank
    assert fuse([]) == []


def test_hybrid_asks_for_more_than_it_gives() -> None:
    one, two = Fixed(*(named(f"{i}") for i in range(99))), Fixed(named("49"))
    assert ids(HybridRetriever([one, two]).retrieve("q", 2)) == ["49", "0"]
    assert (one.asked[-1], two.asked[-1]) == ((50, "q"), (50, "q"))
    HybridRetriever([one], fetch=5).retrieve("q", 2)
    assert one.asked[-1] == (5, "q")
    HybridRetriever([one], fetch=5).retrieve("q", 20)
    assert one.asked[-1] == (20, "q")


def test_hybrid_asks_for_no_more_than_a_store_can_give() -> None:
    collection, words = filled(["a" * n for n in range(1, 40)]), Fixed()
    collection.store.capabilities = replace(collection.store.capabilities, max_k=30)
    hybrid = HybridRetriever([VectorRetriever(collection, Letters()), words])
    assert len(hybrid.retrieve("a", 20)) == 20
    assert words.asked[-1] == (30, "a")
    with pytest.raises(UnsupportedOperation, match="at most 30 records a query, asked for 31"):
        hybrid.retrieve("a", 31)


@pytest.mark.parametrize("store", ["memory", "faiss", "qdrant"])
def test_hybrid_is_the_same_over_stores(store: str) -> None:
    texts = ["aab cab", "bad cafe", "fade bead", "cab", "dead beef", "face"]
    collection = filled(texts, store=store)
    with LexicalRetriever(collection) as words:
        hybrid = HybridRetriever([VectorRetriever(collection, Letters()), words])
        # "cab" has the vector of "abc", and the word of itself and of the first.
        assert ids(hybrid.retrieve("cab", 2)) == ["3", "0"]
        assert ids(hybrid.retrieve("cab", 10)) == ids(
            fuse([VectorRetriever(collection, Letters()).retrieve("cab", 10), words.retrieve("cab", 10)])
        )
        assert ids(hybrid.retrieve("cab", where=F("n") < 2))[0] == "0"
        assert {p.id for p in hybrid.retrieve("cab", where=F("n") < 2)} == {"0", "1"}
    collection.store.close()


def test_native_words_are_for_pgvector_alone() -> None:
    with pytest.raises(UnsupportedOperation, match="memory keeps a document as it is"):
        NativeLexicalRetriever(filled(["a"]))


def test_names_are_there_and_importing_them_is_cheap() -> None:
    for name in vecbench.rag.retrieve.__all__:
        assert getattr(vecbench.rag.retrieve, name).__module__.startswith("vecbench.rag.retrieve.")
        assert name in dir(vecbench.rag.retrieve)
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        vecbench.rag.retrieve.Nothing  # noqa: B018  reading it is the test
    heavy = ["onnxruntime", "httpx", "bs4", "faiss", "psycopg", "lxml", "pypdf", "docx"]
    code = (
        "import sys, vecbench.rag.index\nfrom vecbench.rag.retrieve import *\n"
        f"print(sorted(set({heavy}) & set(sys.modules)), 'sqlite3' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[] True"


def test_with_the_fixed_model(minilm: MiniLM) -> None:
    """A question that shares no word with its answer, and one whose word means nothing to the model."""
    embedder, store = minilm, MemoryStore()
    collection = open_collection(store, "c", embedder)
    lines = ["The dog was barking all night.", "Part XK-77021 is out of stock.", "Part XK-77012 ships on Monday."]
    ChunkIndex(collection, embedder, Lines()).add([Document("\n".join(lines), "s")], origin="o")
    vector, words = VectorRetriever(collection, embedder), LexicalRetriever(collection)
    hybrid = HybridRetriever([vector, words])
    assert hybrid.retrieve("noisy puppy", 1)[0].text == lines[0]
    assert words.retrieve("noisy puppy") == []
    assert hybrid.retrieve("when will 77012 come?", 1)[0].text == lines[2]
    words.close()
