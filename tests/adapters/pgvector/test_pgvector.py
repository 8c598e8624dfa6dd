"""What is PostgreSQL's own in its index: plans, iterative scans, settings, the limits of what can be indexed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.adapters.vectors import recalled
from vecbench.capabilities import Tolerance
from vecbench.collection import Collection
from vecbench.distance import exact_distances, top_k
from vecbench.errors import DimensionMismatch, UnsupportedIndex, UnsupportedOperation
from vecbench.filters import Eq, F, Filter, Lt
from vecbench.index import HNSW, Flat, Index, IVFFlat, SearchParams
from vecbench.spec import CollectionSpec
from vecbench.types import Metric, Records, Vectors
from vecbench_pgvector import PgvectorStore

from .parts import clustered, filled


def plans(store: PgvectorStore, collection: Collection, params: SearchParams, where: Filter | None = None) -> str:
    """What PostgreSQL does for the last search."""
    collection.search(np.ones(collection.spec.dim, np.float32), 10, where=where, params=params)
    how = collection._plan.first  # type: ignore[attr-defined]
    with store.pool.session() as s:
        bound = (np.ones(collection.spec.dim, np.float32), *how.values)
        bound += (bound[0],) * how.after
        return "\n".join(row[0] for row in s.cursor.execute("explain " + how.statement, bound).fetchall())


def recall(collection: Collection, queries: Vectors, vectors: Vectors, **params: Any) -> float:
    return recalled(collection, queries, top_k(queries, vectors, 10, collection.spec.metric)[0], **params)


class TestIndex:
    @pytest.mark.parametrize("metric", list(Metric))
    def test_optimize_builds_what_was_asked_for(self, store: PgvectorStore, metric: Metric) -> None:
        collection = filled(store, HNSW(m=7, ef_construction=33, ef_search=50), metric=metric)
        told = collection.describe()
        assert (told["index"]["kind"], told["indexed_rows"], told["index_bytes"]) == ("flat", 0, 0)
        assert "Seq Scan" in plans(store, collection, SearchParams())
        collection.optimize()
        told = collection.describe()
        index = told["index"]
        assert (index["kind"], index["m"], index["ef_construction"], index["ef_search"]) == ("hnsw", 7, 33, 50)
        operators = {Metric.EUCLIDEAN: "vector_l2_ops", Metric.COSINE: "vector_cosine_ops", Metric.DOT: "vector_ip_ops"}
        assert f"USING hnsw (embedding {operators[metric]})" in index["definition"]
        assert (told["rows"], told["indexed_rows"]) == (2000, 2000)
        assert 0 < told["index_bytes"] < told["disk_bytes"]
        assert f"Index Scan using {told['table']}_embedding" in plans(store, collection, SearchParams())
        assert f"{told['table']}_embedding" not in plans(store, collection, SearchParams(exact=True))

    @pytest.mark.parametrize("metric", list(Metric))
    def test_the_graph_is_walked_and_exact_goes_around_it(self, store: PgvectorStore, metric: Metric) -> None:
        vectors, queries = clustered(5000, 64), clustered(100, 64, seed=1)
        collection = filled(store, HNSW(m=4, ef_construction=16), 5000, 64, metric=metric)
        assert recall(collection, queries, vectors, ef_search=10) == 1.0  # not built yet
        collection.optimize()
        few = recall(collection, queries, vectors, ef_search=10)
        some = recall(collection, queries, vectors, ef_search=40)
        many = recall(collection, queries, vectors, ef_search=400)
        assert few < some < many
        assert few < 0.9
        exact = collection.search(queries, 10, params=SearchParams(exact=True))
        rows, truth = top_k(queries, vectors, 10, metric)
        assert [[int(i) for i in ids] for ids in exact.ids] == rows.tolist()
        np.testing.assert_allclose(exact.distances, truth, rtol=1e-5, atol=1e-5)

    def test_a_graph_with_many_dead_rows_is_built_anew(self, store: PgvectorStore) -> None:
        """To mend it takes VACUUM several times as long."""
        collection = filled(store, HNSW(m=4, ef_construction=16))
        collection.optimize()
        table = collection.describe()["table"]

        def index() -> Any:
            with store.pool.session() as s:
                return s.cursor.execute(
                    "select count(*), min(c.oid) from pg_index i join pg_class c on c.oid = i.indexrelid "
                    "where i.indrelid = %s::regclass and c.relname like %s",
                    (table, f"{table}_embedding%"),
                ).fetchone()

        first = index()
        collection.delete(ids=[str(i) for i in range(10)])
        collection.optimize()
        assert index() == first
        collection.delete(ids=[str(i) for i in range(10, 500)])
        collection.optimize()
        number, second = index()
        assert (number, second != first[1]) == (1, True)
        assert f"Index Scan using {table}_embedding" in plans(store, collection, SearchParams())
        assert collection.search(clustered(2000, 16)[700], 1).ids == [["700"]]
        assert collection.describe()["indexed_rows"] == 1500
        collection.optimize()
        assert index() == (1, second)

    def test_cached_plans_do_not_mix_walking_and_looking(self, store: PgvectorStore) -> None:
        """PostgreSQL keeps a plan after five uses, whatever was set since."""
        vectors, queries = clustered(3000, 32), clustered(40, 32, seed=1)
        collection = filled(store, HNSW(m=3, ef_construction=8), 3000, 32)
        collection.optimize()
        for _ in range(8):
            assert recall(collection, queries, vectors, ef_search=10) < 1.0
            assert recall(collection, queries, vectors, exact=True) == 1.0
        exact = SearchParams(exact=True)
        common = [
            len({*collection.search(q, 10).ids[0]} & {*collection.search(q, 10, params=exact).ids[0]}) for q in queries
        ]
        assert sum(common) < 400

    def test_more_than_ef_search_can_be_asked_for(self, store: PgvectorStore) -> None:
        collection = filled(store, HNSW(ef_search=1), 3000)
        collection.optimize()
        for k in (50, 1000, 2500):
            result = collection.search(clustered(3, 16, 1), k)
            assert [len(set(ids)) for ids in result.ids] == [k] * 3
            assert all((np.diff(d) >= 0).all() for d in result.distances)

    @pytest.mark.parametrize("index", [HNSW(m=4, ef_construction=16), IVFFlat(nlist=50, nprobe=1)], ids=["hnsw", "ivf"])
    def test_a_filter_never_shortens_an_answer(self, store: PgvectorStore, index: Index) -> None:
        collection = filled(store, index, 5000)
        collection.optimize()
        queries, vectors = clustered(10, 16, 1), clustered(5000, 16)
        cases: list[tuple[Filter, int]] = [(Lt("n", 30), 30), (Lt("n", 3000), 3000), (Eq("n", 7), 1), (Lt("n", 0), 0)]
        tight = {"hnsw.max_scan_tuples": 1} if isinstance(index, HNSW) else {"ivfflat.max_probes": 1}
        for native in ({}, tight):
            for where, matching in cases:
                result = collection.search(queries, 20, where=where, params=SearchParams(native=native))
                assert [len(set(ids)) for ids in result.ids] == [min(20, matching)] * 10
                assert all((np.diff(d) >= 0).all() for d in result.distances)
        rows, _ = top_k(queries, vectors[:30], 20, Metric.EUCLIDEAN)
        found = collection.search(queries, 20, where=Lt("n", 30)).ids
        hits = [len({str(r) for r in row} & set(ids)) / 20 for row, ids in zip(rows, found, strict=True)]
        assert np.mean(hits) > 0.75  # in relaxed order the first that match come back, and they are near ones

    def test_few_matches_are_looked_up_by_their_tokens(self, store: PgvectorStore) -> None:
        collection = filled(store, HNSW(), 5000)
        collection.optimize()
        assert "_tokens" in plans(store, collection, SearchParams(), Eq("n", 5))
        assert "_embedding" in plans(store, collection, SearchParams(), F("n").exists())

    def test_a_declared_number_is_planned_by_its_index(self, store: PgvectorStore) -> None:
        collection = filled(store, HNSW(), 5000, fields={"n": "int", "x'; --": "float", "s": "str"})
        collection.optimize()
        collection.optimize()
        assert f"{collection.describe()['table']}_n0" in plans(store, collection, SearchParams(), Lt("n", 20))
        assert "_embedding" in plans(store, collection, SearchParams(), Lt("n", 4000))
        assert collection.count(Lt("n", 20)) == 20

    def test_vectors_as_halves_are_indexed_when_asked(self, store: PgvectorStore) -> None:
        vectors, queries = clustered(2000, 32), clustered(50, 32, 1)
        collection = filled(store, HNSW(native={"halfvec": True}), 2000, 32, metric=Metric.COSINE)
        collection.optimize()
        assert "halfvec_cosine_ops" in collection.describe()["index"]["definition"]
        assert "_embedding" in plans(store, collection, SearchParams())
        assert recall(collection, queries, vectors, ef_search=400) > 0.97
        result = collection.search(queries, 10)
        at = [[int(i) for i in ids] for ids in result.ids]
        truth = np.take_along_axis(exact_distances(queries, vectors, Metric.COSINE), np.array(at), axis=1)
        np.testing.assert_allclose(result.distances, truth, atol=1e-6)  # the distance is that of the whole vectors

    def test_dimensions(self, store: PgvectorStore) -> None:
        too_many: list[tuple[Index, int]] = [
            (HNSW(), 2001), (IVFFlat(), 2001), (HNSW(native={"halfvec": True}), 4001)
        ]  # fmt: skip
        for index, dim in too_many:
            with pytest.raises(UnsupportedIndex, match="dimensions"):
                store.create_collection(CollectionSpec("c", dim, index=index))
        with pytest.raises(DimensionMismatch):
            store.create_collection(CollectionSpec("c", 16_001, index=Flat()))
        assert store.list_collections() == []
        large: dict[str, Any] = {"text": "".join(map(str, range(50_000))), "tags": [f"tag {i}" for i in range(3000)]}
        kinds: list[tuple[Index, int]] = [(HNSW(), 1900), (HNSW(), 2000), (HNSW(native={"halfvec": True}), 4000)]
        for index, dim in [*kinds, (Flat(), 16_000)]:
            collection = store.create_collection(CollectionSpec(str(dim), dim, index=index))
            vectors, ids = clustered(3, dim), ["é" * 256, "x" * 512, "z"]
            collection.upsert(Records(ids, vectors, [large] * 3, ["long " * 20_000] * 3))
            collection.upsert(Records(ids, vectors, [large] * 3, ["long " * 20_000] * 3))
            collection.optimize()
            assert sorted(collection.search(vectors[0], 3).ids[0]) == sorted(ids)
            held = collection.get(ids)
            assert held.vectors is not None
            assert held.metadata == [large] * 3
            assert held.vectors.tobytes() == vectors.tobytes()

    def test_what_pgvector_refuses_is_refused_at_once(self, store: PgvectorStore) -> None:
        wrong: list[Index] = [
            HNSW(m=1), HNSW(m=101), HNSW(ef_construction=2000), HNSW(m=16, ef_construction=31), HNSW(ef_search=1001),
            IVFFlat(nlist=40_000), HNSW(native={"alpha": 1}), Flat(native={"halfvec": True}),
            HNSW(native={"halfvec": "yes"}), HNSW(native={"maintenance_work_mem": "much"}),
        ]  # fmt: skip
        for index in wrong:
            with pytest.raises(UnsupportedIndex):
                store.create_collection(CollectionSpec("c", 3, index=index))
        assert store.list_collections() == []
        collection = filled(store, HNSW(native={"maintenance_work_mem": "1MB", "max_parallel_maintenance_workers": 0}))
        collection.optimize()
        assert "no longer fits into maintenance_work_mem" in collection.describe()["notices"]
        for params in (
            SearchParams(native={"hnsw.colour": 1}),
            SearchParams(native={"hnsw.iterative_scan": "sideways"}),
            SearchParams(native={"ivfflat.probes": 1}),
            SearchParams(ef_search=1001),
        ):
            with pytest.raises(UnsupportedOperation):
                collection.search(np.ones(16, np.float32), params=params)

    def test_settings_of_one_search_are_not_those_of_the_next(self, store: PgvectorStore) -> None:
        graph = filled(store, HNSW(ef_search=77))
        lists = store.create_collection(CollectionSpec("lists", 16, index=IVFFlat(nlist=10, nprobe=3)))

        def held(name: str) -> str:
            with store.pool.session() as s:
                return str(s.cursor.execute("select current_setting(%s)", (name,)).fetchone()[0])

        query = np.ones(16, np.float32)
        graph.search(query, 5, params=SearchParams(ef_search=5, native={"hnsw.iterative_scan": "strict_order"}))
        assert (held("hnsw.ef_search"), held("hnsw.iterative_scan")) == ("5", "strict_order")
        lists.search(query, 5)
        graph.search(query, 5)
        assert (held("hnsw.ef_search"), held("hnsw.iterative_scan")) == ("77", "relaxed_order")
        graph.search(query, 500)
        assert held("hnsw.ef_search") == "500"
        assert held("ivfflat.probes") == "3"
        graph.optimize(timeout=5)
        assert held("statement_timeout") == "1min"

    def test_lists_are_made_anew_when_the_rows_have_outgrown_them(self, store: PgvectorStore) -> None:
        vectors, queries = clustered(4000, 32), clustered(50, 32, 1)
        collection = store.create_collection(CollectionSpec("c", 32, Metric.EUCLIDEAN, IVFFlat(nlist=64, nprobe=4)))
        collection.upsert(Records(["0", "1"], vectors[:2]))
        collection.optimize()
        said = collection.describe()
        assert said["index"]["lists"] == 64
        assert "little data" in said["notices"]
        assert len(collection.search(queries[0], 5).ids[0]) == 2
        collection.upsert(Records([str(i) for i in range(4000)], vectors))
        before = recall(collection, queries, vectors)
        collection.optimize()
        assert "notices" not in collection.describe()
        after = recall(collection, queries, vectors)
        assert before < after < 1.0
        assert recall(collection, queries, vectors, nprobe=64) == 1.0
        with store.pool.session() as s:
            ask = "select oid from pg_class where relname = %s"
            name = f"{said['table']}_embedding"
            kept = s.cursor.execute(ask, (name,)).fetchone()
        collection.optimize()  # nothing to do
        with store.pool.session() as s:
            assert s.cursor.execute(ask, (name,)).fetchone() == kept

    @pytest.mark.parametrize("metric", list(Metric))
    @pytest.mark.parametrize("dim", [8, 384, 1536])
    def test_distances_keep_the_tolerance_that_is_declared(
        self, store: PgvectorStore, metric: Metric, dim: int
    ) -> None:
        vectors = clustered(300, dim) * np.float32(31.7)
        queries = np.concatenate([clustered(20, dim, 1) * np.float32(9.1), vectors[:5], vectors[5:10] * 1.0001])
        collection = store.create_collection(CollectionSpec("c", dim, metric, Flat()))
        collection.upsert(Records([str(i) for i in range(300)], vectors))
        tolerance: Tolerance = store.capabilities.tolerance
        truth = exact_distances(queries, vectors, metric)
        result = collection.search(queries, 300)
        assert result.raw is not None
        for i, (ids, distances) in enumerate(zip(result.ids, result.distances, strict=True)):
            true = truth[i][[int(j) for j in ids]]
            allowed = tolerance.absolute + tolerance.relative * np.abs(true)
            if metric is Metric.DOT:
                lengths = np.linalg.norm(vectors[[int(j) for j in ids]], axis=1)
                allowed += tolerance.relative * np.linalg.norm(queries[i]) * lengths
            assert (np.abs(distances - true) <= allowed).all()
