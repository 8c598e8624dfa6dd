"""Engines as processes: started, waited for, described, and ended, whatever happens to us."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import textwrap
import threading
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
from filelock import FileLock
from typer.testing import CliRunner

from vecbench.cli.main import app
from vecbench.errors import AdapterNotFound, ConnectionFailed, StoreTimeout
from vecbench.registry import StoreRef
from vecbench.services import manager
from vecbench.services.engine import Launch, LocalEngine, free_ports
from vecbench.services.local import Service, start
from vecbench.services.target import open_target

SERVER = """
import http.server, os, signal, subprocess, sys
if {stubborn}:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print("password=hunter2", flush=True)
http.server.HTTPServer(("127.0.0.1", {port}), http.server.SimpleHTTPRequestHandler).serve_forever()
"""


class Web(LocalEngine):
    """A web server that has a child, as engines do."""

    name = "web"
    start_seconds = 10.0
    stop_seconds = 0.5
    stubborn = False
    missing: str | None = None
    broken = False

    def why_not(self) -> str | None:
        return self.missing

    def launch(self, folder: Path) -> Launch:
        (port,) = free_ports(1)
        code = "import sys; sys.exit('no such setting')" if self.broken else SERVER
        return Launch(
            command=[sys.executable, "-c", code.format(stubborn=self.stubborn, port=port)],
            url=f"http://127.0.0.1:{port}",
            env={"SETTING": "1"},
            cwd=folder,
            secrets={"password": "hunter2"},
        )

    def probe(self, launch_url: str) -> str:
        with urllib.request.urlopen(launch_url, timeout=1) as answer:  # noqa: S310  our own loopback URL
            return str(answer.headers["Server"])


def _gone(*pids: int) -> bool:
    _, alive = psutil.wait_procs([psutil.Process(p) for p in pids if psutil.pid_exists(p)], timeout=5)
    return not [p for p in alive if p.status() != psutil.STATUS_ZOMBIE]


@pytest.mark.parametrize("stubborn", [False, True])
def test_a_service_is_there_until_it_is_stopped(stubborn: bool) -> None:
    engine = Web()
    engine.stubborn = stubborn
    with start(engine) as service:
        assert "HTTP" in service.version
        assert service.alive
        assert service.memory_bytes > 1_000_000
        pids = service.pids
        assert len(pids) == 2
        assert "hunter2" not in repr(service)
        assert "hunter2" not in service.log
        assert service.secrets == {"password": "hunter2"}
        assert stat.S_IMODE((service.folder / "launch.json").stat().st_mode) == 0o600
    assert _gone(*pids)
    assert not service.folder.exists()
    service.stop()


def test_a_folder_is_kept(tmp_path: Path) -> None:
    with start(Web(), tmp_path / "data") as service:
        assert service.folder == tmp_path / "data"
    assert (tmp_path / "data" / "engine.log").exists()
    with start(Web(), tmp_path / "data") as again:
        assert again.alive


def test_a_folder_has_one_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with start(Web(), tmp_path), pytest.raises(ConnectionFailed, match="already"):
        start(Web(), tmp_path)
    monkeypatch.setattr(Web, "stubborn", True)
    service = start(Web(), tmp_path)
    first = service.pid
    guard = psutil.Process(first).parent()
    assert guard is not None
    guard.send_signal(signal.SIGTERM)  # it takes a moment, and writes to the folder last
    with start(Web(), tmp_path) as again:
        assert again.alive
        assert again.pid != first
    service.stop()


def test_two_starts_at_one_instant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second waits for the first and finds it there: two on one folder would ruin its data."""
    both = threading.Barrier(2)
    launched: list[Path] = []
    launch = Web.launch

    def noting(self: Web, folder: Path) -> Launch:
        launched.append(folder)
        return launch(self, folder)

    monkeypatch.setattr(Web, "launch", noting)

    def begin() -> Service | str:
        both.wait(10)
        try:
            return start(Web(), tmp_path)
        except ConnectionFailed as error:
            return str(error)

    with ThreadPoolExecutor(2) as threads:
        ends = [threads.submit(begin) for _ in range(2)]
        found = [end.result(30) for end in ends]
    (service,) = [one for one in found if isinstance(one, Service)]
    with service:
        (refused,) = [one for one in found if isinstance(one, str)]
        assert "is running in" in refused
        assert launched == [tmp_path]
        assert service.alive
    with FileLock(tmp_path / "start.lock"), pytest.raises(StoreTimeout, match="web has been starting"):
        start(Web(), tmp_path, timeout=0.01)


def test_two_ups_at_one_instant(state: Path) -> None:
    with ThreadPoolExecutor(2) as threads:
        first, second = threads.map(manager.up, ["web", "web"])
    try:
        assert first == second
        assert first.alive
        assert len(first.pids) == 2
    finally:
        manager.down(first)
    assert _gone(first.guard)


def test_what_cannot_run_says_why() -> None:
    engine = Web()
    engine.missing = "no program called web: apt-get install web"
    with pytest.raises(ConnectionFailed, match="apt-get install web"):
        start(engine)


def test_an_engine_that_ends_at_once_leaves_its_last_words() -> None:
    engine = Web()
    engine.broken = True
    with pytest.raises(ConnectionFailed, match="no such setting"):
        start(engine)


def test_an_engine_that_never_serves_is_ended(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def never(_self: Web, _url: str) -> str:
        raise OSError("still loading")

    monkeypatch.setattr(Web, "probe", never)
    before = {p.pid for p in psutil.Process().children(recursive=True)}
    with pytest.raises(StoreTimeout, match="still loading"):
        start(Web(), tmp_path, timeout=1)
    assert {p.pid for p in psutil.Process().children(recursive=True)} == before


def test_a_killed_engine_is_noticed() -> None:
    with start(Web()) as service:
        service.kill()
        assert not service.alive


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("whom", ["us", "the guard"])
def test_no_orphan(how: signal.Signals, whom: str) -> None:
    code = textwrap.dedent("""
        import importlib.util, os, signal, sys, psutil
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        spec = importlib.util.spec_from_file_location("web", sys.argv[1])
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        service = module.start(module.Web())
        print(psutil.Process(service.pid).ppid(), *service.pids, flush=True)
        sys.stdin.read()
    """)
    parent = subprocess.Popen(
        [sys.executable, "-c", code, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    assert parent.stdin is not None
    guard, *engine = map(int, parent.stdout.readline().split())
    assert len(engine) == 2
    os.kill(parent.pid if whom == "us" else guard, how)
    # A killed guard cannot end what the engine has started itself; the engine goes with it.
    assert _gone(*(engine if (whom, how) != ("the guard", signal.SIGKILL) else engine[:1]))
    for pid in engine:
        if psutil.pid_exists(pid):
            os.kill(pid, signal.SIGKILL)
    parent.kill()
    parent.communicate()


def test_ports_are_free_and_may_follow_each_other() -> None:
    ports = free_ports(3, consecutive=True)
    assert ports == [ports[0], ports[0] + 1, ports[0] + 2]
    assert len(set(free_ports(5))) == 5


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("VECBENCH_SERVICES", str(tmp_path / "state"))
    monkeypatch.setattr(manager, "engine", lambda _name: Web())
    monkeypatch.setattr(manager, "engine_names", lambda: ["web"])
    yield tmp_path / "state"
    for left in manager.running():  # by a test that failed
        manager.down(left)


def test_up_outlives_its_caller_and_down_ends_it(state: Path) -> None:
    service = manager.up("web")
    try:
        assert manager.up("web") == service
        assert manager.find("web") == service
        assert stat.S_IMODE((state / "web.json").stat().st_mode) == 0o600
        assert service.memory_bytes
        pids = service.pids
        assert len(pids) == 2
    finally:
        manager.down(service)
    assert _gone(*pids)
    assert manager.running() == []
    assert not (state / "web.data").exists()


def test_what_has_died_is_forgotten(state: Path) -> None:
    service = manager.up("web")
    for pid in (service.guard, *service.pids):
        os.kill(pid, signal.SIGKILL)
    assert _gone(service.guard)
    assert manager.find("web") is None
    assert not (state / "web.json").exists()
    (state / "half.json").write_text("{", "utf-8")
    assert manager.running() == []


def test_an_engine_that_does_not_start_leaves_nothing(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Web, "broken", True)
    with pytest.raises(ConnectionFailed):
        manager.up("web")
    assert [file.name for file in state.iterdir()] == [".web.lock"]


def test_the_command_line(state: Path) -> None:
    run = CliRunner().invoke
    up = run(app, ["services", "up", "web"])
    assert up.exit_code == 0, up.output
    assert "web: SimpleHTTP" in up.output
    status = run(app, ["services", "status"])
    assert "hunter2" not in status.output
    assert "http://127.0.0.1" in status.output
    assert "hunter2" not in run(app, ["services", "status", "--json"]).output
    logs = run(app, ["services", "logs", "web"])
    assert "password=***" in logs.output
    down = run(app, ["services", "down", "--all"])
    assert (down.exit_code, down.output) == (0, "web: ended\n")
    assert run(app, ["services", "down", "web"]).exit_code == 0
    for wrong in (["up", "nope"], ["down"], ["logs", "web"]):
        assert run(app, ["services", *wrong]).exit_code == 2


def test_unknown_engines_are_named() -> None:
    with pytest.raises(AdapterNotFound, match="known"):
        manager.engine("nope")


def test_a_run_finds_what_is_up(state: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Its URL and secrets are used, its processes are the engine's, and what is made there must be dropped."""
    asked: dict[str, object] = {}

    class Store:
        from vecbench.memory import MemoryStore

        info = MemoryStore.open().info

        @staticmethod
        def reached_at() -> None:
            return None

    def connect(self: StoreRef, **options: object) -> Store:
        asked.update(url=self.url, **options)
        return Store()

    monkeypatch.setattr(StoreRef, "connect", connect)
    service = manager.up("web")
    try:
        target = open_target(StoreRef("web"), tmp_path)
        assert asked == {"url": service.url, "password": "hunter2"}
        assert (target.outlives, target.info.deployment, target.info.pids) == (True, "local-process", service.pids)
    finally:
        manager.down(service)
    assert not open_target(StoreRef("web"), tmp_path).outlives
    assert open_target(StoreRef("web", url="http://x"), tmp_path).outlives
