"""A collection's directory: checksummed segments, an index file, and a manifest that names what counts.

    spec.json               the CollectionSpec
    manifest.json           segments in order, and the index file with the rows it covers; replaced as a whole
    00000003.segment        one flush: new rows, and the numbers of rows that died; JSON, then float32 vectors
    00000004.index          written by FAISS

A file is written under a temporary name, fsynced and renamed before the manifest names it, and the directory is fsynced
after each rename. So a crash at any moment leaves the last manifest and all that it names whole; what it does not name
is removed when the collection is opened. Every file is checked by hash before it is used. Nothing is unpickled. Vectors
are written and read in blocks: a segment may be larger than the memory that is left.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import BinaryIO

import numpy as np

from vecbench.errors import StoreRejected
from vecbench.types import Metadata, Vectors

__all__ = ["BLOCK_BYTES", "Directory", "Segment"]

FORMAT = 1
_HEADER = 8  # bytes that hold the length of the JSON header, little-endian
BLOCK_BYTES = 8 * 2**20  # of vectors, copied, written or read at a time
_BLOCK_ENTRIES = 16_384  # of the header's lists, written at a time


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
    """What one flush wrote: the rows appended since the last, all columns, and the numbers of all rows that died.

    vectors: in blocks of any number of rows, in the order of `ids`; from a file they are read as they are asked for.
    """

    dead: Sequence[int]
    ids: Sequence[str]
    metadata: Sequence[Metadata]
    documents: Sequence[str | None]
    vectors: Iterable[Vectors]


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
        made._replace("spec.json", lambda stream: stream.write(spec_json.encode()))
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
            with self._verified(file) as stream:
                yield _decode(stream, dim)

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
        file = _File(name, self._replace(name, lambda stream: _encode(segment, stream)), len(segment.ids))
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
        digest = self._replace(name, lambda stream: write(str(stream.name)))
        self._commit(_Manifest(segments=self._manifest.segments, index=_File(name, digest, rows)))

    def _next(self, kind: str) -> str:
        taken = [int(p.name.split(".")[0]) for p in self.path.iterdir() if p.name[:8].isdigit()]
        return f"{max(taken, default=0) + 1:08d}.{kind}"

    def _verified(self, file: _File) -> BinaryIO:
        path = self.path / file.name
        try:
            stream = path.open("rb")
            if hashlib.file_digest(stream, "sha256").hexdigest() == file.sha256:
                stream.seek(0)
                return stream
        except OSError as e:
            raise StoreRejected(f"faiss: {path} cannot be read ({e}); restore it from a backup") from e
        stream.close()
        raise StoreRejected(f"faiss: {path} was altered (its hash differs); restore it")

    def _commit(self, manifest: _Manifest) -> None:
        # Only what is on disk may be remembered: after a full disk, the next flush must write the same rows again.
        self._replace("manifest.json", lambda stream: stream.write(json.dumps(asdict(manifest)).encode()))
        self._manifest = manifest
        self._sweep()

    def _replace(self, name: str, write: Callable[[BinaryIO], object]) -> str:
        """Let `write` fill the file of this name, and give its hash."""
        temporary = self.path / f"{name}.tmp"
        with temporary.open("wb") as f:
            write(f)
        with temporary.open("rb+") as f:
            digest = hashlib.file_digest(f, "sha256").hexdigest()
            os.fsync(f.fileno())
        temporary.replace(self.path / name)
        _sync_directory(self.path)
        return digest

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


def _encode(segment: Segment, stream: BinaryIO) -> None:
    stream.write(bytes(_HEADER))  # its length, once that is known
    columns = {"dead": segment.dead, "ids": segment.ids, "metadata": segment.metadata, "documents": segment.documents}
    opening = "{"
    for name, entries in columns.items():
        stream.write(f'{opening}"{name}":['.encode())
        for start in range(0, len(entries), _BLOCK_ENTRIES):
            part = json.dumps(entries[start : start + _BLOCK_ENTRIES], ensure_ascii=True, separators=(",", ":"))
            stream.write(f"{',' if start else ''}{part[1:-1]}".encode())
        stream.write(b"]")
        opening = ","
    stream.write(b"}")
    length = stream.tell() - _HEADER
    for block in segment.vectors:
        stream.write(np.ascontiguousarray(block, "<f4").data)
    stream.seek(0)
    stream.write(length.to_bytes(_HEADER, "little"))


def _decode(stream: BinaryIO, dim: int) -> Segment:
    head = json.loads(stream.read(int.from_bytes(stream.read(_HEADER), "little")))
    return Segment(head["dead"], head["ids"], head["metadata"], head["documents"], _blocks(stream, dim))


def _blocks(stream: BinaryIO, dim: int) -> Iterator[Vectors]:
    size = 4 * dim
    while data := stream.read(max(1, BLOCK_BYTES // size) * size):
        yield np.frombuffer(data, "<f4").reshape(-1, dim).astype(np.float32)
