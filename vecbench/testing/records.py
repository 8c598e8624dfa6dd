"""Writing, reading back, replacing, deleting, scanning."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from vecbench.filters import Eq
from vecbench.store import VectorStore
from vecbench.testing.base import DIM, Base
from vecbench.testing.data import HOSTILE, assert_distances, raw_vectors, records
from vecbench.types import Metric, Records

__all__ = ["RecordTests"]


class RecordTests(Base):
    def test_records_come_back_as_they_went(self, store: VectorStore) -> None:
        for metric in store.capabilities.metrics:
            data = records(40, DIM)
            collection = self.make(store, metric, name=f"c-{metric}", load=data)
            back = collection.get(data.ids)
            assert list(back.ids) == list(data.ids)
            assert back.vectors is not None
            assert data.vectors is not None
            assert back.vectors.dtype == np.float32
            if store.capabilities.preserves_vectors:
                assert back.vectors.tobytes() == data.vectors.tobytes()
            np.testing.assert_allclose(back.vectors, data.vectors, rtol=1e-6, atol=1e-7)
            assert back.metadata == data.metadata
            assert back.documents == data.documents

    def test_every_kind_of_value_keeps_its_type(self, store: VectorStore) -> None:
        values = [
            0,
            -1,
            2**53 + 1,
            2**63 - 1,
            -(2**63),
            0.0,
            1.0,
            1e-300,
            1e300,
            -0.5,
            -0.0,
            5e-324,
            float(2**53),
            True,
            False,
            "",
            "é",
            [],
            ["", "x"],
        ]
        metadata: list[dict[str, Any]] = [{"v": v} for v in values]
        ids = [f"id{i}" for i in range(len(values))]
        collection = self.make(store, load=Records(ids, raw_vectors(len(values), DIM), metadata))
        back = collection.get(ids).metadata
        assert back is not None
        # By repr: −0.0 equals 0.0 and True equals 1, yet they are not the same value.
        assert [repr(m["v"]) for m in back] == [repr(v) for v in values]

    def test_get_keeps_the_order_and_leaves_out_what_is_missing(self, store: VectorStore) -> None:
        collection = self.make(store, load=records(20, DIM))
        back = collection.get(["id7", "nope", "id3", "id7", "id19"])
        assert list(back.ids) == ["id7", "id3", "id19"]
        assert back.metadata is not None
        assert [m["n"] for m in back.metadata] == [7, 3, 19]
        nothing = collection.get(["nope"])
        assert list(nothing.ids) == []
        assert collection.get([]).metadata == []

    def test_include_chooses_columns(self, store: VectorStore) -> None:
        collection = self.make(store, load=records(3, DIM))
        back = collection.get(["id1"], include=["documents"])
        assert (back.vectors, back.metadata, back.documents) == (None, None, ["text 1"])
        nothing = next(iter(collection.scan(include=[])))
        assert (nothing.vectors, nothing.metadata, nothing.documents) == (None, None, None)
        for batch in collection.scan(include=["metadata"]):
            assert batch.metadata is not None
            assert (batch.vectors, batch.documents) == (None, None)

    def test_documents_are_any_text(self, store: VectorStore) -> None:
        texts: list[str | None] = [*HOSTILE, "", None, "long " * 4000]
        ids = [f"id{i}" for i in range(len(texts))]
        collection = self.make(store, load=Records(ids, raw_vectors(len(texts), DIM), documents=texts))
        back = collection.get(ids)
        assert back.documents == texts
        assert back.metadata == [{}] * len(texts)

    def test_overwritten_again_and_again(self, store: VectorStore) -> None:
        """Each id stays one record, with the last vector, however often the index saw it."""
        n = 40
        last = records(n, DIM)
        collection = self.make(store, load=last)
        for seed in range(2, 8):
            last = records(n, DIM, seed=seed)
            collection.upsert(last)
            if seed == 5:
                collection.optimize()
        collection.flush()
        assert last.vectors is not None
        for _ in range(2):
            result = collection.search(last.vectors, k=3 * n)
            assert [sorted(ids) for ids in result.ids] == [sorted(last.ids)] * n
            row = {id_: i for i, id_ in enumerate(last.ids)}
            vectors = last.vectors[[row[i] for i in result.ids[0]]]
            queries = np.broadcast_to(last.vectors[0], vectors.shape)
            tolerance = store.capabilities.tolerance
            assert_distances(queries, vectors, result.distances[0], collection.spec.metric, tolerance)
            assert collection.count() == n
            collection.optimize()

    def test_emptied_and_filled_again(self, store: VectorStore) -> None:
        collection = self.make(store, load=records(50, DIM))
        collection.delete(ids=[f"id{i}" for i in range(50)])
        collection.flush()
        for _ in range(2):
            assert collection.count() == 0
            assert collection.search(raw_vectors(1, DIM), k=5).ids == [[]]
            assert [i for b in collection.scan() for i in b.ids] == []
            collection.optimize()
        collection.upsert(records(20, DIM, prefix="new"))
        collection.flush()
        assert sorted(collection.search(raw_vectors(1, DIM), k=50).ids[0]) == sorted(f"new{i}" for i in range(20))

    def test_upsert_replaces_the_whole_record(self, store: VectorStore) -> None:
        collection = self.make(store, load=records(30, DIM), fields={"n": "int"})
        far = np.full((1, DIM), 50, np.float32)
        collection.upsert(Records(["id4"], far, [{"only": 1}]))
        collection.flush()
        for _ in range(2):
            back = collection.get(["id4"])
            assert back.metadata == [{"only": 1}]
            assert back.documents == [None]
            assert collection.count() == 30
            if "eq" in store.capabilities.filters:
                assert collection.count(Eq("n", 4)) == 0
            assert collection.search(far, k=1).ids == [["id4"]]
            assert sorted(collection.search(far, k=30).ids[0]) == sorted(f"id{i}" for i in range(30))
            collection.optimize()

    def test_read_your_writes(self, store: VectorStore) -> None:
        """After flush everything is visible to get, count and search, also on top of a built index."""
        collection = self.make(store, load=records(200, DIM))
        extra = records(50, DIM, seed=9, prefix="new")
        collection.upsert(extra)
        collection.delete(ids=["id0", "id1", "missing"])
        collection.flush()
        for _ in range(2):
            assert collection.count() == 248
            assert collection.get(["id0"]).ids == []
            assert extra.vectors is not None
            if collection.spec.metric is not Metric.DOT:  # under dot a vector need not be its own nearest
                assert collection.search(extra.vectors, k=1).ids == [[i] for i in extra.ids]
            everything = collection.search(extra.vectors[:1], k=300).ids[0]
            assert len(everything) == len(set(everything)) == 248
            assert not {"id0", "id1"} & set(everything)
            collection.optimize()
        collection.delete(ids=list(extra.ids))
        collection.delete(ids=[])
        collection.flush()
        assert collection.count() == 198

    def test_delete_and_write_again(self, store: VectorStore) -> None:
        collection = self.make(store, load=records(10, DIM))
        collection.delete(ids=["id3"])
        collection.upsert(Records(["id3"], raw_vectors(1, DIM, 8)))
        collection.flush()
        assert collection.count() == 10
        assert collection.get(["id3"]).metadata == [{}]

    def test_scan_gives_every_record_once(self, store: VectorStore) -> None:
        data = records(57, DIM)
        collection = self.make(store, load=data, fields={"even": "bool"})
        collection.delete(ids=["id5"])
        collection.flush()
        batches = list(collection.scan(batch_size=10))
        assert all(1 <= len(b) <= 10 for b in batches)
        ids = [i for b in batches for i in b.ids]
        assert sorted(ids) == sorted(set(data.ids) - {"id5"})
        assert data.metadata is not None
        for batch in batches:
            assert batch.metadata is not None
            assert batch.vectors is not None
            assert len(batch.vectors) == len(batch)
            rows = [int(i[2:]) for i in batch.ids]
            assert [m["n"] for m in batch.metadata] == rows
            assert batch.documents == [f"text {i}" for i in rows]
            assert data.vectors is not None
            np.testing.assert_allclose(batch.vectors, data.vectors[rows], rtol=1e-6, atol=1e-7)
        if "eq" not in store.capabilities.filters:
            return
        even = [i for b in collection.scan(where=Eq("even", True), include=[]) for i in b.ids]
        assert sorted(even) == sorted(f"id{i}" for i in range(0, 57, 2))

    def test_batches_beyond_the_stores_limits(self, store: VectorStore) -> None:
        n = max(2500, (store.capabilities.max_batch or 0) + 1)
        collection = self.make(store, load=records(n, DIM))
        assert collection.count() == n
        back = collection.get([f"id{n - 1}", "id0"])
        assert list(back.ids) == [f"id{n - 1}", "id0"]
        everything = [f"id{i}" for i in range(n)]
        assert list(collection.get(everything, include=[]).ids) == everything
        assert sorted(i for b in collection.scan(include=[]) for i in b.ids) == sorted(everything)
        collection.delete(ids=everything[1:])
        collection.flush()
        assert collection.count() == 1
        assert collection.search(raw_vectors(1, DIM), k=3).ids == [["id0"]]

    def test_ids_are_any_text(self, store: VectorStore) -> None:
        ids = [*HOSTILE, "x" * 512, "é" * 256, "Case", "case", "a/b", "0" * 36]
        collection = self.make(
            store, load=Records(ids, raw_vectors(len(ids), DIM), [{"i": i} for i in range(len(ids))])
        )
        back = collection.get(ids)
        assert list(back.ids) == ids
        assert back.metadata == [{"i": i} for i in range(len(ids))]
        assert sorted(collection.search(raw_vectors(1, DIM), k=len(ids)).ids[0]) == sorted(ids)
        collection.delete(ids=ids[:5])
        collection.flush()
        assert collection.count() == len(ids) - 5
        assert list(collection.get(ids).ids) == ids[5:]

    def test_the_store_keeps_its_own_copy(self, store: VectorStore) -> None:
        vectors = raw_vectors(2, DIM)
        metadata = [{"tags": ["a"]}, {"tags": ["b"]}]
        collection = self.make(store)
        kept = vectors.copy()
        collection.upsert(Records(["a", "b"], vectors, metadata))
        vectors[:] = 9
        metadata[0]["tags"].append("changed")
        collection.flush()
        back = collection.get(["a", "b"])
        assert back.vectors is not None
        np.testing.assert_allclose(back.vectors, kept, rtol=1e-6)
        assert back.metadata == [{"tags": ["a"]}, {"tags": ["b"]}]

    def test_threads_may_share_a_collection(self, store: VectorStore) -> None:
        collection = self.make(store, load=records(100, DIM))
        queries = raw_vectors(8, DIM, 6)

        def work(thread: int) -> int:
            for i in range(10):
                collection.upsert(records(5, DIM, seed=thread * 100 + i, prefix=f"t{thread}-{i}-"))
                assert len(collection.search(queries[thread : thread + 1], k=5).ids[0]) == 5
            return thread

        with ThreadPoolExecutor(8) as pool:
            assert sorted(pool.map(work, range(8))) == list(range(8))
        collection.flush()
        assert collection.count() == 100 + 8 * 10 * 5

    def test_the_awaited_verbs_answer_alike(self, store: VectorStore) -> None:
        collection = self.make(store, fields={"even": "bool"})
        data, query = records(30, DIM), raw_vectors(1, DIM, 5)

        async def main() -> None:
            aio = collection.aio
            await aio.upsert(data)
            await aio.flush()
            await aio.optimize()
            assert await aio.count() == 30
            assert (await aio.search(query, k=5)).ids == collection.search(query, k=5).ids
            assert list((await aio.get(["id1"])).ids) == ["id1"]
            assert sorted([i async for b in aio.scan(batch_size=7) for i in b.ids]) == sorted(data.ids)
            if "eq" in store.capabilities.filters:
                await aio.delete(where=Eq("even", True))
            else:
                await aio.delete(ids=data.ids[::2])
            await aio.flush()
            assert await aio.count() == 15

        asyncio.run(main())
