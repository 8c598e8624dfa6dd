"""Verification finds what a store spoils, names it, and deletes nothing; what is allowed passes."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given

from vecbench import CollectionSpec, Flat, Metric, Records, SearchResult
from vecbench.capabilities import Tolerance
from vecbench.collection import Collection
from vecbench.errors import CopyMismatch
from vecbench.memory import MemoryCollection, MemoryStore, NullStore
from vecbench.testing.data import field_values
from vecbench.transfer import copy
from vecbench.verify import first_difference, verify_copy

from .stores import (
    CountsTooMany,
    MissesTheNearest,
    OneShort,
    OtherTies,
    Planted,
    ScanLosesABatch,
    Searching,
    SquaredDistances,
    filled,
    planted,
    rows,
    spoiling,
)


def _last_batch_lost(records: Records) -> Records:
    return records.rows(0, 0) if "id-59" in records.ids else records


def _one_float(records: Records) -> Records:
    assert records.vectors is not None
    vectors = records.vectors.copy()
    if "id-37" in records.ids:
        row = list(records.ids).index("id-37")
        vectors[row, 6] = np.nextafter(vectors[row, 6], np.float32(np.inf))
    return replace(records, vectors=vectors)


def _values(change: Callable[[Any], Any]) -> Callable[[Records], Records]:
    def spoil(records: Records) -> Records:
        return replace(records, metadata=[{k: change(v) for k, v in row.items()} for row in records.metadata or []])

    return spoil


def _keys(change: Callable[[dict[str, Any]], dict[str, Any]]) -> Callable[[Records], Records]:
    def spoil(records: Records) -> Records:
        return replace(records, metadata=[change(dict(row)) for row in records.metadata or []])

    return spoil


SPOILED = {
    "last batch": (_last_batch_lost, "lacks record 'id-50'"),
    "one float": (_one_float, "'id-37', vector: number 6 is"),
    "ints": (_values(lambda v: float(v) if type(v) is int else v), r"'id-0', metadata: field 'n' .*\(float for int\)"),
    "bools": (_values(lambda v: int(v) if v is True else v), r"'id-3', metadata: field 'v' is 1, .*\(int for bool\)"),
    "minus zero": (_values(lambda v: 0.0 if v == 0 and type(v) is float else v), "'id-5', .*field 'v' is 0.0, .*-0.0"),
    "big ints": (_values(lambda v: v if v != 2**53 + 1 else v - 1), "'id-6', .*field 'v' is 9007199254740992"),
    "lists": (_values(lambda v: v or "" if type(v) is list else v), r"'id-11', .*field 'v' .*\(str for list\)"),
    "list items": (_values(lambda v: [i for i in v if i] if type(v) is list else v), "'id-12', .*field 'v'"),
    "a lost field": (_keys(lambda row: {k: v for k, v in row.items() if k != "word"}), "'id-0', .*'word' is missing"),
    "a new field": (_keys(lambda row: {**row, "_ts": 1}), "'id-0', metadata: field '_ts' is one that the source lacks"),
    "documents": (lambda r: replace(r, documents=None), "'id-0', document: None, at the source 'é 0'"),
    "empty documents": (lambda r: replace(r, documents=[d or "" for d in r.documents]), "'id-2', document: '', .*None"),
    "one more": (
        lambda r: Records(
            [*r.ids, "ghost"],
            np.vstack([r.vectors, r.vectors[:1]]),
            [*r.metadata, {}],
            [*r.documents, None],
        ),
        "counts 61 records, .* counts 60; the first that the source lacks is 'ghost'",
    ),
}


@pytest.mark.parametrize("case", SPOILED)
def test_what_a_store_spoils_is_named(case: str) -> None:
    spoil, said = SPOILED[case]
    there = spoiling(spoil)
    with pytest.raises(CopyMismatch, match=said):
        copy(filled(MemoryStore()), there, batch_size=10)
    assert there.get_collection("docs").count() in {50, 60, 61}  # nothing is deleted


def test_a_store_that_keeps_nothing_is_not_believed() -> None:
    with pytest.raises(CopyMismatch, match="lacks record 'id-0'"):
        copy(filled(MemoryStore()), NullStore())


@pytest.mark.parametrize(
    ("collection", "said"),
    [
        (CountsTooMany, "counts 61 records, .* counts 60"),
        (SquaredDistances, "a search for record 'id-.*; it is .* away"),
        (OneShort, "gave 9 of 10 records"),
        (MissesTheNearest, r"a search for record 'id-.* at place 1 "),
    ],
)
def test_a_store_that_counts_or_searches_wrongly(collection: type[MemoryCollection], said: str) -> None:
    with pytest.raises(CopyMismatch, match=said):
        copy(filled(MemoryStore()), planted(collection))


def test_a_source_whose_scan_is_short_is_noticed() -> None:
    with pytest.raises(CopyMismatch, match="counts 60 records, scanning it gave 50"):
        copy(filled(planted(ScanLosesABatch)), MemoryStore(), batch_size=10)


@pytest.mark.parametrize(("lost", "value"), [("embedder", None), ("fields", {})])
def test_a_store_that_forgets_part_of_the_spec(lost: str, value: Any) -> None:
    class Forgetful(Planted):
        def _open_collection(self, name: str) -> Collection:
            found = super()._open_collection(name)
            found.spec = replace(found.spec, **{lost: value})
            return found

    with pytest.raises(CopyMismatch, match=f"has {lost} "):
        copy(filled(MemoryStore()), Forgetful())


# What is allowed ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("metric", Metric)
def test_rounding_is_allowed_where_it_is_declared_and_only_there(metric: Metric) -> None:
    def rounded(share: float) -> Callable[[Records], Records]:
        def spoil(records: Records) -> Records:
            assert records.vectors is not None
            return replace(records, vectors=(records.vectors * np.float64(1 + share)).astype(np.float32))

        return spoil

    source = filled(MemoryStore(), metric=metric)
    report = copy(source, spoiling(rounded(3e-7), preserves_vectors=False))
    assert report.verified is not None
    assert not report.verified.bits
    with pytest.raises(CopyMismatch, match="'id-0', vector"):
        copy(source, spoiling(rounded(3e-6), preserves_vectors=False))
    with pytest.raises(CopyMismatch, match="'id-0', vector"):
        copy(source, spoiling(rounded(3e-7)))


@pytest.mark.parametrize("metric", Metric)
def test_equally_far_records_may_come_in_any_order(metric: Metric) -> None:
    """Each vector occurs six times, so that the tenth answer is one of several."""
    data = rows(60)
    assert data.vectors is not None
    source = filled(MemoryStore(), 0, metric)
    source.upsert(replace(data, vectors=data.vectors[np.arange(60) % 10]))
    report = copy(source, planted(OtherTies))
    assert report.verified is not None
    assert report.verified.exact


def test_an_approximate_index_may_miss_a_record_but_not_lie_about_a_distance() -> None:
    source = filled(MemoryStore())
    report = copy(source, planted(MissesTheNearest, exact_search=False))
    assert report.verified is not None
    assert not report.verified.exact
    with pytest.raises(CopyMismatch, match="away"):
        copy(source, planted(SquaredDistances, exact_search=False))
    with pytest.raises(CopyMismatch, match="at place 1"):  # a flat index is exact in any store
        copy(source, planted(MissesTheNearest, exact_search=False), index=Flat())


def test_distances_may_be_off_by_what_the_store_declares() -> None:
    """A store that takes the root of a float32 square: near zero it is off by much, and says so."""

    class Rounding(SquaredDistances):
        def spoil(self, result: Any, row: int) -> None:
            result.distances[row] = np.sqrt(result.distances[row] ** 2 + 1e-4)

    source = filled(MemoryStore())
    with pytest.raises(CopyMismatch, match="away"):
        copy(source, planted(Rounding))
    assert copy(source, planted(Rounding, tolerance=Tolerance(squared_euclidean=1e-4))).verified is not None


def test_a_small_dot_product_of_long_vectors_may_be_off_by_its_terms() -> None:
    class Float32(Searching):
        def spoil(self, result: SearchResult, row: int) -> None:
            result.distances[row] = result.distances[row] + 5e-3  # of terms of up to 1,000

    source = MemoryStore().create_collection(CollectionSpec("docs", 2, Metric.DOT))
    source.upsert(Records(["a", "b"], np.array([[0, 1000], [1000, 0]], np.float32)))
    assert copy(source, planted(Float32, tolerance=Tolerance(0, 1e-8))).verified is not None
    with pytest.raises(CopyMismatch, match="away"):
        copy(source, planted(Float32, tolerance=Tolerance(0, 1e-9)))


def test_searches_are_cut_to_what_there_is() -> None:
    for n, can, expected in ((0, {}, 0), (1, {}, 1), (7, {}, 7), (60, {"max_k": 3}, 20)):
        verified = copy(filled(MemoryStore(), n), planted(MemoryCollection, **can)).verified
        assert verified is not None
        assert verified.searches == expected


def test_by_itself_between_two_collections() -> None:
    one, two = filled(MemoryStore()), filled(MemoryStore())
    assert verify_copy(one, two, batch_size=7).rows == 60
    two.delete(ids=["id-59"])
    with pytest.raises(CopyMismatch, match="lacks record 'id-59'"):
        verify_copy(one, two)
    with pytest.raises(CopyMismatch, match="has metric 'cosine'"):
        verify_copy(one, filled(MemoryStore(), metric=Metric.COSINE))
    assert one.count() == 60


def _whole(value: Any) -> Records:
    return Records(["a"], np.ones((1, 2), np.float32), [{"k": value}], [None])


@given(field_values, field_values)
def test_two_values_are_the_same_when_their_json_is(one: Any, other: Any) -> None:
    difference = first_difference(_whole(one), _whole(other), bits=True)
    assert (difference is None) == (json.dumps(one) == json.dumps(other))


def test_numpys_numbers_are_no_plain_ones() -> None:
    assert "float64 for float" in str(first_difference(_whole(0.5), _whole(np.float64(0.5)), bits=True))


def test_a_vector_of_another_length() -> None:
    other = replace(_whole(1), vectors=np.ones((1, 3), np.float32))
    assert "another length" in str(first_difference(_whole(1), other, bits=False))


def test_nan_is_a_difference() -> None:
    other = replace(_whole(1), vectors=np.array([[1, np.nan]], np.float32))
    assert "number 1 is nan, at the source 1.0" in str(first_difference(_whole(1), other, bits=False))
