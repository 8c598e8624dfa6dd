"""Pinecone's late reads and failures; *spec conformance*, not run against the service.

The server is `tests.pinecone_spec`: the published API over loopback, no engine.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.adapters.said import said
from tests.pinecone_spec import Fault, Knobs, Lag, SpecServer
from vecbench.errors import ConnectionFailed, PartialWriteError, StoreRejected, StoreTimeout
from vecbench.filters import Gt
from vecbench.types import Records
from vecbench_pinecone import PineconeStore

from .parts import ONE, make, some

ROOT = Path(__file__).resolve().parents[3]


# Late reads -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("late", ["search", "stats"])
@pytest.mark.parametrize("log_numbers", [True, False])
def test_flush_waits_until_writes_can_be_read(store: PineconeStore, knobs: Knobs, late: str, log_numbers: bool) -> None:
    """By log sequence numbers; where the service sends none, by counts that agree."""
    knobs.log_numbers = log_numbers
    docs = make(store)
    setattr(knobs, late, Lag(seconds=0.3))
    docs.upsert(some(30))
    seen = docs.count() if late == "stats" else len(docs.search(ONE, k=30).ids[0])
    assert seen == 0
    docs.flush()
    assert (docs.count(), docs.count(Gt("n", -1)), len(docs.search(ONE, k=50).ids[0])) == (30, 30, 30)
    docs.delete(ids=["id3"])
    docs.delete(where=Gt("n", 19))
    docs.flush()
    assert (docs.count(), docs.count(Gt("n", -1)), len(docs.search(ONE, k=50).ids[0])) == (19, 19, 19)


def test_flush_tells_replaced_records_by_log_sequence_numbers(store: PineconeStore, knobs: Knobs) -> None:
    """A count does not change when a record is overwritten, nor when one goes and another comes."""
    docs = make(store)
    docs.upsert(some(30))
    docs.flush()
    knobs.search = Lag(reads=5)
    docs.upsert(Records(["id1"], 100 * ONE))
    docs.delete(ids=["id2"])
    docs.upsert(Records(["new"], 99 * ONE))
    docs.flush()
    assert docs.search(100 * ONE, k=2).ids == [["id1", "new"]]
    assert docs.count() == 30


def test_flush_covers_what_others_wrote(store: PineconeStore, server: SpecServer, key: str, knobs: Knobs) -> None:
    docs = make(store)
    docs.upsert(some(2))
    docs.flush()
    knobs.search = knobs.stats = Lag(seconds=0.3)
    with PineconeStore.open(url=server.url, api_key=key) as other:
        other.get_collection("docs").upsert(some(5, prefix="theirs"))
    docs.flush()
    assert len(docs.search(ONE, k=10).ids[0]) == docs.count() == 7


@pytest.mark.parametrize("late", ["search", "stats"])
def test_flush_gives_up_at_its_deadline(store: PineconeStore, knobs: Knobs, late: str) -> None:
    docs = make(store)
    docs.upsert(some(2))
    setattr(knobs, late, Lag(reads=10**6))
    docs.upsert(some(4))
    for verb in (docs.flush, docs.optimize):
        started = time.monotonic()
        with pytest.raises(StoreTimeout, match="'docs'"):
            verb(timeout=0.5)
        assert time.monotonic() - started < 2


# Failures -------------------------------------------------------------------------------------------------------------


def test_a_batch_that_fails_names_what_is_in(store: PineconeStore, knobs: Knobs) -> None:
    docs = make(store)
    knobs.faults = [Fault(400, "/vectors/upsert", after=2)]
    data = some(3_500)
    with pytest.raises(PartialWriteError, match="injected") as caught:
        docs.upsert(data)
    assert caught.value.accepted == list(data.ids)[: len(caught.value.accepted)]
    assert caught.value.accepted + caught.value.failed == data.ids
    docs.flush()
    assert {i for b in docs.scan(include=[]) for i in b.ids} == set(caught.value.accepted)
    docs.upsert(data)  # as often as one likes
    docs.flush()
    assert docs.count() == 3_500


def test_records_that_were_left_out_of_a_batch_are_no_success(store: PineconeStore, knobs: Knobs) -> None:
    docs = make(store)
    docs.upsert(some(2))
    knobs.accept = 7
    with pytest.raises(PartialWriteError, match="7 of 10") as caught:
        docs.upsert(some(10, prefix="new"))
    assert (caught.value.accepted, len(caught.value.failed)) == ([], 10)


@pytest.mark.parametrize("status", [429, 503])
def test_a_busy_service_is_asked_again(store: PineconeStore, knobs: Knobs, status: int) -> None:
    docs = make(store)
    knobs.faults = [Fault(status, path, times=2, retry_after=0.05) for path in ("/vectors/upsert", "/query")]
    docs.upsert(some(5))
    docs.flush()
    assert len(docs.search(ONE, k=9).ids[0]) == 5


@pytest.mark.parametrize(
    ("status", "error", "told"),
    [(429, StoreRejected, "throttled"), (503, ConnectionFailed, "cannot be reached"), (504, StoreTimeout, "too long"),
     (401, ConnectionFailed, "api_key"), (403, StoreRejected, "injected"), (413, StoreRejected, "injected")],
)  # fmt: skip
def test_a_service_that_fails_is_told(  # noqa: PLR0917  fixtures and parameters
    store: PineconeStore, knobs: Knobs, key: str, status: int, error: type[Exception], told: str
) -> None:
    docs = make(store)
    docs.upsert(some(5))
    knobs.faults = [Fault(status, "/query", times=10, retry_after=0.02, message=f"injected, for {key}")]
    with pytest.raises(error, match=told) as caught:
        docs.search(ONE)
    assert key not in said(caught.value)


@pytest.fixture
def process() -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The server in a process of its own, to be killed."""
    started = subprocess.Popen(
        [sys.executable, "-m", "tests.pinecone_spec"],
        cwd=ROOT, env={**os.environ, "PYTHONSAFEPATH": ""}, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert started.stdin is not None
    assert started.stdout is not None
    with started, started.stdin, started.stdout:
        yield started, started.stdout.readline().strip()


@pytest.mark.slow  # the SDK tries four times
def test_a_server_that_dies_while_ingesting_and_searching(process: tuple[subprocess.Popen[str], str]) -> None:
    server, url = process
    with PineconeStore.open(url=url, api_key="spec-a", timeout=6) as store:
        docs = make(store, dim=64)
        docs.upsert(some(100, 64))
        threading.Timer(0.4, os.kill, (server.pid, signal.SIGKILL)).start()
        data = some(30_000, 64)

        def write() -> None:
            while True:
                docs.upsert(data)

        started = time.monotonic()
        with pytest.raises((PartialWriteError, ConnectionFailed)) as caught:
            write()
        if isinstance(caught.value, PartialWriteError):
            assert caught.value.accepted + caught.value.failed == data.ids
            assert caught.value.failed
        with pytest.raises(ConnectionFailed):
            docs.search(np.ones((3, 64), np.float32))
        assert time.monotonic() - started < 20
