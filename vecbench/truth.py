"""The exact nearest neighbours of every query of a data set: computed once, kept on disk, verified when read."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from vecbench.dataset import Dataset, array_sha256
from vecbench.distributed import SearchOn
from vecbench.errors import ChecksumMismatch, DatasetError, GroundTruthMissing
from vecbench.neighbours import MEMORY_BYTES, Largest, Search, queries_at_once, worth_threads
from vecbench.threads import Threads
from vecbench.types import Metric
from vecbench.work import Workers

__all__ = ["GroundTruth", "default_truth_dir", "ground_truth"]

_FORMAT = 1  # raised when the files, or the rule by which neighbours are chosen, change
_PART_FORMAT = 2
_PART_SECONDS = 30.0  # a computation that is cut off loses about so much work
_PARTS = ("rows", "distances")
_MANIFEST = re.compile(r"k(\d+)\.json")


@dataclass(frozen=True, eq=False)
class GroundTruth:
    """The k nearest base rows of each query, nearest first, rows of equal distance in the order of their numbers.

    rows: row numbers into `Dataset.base`, int64 (q, k). distances: float64 (q, k), ascending, in the metric's unit.
    k: what was asked for, cut to the number of rows that may be found. dataset_sha256: the data set that it belongs to.
    mask_sha256: digest of the mask that says which rows may be found, empty where all may.
    """

    metric: Metric
    k: int
    rows: npt.NDArray[np.int64]
    distances: npt.NDArray[np.float64]
    dataset_sha256: str
    mask_sha256: str = ""

    @cached_property
    def sha256(self) -> str:
        """Hex digest of data set, metric, k, rows and distances, and of the mask where there is one."""
        parts = (self.dataset_sha256, self.metric.value, str(self.k), array_sha256(self.rows, self.distances))
        return hashlib.sha256(" ".join((*parts, self.mask_sha256)).rstrip().encode("ascii")).hexdigest()

    def first(self, k: int) -> GroundTruth:
        """The k nearest only; k must not be more than is here."""
        if not 1 <= k <= self.k:
            raise DatasetError(f"ground truth holds {self.k} neighbours of each query, {k} were asked for")
        if k == self.k:
            return self
        rows, distances = np.ascontiguousarray(self.rows[:, :k]), np.ascontiguousarray(self.distances[:, :k])
        return replace(self, k=k, rows=rows, distances=distances)


def default_truth_dir() -> Path:
    """Where ground truth is kept when no other place is named: `truth` in the user's cache directory of vecbench."""
    from platformdirs import user_cache_path

    return user_cache_path("vecbench") / "truth"


def ground_truth(
    dataset: Dataset,
    metric: Metric,
    k: int = 100,
    *,
    mask: npt.NDArray[np.bool_] | None = None,
    cache: Path | Literal["user"] | None = "user",
    compute: bool = True,
    progress: Callable[[int, int], None] | None = None,
    threads: int | None = None,
    memory_bytes: int = MEMORY_BYTES,
    largest: Largest | None = None,
    workers: Workers | None = None,
) -> GroundTruth:
    """The exact k nearest base rows of each query; k is cut to the number of rows that may be found.

    mask: bool, one for each base row, the rows that may be found; None for all. cache: a directory, "user" for
    `default_truth_dir()`, None to keep nothing. Kept neighbours are used when data set hash, metric and mask are the
    same and they are k or more. A damaged file is computed anew, with a warning; so is one that cannot be written. A
    long computation keeps its parts there too: after Ctrl-C or a crash, the same call goes on from the last one.
    compute: False raises GroundTruthMissing (or ChecksumMismatch for a damaged file) instead of computing. progress:
    called with (queries done, all queries); where all advance together, with the share that is done.
    threads, memory_bytes, largest: as of `vecbench.neighbours.nearest`. workers: others that compute it, a Ray cluster
    say, each with one thread and within memory_bytes. All of these do not change the result.
    """
    if k < 1:
        raise DatasetError(f"ground truth of {dataset.name}: k is {k}; it must be at least 1")
    wanted = _Wanted(dataset, metric, min(k, _found_rows(dataset, mask)), mask)
    home = default_truth_dir() if cache == "user" else cache
    folder = None if home is None else home / wanted.folder
    if folder is not None:
        try:
            kept = _read(folder, wanted)
        except ChecksumMismatch as e:
            if not compute:
                raise
            warnings.warn(f"{e}; computing it anew", stacklevel=2)
            kept = None
        if kept is not None:
            return kept.first(wanted.k)
    if not compute:
        raise GroundTruthMissing(
            f"the {wanted.k} nearest neighbours of data set {dataset.name} under {metric.value} distance are not in "
            f"{folder or 'a cache, as none was named'}; compute them with ground_truth(dataset, metric, {wanted.k})"
        )
    parts = None if folder is None else folder / f"k{wanted.k}.parts"
    truth = _compute(
        wanted, parts, progress, threads=threads, memory_bytes=memory_bytes, largest=largest, workers=workers
    )
    if folder is not None and parts is not None:
        try:
            _write(folder, truth)
        except OSError as e:
            warnings.warn(f"ground truth could not be kept in {folder}: {e}; it will be computed again", stacklevel=2)
        else:
            shutil.rmtree(parts, ignore_errors=True)
    return truth


@dataclass(frozen=True, eq=False)
class _Wanted:
    """What is asked for: of which queries which neighbours."""

    dataset: Dataset
    metric: Metric
    k: int
    mask: npt.NDArray[np.bool_] | None

    @cached_property
    def mask_sha256(self) -> str:
        return "" if self.mask is None else array_sha256(self.mask)

    @property
    def folder(self) -> str:
        masked = f"-{self.mask_sha256[:16]}" if self.mask_sha256 else ""
        return f"{self.dataset.sha256[:32]}-{self.metric.value}-v{_FORMAT}{masked}"

    def part(self, queries: tuple[int, int], *, elsewhere: bool = False) -> dict[str, Any]:
        """What a part file says that it belongs to; elsewhere: it was computed by workers, which keep no hopes."""
        return {
            "format": _FORMAT,
            "part": _PART_FORMAT,
            "elsewhere": elsewhere,
            "dataset_sha256": self.dataset.sha256,
            "mask_sha256": self.mask_sha256,
            "metric": self.metric.value,
            "k": self.k,
            "queries": list(queries),
        }


def _found_rows(dataset: Dataset, mask: npt.NDArray[np.bool_] | None) -> int:
    """How many base rows may be found; DatasetError for a mask that is none of this data set, or lets none through."""
    if mask is None:
        return len(dataset.base)
    if mask.dtype != np.bool_ or mask.shape != (len(dataset.base),):
        raise DatasetError(
            f"ground truth of {dataset.name}: the mask is {mask.dtype} {mask.shape}; it must be bool, one for each of "
            f"the {len(dataset.base)} base rows"
        )
    if not (rows := int(mask.sum())):
        raise DatasetError(f"ground truth of {dataset.name}: the mask lets no row through, so nothing can be found")
    return rows


def _compute(
    wanted: _Wanted,
    parts: Path | None,
    progress: Callable[[int, int], None] | None,
    *,
    threads: int | None,
    memory_bytes: int,
    largest: Largest | None,
    workers: Workers | None,
) -> GroundTruth:
    data, k = wanted.dataset, wanted.k
    total, told = len(data.queries), 0
    rows, distances = np.empty((total, k), np.int64), np.empty((total, k))
    many = worth_threads(data.queries, data.base)
    turn = queries_at_once(k, data.dim, memory_bytes)
    with Threads(threads if many or threads else 1, limit=many) as own:
        for start in range(0, total, turn):
            stop = min(start + turn, total)
            key = wanted.part((start, stop), elsewhere=workers is not None)
            name = f"{start}-{stop}.{'part' if workers is None else 'merged'}"
            part = None if parts is None else _Part(parts / name, key)
            asked = (data.queries[start:stop], data.base, k, wanted.metric)
            search: Search | SearchOn
            try:
                if workers is None:
                    search = Search(*asked, own, mask=wanted.mask, largest=largest, first_query=start)
                else:
                    search = SearchOn(*asked, workers, mask=wanted.mask, memory_bytes=memory_bytes, first_query=start)
                for read in search.scan(0 if part is None else part.resume(search)):
                    if part is not None and read < search.size and part.is_due():
                        part.write(search, read)
                    done = start + (stop - start) * read // search.size
                    if progress is not None and done > told:
                        told = done
                        progress(done, total)
            except DatasetError as e:
                raise DatasetError(f"data set {data.name}: {e}") from e
            rows[start:stop], distances[start:stop] = search.result()
            if part is not None and stop < total and part.is_due():
                part.write(search, search.size)
    if progress is not None and told < total:
        progress(total, total)
    return GroundTruth(wanted.metric, k, rows, distances, data.sha256, wanted.mask_sha256)


class _Part:
    """The neighbours of some queries among the rows read so far, on disk: what a computation can go on from."""

    def __init__(self, path: Path, key: dict[str, Any]) -> None:
        self._path, self._key, self._written = path, key, time.monotonic()

    def resume(self, search: Search | SearchOn) -> int:
        """Give the search what was found by an earlier one, and the number of rows that this one has read; or 0."""
        try:
            head, _, body = self._path.read_bytes().partition(b"\n")
        except OSError:
            return 0
        try:
            said = json.loads(head)
            read, promised = int(said.pop("read")), said.pop("sha256")
            if said != self._key:
                raise ValueError("it belongs to another computation")
            if promised != self._sha256(read, body):
                raise ValueError("its sha256 is another")
            start, stop = self._key["queries"]
            shape = (stop - start, self._key["k"])
            rows = np.frombuffer(body, "<i8", shape[0] * shape[1]).reshape(shape).astype(np.int64)
            hopes = np.frombuffer(body, "<f8", shape[0], offset=rows.nbytes).astype(np.float64)
        except (ValueError, KeyError, TypeError, AttributeError) as e:
            warnings.warn(f"part {self._path} is damaged ({e}); computing it anew", stacklevel=2)
            return 0
        search.known(rows, hopes)
        return read

    def is_due(self) -> bool:
        """Whether so much was done since the last time that it would be a pity to lose it."""
        return time.monotonic() - self._written >= _PART_SECONDS

    def write(self, search: Search | SearchOn, read: int) -> None:
        """Keep what is known of the first `read` rows; where that cannot be written, the next time may do."""
        body = search.result()[0].astype("<i8").tobytes() + search.hopes().astype("<f8").tobytes()
        head = json.dumps({**self._key, "read": read, "sha256": self._sha256(read, body)})
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            _replace(self._path, head.encode("ascii") + b"\n" + body)
        except OSError as e:
            warnings.warn(f"part {self._path} could not be kept: {e}", stacklevel=2)
        self._written = time.monotonic()

    def _sha256(self, read: int, body: bytes) -> str:
        head = json.dumps({**self._key, "read": read}, sort_keys=True)
        return hashlib.sha256(head.encode("ascii") + body).hexdigest()


def _read(folder: Path, wanted: _Wanted) -> GroundTruth | None:
    """The kept neighbours with the smallest k that is enough; None where there are none."""
    if not folder.is_dir():
        return None
    sizes = sorted(int(m[1]) for m in map(_MANIFEST.fullmatch, os.listdir(folder)) if m)
    size = next((s for s in sizes if s >= wanted.k), None)
    if size is None:
        return None
    try:
        manifest: Any = json.loads((folder / f"k{size}.json").read_text(encoding="utf-8"))
        rows, distances = (_array(folder / f"k{size}.{part}.npy") for part in _PARTS)
        promised = manifest["sha256"]
    except (OSError, ValueError, KeyError, TypeError, EOFError) as e:
        raise ChecksumMismatch(f"ground truth k{size} in {folder} is damaged ({type(e).__name__}: {e})") from e
    truth = GroundTruth(wanted.metric, size, rows, distances, wanted.dataset.sha256, wanted.mask_sha256)
    if rows.shape != (len(wanted.dataset.queries), size) or truth.sha256 != promised:
        raise ChecksumMismatch(f"ground truth k{size} in {folder} is damaged: sha256 {truth.sha256}, not {promised}")
    return truth


def _array(path: Path) -> npt.NDArray[Any]:
    with path.open("rb") as file:
        return np.lib.format.read_array(file, allow_pickle=False)


def _write(folder: Path, truth: GroundTruth) -> None:
    """Arrays first, manifest last: what has a manifest is complete, and two writers at once write the same bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    for part in _PARTS:
        _replace(folder / f"k{truth.k}.{part}.npy", getattr(truth, part))
    manifest = {
        "format": _FORMAT,
        "dataset_sha256": truth.dataset_sha256,
        "metric": truth.metric.value,
        "k": truth.k,
        "queries": len(truth.rows),
        "mask_sha256": truth.mask_sha256,
        "sha256": truth.sha256,
    }
    _replace(folder / f"k{truth.k}.json", manifest)
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _replace(path: Path, content: npt.NDArray[Any] | dict[str, Any] | bytes) -> None:
    """Write beside `path`, force to disk, and rename: a reader sees the old file or the whole new one."""
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as out:
        try:
            if isinstance(content, bytes):
                out.write(content)
            elif isinstance(content, dict):
                out.write((json.dumps(content, indent=1) + "\n").encode())
            else:
                np.save(out, content, allow_pickle=False)
            out.flush()
            os.fsync(out.fileno())
            os.replace(out.name, path)
        except BaseException:
            Path(out.name).unlink(missing_ok=True)
            raise
