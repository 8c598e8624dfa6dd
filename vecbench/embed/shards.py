"""Vectors on disk by the hash of their text: append-only shards, each with its checksum, in one directory.

    manifest.json            the shards that count, with sha256 and rows; replaced as a whole
    00000007.npy             float32 (rows, dim)
    00000007.keys            rows x 32 bytes: sha256 of what each vector was made from
    lock                     held while the directory is read or written

A shard is written, fsynced and renamed before the manifest names it, so a crash at any moment leaves the last manifest
and its shards whole. Small neighbours are merged, so n rows lie in about log2(n) shards however they came.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from filelock import FileLock

from vecbench.errors import EmbedderError
from vecbench.types import Vectors

__all__ = ["CacheDamagedWarning", "ShardStore"]

FORMAT = 1
_KEY_BYTES = 32
_MERGE_BYTES = 1 << 25  # larger shards are left as they are


class CacheDamagedWarning(UserWarning):
    """A part of the vector cache was torn or altered; it was dropped, and its vectors will be computed again."""


@dataclass(frozen=True)
class _Shard:
    name: str
    rows: int
    vectors_sha256: str
    keys_sha256: str


class ShardStore:
    """The vectors of one embedder in `directory`; several processes may share it.

    identity: JSON values that say whose vectors these are; another identity found on disk is an EmbedderError.
    Nothing is read before the first use. Vectors are checked against their checksum before the first of a shard is
    given out.
    """

    def __init__(self, directory: Path, identity: Mapping[str, Any], dim: int) -> None:
        self._directory, self._identity, self._dim = directory, dict(identity), dim
        try:
            directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise EmbedderError(f"vector cache {directory}: cannot be made ({error})") from error
        self._lock = FileLock(directory / "lock")
        self._shards: list[_Shard] = []
        self._where: dict[bytes, tuple[_Shard, int]] = {}
        self._open: dict[_Shard, npt.NDArray[np.float32]] = {}

    def get(self, keys: Sequence[bytes]) -> dict[bytes, npt.NDArray[np.float32]]:
        """The vectors, float32 (dim,), of those keys that are there."""
        with self._lock:
            self._refresh()
            found: dict[bytes, npt.NDArray[np.float32]] = {}
            for key in keys:
                # Opening may drop a damaged shard, after which the key may be gone or lie elsewhere.
                while (place := self._where.get(key)) is not None:
                    if (vectors := self._vectors(place[0])) is not None:
                        found[key] = np.array(vectors[place[1]])
                        break
            return found

    def put(self, keys: Sequence[bytes], vectors: Vectors) -> None:
        """Keep new rows; when this returns they are on the disk. Keys that are there already are left as they are."""
        with self._lock:
            self._refresh()
            fresh = [row for row, key in enumerate(keys) if key not in self._where]
            if not fresh:
                return
            all_keys, blocks = [keys[row] for row in fresh], [vectors[fresh]]
            kept = list(self._shards)
            most = _MERGE_BYTES // (4 * self._dim)
            while kept and kept[-1].rows <= min(len(all_keys), most):
                last = kept.pop()
                older_keys, older = self._keys(last), self._vectors(last)
                if older_keys is None or older is None:  # damaged and dropped, with a warning
                    continue
                all_keys = [*older_keys, *all_keys]
                blocks.insert(0, older)
            shard = self._write_shard(all_keys, np.concatenate(blocks))
            self._write_manifest([*kept, shard])
            self._refresh()
            self._remove_strangers()

    def __len__(self) -> int:
        with self._lock:
            self._refresh()
            return len(self._where)

    def _refresh(self) -> None:
        """Take over what the manifest says now; shards whose keys are damaged or missing are dropped."""
        shards = self._read_manifest()
        if shards == self._shards:
            return
        known, before = dict(self._where), set(self._shards)
        self._where = {key: place for key, place in known.items() if place[0] in shards}
        self._open = {shard: vectors for shard, vectors in self._open.items() if shard in shards}
        self._shards = shards
        for shard in shards:
            if shard in before:
                continue
            for row, key in enumerate(self._keys(shard) or ()):
                self._where[key] = (shard, row)

    def _read_manifest(self) -> list[_Shard]:
        path = self._directory / "manifest.json"
        try:
            manifest = json.loads(path.read_bytes())
            if manifest["format"] != FORMAT:
                raise EmbedderError(f"vector cache {path}: format {manifest['format']}, this vecbench reads {FORMAT}")
            identity, shards = manifest["embedder"], [_Shard(**entry) for entry in manifest["shards"]]
        except FileNotFoundError:
            return []
        except (ValueError, TypeError, KeyError) as error:
            aside = path.with_suffix(".damaged")
            path.replace(aside)
            _warn(f"vector cache {path} is damaged ({error}); it was put aside as {aside.name} and the cache is empty")
            return []
        if identity != self._identity:
            raise EmbedderError(
                f"vector cache {path} belongs to another embedder, {identity.get('name')!r}, though its directory has "
                f"this one's fingerprint; give {self._identity.get('name')!r} another directory"
            )
        return shards

    def _keys(self, shard: _Shard) -> list[bytes] | None:
        """The keys of a shard in the order of its rows; None once it has been dropped."""
        if shard not in self._shards:
            return None
        try:
            data = (self._directory / f"{shard.name}.keys").read_bytes()
        except OSError as error:
            self._drop(shard, str(error))
            return None
        if len(data) != shard.rows * _KEY_BYTES or hashlib.sha256(data).hexdigest() != shard.keys_sha256:
            self._drop(shard, "its keys are torn or altered")
            return None
        return [data[start : start + _KEY_BYTES] for start in range(0, len(data), _KEY_BYTES)]

    def _vectors(self, shard: _Shard) -> npt.NDArray[np.float32] | None:
        """The rows of a shard, memory-mapped after their checksum was found right; None once it has been dropped."""
        if shard in self._open or shard not in self._shards:
            return self._open.get(shard)
        path = self._directory / f"{shard.name}.npy"
        try:
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            self._drop(shard, str(error))
            return None
        if digest != shard.vectors_sha256:
            self._drop(shard, "its vectors are torn or altered")
            return None
        vectors: npt.NDArray[np.float32] = np.load(path, mmap_mode="r", allow_pickle=False)
        if vectors.dtype != np.float32 or vectors.shape != (shard.rows, self._dim):
            self._drop(shard, f"its vectors are {vectors.dtype} {vectors.shape}")
            return None
        self._open[shard] = vectors
        return vectors

    def _drop(self, shard: _Shard, reason: str) -> None:
        """Forget a shard, here and in the manifest, and say so."""
        self._shards = [other for other in self._shards if other != shard]
        self._where = {key: place for key, place in self._where.items() if place[0] != shard}
        self._open.pop(shard, None)
        self._write_manifest(self._shards)
        _warn(
            f"vector cache {self._directory}: shard {shard.name} was dropped ({reason}); "
            f"its {shard.rows} vectors will be computed again"
        )

    def _write_shard(self, keys: Sequence[bytes], vectors: Vectors) -> _Shard:
        numbers = [int(path.stem) for path in self._directory.glob("[0-9]*.*") if path.stem.isdigit()]
        name = f"{max(numbers, default=0) + 1:08d}"
        buffer = io.BytesIO()
        np.save(buffer, np.ascontiguousarray(vectors, dtype=np.float32), allow_pickle=False)
        vectors_sha256 = self._write(f"{name}.npy", buffer.getvalue())
        return _Shard(name, len(keys), vectors_sha256, self._write(f"{name}.keys", b"".join(keys)))

    def _write_manifest(self, shards: Sequence[_Shard]) -> None:
        manifest = {"format": FORMAT, "embedder": self._identity, "shards": [asdict(shard) for shard in shards]}
        self._write("manifest.json", json.dumps(manifest, indent=1).encode())

    def _write(self, name: str, data: bytes) -> str:
        """Put `data` under `name`, whole and on the disk, or leave what was there; returns its sha256."""
        part = self._directory / f"{name}.part"
        try:
            with part.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            part.replace(self._directory / name)
            descriptor = os.open(self._directory, os.O_RDONLY)
            try:
                os.fsync(descriptor)  # the rename itself
            finally:
                os.close(descriptor)
        except OSError as error:
            raise EmbedderError(f"vector cache {self._directory}: {name} cannot be written ({error})") from error
        return hashlib.sha256(data).hexdigest()

    def _remove_strangers(self) -> None:
        """Delete shard files that the manifest does not name: merged ones, and those of writers that were killed."""
        named = {shard.name for shard in self._shards}
        for path in self._directory.iterdir():
            stem = path.name.split(".")[0]
            if stem.isdigit() and stem not in named:
                path.unlink(missing_ok=True)


def _warn(message: str) -> None:
    warnings.warn(message, CacheDamagedWarning, stacklevel=4)
