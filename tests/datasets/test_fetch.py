"""Downloads from a loopback server: cut, changed, wrong, redirected; what nobody vouches for; and archives."""

from __future__ import annotations

import hashlib
import importlib.util
import io
import json
import shutil
import sys
import zipfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from vecbench.errors import ChecksumMismatch, DatasetError
from vecbench.formats.convert import require_space
from vecbench.formats.fetch import fetch
from vecbench.formats.recipe import CardFile


def _beside(name: str) -> Any:
    """A module that lies beside this file: tests are no package."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


_server = _beside("server")
Site: Any = _server.Site
serving: Callable[[Any], AbstractContextManager[Any]] = _server.serving

CONTENT = bytes(range(256)) * 8000  # 2 MB
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def site() -> Iterator[Any]:
    with serving(Site(CONTENT)) as started:
        yield started


@pytest.fixture
def folder(home: Path, tmp_path: Path) -> Path:
    return tmp_path / "set"


def get(site: Any, folder: Path, **change: Any) -> list[float]:
    """Fetch, and return the pauses that were made."""
    pauses: list[float] = []
    given = {"name": "v.bin", "urls": (site.url,), "sha256": SHA256, "bytes": len(CONTENT), **change}
    fetch([CardFile(**given)], folder, pause=pauses.append)
    return pauses


def left(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} - {"fetch.lock"}


def test_a_file_is_fetched_once(site: Any, folder: Path) -> None:
    assert get(site, folder) == []
    assert (folder / "v.bin").read_bytes() == CONTENT
    assert left(folder) == {"v.bin", "lock.json"}
    assert json.loads((folder / "lock.json").read_text())["sha256"] == {"v.bin": SHA256}
    assert site.agents[0].startswith("vecbench/")
    get(site, folder)
    assert len(site.asked) == 1


def test_a_cut_connection_goes_on_where_it_ended(site: Any, folder: Path) -> None:
    site.cut = [500_000, 700_000]
    assert get(site, folder) == []  # something came each time: no pause
    assert (folder / "v.bin").read_bytes() == CONTENT
    first, second, third = site.asked
    assert first == ""
    assert 0 < int(second.removeprefix("bytes=").removesuffix("-")) <= 500_000
    assert int(second[6:-1]) < int(third[6:-1]) <= 1_200_000


def test_a_connection_cut_within_its_first_piece_goes_on_too(site: Any, folder: Path) -> None:
    site.cut = [100_000]
    assert get(site, folder) == []
    assert (folder / "v.bin").read_bytes() == CONTENT
    first, second = site.asked
    assert first == ""
    assert 0 < int(second.removeprefix("bytes=").removesuffix("-")) <= 100_000


def test_another_process_goes_on_where_the_killed_one_was(site: Any, folder: Path) -> None:
    folder.mkdir()
    (folder / "v.bin.part").write_bytes(CONTENT[:123_456])
    (folder / "v.bin.part.json").write_text(json.dumps({"validator": '"v1"'}))
    get(site, folder)
    assert site.asked == ["bytes=123456-"]
    assert (folder / "v.bin").read_bytes() == CONTENT


@pytest.mark.parametrize("note", ["", "{}", '{"validator": ""}', None])
def test_a_part_of_nobody_knows_what_is_not_gone_on_with(note: str | None, site: Any, folder: Path) -> None:
    folder.mkdir()
    (folder / "v.bin.part").write_bytes(b"x" * 1000)
    if note is not None:
        (folder / "v.bin.part.json").write_text(note)
    get(site, folder)
    assert site.asked == [""]
    assert (folder / "v.bin").read_bytes() == CONTENT


@pytest.mark.parametrize("honest", [True, False])
def test_a_file_that_changed_between_attempts_is_fetched_from_its_start(honest: bool, site: Any, folder: Path) -> None:
    folder.mkdir()
    (folder / "v.bin.part").write_bytes(b"y" * 5000)
    (folder / "v.bin.part.json").write_text(json.dumps({"validator": '"v0"'}))
    site.honest_if_range = honest  # some servers send a range of whatever is there now
    get(site, folder)
    assert (folder / "v.bin").read_bytes() == CONTENT


def test_a_server_without_ranges_starts_anew(site: Any, folder: Path) -> None:
    site.ranges, site.cut = False, [500_000]
    get(site, folder)
    assert (folder / "v.bin").read_bytes() == CONTENT
    assert len(site.asked) == 2


def test_a_server_without_validator_and_length(site: Any, folder: Path) -> None:
    site.etag, site.length, site.cut = "", False, [500_000]
    get(site, folder)  # the first ends as if whole; the card's size says that it is not
    assert (folder / "v.bin").read_bytes() == CONTENT


def test_a_part_longer_than_the_file_is_thrown_away(site: Any, folder: Path) -> None:
    folder.mkdir()
    (folder / "v.bin.part").write_bytes(CONTENT + b"more")
    (folder / "v.bin.part.json").write_text(json.dumps({"validator": '"v1"'}))
    assert len(get(site, folder)) == 1
    assert (folder / "v.bin").read_bytes() == CONTENT


def test_another_content_is_not_kept(site: Any, folder: Path) -> None:
    site.content = CONTENT[:-1] + b"\0"
    with pytest.raises(ChecksumMismatch, match=f"its card says {SHA256}"):
        get(site, folder)
    assert left(folder) == set()


def test_another_size_is_not_even_fetched(site: Any, folder: Path) -> None:
    with pytest.raises(DatasetError, match=r"2,048,000 bytes there, the card says 7"):
        get(site, folder, bytes=7)
    site.length = False  # then it is noticed when it goes on
    with pytest.raises(DatasetError, match="goes on beyond"):
        get(site, folder, bytes=300_000)
    assert not (folder / "v.bin").exists()


def test_passing_failures_are_tried_again_with_longer_pauses(site: Any, folder: Path) -> None:
    site.statuses = [503, 429, 500]
    assert get(site, folder) == [1, 2, 4]
    assert (folder / "v.bin").read_bytes() == CONTENT


def test_what_is_not_there_is_said_with_address_and_place(site: Any, folder: Path) -> None:
    site.statuses = [404]
    with pytest.raises(DatasetError) as caught:
        get(site, folder)
    message = str(caught.value)
    assert "HTTP 404" in message
    assert site.url in message
    assert f"put the file (2,048,000 bytes, sha256 {SHA256}) at {folder / 'v.bin'}" in message
    assert len(site.asked) == 1  # it is not asked again


def test_the_next_address_is_asked_where_the_first_fails(site: Any, folder: Path) -> None:
    with serving(Site(b"", statuses=[404])) as other:
        get(site, folder, urls=(other.url, site.url))
    assert (folder / "v.bin").read_bytes() == CONTENT


def test_without_network_the_message_says_what_to_do(site: Any, folder: Path) -> None:
    with serving(Site(b"")) as gone:
        pass  # a port where nobody listens any more
    pauses: list[float] = []
    file = CardFile(name="v.bin", urls=(gone.url,), bytes=len(CONTENT), sha256=SHA256)
    with pytest.raises(DatasetError, match="ConnectError") as caught:
        fetch([file], folder, pause=pauses.append)
    assert str(folder / "v.bin") in str(caught.value)
    assert len(pauses) == 3
    (folder / "v.bin").write_bytes(CONTENT)  # as it said
    fetch([file], folder)


def test_offline_asks_nobody(site: Any, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VECBENCH_OFFLINE", "1")
    with pytest.raises(DatasetError, match="VECBENCH_OFFLINE is set"):
        get(site, folder)
    assert site.asked == []


def test_redirects(site: Any, folder: Path) -> None:
    with serving(Site(b"", statuses=[302] * 20)) as loop:
        loop.location = loop.url
        with pytest.raises(DatasetError, match="too many redirects"):
            get(loop, folder)
    elsewhere = Site(b"", statuses=[302], location="ftp://127.0.0.1/x")
    with serving(elsewhere), pytest.raises(DatasetError, match="something else than http"):
        get(elsewhere, folder)
    with serving(Site(b"", statuses=[302], location=site.url)) as moved:
        get(moved, folder)
    assert (folder / "v.bin").read_bytes() == CONTENT


def test_an_encoded_answer_is_refused(site: Any, folder: Path) -> None:
    site.heads["Content-Encoding"] = "gzip"
    with pytest.raises(DatasetError, match="encoded"):
        get(site, folder)


def test_an_unpinned_file_is_trusted_once_and_held_to(
    site: Any, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    get(site, folder, sha256="", bytes=0)
    assert SHA256 in capsys.readouterr().err
    get(site, folder, sha256="", bytes=0)
    assert capsys.readouterr().err == ""
    (folder / "v.bin").write_bytes(CONTENT[:-1] + b"\0")
    with pytest.raises(ChecksumMismatch, match=f"from the first download.*delete {folder} to begin anew"):
        get(site, folder, sha256="", bytes=0)
    (folder / "v.bin").unlink()
    site.content = CONTENT[::-1]
    with pytest.raises(ChecksumMismatch, match=f"from the first download.*delete {folder} to begin anew") as caught:
        get(site, folder, sha256="", bytes=0)
    assert "others" not in str(caught.value)  # nobody else's word is known
    shutil.rmtree(folder)  # as it said
    get(site, folder, sha256="", bytes=0)
    assert (folder / "v.bin").read_bytes() == CONTENT[::-1]


def test_an_unpinned_file_belongs_to_the_address_that_it_came_from(site: Any, folder: Path) -> None:
    own = site.url.replace("http://", "http://user:hidden@")
    get(site, folder, sha256="", bytes=0, urls=(own,))
    assert "hidden" not in (folder / "lock.json").read_text()
    get(site, folder, sha256="", bytes=0, urls=("https://example.org/a", own))  # one of the addresses still
    with serving(Site(CONTENT[::-1])) as other:
        with pytest.raises(DatasetError, match=f"its card names {other.url}.*delete {folder} to fetch it") as caught:
            get(other, folder, sha256="", bytes=0)
        assert "hidden" not in str(caught.value)
        get(other, folder)  # a hash says more than an address
        assert other.asked == []


def test_a_lock_from_before_addresses_were_kept_is_taken(site: Any, folder: Path) -> None:
    get(site, folder, sha256="", bytes=0)
    lock = json.loads((folder / "lock.json").read_text())
    assert lock.pop("urls") == {"v.bin": site.url}
    (folder / "lock.json").write_text(json.dumps(lock))
    get(site, folder, sha256="", bytes=0)
    assert json.loads((folder / "lock.json").read_text())["urls"] == {"v.bin": site.url}


def test_an_unpinned_page_for_an_archive_can_be_got_rid_of(site: Any, folder: Path) -> None:
    site.content = b"<html>log in</html>"
    given = {"name": "set.zip", "bytes": 0, "unpacked_bytes": 4, "sha256": ""}
    for _ in range(2):
        with pytest.raises(DatasetError, match=f"cannot be unpacked.*delete {folder} to begin anew"):
            get(site, folder, **given)
    with serving(Site(zipped(("a", b"abc")))) as right:
        with pytest.raises(DatasetError, match=f"delete {folder}"):  # the card was corrected
            get(right, folder, **given)
        shutil.rmtree(folder)
        get(right, folder, **given)
    assert (folder / "unpacked" / "set.zip" / "a").read_bytes() == b"abc"


def test_a_file_put_there_by_hand_is_checked(site: Any, folder: Path) -> None:
    folder.mkdir()
    (folder / "v.bin").write_bytes(b"something else")
    with pytest.raises(ChecksumMismatch, match="delete it to fetch it again"):
        get(site, folder)
    assert site.asked == []


def test_a_full_disk_is_noticed_before_the_download(site: Any, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = SimpleNamespace(free=66 << 20)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(DatasetError, match=r"needs 5,000 MB, but the disk of .* has 69 MB free"):
        require_space(folder / "deep" / "down", 5_000_000_000, "fetching x")
    get(site, folder)
    usage.free = 65 << 20
    with pytest.raises(DatasetError, match=r"fetching v\.bin needs 2 MB"):
        get(site, folder.with_name("other"))


def test_a_damaged_lock_is_not_overwritten(site: Any, folder: Path) -> None:
    folder.mkdir()
    (folder / "lock.json").write_text("{")
    with pytest.raises(DatasetError, match=r"lock\.json is damaged"):
        get(site, folder)


def zipped(*members: tuple[str | zipfile.ZipInfo, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as file:
        for member, content in members:
            file.writestr(member, content)
    return out.getvalue()


def test_an_archive_is_unpacked_once_and_its_files_are_watched(site: Any, folder: Path) -> None:
    site.content = zipped(("set/", b""), ("set/corpus.jsonl", b"abc"), ("set/qrels/test.tsv", b"x"))
    given = {"name": "set.zip", "bytes": len(site.content), "unpacked_bytes": 4, "sha256": ""}
    get(site, folder, **given)
    out = folder / "unpacked" / "set.zip" / "set"
    assert (out / "corpus.jsonl").read_bytes() == b"abc"
    assert not (folder / "set.zip").exists()
    get(site, folder, **given)
    assert len(site.asked) == 1
    (out / "corpus.jsonl").write_bytes(b"abd")
    with pytest.raises(ChecksumMismatch, match="was changed"):
        get(site, folder, **given)
    (out / "corpus.jsonl").unlink()
    with pytest.raises(DatasetError, match="cannot be read"):
        get(site, folder, **given)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"name": "../v.bin"}, "plain file name"),
        ({"name": ".hidden"}, "plain file name"),
        ({"name": "a\\b"}, "plain file name"),
        ({"urls": ()}, "at least one address"),
        ({"urls": ("file:///etc/passwd",)}, "no http or https"),
        ({"urls": ("https:///x",)}, "no http or https"),
        ({"sha256": "abc"}, "64 lower-case hex"),
        ({"bytes": -1}, "negative"),
        ({"bytes": True}, "must be int"),
        ({"name": "a.zip"}, "unpacked_bytes"),
    ],
)
def test_a_wrong_file_of_a_card(change: dict[str, Any], complaint: str) -> None:
    with pytest.raises(DatasetError, match=complaint):
        CardFile(**{"name": "v.bin", "urls": ("https://example.org/v",), **change})
