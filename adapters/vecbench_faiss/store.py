"""The FAISS store: in memory, or durable in a directory."""

from __future__ import annotations

import shutil
import tempfile
import threading
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Self

from filelock import FileLock

from vecbench.capabilities import Capabilities, StoreInfo, Tolerance
from vecbench.errors import (
    CollectionExists,
    CollectionNotFound,
    ConfigError,
    StoreError,
    StoreRejected,
)
from vecbench.filters import OPERATORS
from vecbench.spec import CollectionSpec, hashed_name
from vecbench.store import Collection, VectorStore, hold_directory, import_client
from vecbench.types import Metric
from vecbench_faiss.ann import check_index, reason
from vecbench_faiss.collection import FaissCollection
from vecbench_faiss.persist import Directory

__all__ = ["FaissStore"]

_DISTRIBUTIONS = ("faiss-cpu", "faiss-gpu", "faiss-gpu-cu12", "faiss-gpu-cu11")


class FaissStore(VectorStore):
    """FAISS in this process: collections in memory, or in a directory when a path is given."""

    name = "faiss"
    extra = "faiss"
    modules = ("faiss",)
    capabilities = Capabilities(
        metrics=frozenset(Metric),
        indexes=frozenset({"flat", "hnsw", "ivf_flat", "native"}),
        filters=OPERATORS,
        ef_search="query",
        nprobe="query",
        exact_search=True,
        preserves_vectors=True,
        # FAISS sums float32 differences: measured 3e-7 relative at 384 dimensions. Inner products near 1 leave 1e-6.
        tolerance=Tolerance(absolute=2e-6, relative=1e-5),
    )

    def __init__(self, faiss: Any, path: Path | None) -> None:
        self.faiss = faiss
        self._path = path
        self._open: dict[str, FaissCollection] = {}
        self._mutex = threading.RLock()
        self._file_lock: FileLock | None = None
        if path is not None:
            self.capabilities = replace(self.capabilities, persistent=True)
            self._file_lock = _lock(path)

    @classmethod
    def open(
        cls, *, url: str | None = None, path: str | Path | None = None, mode: str | None = None, **options: Any
    ) -> Self:
        """Open in memory, or the directory `path`, made if it is not there; one process at a time.

        threads: how many FAISS may use, for the whole process; all cores without it.
        """
        threads = options.pop("threads", None)
        if url is not None or mode is not None or options:
            given = ", ".join([*(["url"] if url else []), *(["mode"] if mode else []), *sorted(options)])
            raise ConfigError(f"store 'faiss' runs in this process and takes path and threads, got {given}")
        if threads is not None and (type(threads) is not int or threads < 1):
            raise ConfigError(f"store 'faiss': threads must be a whole number of at least 1, got {threads!r}")
        faiss = import_client("faiss", store="faiss", extra="faiss")
        if threads is not None:
            faiss.omp_set_num_threads(threads)
        return cls(faiss, None if path is None else Path(path))

    @property
    def info(self) -> StoreInfo:
        """FAISS reports its own version; the client is the package that carries it."""
        client, client_version = _distribution()
        return StoreInfo(
            name=self.name,
            label="faiss",
            deployment="embedded",
            engine="FAISS",
            engine_version=str(self.faiss.__version__),
            client=client,
            client_version=client_version,
            target="memory" if self._path is None else "directory",
        )

    @property
    def native(self) -> Any:
        """The `faiss` module."""
        return self.faiss

    def _create(self, spec: CollectionSpec) -> Collection:
        check_index(self.faiss, spec.index, spec.dim)
        with self._mutex:
            if spec.name in self._open or (self._path is not None and Directory.exists(self._folder(spec.name))):
                raise CollectionExists(f"faiss has a collection {spec.name!r} already")  # made by another thread
            directory = None if self._path is None else Directory.create(self._folder(spec.name), spec.to_json())
            made = self._open[spec.name] = FaissCollection(self, spec, self.faiss, directory)
        return made

    def _open_collection(self, name: str) -> Collection:
        with self._mutex:
            if name in self._open:
                return self._open[name]
            if self._path is None or not Directory.exists(self._folder(name)):
                raise CollectionNotFound(f"faiss has no collection {name!r}")
            directory, spec = Directory.open(self._folder(name))
            made = self._open[name] = FaissCollection(self, CollectionSpec.from_json(spec), self.faiss, directory)
            return made

    def _list(self) -> list[str]:
        with self._mutex:
            if self._path is None:
                return list(self._open)
            folders = [p for p in self._path.iterdir() if p.name.startswith("c-") and Directory.exists(p)]
            return [CollectionSpec.from_json((p / "spec.json").read_text("utf-8")).name for p in folders]

    def _drop(self, name: str) -> None:
        with self._mutex:
            found = self._open.pop(name, None)
            if found is not None:
                found.forget()
            if self._path is None:
                if found is None:
                    raise CollectionNotFound(f"faiss has no collection {name!r}")
                return
            folder = self._folder(name)
            if not Directory.exists(folder):
                raise CollectionNotFound(f"faiss has no collection {name!r}")
            # Renamed first: a crash in the middle of deleting must not leave half a collection under its name.
            with tempfile.TemporaryDirectory(prefix="dropped-", dir=self._path) as trash:
                folder.replace(Path(trash) / folder.name)

    def _close(self) -> None:
        """Write what no `flush` has written yet, then let the directory go, whether that succeeded or not."""
        with self._mutex:
            try:
                for collection in self._open.values():
                    collection.save()
            finally:
                self._open.clear()
                if self._file_lock is not None:
                    self._file_lock.release()

    def _translate(self, error: Exception, doing: str) -> StoreError | None:
        """FAISS raises RuntimeError with a C++ signature in it, or an AssertionError without words."""
        if isinstance(error, AssertionError | RuntimeError):
            return StoreRejected(f"faiss: {doing} failed: {reason(error)}")
        return None

    def _folder(self, name: str) -> Path:
        assert self._path is not None  # noqa: S101  only asked for where there is one
        return self._path / f"c-{hashed_name(name)}"


def _lock(path: Path) -> FileLock:
    lock = hold_directory(path, store="faiss")
    for leftover in path.glob("dropped-*"):
        shutil.rmtree(leftover)
    return lock


def _distribution() -> tuple[str, str]:
    for name in _DISTRIBUTIONS:
        try:
            return name, version(name)
        except PackageNotFoundError:
            continue
    return "faiss", "unknown"
