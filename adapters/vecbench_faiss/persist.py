"""A collection's directory: checksummed segments, an index file, and a manifest that names what counts.

    spec.json               the CollectionSpec
    manifest.json           segments in order, and the index file with the rows it covers; replaced as a whole
    00000003.segment        one flush: new rows, and the numbers of rows that died; JSON, then float32 vectors
    00000004.index          written by FAISS

A file is written under a temporary name, fsynced and renamed before the manifest names it, and the directory is fsynced
after each rename. So a crash at any moment leaves the last manifest and all that it names whole; what it does not name
is removed when the collection is opened. Every file is checked by hash before it is used. Nothing is unpickled.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from vecbench.errors import StoreRejected
from vecbench.types import Records

__all__ = ["Directory", "Segment"]

FORMAT = 1
_HEADER = 8  # bytes that hold the length of the JSON header, little-endian


@dataclass
class _File:
    name: str
    sha256: str
    rows: int


@dataclass
class _Manifest:
    format: int = FORMAT
    segments: list[_File] = field(default_factory=list)
    index: _File | None = None


@dataclass
class Segment:
    """What one flush wrote: the rows appended since the last, all columns, and the numbers of all rows that died."""

    dead: Sequence[int]
    records: Records


class Directory:
    """The files of one collection; one process at a time, which the store's lock sees to."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._manifest = _Manifest()

    @classmethod
    def create(cls, path: Path, spec_json: str) -> Directory:
        """A new collection; it exists once its manifest does."""
        path.mkdir(parents=True, exist_ok=True)
        made = cls(path)
        made._replace("spec.json", spec_json.encode())
        made._commit(_Manifest())
        _sync_directory(path.parent)
        return made

    @classmethod
    def exists(cls, path: Path) -> bool:
        """Whether a collection was created here to the end."""
        return (path / "manifest.json").exists()

    @classmethod
    def open(cls, path: Path) -> tuple[Directory, str]:
        """An existing collection and its spec as JSON; leftovers of a crash are removed."""
        found = cls(path)
        raw = json.loads((path / "manifest.json").read_bytes())
        if raw["format"] != FORMAT:
            raise StoreRejected(f"faiss: {path} has format {raw['format']}, this version reads {FORMAT}")
        index = raw["index"]
        found._manifest = _Manifest(
            segments=[_File(**s) for s in raw["segments"]], index=None if index is None else _File(**index)
        )
        found._sweep()
        return found, (path / "spec.json").read_text("utf-8")

    @property
    def segments(self) -> int:
        """How many segments count."""
        return len(self._manifest.segments)

    @property
    def rows(self) -> int:
        """How many rows the segments hold, dead ones too."""
        return sum(f.rows for f in self._manifest.segments)

    def read(self, dim: int) -> Iterator[Segment]:
        """All segments in order; `StoreRejected` where one is missing or altered."""
        for file in self._manifest.segments:
            yield _decode(self._verified(file), dim)

    @property
    def has_index(self) -> bool:
        """Whether an index was kept."""
        return self._manifest.index is not None

    def index_file(self) -> tuple[Path, int] | None:
        """The index and the rows that it covers; None where there is none, or not the one that was written."""
        file = self._manifest.index
        if file is None:
            return None
        try:
            with (self.path / file.name).open("rb") as f:
                whole = hashlib.file_digest(f, "sha256").hexdigest() == file.sha256
        except FileNotFoundError:
            whole = False
        return (self.path / file.name, file.rows) if whole else None

    def append(self, segment: Segment, *, replace_all: bool, keep_index: bool) -> None:
        """Write a segment after the others, or in place of them all.

        keep_index: the rows keep their numbers, so that the index still fits them.
        """
        name = self._next("segment")
        digest = self._replace(name, _encode(segment))
        file = _File(name, digest, len(segment.records))
        before = self._manifest
        self._commit(
            _Manifest(
                segments=[file] if replace_all else [*before.segments, file],
                index=before.index if keep_index else None,
            )
        )

    def write_index(self, write: Callable[[str], None], rows: int) -> None:
        """Keep an index that covers the first `rows` rows; `write` puts it into the file that it is given."""
        name = self._next("index")
        temporary = self.path / f"{name}.tmp"
        write(str(temporary))
        with temporary.open("rb+") as f:
            digest = hashlib.file_digest(f, "sha256").hexdigest()
            os.fsync(f.fileno())
        temporary.replace(self.path / name)
        _sync_directory(self.path)
        self._commit(_Manifest(segments=self._manifest.segments, index=_File(name, digest, rows)))

    def _next(self, kind: str) -> str:
        taken = [int(p.name.split(".")[0]) for p in self.path.iterdir() if p.name[:8].isdigit()]
        return f"{max(taken, default=0) + 1:08d}.{kind}"

    def _verified(self, file: _File) -> bytes:
        try:
            data = (self.path / file.name).read_bytes()
        except OSError as e:
            raise StoreRejected(f"faiss: {self.path / file.name} cannot be read ({e}); restore it from a backup") from e
        if hashlib.sha256(data).hexdigest() != file.sha256:
            raise StoreRejected(f"faiss: {self.path / file.name} was altered (its hash differs); restore it")
        return data

    def _commit(self, manifest: _Manifest) -> None:
        # Only what is on disk may be remembered: after a full disk, the next flush must write the same rows again.
        self._replace("manifest.json", json.dumps(asdict(manifest)).encode())
        self._manifest = manifest
        self._sweep()

    def _replace(self, name: str, data: bytes) -> str:
        temporary = self.path / f"{name}.tmp"
        with temporary.open("wb") as f:
            f.write(data)
            f.flush()
            os.fsync(f.fileno())
        temporary.replace(self.path / name)
        _sync_directory(self.path)
        return hashlib.sha256(data).hexdigest()

    def _sweep(self) -> None:
        index = self._manifest.index
        named = {f.name for f in self._manifest.segments} | ({index.name} if index else set())
        for path in self.path.iterdir():
            if path.name not in named | {"manifest.json", "spec.json"}:
                path.unlink()


def _sync_directory(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _encode(segment: Segment) -> bytes:
    r = segment.records
    assert r.vectors is not None  # noqa: S101  segments hold every column
    head: dict[str, Any] = {
        "dead": list(segment.dead),
        "ids": list(r.ids),
        "metadata": [dict(m) for m in r.metadata or ()],
        "documents": list(r.documents or ()),
    }
    header = json.dumps(head, ensure_ascii=True, separators=(",", ":")).encode()
    return b"".join((len(header).to_bytes(_HEADER, "little"), header, r.vectors.astype("<f4", copy=False).tobytes()))


def _decode(data: bytes, dim: int) -> Segment:
    end = _HEADER + int.from_bytes(data[:_HEADER], "little")
    head = json.loads(data[_HEADER:end])
    vectors = np.frombuffer(data, "<f4", offset=end).reshape(len(head["ids"]), dim).astype(np.float32)
    return Segment(head["dead"], Records(head["ids"], vectors, head["metadata"], head["documents"]))
