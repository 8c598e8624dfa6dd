"""Arrays larger than memory: read, checked and hashed a block at a time, and a hash once computed remembered."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from vecbench.errors import DatasetError

__all__ = [
    "BLOCK_BYTES",
    "array_sha256",
    "blocks",
    "file_sha256",
    "key_of",
    "mapped_file",
    "recall",
    "remember",
    "require_finite",
]

BLOCK_BYTES = 16 << 20
Key: TypeAlias = list[list[Any]]
_log = logging.getLogger(__name__)


def mapped_file(array: npt.NDArray[Any]) -> tuple[Path, int] | None:
    """The file and the offset in bytes at which a read-only mapping lies, C-contiguous; None for any other array."""
    root: Any = None
    step: Any = array
    while isinstance(step, np.ndarray):
        if isinstance(step, np.memmap):
            root = step
        step = step.base
    if root is None or root.mode != "r" or root.filename is None or not array.flags.c_contiguous:
        return None
    start = array.__array_interface__["data"][0] - root.__array_interface__["data"][0]
    return Path(os.fsdecode(root.filename)), int(root.offset) + int(start)


def blocks(array: npt.NDArray[Any], block_bytes: int = BLOCK_BYTES) -> Iterator[tuple[int, npt.NDArray[Any]]]:
    """(First row, rows) of about `block_bytes`, in order. A mapped file is read, not touched through its mapping.

    Pages touched through a mapping count as memory of the process until the system wants them back; read ones do not.
    """
    n = len(array)
    step = max(1, block_bytes // max(1, array[:1].nbytes))
    if (place := mapped_file(array)) is None:
        for start in range(0, n, step):
            yield start, array[start : start + step]
        return
    path, offset = place
    row = int(np.prod(array.shape[1:], dtype=np.int64))
    with path.open("rb") as file:
        file.seek(offset)
        for start in range(0, n, step):
            rows = min(step, n - start)
            found = np.fromfile(file, array.dtype, rows * row)
            if len(found) != rows * row:
                raise DatasetError(f"{path} ends in row {start + len(found) // max(row, 1)}: it was cut off meanwhile")
            yield start, found.reshape(rows, *array.shape[1:])


def require_finite(where: str, start: int, block: npt.NDArray[np.float32], part: str = "") -> None:
    """Raise DatasetError, naming the row counted from `start`, for NaN or infinity in float32 rows."""
    # A float64 sum of float32 values cannot overflow, so it is finite exactly when they all are, and needs no mask.
    with np.errstate(invalid="ignore"):  # ∞ − ∞ is one of the cases looked for
        sums = block.sum(axis=1, dtype=np.float64)
    if not np.isfinite(sums).all():
        row = start + int(np.flatnonzero(~np.isfinite(sums))[0])
        raise DatasetError(f"{where}: row {row}{part and f' of {part}'} holds NaN or infinity")


def array_sha256(*arrays: npt.NDArray[Any], check: Callable[[int, int, npt.NDArray[Any]], None] | None = None) -> str:
    """Hex digest over arrays in order: of each a JSON line of dtype and shape, then little-endian bytes, C order.

    check: called with (number of the array, first row, rows) of every block, so that one reading serves both.
    """
    digest = hashlib.sha256()
    for number, array in enumerate(arrays):
        plain = array.dtype.newbyteorder("<")
        header = json.dumps({"dtype": plain.str, "shape": array.shape}, separators=(",", ":"))
        digest.update(header.encode("ascii") + b"\n")
        for start, block in blocks(array if array.ndim else array.reshape(1)):
            if check is not None:
                check(number, start, block)
            digest.update(np.ascontiguousarray(block, plain).reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def file_sha256(path: Path) -> str:
    """Hex digest of a file, remembered by path, size and times; DatasetError where it cannot be read."""
    try:
        key = [_stamped(path, path.stat())]
        if known := recall(key):
            return known
        with path.open("rb") as file:
            before = [_stamped(path, os.fstat(file.fileno()))]
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            after = [_stamped(path, os.fstat(file.fileno()))]
    except OSError as e:
        raise DatasetError(f"{path} cannot be read: {e.strerror or e}") from e
    if before == after:  # a file that grew meanwhile has no hash to remember
        remember(after, digest)
    return digest


def key_of(*arrays: npt.NDArray[Any]) -> Key | None:
    """What tells these arrays from all others, without reading the mapped ones; None where none is mapped.

    Of a mapped array: path, size, times, offset, dtype, shape. The change time cannot be set by hand, so a file altered
    in place has another key even when its modification time was restored. Of an array in memory: its hash.
    """
    key: Key = []
    places = [mapped_file(array) for array in arrays]
    if not any(places):
        return None
    for array, place in zip(arrays, places, strict=True):
        if place is None:
            key.append([array_sha256(array)])
            continue
        try:
            status = place[0].stat()
        except OSError as e:
            raise DatasetError(f"{place[0]} cannot be read: {e.strerror or e}") from e
        key.append([*_stamped(place[0], status), place[1], array.dtype.str, list(array.shape)])
    return key


def _stamped(path: Path, status: os.stat_result) -> list[Any]:
    return [str(path.resolve()), status.st_size, status.st_mtime_ns, status.st_ctime_ns]


def recall(key: Key) -> str | None:
    """The hash remembered for `key`, or None."""
    try:
        entry = json.loads(_entry(key).read_text("utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as e:
        _log.info("a remembered hash is not readable, hashing again: %s", e)
        return None
    match entry:
        case {"key": known, "sha256": str(digest)} if known == key:
            return digest
    return None


def remember(key: Key, digest: str) -> None:
    """Keep a hash in a small file of the user's cache; where nothing can be written it is only computed again."""
    path = _entry(key)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", encoding="utf-8", dir=path.parent, suffix=".part", delete=False) as file:
            json.dump({"key": key, "sha256": digest}, file)
        Path(file.name).replace(path)
    except OSError as e:
        _log.info("%s could not be written: %s", path, e)


def _entry(key: Key) -> Path:
    """One file for what is the same but for its times, so that a changed file's new hash replaces the old one."""
    from platformdirs import user_cache_path

    steady = [[part[0], *part[4:]] for part in key]
    name = hashlib.sha256(json.dumps(steady).encode()).hexdigest()[:32]
    return user_cache_path("vecbench", appauthor=False) / "digests" / f"{name}.json"
