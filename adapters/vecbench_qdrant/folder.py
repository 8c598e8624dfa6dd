"""The directory of an embedded store: one lock, and one folder per collection with its spec beside the engine's files.

DIR/vecbench-qdrant.lock
DIR/c-<hash of the name>/spec.json     written last: a folder without it was never finished, and is cleared away
DIR/c-<hash of the name>/shard/        the engine's
DIR/trash-<random>/                    being deleted
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import uuid
from pathlib import Path

from vecbench.errors import CollectionMismatch, CollectionNotFound
from vecbench.spec import CollectionSpec, hashed_name
from vecbench.store import hold_directory

__all__ = ["Folder"]


class Folder:
    """Opened by one process at a time; `close` gives it back, and deletes it where it was made for this run only."""

    def __init__(self, path: str | Path | None) -> None:
        self.temporary = path is None
        self.path = Path(tempfile.mkdtemp(prefix="vecbench-qdrant-") if path is None else path).absolute()
        self._lock = hold_directory(self.path, store="qdrant")
        self._clear_leftovers()

    def collection(self, name: str) -> Path:
        """Where a collection of this name lives, or would."""
        return self.path / f"c-{hashed_name(name)}"

    def begin(self, name: str) -> Path:
        """A fresh, empty directory for the engine; whatever a torn creation left there goes."""
        home = self.collection(name)
        shutil.rmtree(home, ignore_errors=True)
        shard = home / "shard"
        shard.mkdir(parents=True)
        return shard

    def commit(self, spec: CollectionSpec) -> None:
        """Write the spec: from here on the collection exists."""
        home = self.collection(spec.name)
        draft = home / "spec.json.new"
        with draft.open("w", encoding="utf-8") as f:
            f.write(spec.to_json())
            f.flush()
            os.fsync(f.fileno())
        draft.replace(home / "spec.json")
        for directory in (home, self.path):
            _sync(directory)

    def spec(self, name: str) -> CollectionSpec:
        """The spec of a collection; `CollectionNotFound`."""
        try:
            return CollectionSpec.from_json((self.collection(name) / "spec.json").read_text("utf-8"))
        except FileNotFoundError:
            raise CollectionNotFound(f"qdrant has no collection {name!r} in {self.path}") from None

    def names(self) -> list[str]:
        """The names of all finished collections."""
        found = []
        for file in self.path.glob("c-*/spec.json"):
            try:
                found.append(CollectionSpec.from_json(file.read_text("utf-8")).name)
            except (CollectionMismatch, json.JSONDecodeError) as e:
                raise CollectionMismatch(f"{file}: {e}") from e
        return found

    def remove(self, name: str) -> None:
        """Delete a collection: gone at once, by a rename, and its files right after."""
        trash = self.path / f"trash-{uuid.uuid4().hex}"
        self.collection(name).rename(trash)
        _sync(self.path)
        shutil.rmtree(trash)

    def close(self) -> None:
        """Give the directory back."""
        if self.temporary:
            shutil.rmtree(self.path)
        self._lock.release()

    def _clear_leftovers(self) -> None:
        for entry in self.path.iterdir():
            unfinished = entry.name.startswith("c-") and not (entry / "spec.json").exists()
            if entry.is_dir() and (unfinished or entry.name.startswith("trash-")):
                shutil.rmtree(entry)


def _sync(directory: Path) -> None:
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
