"""The server refuses what the vendor's descriptions and texts refuse, the SDK's own checks left aside."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.pinecone_spec import Fault, SpecServer
from tests.pinecone_spec.descriptions import CONTROL, DATA
from tests.pinecone_spec.engine import Refused, matches
from tests.pinecone_spec.server import api

HEADERS = {"Api-Key": "spec-a", "X-Pinecone-Api-Version": "2026-07"}


@pytest.fixture(scope="module")
def server() -> Iterator[SpecServer]:
    with SpecServer() as started:
        yield started
    assert started.off_spec == []


@pytest.fixture(scope="module")
def http(server: SpecServer) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, headers=HEADERS) as client:
        for name, dim in (("docs", 3), ("wide", 20_000)):
            made = client.post("/indexes", json=index(name, dim))
            assert made.status_code == 201, made.text
        yield client


def index(name: str, dim: int, **more: Any) -> dict[str, Any]:
    vector = {"type": "dense_vector", "dimension": dim, "metric": "euclidean"}
    return {"name": name, "schema": {"fields": {"_values": vector}}, **more}


def vector(id_: str = "a", values: list[float] | None = None, **metadata: Any) -> dict[str, Any]:
    return {"id": id_, "values": values or [1.0, 2.0, 3.0], "metadata": metadata}


def test_array_limits_of_the_descriptions_count() -> None:
    assert api(DATA).repaired + api(CONTROL).repaired == 21


@pytest.mark.parametrize(
    ("vectors", "why"),
    [
        ([vector(str(i)) for i in range(1_001)], "vectors against maxItems"),
        ([vector("x" * 513)], "id against maxLength"),
        ([vector("é")], "ASCII"),
        ([vector(values=[1.0] * 20_001)], "values against maxItems"),
        ([vector(values=[1.0, 2.0])], "dimension"),
        ([vector(key=None)], "key"),
        ([vector(key={"nested": 1})], "key"),
        ([vector(key=["a", 1])], "key"),
        ([vector(key="x" * 41_000)], "40960"),
        ([{"values": [1.0, 2.0, 3.0]}], "against required"),
        ([], "vectors against minItems"),
    ],
)
def test_wrong_vectors_are_refused(http: httpx.Client, vectors: list[Any], why: str) -> None:
    answer = http.post("/i/docs/vectors/upsert", json={"vectors": vectors})
    assert (answer.status_code, why in answer.text) == (400, True), answer.text
    assert http.post("/i/docs/describe_index_stats", json={}).json()["totalVectorCount"] == 0


def test_requests_are_limited_in_size(http: httpx.Client) -> None:
    many = [vector(str(i), [1 / 3] * 20_000) for i in range(8)]
    assert http.post("/i/wide/vectors/upsert", json={"vectors": many}).status_code == 413
    assert http.get("/i/docs/vectors/fetch", params={"ids": ["x" * 500] * 20}).status_code == 414


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("query", {"vector": [1.0, 2.0, 3.0], "topK": 10_001}),
        ("query", {"vector": [1.0, 2.0, 3.0], "topK": 0}),
        ("query", {"vector": [1.0, 2.0], "topK": 1}),
        ("query", {"topK": "ten"}),
        ("query", {"vector": [1.0, 2.0, 3.0], "topK": 1, "scanFactor": 9}),
        ("vectors/delete", {"ids": [str(i) for i in range(1_001)]}),
        ("describe_index_stats", {"filter": {"a": 1}}),
    ],
)
def test_wrong_questions_are_refused(http: httpx.Client, path: str, body: dict[str, Any]) -> None:
    assert http.post(f"/i/docs/{path}", json=body).status_code == 400


def test_an_index_is_made_once_and_under_a_good_name(http: httpx.Client) -> None:
    assert http.post("/indexes", json=index("docs", 3)).status_code == 409
    wrong = [index("Upper", 3), index("x" * 46, 3), index("big", 20_001), {"name": "none"}]
    wrong += [index("tags", 3, tags={"a": value}) for value in ("x" * 121, "{}", "é")]
    for body in wrong:
        assert http.post("/indexes", json=body).status_code == 400, body
    assert http.get("/indexes/nope").status_code == 404


def test_keys_are_projects_and_others_are_refused(http: httpx.Client) -> None:
    assert http.get("/indexes", headers={"Api-Key": "spec-b"}).json() == {"indexes": []}
    assert http.get("/indexes", headers={"Api-Key": "other"}).status_code == 401
    assert http.get("/indexes").json()["indexes"]


def test_an_empty_index_has_no_namespace_to_delete_from(http: httpx.Client) -> None:
    for path, body in (("delete", {"ids": ["a"]}), ("update", {"id": "a", "setMetadata": {"a": 1}})):
        answer = http.post(f"/i/docs/vectors/{path}", json=body)
        assert (answer.status_code, "Namespace not found" in answer.text) == (404, True)


def test_faults_strike_as_often_as_told(server: SpecServer, http: httpx.Client) -> None:
    server.project("spec-a").knobs.faults = [Fault(503, "/query", after=1, times=2, retry_after=0.5)]
    ask = {"vector": [1.0, 2.0, 3.0], "topK": 1}
    answers = [http.post("/i/docs/query", json=ask) for _ in range(4)]
    assert [a.status_code for a in answers] == [200, 503, 503, 200]
    assert answers[1].headers["retry-after"] == "0.5"


@pytest.mark.parametrize(
    ("where", "metadata", "passes"),
    [
        ({"a": 1}, {"a": 1.0}, True),
        ({"a": {"$eq": 1}}, {"a": True}, False),
        ({"a": {"$eq": 2**53}}, {"a": 2**53 + 1}, True),  # float64 in the service
        ({"a": {"$ne": 1}}, {}, False),
        ({"a": {"$nin": ["x"]}}, {}, False),
        ({"a": {"$nin": ["x"]}}, {"a": ["x", "y"]}, False),
        ({"a": {"$in": ["y"]}}, {"a": ["x", "y"]}, True),
        ({"a": {"$exists": False}}, {}, True),
        ({"a": {"$gte": 1, "$lt": 2}}, {"a": 1.5}, True),
        ({"a": {"$gt": 1}}, {"a": "2"}, False),
        ({"$or": [{"a": 1}, {"$and": [{"b": 2}, {"c": 3}]}]}, {"b": 2, "c": 3}, True),
    ],
)
def test_filters_mean_what_the_vendor_says(where: dict[str, Any], metadata: dict[str, Any], passes: bool) -> None:
    assert matches(where, metadata) is passes


@pytest.mark.parametrize(
    "where",
    [{}, {"a": {"$regex": "x"}}, {"$not": {"a": 1}}, {"a": {"$gt": "x"}}, {"a": {"$in": []}}, {"a": {"$in": "x"}},
     {"$and": []}, {"a": {"$eq": ["x"]}}, {"a": {"$gt": True}}, {"a": None}, {"$or": [{"b": {"$x": 1}}]}],
)  # fmt: skip
def test_wrong_filters_are_refused(where: dict[str, Any]) -> None:
    for metadata in ({}, {"a": 1}):
        with pytest.raises(Refused) as caught:
            matches(where, metadata)
        assert caught.value.status == 400
