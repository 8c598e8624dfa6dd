"""Haystack's filters find what Haystack's in-memory store finds: None, times, ids; and the retriever at run time."""

from __future__ import annotations

import asyncio
import itertools
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from haystack import Document
from haystack.components.caching import CacheChecker
from haystack.components.preprocessors import HierarchicalDocumentSplitter
from haystack.components.retrievers import AutoMergingRetriever
from haystack.components.retrievers.in_memory import InMemoryEmbeddingRetriever
from haystack.document_stores.errors import DocumentStoreError
from haystack.document_stores.in_memory import InMemoryDocumentStore
from haystack.document_stores.types import DuplicatePolicy
from haystack.errors import FilterError

from vecbench.bridges.haystack import VecbenchDocumentStore, VecbenchEmbeddingRetriever
from vecbench.bridges.haystack_filters import flat_meta, from_haystack_filters
from vecbench.filters import Gt

METAS: dict[str, dict[str, Any]] = {
    "nothing": {},
    "none": {"x": None},
    "text": {"x": "plain"},
    "empty": {"x": ""},
    "zero": {"x": 0},
    "tags": {"x": ["a"]},
    "no tags": {"x": []},
    "pages": {"x": [1, 2]},
    "mixed": {"x": ["a", 1]},
    "nested": {"x": {"y": "Ada"}},
    "deep": {"x": {"y": [1]}},
    "deep none": {"x": {"y": None}},
    "hollow": {"x": {}},
    "objects": {"x": [{"y": 1}]},
}
TIMES = {
    "z": "2024-01-01T12:00:00Z",
    "same, zoned": "2024-01-01T13:00:00+01:00",
    "clock, zoned": "2024-01-01T12:00:00+01:00",
    "naive": "2024-01-01T12:00:00",
    "later": "2024-01-01T12:00:00.000001",
    "west": "2024-01-01T12:00:00-05:00",
    "day": "2024-01-01",
    "midnight": "2024-01-01 00:00",
    "text": "noon",
    "short": "2024-01",
}
EAST = timezone(timedelta(hours=1))
DATETIMES = [
    datetime(2024, 1, 1, 12, tzinfo=UTC),
    datetime(2024, 1, 1, 12),
    datetime(2024, 1, 1, 12, tzinfo=EAST),
]


def both(documents: list[Document]) -> tuple[InMemoryDocumentStore, VecbenchDocumentStore]:
    """Haystack's own store and ours, with the same documents."""
    haystack, ours = InMemoryDocumentStore(shared=False), VecbenchDocumentStore("memory", dim=2)
    assert haystack.write_documents(documents) == ours.write_documents(documents) == len(documents)
    return haystack, ours


def documents(metas: dict[str, dict[str, Any]]) -> list[Document]:
    return [Document(id=id_, content="x", meta=meta, embedding=[1.0, 0.5]) for id_, meta in metas.items()]


def ids(found: list[Document]) -> set[str]:
    return {document.id for document in found}


def test_none_is_what_haystack_takes_for_none() -> None:
    haystack, ours = both(documents(METAS))
    for field, (operator, value) in itertools.product(
        ("meta.x", "meta.x.y", "x", "meta.z"),
        (("==", None), ("!=", None), ("in", [None]), ("not in", [None]), ("in", [None, "plain"]), ("in", [])),
    ):
        given = {"field": field, "operator": operator, "value": value}
        assert ids(ours.filter_documents(given)) == ids(haystack.filter_documents(given)), given
    named = {"field": "meta.x", "operator": "!=", "value": None}
    assert ids(ours.filter_documents(named)) == set(METAS) - {"nothing", "none"}
    assert {d.id: d.meta for d in ours.filter_documents()} == METAS


def test_times_compare_as_in_haystack() -> None:
    haystack, ours = both(documents({id_: {"t": time} for id_, time in TIMES.items()}))
    of_time = [{"field": "meta.t", "operator": "not in", "value": ["noon", "2024-01"]}]  # Haystack orders times only
    for value in (*TIMES.values(), *DATETIMES, "20240101T120000"):  # the last is a time for an order only
        for operator in ("==", "!="):
            given = {"field": "meta.t", "operator": operator, "value": value}
            assert ids(ours.filter_documents(given)) == ids(haystack.filter_documents(given)), given
        for operator, among in itertools.product(("in", "not in"), ([value], [value, "noon"], [None, value])):
            given = {"field": "meta.t", "operator": operator, "value": among}
            assert ids(ours.filter_documents(given)) == ids(haystack.filter_documents(given)), given
        if value in {"noon", "2024-01"}:
            continue
        for operator in (">", ">=", "<", "<="):
            compared = {"field": "meta.t", "operator": operator, "value": value}
            given = {"operator": "AND", "conditions": [*of_time, compared]}
            assert ids(ours.filter_documents(given)) == ids(haystack.filter_documents(given)), given


def test_the_usual_times_stay_one_comparison() -> None:
    given = {"field": "meta.t", "operator": ">", "value": "1970-01-01T00:01:00Z"}
    assert from_haystack_filters(given) == Gt("_vecbench_time:t", 60.0)


def test_hidden_keys_are_refused_and_not_lost() -> None:
    with pytest.raises(DocumentStoreError, match="document 'x': the meta key '_vecbench_y' cannot be used"):
        flat_meta({"_vecbench_y": 1}, "document 'x'")


def test_a_filter_by_ids_alone() -> None:
    haystack, ours = both(documents(METAS))
    for operator, value in (
        ("==", "zero"),
        ("==", "nobody"),
        ("==", None),
        ("==", ""),
        ("in", ["zero", "nobody", "zero", "text", "", "x" * 600, 3, None]),
        ("in", []),
    ):
        given = {"field": "id", "operator": operator, "value": value}
        assert ids(ours.filter_documents(given)) == ids(haystack.filter_documents(given)), given
        assert asyncio.run(ours.filter_documents_async(given)) == ours.filter_documents(given)
        assert ours.count_documents_by_filter(given) == len(ours.filter_documents(given))
    (found,) = ours.filter_documents({"field": "id", "operator": "==", "value": "nested"})
    assert (found.meta, found.embedding) == ({"x": {"y": "Ada"}}, [1.0, 0.5])


@pytest.mark.parametrize(
    "given",
    [
        {"field": "id", "operator": "!=", "value": "a"},
        {"field": "id", "operator": "not in", "value": ["a"]},
        {"field": "id", "operator": "in", "value": "a"},
        {"field": "content", "operator": "==", "value": "x"},
        {"operator": "AND", "conditions": [{"field": "id", "operator": "==", "value": "a"}]},
    ],
)
def test_other_uses_of_own_fields_are_refused(given: dict[str, Any]) -> None:
    (_, ours) = both(documents(METAS))
    with pytest.raises(FilterError, match="own field"):
        ours.filter_documents(given)


def test_ids_are_no_filter_of_a_search() -> None:
    (_, ours) = both(documents(METAS))
    with pytest.raises(FilterError, match="own field 'id'"):
        ours.search([1.0, 0.5], 3, {"field": "id", "operator": "==", "value": "text"})


def test_metadata_may_be_named_like_an_own_field() -> None:
    haystack, ours = both(documents({"a": {"id": "1", "content": None}, "b": {"id": "a"}}))
    for field, value in (("meta.id", "a"), ("meta.content", None), ("id", "a")):
        given = {"field": field, "operator": "==", "value": value}
        assert ids(ours.filter_documents(given)) == ids(haystack.filter_documents(given)) != set(), given


def test_haystacks_components_that_ask_for_ids() -> None:
    text = "one two three four five six seven eight nine ten"
    split = HierarchicalDocumentSplitter(block_sizes={6, 3}, split_overlap=0, split_by="word")
    parts = split.run([Document(content=text)])["documents"]
    parts = [replace(part, embedding=[1.0, 0.5]) for part in parts]
    leaves = [part for part in parts if not part.meta["__children_ids"]]
    haystack, ours = both(parts)
    merged = [
        [document.content for document in AutoMergingRetriever(store, threshold=0.5).run(leaves[:2])["documents"]]
        for store in (haystack, ours)
    ]
    assert merged[0] == merged[1] == ["one two three four five six "]
    again = asyncio.run(AutoMergingRetriever(ours, threshold=0.5).run_async(leaves[:2]))["documents"]
    assert [document.content for document in again] == merged[0]
    cached = CacheChecker(ours, cache_field="id").run([leaves[0].id, "nobody"])
    assert ([document.id for document in cached["hits"]], cached["misses"]) == ([leaves[0].id], ["nobody"])


def test_the_retriever_takes_at_run_time_what_haystacks_takes() -> None:
    made = [Document(id=str(i), content="x", embedding=[1.0, float(i)]) for i in range(5)]
    haystack = InMemoryDocumentStore(embedding_similarity_function="cosine", shared=False)
    cosine = VecbenchDocumentStore("memory", dim=2)
    for store in (haystack, cosine):
        assert store.write_documents(made) == 5
    theirs, ours = InMemoryEmbeddingRetriever(haystack, top_k=3), VecbenchEmbeddingRetriever(cosine, top_k=3)
    cases: list[dict[str, Any]] = [
        {},
        {"top_k": 0},
        {"top_k": 1, "return_embedding": True},
        {"scale_score": True},
        {"scale_score": False, "return_embedding": False},
    ]
    for asked in cases:
        wanted, found = (retriever.run([1.0, 1.0], **asked)["documents"] for retriever in (theirs, ours))
        assert [d.id for d in found] == [d.id for d in wanted], asked
        assert [d.score for d in found] == pytest.approx([d.score for d in wanted]), asked
        assert [d.embedding for d in found] == [d.embedding for d in wanted], asked
        later = asyncio.run(ours.run_async([1.0, 1.0], **asked))["documents"]
        assert later == found
    for retriever in (theirs, ours):
        with pytest.raises(ValueError, match="top_k must be"):
            retriever.run([1.0, 1.0], top_k=-1)
    scaled = VecbenchEmbeddingRetriever(cosine, scale_score=True, return_embedding=True)
    (first, *_) = scaled.run([1.0, 1.0])["documents"]
    assert (first.id, first.embedding) == ("1", [1.0, 1.0])
    *_, last = scaled.run([1.0, 1.0], scale_score=False, return_embedding=False)["documents"]
    assert (last.id, last.embedding) == ("0", None)
    assert last.score == pytest.approx(0.5**0.5)


@pytest.mark.parametrize("metric", ["dot", "euclidean"])
def test_scaled_scores_of_other_metrics(metric: str) -> None:
    made = [Document(id=str(i), content="x", embedding=[1.0, float(i) * 100]) for i in range(-2, 3)]
    haystack = InMemoryDocumentStore(embedding_similarity_function="dot_product", shared=False)
    ours = VecbenchDocumentStore("memory", dim=2, metric=metric)
    for store in (haystack, ours):
        store.write_documents(made, DuplicatePolicy.OVERWRITE)
    found = VecbenchEmbeddingRetriever(ours).run([1.0, 1.0], scale_score=True)["documents"]
    if metric == "dot":
        wanted = InMemoryEmbeddingRetriever(haystack).run([1.0, 1.0], scale_score=True)["documents"]
        assert [d.id for d in found] == [d.id for d in wanted]
        assert [d.score for d in found] == pytest.approx([d.score for d in wanted])
    else:
        plain = VecbenchEmbeddingRetriever(ours).run([1.0, 1.0])["documents"]
        assert found == plain  # 1 / (1 + d) is from 0 to 1
        assert found[0].score == pytest.approx(0.5)
