"""Generated texts that would be syntax somewhere, as ids, field names, values, documents and collection names."""

from __future__ import annotations

import os
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vecbench.filters import Contains, Eq, Exists, Filter, In, Ne, Not, matches
from vecbench.spec import CollectionSpec
from vecbench.store import VectorStore
from vecbench.testing.base import DIM, Base, usual_metric
from vecbench.testing.data import HOSTILE, raw_vectors
from vecbench.types import Records

__all__ = ["HostileTests"]

# VECBENCH_EXAMPLES=1000 for a night of it. Each example has 20 records, each with an id, two names and three values.
_EXAMPLES = int(os.environ.get("VECBENCH_EXAMPLES", "20"))
_SETTINGS = settings(
    max_examples=_EXAMPLES,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture, HealthCheck.data_too_large],
)
_FRAGMENTS = (
    *HOSTILE, "'", '"', "''", '"""', ";", "--", "/*", "*/", "\\'", "\\\\", "%", "%s", "%(x)s", "{", "}", "{}", "${x}",
    "$", "@", "@id:{*}", "|", "&", "!", "~", "*", "?", "(", ")", "[", "]", "<", ">", "=", "==", ",", ":", "-", "+", "^",
    "=>", "\x1f", "\x7f", "\x01", "\r\n", "\u2028", "\ufeff", "\u202e", "é", "e\u0301", "ß", "İ", "👩\u200d🚀", "漢",
    "AND", "or", "NOT", "true", "None", "NaN", "1e9", "0x1", "1", "01", "1.0", "id", "meta", "_id", "vector", "score",
)  # fmt: skip
_text = st.lists(st.sampled_from(_FRAGMENTS), min_size=1, max_size=4).map("".join) | st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=12
)
_record = st.tuples(_text, _text, _text, st.lists(_text, max_size=2), _text)
_examples = st.lists(_record, min_size=20, max_size=20, unique_by=lambda r: r[0])


class HostileTests(Base):
    def test_generated_hostile_records(self, store: VectorStore) -> None:
        """Every id, name and value comes back as it was, finds exactly its record, and touches no other."""
        collection = store.create_collection(CollectionSpec("h", DIM, usual_metric(store), self.index))
        declared, can = store.capabilities.declared_fields, store.capabilities.filters

        @_SETTINGS
        @given(_examples)
        def check(drawn: list[tuple[str, str, str, list[str], str]]) -> None:
            ids = [id_ for id_, *_ in drawn]
            metadata: list[dict[str, Any]] = [{name: value, "l": many, "v": id_} for id_, name, value, many, _ in drawn]
            documents = [text for *_, text in drawn]
            collection.upsert(Records(ids, raw_vectors(len(ids), DIM), metadata, documents))
            collection.flush()
            got = collection.get(ids)
            assert list(got.ids) == ids
            assert got.metadata == metadata
            assert got.documents == documents
            assert collection.count() == len(ids)
            for id_, name, value, many, _ in drawn[:8]:
                wheres: list[Filter] = [Eq("v", id_), Eq(name, value), Exists(name), Not(Eq(name, value))]
                wheres += [Ne("v", id_), In("v", [id_, value]), *(Contains("l", item) for item in many)]
                for where in wheres:
                    if declared or where.op not in can:
                        continue
                    expected = {i for i, m in zip(ids, metadata, strict=True) if matches(where, m)}
                    assert collection.count(where) == len(expected), where
                    found = collection.search(raw_vectors(1, DIM, 7), k=len(ids), where=where).ids[0]
                    assert len(found) == len(expected), where
                    assert set(found) == expected, where
            collection.delete(ids=ids[::2])
            collection.flush()
            assert list(collection.get(ids, include=[]).ids) == ids[1::2]
            collection.delete(ids=ids)
            collection.flush()
            assert collection.count() == 0

        check()

    def test_generated_collection_names(self, store: VectorStore) -> None:
        """A name opens its own collection and none that looks like it."""

        @settings(_SETTINGS, max_examples=max(1, _EXAMPLES // 10))
        @given(st.lists(_text.filter(lambda t: len(t.encode()) <= 255), min_size=3, max_size=3, unique=True))
        def check(names: list[str]) -> None:
            for left in store.list_collections():  # by an example that failed
                store.drop_collection(left)
            for row, name in enumerate(names):
                made = store.create_collection(CollectionSpec(name, DIM, usual_metric(store), self.index))
                made.upsert(Records([f"only in {row}"], raw_vectors(1, DIM)))
                made.flush()
            assert store.list_collections() == sorted(names)
            for row, name in enumerate(names):
                opened = store.get_collection(name)
                assert opened.spec.name == name
                assert list(opened.get([f"only in {r}" for r in range(len(names))]).ids) == [f"only in {row}"]
            store.drop_collection(names[0])
            assert store.list_collections() == sorted(names[1:])
            for name in names[1:]:
                store.drop_collection(name)

        check()
