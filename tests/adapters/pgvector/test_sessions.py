"""What is PostgreSQL's own in its sessions: COPY and conflicts, many writers, timeouts, connections."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import psycopg
import pytest

from vecbench.errors import CollectionNotFound, StoreTimeout
from vecbench.filters import Eq
from vecbench.index import HNSW, Flat
from vecbench.services.local import Service, start
from vecbench.spec import CollectionSpec
from vecbench.types import Metric, Records
from vecbench_pgvector import PgvectorStore
from vecbench_pgvector.engine import PgvectorEngine

from .parts import clustered, filled, opened


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
