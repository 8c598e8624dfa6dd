"""Files of a data set from the network: resumed, checked by hash while they come, and never half under their name.

FOLDER/NAME               a file that was fetched whole, or put there by hand
FOLDER/NAME.part          what has come so far; NAME.part.json says of which version
FOLDER/unpacked/          what came out of the archives
FOLDER/lock.json          the hash of every file, held to from the first time on, and the address that it came from
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from vecbench.endpoint import Access
from vecbench.errors import ChecksumMismatch, DatasetError, MissingDependency, redact
from vecbench.formats.blocks import file_sha256
from vecbench.formats.convert import require_space, shown
from vecbench.formats.recipe import CardFile
from vecbench.formats.unpack import unpack

if TYPE_CHECKING:
    import httpx

__all__ = ["UNPACKED", "fetch", "offline"]

UNPACKED = "unpacked"
_TIMEOUT_SECONDS = 30.0
_ATTEMPTS = 4  # in a row without a byte
_PAUSE_SECONDS = 1.0  # doubled after each of them
_PIECE = 1 << 18
_PASSING = {408, 425, 429, 500, 502, 503, 504}


def offline() -> bool:
    """Whether VECBENCH_OFFLINE forbids the network."""
    return os.environ.get("VECBENCH_OFFLINE", "").strip().lower() not in {"", "0", "false", "no"}


def fetch(files: Sequence[CardFile], folder: Path, *, pause: Callable[[float], object] = time.sleep) -> None:
    """Return when all files are in `folder`, whole and with the right hash, and archives are unpacked there.

    A hash that the card does not give is taken from the first download, kept in lock.json, told on stderr, and held to
    ever after, as is the address: it must be one of the card's. Raises ChecksumMismatch for another content, and
    DatasetError where a file cannot be had: it names the address and where to put the file by hand.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / "fetch.lock"):
            lock = _Lock(folder)
            for file in files:
                _have(file, folder, lock, pause)
    except OSError as e:
        raise DatasetError(f"{folder}: {e.strerror or e}") from e


class _Lock:
    """What lock.json says: hashes of fetched files and of what came out of archives, and addresses, secrets masked."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "lock.json"
        self.sha256: dict[str, str] = {}
        self.urls: dict[str, str] = {}
        try:
            found = json.loads(self._path.read_text("utf-8"))
            self.sha256 = {str(name): str(digest) for name, digest in found["sha256"].items()}
            self.urls = {str(name): str(url) for name, url in found.get("urls", {}).items()}
        except FileNotFoundError:
            pass
        except (ValueError, KeyError, TypeError, AttributeError) as e:
            raise DatasetError(f"{self._path} is damaged ({e}); delete {folder} to fetch the files again") from e

    def write(self) -> None:
        part = self._path.with_name("lock.json.part")
        said = {"format": 1, "sha256": self.sha256, "urls": self.urls}
        part.write_text(json.dumps(said, indent=1) + "\n", encoding="utf-8")
        part.replace(self._path)


def _have(file: CardFile, folder: Path, lock: _Lock, pause: Callable[[float], object]) -> None:
    path, out = folder / file.name, folder / UNPACKED / file.name
    expected = file.sha256 or lock.sha256.get(file.name, "")
    urls = [redact(url) for url in file.urls]
    came = lock.urls.get(file.name)
    if not file.sha256 and came not in {None, *urls}:
        raise DatasetError(
            f"{file.name} in {folder} came from {came}, its card names {', '.join(urls)}, and no hash says that both "
            f"are the same; delete {folder} to fetch it from there"
        )
    if file.is_archive and out.exists() and expected == lock.sha256.get(file.name):
        _check_unpacked(file, out, lock)
        return
    if path.exists():  # fetched before, or put there by hand
        digest = file_sha256(path)
        if expected and digest != expected:
            raise ChecksumMismatch(
                f"{path} has sha256 {digest}, {_whose(file)} says {expected}; delete it to fetch it again"
                f"{_anew(file, folder)}"
            )
        url = came or urls[0]
    else:
        digest, url = _download(file, path, expected, pause)
    lock.urls[file.name] = redact(url)
    if file.is_archive:
        lock.write()  # the address, lest an archive that cannot be unpacked be taken for one from elsewhere
        require_space(folder, file.unpacked_bytes, f"unpacking {file.name}")
        if out.exists():
            raise DatasetError(f"{out} is of another archive; delete it")
        try:
            members = unpack(path, out, file.unpacked_bytes)
        except DatasetError as e:
            raise DatasetError(f"{e}{_anew(file, folder)}") from e
        for member in members:
            lock.sha256[f"{UNPACKED}/{file.name}/{member.as_posix()}"] = file_sha256(out / member)
    lock.sha256[file.name] = digest
    lock.write()
    if not expected:
        print(
            f"{file.name}: nobody's word on its sha256 is known here; {digest} is recorded in {folder / 'lock.json'}, "
            f"and from now on nothing else is accepted",
            file=sys.stderr,
        )
    if file.is_archive:
        path.unlink()


def _check_unpacked(file: CardFile, out: Path, lock: _Lock) -> None:
    head = f"{UNPACKED}/{file.name}/"
    for name, digest in lock.sha256.items():
        if name.startswith(head) and file_sha256(out / name.removeprefix(head)) != digest:
            raise ChecksumMismatch(f"{out / name.removeprefix(head)} was changed; delete {out} to fetch it again")


def _whose(file: CardFile) -> str:
    return "its card" if file.sha256 else "lock.json, from the first download,"


def _anew(file: CardFile, folder: Path) -> str:
    """What to do where the first download of what nobody vouches for was the wrong one."""
    return "" if file.sha256 else f"; delete {folder} to begin anew with what is there now"


def _download(file: CardFile, path: Path, expected: str, pause: Callable[[float], object]) -> tuple[str, str]:
    """Fetch from the first address that has it, to `path`; returns the hash and the address."""
    size = f"{file.bytes:,} bytes" if file.bytes else "of unknown size"
    by_hand = f"to go on without a network, put the file ({size}, sha256 {expected or 'unknown'}) at {path}"
    if offline():
        raise DatasetError(f"{redact(file.urls[0])} is not fetched, because VECBENCH_OFFLINE is set; {by_hand}")
    reasons = []
    for url in file.urls:
        try:
            return _from(url, file, path, expected, pause), url
        except _Unreachable as e:
            reasons.append(f"{redact(url)}: {e}")
    raise DatasetError(f"{file.name} cannot be fetched: {'; '.join(reasons)}; {by_hand}")


class _Unreachable(Exception):
    """This address does not give the file; another may."""


@dataclass
class _Part:
    """What has come so far of one version of a file."""

    path: Path
    validator: str = ""  # the strong ETag, else Last-Modified: what If-Range is given
    done: int = 0
    digest: Any = field(default_factory=hashlib.sha256)

    @property
    def note(self) -> Path:
        return self.path.with_name(f"{self.path.name}.json")

    def resume(self) -> None:
        """Take over what an earlier process left; without a validator nothing says what it is the beginning of."""
        try:
            self.validator = str(json.loads(self.note.read_text("utf-8"))["validator"])
            if self.validator:
                with self.path.open("rb") as file:
                    while piece := file.read(_PIECE):
                        self.add(piece)
        except (OSError, ValueError, KeyError, TypeError):
            self.reset()

    def add(self, piece: bytes) -> None:
        self.digest.update(piece)
        self.done += len(piece)

    def reset(self, validator: str = "") -> None:
        self.validator, self.done, self.digest = validator, 0, hashlib.sha256()

    def begin(self, validator: str) -> None:
        self.path.write_bytes(b"")
        self.reset(validator)
        self.note.write_text(json.dumps({"validator": validator}), encoding="utf-8")

    def drop(self) -> None:
        self.path.unlink(missing_ok=True)
        self.note.unlink(missing_ok=True)
        self.reset()


def _from(url: str, file: CardFile, path: Path, expected: str, pause: Callable[[float], object]) -> str:
    try:
        import httpx
    except ImportError as e:
        raise MissingDependency("Fetching data sets", module="httpx", extra="files") from e
    from vecbench import __version__

    part = _Part(path.with_name(f"{path.name}.part"))
    part.resume()
    headers = {"User-Agent": f"vecbench/{__version__}", "Accept-Encoding": "identity"}
    failed, reason = 0, ""
    access = Access(url, None)  # a login in the address is not for httpx's log
    options: dict[str, Any] = {"headers": headers, "auth": access.auth, "timeout": _TIMEOUT_SECONDS}
    with (
        httpx.Client(follow_redirects=True, max_redirects=10, **options) as client,
        shown(file.name, file.bytes or None, "bytes") as progress,
    ):
        while failed < _ATTEMPTS:
            if failed:
                pause(_PAUSE_SECONDS * 2 ** (failed - 1))
            before = part.done
            try:
                _stream(client, access.url, file, part, progress)
                break
            except httpx.TooManyRedirects:
                raise _Unreachable("too many redirects") from None
            except httpx.UnsupportedProtocol as e:
                raise _Unreachable(f"it redirects to something else than http: {e}") from e
            except (httpx.TransportError, _Again) as e:
                reason = f"{type(e).__name__}: {e}" if not isinstance(e, _Again) else str(e)
                failed = 0 if part.done > before else failed + 1
            except httpx.HTTPError as e:
                raise _Unreachable(f"{type(e).__name__}: {e}") from e
        else:
            raise _Unreachable(reason)
    digest = str(part.digest.hexdigest())
    if expected and digest != expected:
        part.drop()
        raise ChecksumMismatch(
            f"{redact(url)} has sha256 {digest}, {_whose(file)} says {expected}: it is another file, and was not kept"
            f"{_anew(file, path.parent)}"
        )
    part.path.replace(path)
    part.drop()
    return digest


class _Again(Exception):
    """A passing failure: the next attempt may succeed."""


def _stream(client: httpx.Client, url: str, file: CardFile, part: _Part, progress: Callable[[int, int], None]) -> None:
    """One attempt; returns when the file is whole in `part`."""
    asked = {"Range": f"bytes={part.done}-", "If-Range": part.validator} if part.done else {}
    with client.stream("GET", url, headers=asked) as response:
        _require_safe(response)
        status = response.status_code
        if status in _PASSING:
            raise _Again(f"HTTP {status}")
        if status == 416:  # there is nothing behind what came: it is whole, or of another file; only the start tells
            part.drop()
            raise _Again("HTTP 416")
        if status not in {200, 206} or (status == 206 and not part.done):
            raise _Unreachable(f"HTTP {status}")
        total = _total(response, part)
        if file.bytes and total not in {None, file.bytes}:
            part.drop()
            raise _Unreachable(f"it has {total:,} bytes there, the card says {file.bytes:,}")
        if status == 200:
            part.begin(_validator(response))
        size = total or file.bytes
        require_space(part.path.parent, size - part.done, f"fetching {file.name}")
        with part.path.open("r+b") as out:
            out.seek(part.done)
            for piece in response.iter_raw():  # as they come: what waits for a whole piece is lost with the connection
                out.write(piece)
                part.add(piece)
                progress(part.done, size or part.done)
                if file.bytes and part.done > file.bytes:
                    raise _Unreachable(f"it goes on beyond the {file.bytes:,} bytes that the card says")
            out.flush()
            os.fsync(out.fileno())
        if size and part.done != size:
            raise _Again(f"the connection ended after {part.done:,} of {size:,} bytes")


def _require_safe(response: Any) -> None:
    if any(step.url.scheme == "https" for step in response.history) and response.url.scheme != "https":
        raise _Unreachable("it redirects from https to an address without it")
    if (coding := response.headers.get("Content-Encoding", "identity")) != "identity":
        raise _Unreachable(f"the server sends it encoded ({coding}), though it was asked not to")


def _total(response: Any, part: _Part) -> int | None:
    """The size of the whole file as the server says; a range must begin where ours ends."""
    if response.status_code == 200:
        length = response.headers.get("Content-Length", "")
        return int(length) if length.isdecimal() else None
    said = response.headers.get("Content-Range", "")
    start, _, total = said.removeprefix("bytes ").partition("/")
    if not start.startswith(f"{part.done}-") or _validator(response) not in {part.validator, ""}:
        part.drop()
        raise _Again(f"the server sent {said!r} of another file, or not from where the first part ends")
    return int(total) if total.isdecimal() else None


def _validator(response: Any) -> str:
    """What tells this version of the file from the next; a weak ETag does not, byte for byte."""
    etag = str(response.headers.get("ETag", ""))
    return etag if etag and not etag.startswith("W/") else str(response.headers.get("Last-Modified", ""))
