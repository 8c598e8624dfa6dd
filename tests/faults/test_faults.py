"""What becomes of a call when its server dies, freezes, crawls, is another, or does not know us: our error, in time."""

from __future__ import annotations

import os
import signal
import threading
import time
import traceback
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from urllib.parse import parse_qs, urlsplit

import numpy as np
import psutil
import pytest

from vecbench import Collection, CollectionSpec, Metric, Records, VectorStore, connect
from vecbench.errors import ConnectionFailed, PartialWriteError, StoreError, StoreTimeout
from vecbench.services.local import Service, start
from vecbench.services.manager import engine

from .proxies import Slow, babble, listening, silent, web_page

DIM = 64
TIMEOUTS = defaultdict(lambda: 2.0, milvus=8.0)  # seconds, of one call; loading a collection takes Milvus three
PATIENCE = 40.0  # a call may be several requests, and a client may ask more than once
GONE = (ConnectionFailed, StoreTimeout)
WRONG = "hush-hush"


@pytest.fixture(scope="module")
def service(name: str) -> Iterator[Service]:
    with start(engine(name)) as running:
        yield running


@pytest.fixture
def mortal(name: str) -> Iterator[Service]:
    """A server of the test's own; nothing of it is left."""
    with start(engine(name)) as running:
        pids = running.pids
        yield running
    _, alive = psutil.wait_procs([psutil.Process(p) for p in pids if psutil.pid_exists(p)], timeout=10)
    assert alive == []


def _open(name: str, service: Service, **changed: Any) -> VectorStore:
    return connect(name, **{"url": service.url, "timeout": TIMEOUTS[name], **service.secrets, **changed})


def _records(n: int, start: int = 0) -> Records:
    vectors = np.random.default_rng(start).normal(size=(n, DIM)).astype(np.float32)
    return Records([f"id-{i}" for i in range(start, start + n)], vectors, [{"n": i} for i in range(n)])


def _loaded(store: VectorStore, n: int = 300) -> Collection:
    made = store.create_collection(CollectionSpec(f"faults {time.monotonic_ns()}", DIM, Metric.EUCLIDEAN))
    made.upsert(_records(n))
    made.flush()
    return made


@contextmanager
def _fails(*kinds: type[StoreError]) -> Iterator[list[BaseException]]:
    """The block raises one of our errors, in time, and no secret is in it or in what caused it."""
    began, caught = time.monotonic(), list[BaseException]()
    with pytest.raises(kinds) as info:
        yield caught
    assert time.monotonic() - began < PATIENCE
    error: BaseException | None = info.value
    while error is not None and not any(error is e for e in caught):  # grpc makes errors that cause themselves
        caught.append(error)
        error = error.__cause__
    assert not [e for e in caught if WRONG in f"{e} {e!r}"]


def test_killed_while_it_is_written_to(name: str, mortal: Service) -> None:
    """What went in and what did not is told id by id."""
    with _open(name, mortal) as store:
        collection = _loaded(store)
        records = _records(60_000, start=1000)
        killer = threading.Timer(0.6, mortal.kill)
        killer.start()
        with _fails(PartialWriteError, *GONE) as caught:
            for _ in range(1_000_000):
                collection.upsert(records)
        killer.join()
        if isinstance(caught[0], PartialWriteError):
            error = caught[0]
            assert [*error.accepted, *error.failed] == list(records.ids)
            assert error.accepted
        with _fails(*GONE):
            collection.upsert(_records(10))
        with _fails(*GONE):
            collection.flush(timeout=2.0)


def test_killed_while_it_is_searched(name: str, mortal: Service) -> None:
    with _open(name, mortal) as store:
        collection = _loaded(store)
        query = _records(1).vectors
        assert query is not None
        killer = threading.Timer(0.3, mortal.kill)
        killer.start()
        with _fails(*GONE):
            for _ in range(1_000_000):
                assert len(collection.search(query, k=5).ids[0]) == 5
        killer.join()
        for verb in (collection.count, store.list_collections, lambda: collection.get(["id-1"])):
            with _fails(*GONE):
                verb()
    # And before connecting: nothing listens there any more.
    with _fails(ConnectionFailed) as caught:
        _open(name, mortal)
    assert str(urlsplit(mortal.url).port) in str(caught[0])


def test_frozen_and_thawed(name: str, mortal: Service) -> None:
    """A server that holds still is given up in time, and works again afterwards."""
    with _open(name, mortal) as store:
        collection = _loaded(store)
        query = _records(1).vectors
        assert query is not None
        assert len(collection.search(query, k=5).ids[0]) == 5
        pids = mortal.pids
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        try:
            with _fails(*GONE):
                collection.search(query, k=5)
            with _fails(PartialWriteError, *GONE):
                collection.upsert(_records(10))
        finally:
            for pid in pids:
                os.kill(pid, signal.SIGCONT)
        # The parts of a Milvus lose each other when they are frozen for longer than their sessions last, and it ends.
        assert name == "milvus" or _heals(collection, query)


def _heals(collection: Collection, query: Any) -> bool:
    """Whether a search works again, at the latest after some seconds: a client may rest before it connects anew."""
    deadline, pause = time.monotonic() + PATIENCE, threading.Event()
    while True:
        try:
            return len(collection.search(query, k=5).ids[0]) == 5
        except GONE:
            if time.monotonic() > deadline:
                raise
            pause.wait(0.2)


def test_slow(name: str, service: Service) -> None:
    """Through a line on which every answer is later than the timeout."""
    parts = urlsplit(service.url)
    assert parts.port is not None
    grpc = parse_qs(parts.query).get("grpc_port")
    with ExitStack() as stack:
        lines = [Slow(parts.port)]
        ports = [stack.enter_context(listening(lines[0]))]
        options: dict[str, Any] = {}
        if grpc is not None:
            lines.append(Slow(int(grpc[0])))
            ports.append(stack.enter_context(listening(lines[1])))
            options["grpc_port"] = ports[1]
        at = parts.netloc.replace(f":{parts.port}", f":{ports[0]}")
        url = parts._replace(netloc=at, query="").geturl()
        store = stack.enter_context(_open(name, service, url=url, **options))
        collection = _loaded(store)
        query = _records(1).vectors
        assert query is not None
        for line in lines:
            line.delay = 3 * TIMEOUTS[name]
        with _fails(*GONE):
            collection.search(query, k=5)
        for line in lines:
            line.delay = 0.0
            line.ended.set()
        assert _heals(collection, query)


def test_unknown_credentials(name: str, service: Service) -> None:
    if not service.secrets:  # this engine has no passwords: nothing can be wrong
        assert name in {"chroma", "elasticsearch", "milvus"}
        return
    with _fails(ConnectionFailed):
        _open(name, service, **dict.fromkeys(service.secrets, WRONG))


# What engines without passwords of their own are told, and do not ask for.
UNASKED = {"chroma": {"api_key": WRONG}, "elasticsearch": {"api_key": WRONG}, "milvus": {"token": f"root:{WRONG}"}}


def test_what_it_was_opened_with_is_quoted_back(name: str, service: Service) -> None:
    """A server's answer may repeat a key; the client's error then does, and is no cause of ours."""
    given = service.secrets or UNASKED[name]
    secret = given.get("password") or given.get("api_key") or WRONG
    with _open(name, service, **given) as store:
        with pytest.raises(StoreError) as info, store._doing(None, "asking"):
            raise ValueError(f"nobody knows {secret}")
        shown = "".join(traceback.format_exception(info.value))
        assert "asking" in shown
        assert secret not in shown
        store.list_collections()


@pytest.mark.parametrize("what", [silent, web_page, babble])
def test_something_else_is_there(name: str, service: Service, what: Any) -> None:
    parts = urlsplit(service.url)
    with listening(what) as port:
        at = parts.netloc.replace(f":{parts.port}", f":{port}")
        with _fails(*GONE):
            _open(name, service, url=parts._replace(netloc=at).geturl())
