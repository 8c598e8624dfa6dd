"""What the base classes do for every store: cutting batches, exact reports of partial writes, errors that help."""

from __future__ import annotations

import asyncio
import threading
import traceback
from typing import Any

import numpy as np
import pytest

import vecbench
from vecbench import (
    HNSW,
    Capabilities,
    CollectionSpec,
    Flat,
    IVFFlat,
    Metric,
    NativeIndex,
    Records,
    SearchParams,
    connect,
)
from vecbench.errors import (
    AdapterNotFound,
    CollectionMismatch,
    ConfigError,
    ConnectionFailed,
    MissingDependency,
    PartialWriteError,
    StoreClosed,
    StoreError,
    StoreRejected,
    cause_of,
    redact,
)
from vecbench.index import index_from_dict, index_to_dict, parse_index
from vecbench.memory import MemoryCollection, MemoryStore
from vecbench.registry import StoreRef, adapter, adapter_names
from vecbench.store import import_client


class Flaky(MemoryStore):
    """Accepts three records a call, and fails as its `fault` says at the second call."""

    capabilities = Capabilities(metrics=frozenset(Metric), indexes=frozenset({"flat"}), max_batch=3)
    fault: Exception = RuntimeError("vendor said no; api_key=s3cr3t")

    def _create(self, spec: CollectionSpec) -> MemoryCollection:
        made = self._collections[spec.name] = FlakyCollection(self, spec)
        return made

    def _translate(self, error: Exception, doing: str) -> StoreError | None:
        return ConnectionFailed(f"{doing}: gone") if isinstance(error, ConnectionError) else None


class FlakyCollection(MemoryCollection):
    calls = 0

    def _upsert(self, records: Records) -> None:
        self.calls += 1
        assert len(records) <= 3
        if self.calls == 2 and isinstance(self.store, Flaky):
            raise self.store.fault
        super()._upsert(records)


def records(n: int, dim: int = 2) -> Records:
    return Records([f"id{i}" for i in range(n)], np.ones((n, dim), np.float32))


def flaky(fault: Exception) -> Any:
    store = Flaky()
    store.fault = fault
    return store.create_collection(CollectionSpec("c", 2, Metric.EUCLIDEAN, Flat()))


def test_a_partial_write_says_exactly_what_is_in() -> None:
    collection = flaky(RuntimeError("vendor said no; api_key=s3cr3t"))
    with pytest.raises(PartialWriteError, match="3 of 7") as caught:
        collection.upsert(records(7))
    assert caught.value.accepted == ["id0", "id1", "id2"]
    assert caught.value.failed == ["id3", "id4", "id5", "id6"]
    assert "s3cr3t" not in str(caught.value)
    assert isinstance(caught.value.__cause__, RuntimeError)
    assert collection.count() == 3


def test_an_adapters_own_partial_report_is_completed() -> None:
    collection = flaky(PartialWriteError("one in", accepted=["id4"], failed=["id3", "id5"]))
    with pytest.raises(PartialWriteError) as caught:
        collection.upsert(records(7))
    assert caught.value.accepted == ["id0", "id1", "id2", "id4"]
    assert caught.value.failed == ["id3", "id5", "id6"]


def test_a_vendors_exception_never_escapes() -> None:
    collection = flaky(ConnectionResetError("reset"))
    collection.calls = 1
    with pytest.raises(ConnectionFailed) as caught:
        collection.upsert(records(2))
    assert isinstance(caught.value.__cause__, ConnectionResetError)
    collection = flaky(ValueError("odd"))
    collection.calls = 1
    with pytest.raises(StoreRejected, match="ValueError: odd"):
        collection.upsert(records(2))


def test_columns_of_unequal_length_are_refused() -> None:
    collection = flaky(RuntimeError())
    for bad in (
        Records(["a"], np.ones((2, 2), np.float32)),
        Records(["a", "b"], np.ones((2, 2), np.float32), metadata=[{}]),
        Records(["a", "b"], np.ones((2, 2), np.float32), documents=["x"]),
        Records(["a"]),
    ):
        with pytest.raises(StoreError):
            collection.upsert(bad)
    assert collection.calls == 0


def test_public_names_are_the_documented_ones() -> None:
    for name in vecbench.__all__:
        assert getattr(vecbench, name) is not None
    assert set(vecbench._HOME) | {"__version__"} == set(vecbench.__all__)
    with pytest.raises(AttributeError, match="nothing"):
        vecbench.nothing  # noqa: B018  the access is the test


@pytest.mark.parametrize(
    "index", [Flat(), HNSW(8, 50, 20), IVFFlat(16, 4, {"seed": 1}), NativeIndex("PQ32", {"a": "b"})]
)
def test_a_spec_survives_its_json(index: Any) -> None:
    spec = CollectionSpec("näme \"'", 3, Metric.DOT, index, fields={"year": "int", "tags": "list[str]"})
    assert CollectionSpec.from_json(spec.to_json()) == spec
    assert index_from_dict(index_to_dict(index)) == index


@pytest.mark.parametrize("text", ["", "{}", "[]", "null", '{"vecbench_spec": 99}', '{"vecbench_spec": 1}'])
def test_a_foreign_spec_is_refused(text: str) -> None:
    with pytest.raises(CollectionMismatch):
        CollectionSpec.from_json(text)


@pytest.mark.parametrize(
    ("text", "index"),
    [
        ("flat", Flat()),
        ("hnsw", HNSW()),
        ("hnsw:m=8,ef_construction=99", HNSW(m=8, ef_construction=99)),
        ("ivf_flat:nlist=7", IVFFlat(nlist=7)),
        ("native:IVF16,PQ8", NativeIndex("IVF16,PQ8")),
    ],
)
def test_parse_index(text: str, index: Any) -> None:
    assert parse_index(text) == index


@pytest.mark.parametrize("text", ["", "tree", "hnsw:m", "hnsw:m=x", "hnsw:m=0", "hnsw:q=1", "flat:m=1", "native:"])
def test_a_bad_index_is_explained(text: str) -> None:
    with pytest.raises(ConfigError):
        parse_index(text)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: CollectionSpec("", 3), "1 to 255"),
        (lambda: CollectionSpec("x" * 256, 3), "256 bytes"),
        (lambda: CollectionSpec("a\0b", 3), "NUL"),
        (lambda: CollectionSpec("\ud800", 3), "surrogate"),
        (lambda: CollectionSpec("a", 0), "dim"),
        (lambda: CollectionSpec("a", 3, "manhattan"), "manhattan"),  # type: ignore[arg-type]  # the refusal is the point
        (lambda: CollectionSpec("a", 3, fields={"x": "date"}), "date"),  # type: ignore[dict-item]  # the refusal is the point
        (lambda: SearchParams(ef_search=0), "ef_search"),
    ],
)
def test_bad_specs_say_what_is_wrong(make: Any, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        make()


def test_store_references() -> None:
    assert StoreRef.parse("qdrant") == StoreRef("qdrant")
    assert StoreRef.parse("qdrant:memory") == StoreRef("qdrant", "memory")
    ref = StoreRef.parse("qdrant=https://me:pw@host:6333?a=b")
    assert ref == StoreRef("qdrant", None, "https://me:pw@host:6333?a=b")
    assert "pw" not in ref.label
    for bad in ("", "=x", "a=", "a:", ":m"):
        with pytest.raises(ConfigError):
            StoreRef.parse(bad)


def test_an_unknown_store_is_named_with_what_is_known() -> None:
    with pytest.raises(AdapterNotFound, match="did you mean 'memory'"):
        connect("memry")
    assert {"memory", "null", "faiss", "qdrant"} <= set(adapter_names())
    with pytest.raises(ConfigError, match="mode"):
        connect("memory:server")
    with pytest.raises(ConfigError, match="option"):
        connect("memory", colour="red")
    assert adapter("memory") is MemoryStore


def test_a_missing_client_prints_its_install_line() -> None:
    with pytest.raises(MissingDependency, match=r"pip install 'vecbench\[faiss\]'"):
        import_client("no_such_client", store="faiss", extra="faiss")


def test_secrets_are_masked() -> None:
    assert redact("postgresql://u:p@ss@h:1/db, http://h/a@b, http://h?mail=a@b") == (
        "postgresql://***@h:1/db, http://h/a@b, http://h?mail=a@b"
    )
    masked = redact("https://user:hunter2@host/x?api_key=abc123&n=1 {'token': 'tok-9'} password=swordfish")
    for secret in ("hunter2", "abc123", "tok-9", "swordfish"):
        assert secret not in masked
    assert "n=1" in masked


def _behind(text: str) -> ValueError:
    """An error whose own words are harmless, with others behind it, two of which cause each other."""
    first, second = ValueError("harmless"), KeyError(text)
    first.__cause__, second.__context__ = second, first
    return first


@pytest.mark.parametrize(
    "fault",
    [
        RuntimeError("you sent the key sesame"),
        _behind("sesame"),
        PartialWriteError("one in", accepted=["id4"], failed=["id3", "id5"]),
        StoreRejected("ours"),
    ],
)
@pytest.mark.parametrize("calls", [0, 1])  # a part was accepted before, or none
def test_no_traceback_tells_what_the_store_was_opened_with(
    fault: Exception, calls: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server may repeat a key in its answer, which the client's error then quotes: it is no cause of ours."""
    if isinstance(fault, StoreError):
        fault.__cause__ = _behind("open sesame")
    collection = flaky(fault)
    monkeypatch.setattr(collection.store, "_hidden", lambda: (None, "", "sesame"))
    collection.calls = calls
    with pytest.raises(StoreError) as caught:
        collection.upsert(records(7))
    shown = "".join(traceback.format_exception(caught.value))
    assert "sesame" not in shown
    assert type(fault).__name__ in shown or isinstance(caught.value, PartialWriteError)


def test_a_cause_without_a_secret_stays() -> None:
    error = _behind("nothing")
    assert cause_of(error, ["sesame"]) is error
    assert cause_of(error, []) is error
    assert cause_of(_behind("sesame"), ["sesame"]) is None
    shown = ValueError("harmless")
    shown.__context__, shown.__suppress_context__ = KeyError("sesame"), True  # a traceback does not show it
    assert cause_of(shown, ["sesame"]) is shown


def test_aio_runs_beside_the_loop() -> None:
    """While one verb waits in its thread, the loop goes on: the release comes from the loop itself."""
    gate = threading.Event()

    class Waiting(MemoryCollection):
        def _count(self, where: Any) -> int:
            assert gate.wait(10)
            return 41

    async def main() -> int:
        collection = Waiting(MemoryStore(), CollectionSpec("c", 2))
        task = asyncio.create_task(collection.aio.count())
        await asyncio.sleep(0)
        gate.set()
        return await task

    assert asyncio.run(main()) == 41


def test_a_closed_store_refuses_through_aio_as_well() -> None:
    store = connect("memory")
    collection = store.create_collection(CollectionSpec("c", 2))
    store.close()
    with pytest.raises(StoreClosed):
        asyncio.run(collection.aio.count())
