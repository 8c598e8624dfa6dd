"""The exact nearest neighbours of every query of a data set: computed once, kept on disk, verified when read."""

from __future__ import annotations

import hashlib
import json
import os
import re
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from vecbench.dataset import Dataset, array_sha256
from vecbench.distance import top_k
from vecbench.errors import ChecksumMismatch, DatasetError, GroundTruthMissing
from vecbench.types import Metric

__all__ = ["GroundTruth", "default_truth_dir", "ground_truth"]

_FORMAT = 1  # raised when the files, or the rule by which neighbours are chosen, change
_QUERIES_AT_ONCE = 1024  # one tile of `vecbench.neighbours`
_PARTS = ("rows", "distances")
_MANIFEST = re.compile(r"k(\d+)\.json")


@dataclass(frozen=True, eq=False)
class GroundTruth:
    """The k nearest base rows of each query, nearest first, rows of equal distance in the order of their numbers.

    rows: row numbers into `Dataset.base`, int64 (q, k). distances: float64 (q, k), ascending, in the metric's unit.
    k: what was asked for, cut to the number of base rows. dataset_sha256: the data set that it belongs to.
    """

    metric: Metric
    k: int
    rows: npt.NDArray[np.int64]
    distances: npt.NDArray[np.float64]
    dataset_sha256: str

    @cached_property
    def sha256(self) -> str:
        """Hex digest of data set, metric, k, rows and distances."""
        parts = (self.dataset_sha256, self.metric.value, str(self.k), array_sha256(self.rows, self.distances))
        return hashlib.sha256(" ".join(parts).encode("ascii")).hexdigest()

    def first(self, k: int) -> GroundTruth:
        """The k nearest only; k must not be more than is here."""
        if not 1 <= k <= self.k:
            raise DatasetError(f"ground truth holds {self.k} neighbours of each query, {k} were asked for")
        if k == self.k:
            return self
        rows, distances = np.ascontiguousarray(self.rows[:, :k]), np.ascontiguousarray(self.distances[:, :k])
        return GroundTruth(self.metric, k, rows, distances, self.dataset_sha256)


def default_truth_dir() -> Path:
    """Where ground truth is kept when no other place is named: `truth` in the user's cache directory of vecbench."""
    from platformdirs import user_cache_path

    return user_cache_path("vecbench") / "truth"


def ground_truth(
    dataset: Dataset,
    metric: Metric,
    k: int = 100,
    *,
    cache: Path | Literal["user"] | None = "user",
    compute: bool = True,
    progress: Callable[[int, int], None] | None = None,
) -> GroundTruth:
    """The exact k nearest base rows of each query; k is cut to the number of base rows.

    cache: a directory, "user" for `default_truth_dir()`, None to keep nothing. Kept neighbours are used when data set
    hash and metric are the same and they are k or more. A damaged file is computed anew, with a warning; so is one that
    cannot be written. compute: False raises GroundTruthMissing (or ChecksumMismatch for a damaged file) instead of
    computing. progress: called with (queries done, all queries).
    """
    if k < 1:
        raise DatasetError(f"ground truth of {dataset.name}: k is {k}; it must be at least 1")
    k = min(k, len(dataset.base))
    home = default_truth_dir() if cache == "user" else cache
    folder = None if home is None else home / f"{dataset.sha256[:32]}-{metric.value}-v{_FORMAT}"
    if folder is not None:
        try:
            kept = _read(folder, dataset, metric, k)
        except ChecksumMismatch as e:
            if not compute:
                raise
            warnings.warn(f"{e}; computing it anew", stacklevel=2)
            kept = None
        if kept is not None:
            return kept.first(k)
    if not compute:
        raise GroundTruthMissing(
            f"the {k} nearest neighbours of data set {dataset.name} under {metric.value} distance are not in "
            f"{folder or 'a cache, as none was named'}; compute them with ground_truth(dataset, metric, {k})"
        )
    truth = _compute(dataset, metric, k, progress)
    if folder is not None:
        try:
            _write(folder, truth)
        except OSError as e:
            warnings.warn(f"ground truth could not be kept in {folder}: {e}; it will be computed again", stacklevel=2)
    return truth


def _compute(dataset: Dataset, metric: Metric, k: int, progress: Callable[[int, int], None] | None) -> GroundTruth:
    total = len(dataset.queries)
    rows = np.empty((total, k), np.int64)
    distances = np.empty((total, k))
    if metric is Metric.COSINE:
        for part in ("base", "queries"):
            zero = ~getattr(dataset, part).any(axis=1)
            if zero.any():
                row = int(np.flatnonzero(zero)[0])
                raise DatasetError(
                    f"data set {dataset.name}: row {row} of {part} is zero and has no cosine distance; "
                    f"use another metric or remove it"
                )
    for start in range(0, total, _QUERIES_AT_ONCE):
        stop = min(start + _QUERIES_AT_ONCE, total)
        rows[start:stop], distances[start:stop] = top_k(dataset.queries[start:stop], dataset.base, k, metric)
        if progress is not None:
            progress(stop, total)
    return GroundTruth(metric, k, rows, distances, dataset.sha256)


def _read(folder: Path, dataset: Dataset, metric: Metric, k: int) -> GroundTruth | None:
    """The kept neighbours with the smallest k that is enough; None where there are none."""
    if not folder.is_dir():
        return None
    sizes = sorted(int(m[1]) for m in map(_MANIFEST.fullmatch, os.listdir(folder)) if m)
    size = next((s for s in sizes if s >= k), None)
    if size is None:
        return None
    try:
        manifest: Any = json.loads((folder / f"k{size}.json").read_text(encoding="utf-8"))
        rows, distances = (_array(folder / f"k{size}.{part}.npy") for part in _PARTS)
        promised = manifest["sha256"]
    except (OSError, ValueError, KeyError, TypeError, EOFError) as e:
        raise ChecksumMismatch(f"ground truth k{size} in {folder} is damaged ({type(e).__name__}: {e})") from e
    truth = GroundTruth(metric, size, rows, distances, dataset.sha256)
    if rows.shape != (len(dataset.queries), size) or truth.sha256 != promised:
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
        "sha256": truth.sha256,
    }
    _replace(folder / f"k{truth.k}.json", manifest)
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _replace(path: Path, content: npt.NDArray[Any] | dict[str, Any]) -> None:
    """Write beside `path`, force to disk, and rename: a reader sees the old file or the whole new one."""
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as out:
        try:
            if isinstance(content, dict):
                out.write((json.dumps(content, indent=1) + "\n").encode())
            else:
                np.save(out, content, allow_pickle=False)
            out.flush()
            os.fsync(out.fileno())
            os.replace(out.name, path)
        except BaseException:
            Path(out.name).unlink(missing_ok=True)
            raise
