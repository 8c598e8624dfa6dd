from __future__ import annotations

import gc
import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vecbench.bench import worker as worker_module
from vecbench.bench.answers import decode
from vecbench.bench.probes import check_loaded
from vecbench.bench.recall import NO_ANSWER, UNKNOWN
from vecbench.bench.usage import disk_bytes
from vecbench.bench.worker import BUCKETS, serve, timed_pass
from vecbench.capabilities import Capabilities, StoreInfo
from vecbench.collection import Collection
from vecbench.dataset import Dataset
from vecbench.errors import RunVoid, UnsupportedOperation
from vecbench.filters import Filter
from vecbench.index import DEFAULT_SEARCH, HNSW, SearchParams, index_to_dict
from vecbench.memory import MemoryCollection, MemoryStore
from vecbench.registry import StoreRef
from vecbench.spec import CollectionSpec
from vecbench.types import Include, Metric, Records, SearchResult, Vectors


def _load(cls: type[MemoryCollection], data: Dataset, metric: Metric = Metric.EUCLIDEAN) -> Collection:
    collection = cls(MemoryStore(), CollectionSpec("c", data.dim, metric))
    metadata = [{"bucket": i % BUCKETS} for i in range(len(data.base))]
    collection.upsert(Records([str(i) for i in range(len(data.base))], data.base, metadata))
    return collection


class _LosesRows(MemoryCollection):
    def _upsert(self, records: Records) -> None:
        super()._upsert(records.rows(0, len(records) - 1))


class _IgnoresFilters(MemoryCollection):
    def _search(
        self, queries: Vectors, k: int, where: Filter | None, params: SearchParams, include: tuple[Include, ...]
    ) -> SearchResult:
        return super()._search(queries, k, None, params, include)


class _CutsFiltered(MemoryCollection):
    def _search(
        self, queries: Vectors, k: int, where: Filter | None, params: SearchParams, include: tuple[Include, ...]
    ) -> SearchResult:
        return super()._search(queries, k if where is None else 1, where, params, include)


class _AnswersAtRandom(MemoryCollection):
    def _search(
        self, queries: Vectors, k: int, where: Filter | None, params: SearchParams, include: tuple[Include, ...]
    ) -> SearchResult:
        return super()._search(-queries, k, where, params, include)


class _Squares(MemoryCollection):
    def _search(
        self, queries: Vectors, k: int, where: Filter | None, params: SearchParams, include: tuple[Include, ...]
    ) -> SearchResult:
        found = super()._search(queries, k, where, params, include)
        return SearchResult(found.ids, [d + 1.0 for d in found.distances], found.metric)


@pytest.mark.parametrize("metric", list(Metric))
def test_a_good_store_passes_the_checks(tiny: Dataset, metric: Metric) -> None:
    notes = check_loaded(_load(MemoryCollection, tiny, metric), tiny.base, tiny.queries[:1], 10, BUCKETS)
    assert len(notes) == (metric is Metric.DOT)


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        (_LosesRows, "250 rows were sent, 249 are there"),
        (_IgnoresFilters, "a filter on one row in 100 gave 10 of 2 answers, 10 wrong"),
        (_CutsFiltered, "a filter on one row in 100 gave 1 of 2 answers, 0 wrong"),
        (_AnswersAtRandom, "5 of 5 rows do not find themselves"),
        (_Squares, "row 0 is 1.0 away from itself"),
    ],
)
def test_a_broken_store_voids_the_run(tiny: Dataset, broken: type[MemoryCollection], said: str) -> None:
    with pytest.raises(RunVoid, match=said):
        check_loaded(_load(broken, tiny), tiny.base, tiny.queries[:1], 10, BUCKETS)


def test_scaled_doubles_may_answer_for_a_row_under_cosine(tiny: Dataset) -> None:
    doubled = Dataset.from_arrays("doubled", np.concatenate([tiny.base * 2, tiny.base, tiny.base * 3]), tiny.queries)
    collection = _load(MemoryCollection, doubled, Metric.COSINE)
    assert check_loaded(collection, doubled.base, doubled.queries[:1], 10, BUCKETS) == []


def test_a_store_without_eq_says_that_filters_were_not_checked(tiny: Dataset) -> None:
    collection = _load(_IgnoresFilters, tiny)
    collection.store.capabilities = Capabilities(metrics=frozenset(Metric), indexes=frozenset({"hnsw"}))
    (note,) = check_loaded(collection, tiny.base, tiny.queries[:1], 10, BUCKETS)
    assert "filters were not checked" in note


def _answer(ids: Sequence[str], distances: Sequence[float]) -> SearchResult:
    return SearchResult([list(ids)], [np.array(distances)], Metric.EUCLIDEAN)


def test_answers_become_row_numbers(tiny: Dataset) -> None:
    d = np.linalg.norm(tiny.base[[3, 4]].astype(float) - tiny.queries[0], axis=1)
    answer = _answer(["3", "4", "250", "04", "x", "²"], [*d, 9, 9, 9, 9])
    rows, error = decode([answer], 8, tiny.queries, tiny.base, Metric.EUCLIDEAN)
    assert rows.tolist() == [[3, 4, UNKNOWN, UNKNOWN, UNKNOWN, UNKNOWN, NO_ANSWER, NO_ANSWER]]
    assert error < 1e-12
    _, error = decode([_answer(["3"], [1.5 * d[0]])], 8, tiny.queries, tiny.base, Metric.EUCLIDEAN)
    assert error == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (_answer(["1", "2"], [0.1, np.nan]), "not finite"),
        (_answer(["1", "2", "3"], [0.1, 0.2, 0.3]), "3 ids and 3 distances came, 2 were asked for"),
        (_answer(["1", "2"], [0.1]), "2 ids and 1 distances"),
    ],
)
def test_a_malformed_answer_voids_the_run(tiny: Dataset, answer: SearchResult, said: str) -> None:
    with pytest.raises(RunVoid, match=said):
        decode([answer], 2, tiny.queries, tiny.base, Metric.EUCLIDEAN)


def test_every_query_is_timed_once_alone_in_order_with_collection_off() -> None:
    asked: list[Any] = []

    def search(row: Vectors, k: int, *, params: SearchParams) -> SearchResult:
        asked.append((row, k, params, gc.isenabled()))
        return _answer([str(len(asked))], [0.0])

    rows = [np.full((1, 2), i, np.float32) for i in range(3)]
    latencies, answers = timed_pass(search, rows, 5, DEFAULT_SEARCH)
    assert [a[0] is r for a, r in zip(asked, rows, strict=True)] == [True] * 3
    assert [a[1:] for a in asked] == [(5, DEFAULT_SEARCH, False)] * 3
    assert [a.ids for a in answers] == [[["1"]], [["2"]], [["3"]]]
    assert latencies.dtype == np.int64
    assert (latencies > 0).all()
    assert gc.isenabled()


@pytest.fixture
def request_(tiny: Dataset, tmp_path: Path) -> dict[str, Any]:
    np.save(tmp_path / "base.npy", tiny.base)
    np.save(tmp_path / "queries.npy", tiny.queries)
    exact: dict[str, Any] = {"ef_search": None, "nprobe": None, "exact": True, "native": {}}
    return {
        "store": {"name": "memory", "mode": None, "url": None},
        "metric": "euclidean",
        "k": 10,
        "seed": 1,
        "index": index_to_dict(HNSW()),
        "settings": [{"name": "ef=16", "params": {**exact, "ef_search": 16, "exact": False}},
                     {"name": "exact", "params": exact}],
        "load": {"loads": []},
        "base": {"npy": str(tmp_path / "base.npy")},
        "queries": {"npy": str(tmp_path / "queries.npy")},
        "folder": str(tmp_path),
    }  # fmt: skip


def _serve(request: dict[str, Any], commands: str) -> list[dict[str, Any]]:
    events: list[dict[str, Any]] = []
    serve(request, io.StringIO(commands), events.append)
    return [e for e in events if e["event"] != "phase"]


def _use(monkeypatch: pytest.MonkeyPatch, make: Callable[[], MemoryStore]) -> None:
    monkeypatch.setattr(StoreRef, "connect", lambda _self, **_options: make())


def test_an_imitation_is_refused_with_its_reason(request_: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    class Imitation(MemoryStore):
        @property
        def info(self) -> StoreInfo:
            return StoreInfo(
                name="x", label="x", deployment="embedded", engine="x", engine_version="1", client="x",
                client_version="1", benchmarkable=False, why_not="it is brute force in NumPy",
            )  # fmt: skip

    _use(monkeypatch, Imitation)
    (event,) = _serve(request_, "round 0\nfinish\n")
    assert event["status"] == "void"
    assert "it is brute force in NumPy" in event["error"]


def test_what_cannot_be_set_is_left_out_and_said(request_: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    class NoEf(MemoryStore):
        capabilities = Capabilities(
            metrics=frozenset(Metric), indexes=frozenset({"hnsw"}), filters=frozenset({"eq"}), exact_search=True
        )

    _use(monkeypatch, NoEf)
    loaded, measured, finished = _serve(request_, "round 0\nfinish\n")
    assert (loaded["event"], measured["event"], finished["event"]) == ("loaded", "measured", "finished")
    assert loaded["settings"] == ["exact"]
    assert "ef=16" in loaded["notes"][0]
    request_["settings"] = request_["settings"][:1]
    (event,) = _serve(request_, "")
    assert event["error"].startswith("memory can set none of ef=16")


@pytest.mark.parametrize("changes", [True, False])
def test_what_belongs_to_the_collection_is_changed_between_the_passes(
    request_: dict[str, Any], monkeypatch: pytest.MonkeyPatch, changes: bool
) -> None:
    """A store that sets ef_search per collection is swept too; one that refuses keeps what it was created with."""
    in_force: list[int] = []

    class PerCollection(MemoryStore):
        capabilities = Capabilities(
            metrics=frozenset(Metric), indexes=frozenset({"hnsw"}), filters=frozenset({"eq"}), ef_search="collection"
        )

        def _create(self, spec: CollectionSpec) -> Collection:
            super()._create(spec)
            self._collections[spec.name] = made = Changing(self, spec)
            return made

    class Changing(MemoryCollection):
        def _reconfigure(self, spec: CollectionSpec) -> None:
            if not changes:
                raise UnsupportedOperation("the server must be restarted")
            assert isinstance(spec.index, HNSW)
            in_force.append(spec.index.ef_search)

        def _search(self, *arguments: Any) -> SearchResult:
            params = arguments[3]
            assert isinstance(self.spec.index, HNSW)
            assert params.ef_search in {None, self.spec.index.ef_search}
            return super()._search(*arguments)

    _use(monkeypatch, PerCollection)
    request_["settings"] = [{"name": f"ef={ef}", "params": {"ef_search": ef}} for ef in (16, 64, 128)]
    events = _serve(request_, "round 0\nround 1\nfinish\n")
    assert events[-1]["event"] == "finished", events[-1]
    if changes:
        assert events[0]["settings"] == ["ef=16", "ef=64", "ef=128"]
        assert set(in_force) == {16, 64, 128}
    else:
        assert events[0]["settings"] == ["ef=64"]
        assert "ef=16, ef=128" in events[0]["notes"][0]


def test_a_server_is_left_as_it_was_found(request_: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    store = MemoryStore()
    store.create_collection(CollectionSpec("vecbench", 8, Metric.DOT))
    request_["store"]["url"] = "http://server"
    _use(monkeypatch, lambda: store)
    assert _serve(request_, "round 0\nfinish\n")[-1]["event"] == "finished"
    assert store._list() == ["vecbench"]


def test_a_sparse_file_counts_with_what_it_holds(tmp_path: Path) -> None:
    with (tmp_path / "f").open("wb") as f:
        f.seek(50_000_000)
        f.write(b"x" * 5000)
    assert 4096 <= disk_bytes(tmp_path) < 1_000_000


def test_an_unexpected_error_is_an_event_not_a_traceback(
    request_: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_args: Any) -> list[str]:
        raise RuntimeError("token=hunter2")

    monkeypatch.setattr(worker_module, "check_loaded", broken)
    (event,) = _serve(request_, "")
    assert event == {"event": "error", "status": "failed", "error": "unexpected RuntimeError: token=***"}
