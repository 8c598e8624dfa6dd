"""What `vecbench datasets check` looks at, one finding after the other."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from vecbench.errors import DatasetError

if TYPE_CHECKING:
    from vecbench.dataset import Dataset, DatasetSource
    from vecbench.formats.arrays import Neighbours
    from vecbench.types import Metric, Vectors

__all__ = ["Finding", "findings", "repeated_queries", "upstream_agreement"]

_QUERIES = 100
_TIE = 1e-6  # relative: float32 distances of the file's maker are no better


@dataclass(frozen=True)
class Finding:
    """One check: what was looked at, how it came out, and the figure."""

    state: Literal["ok", "note", "FAIL"]
    what: str
    detail: str


def findings(source: DatasetSource) -> Iterator[Finding]:
    """Every finding, the reading of the files first; when that fails, it is the only one."""
    from vecbench.geometry import duplicate_rate

    try:
        data = source.load()
    except DatasetError as e:
        yield Finding("FAIL", "reading", str(e))
        return
    files = () if source.recipe is None else source.recipe.files
    unpinned = [file.name for file in files if not file.sha256]
    if files:
        rest = f"; of {', '.join(unpinned)} nobody vouches for the hash, the first download's is held to"
        yield Finding("ok", "files", f"{len(files)} with the right sha256{rest if unpinned else ''}")
    yield Finding("ok", "vectors", f"{len(data.base):,} + {len(data.queries):,} of {data.dim}, float32, all finite")
    known = "as its card says" if source.card.sha256 else "its card names none"
    yield Finding("ok" if source.card.sha256 else "note", "sha256", f"{data.sha256}, {known}")
    yield _zeros(data)
    rate = duplicate_rate(data.base)
    yield Finding("note" if rate else "ok", "duplicates", f"{rate:.2%} of the base repeat an earlier row")
    repeated = repeated_queries(data)
    detail = f"{repeated:,} of {len(data.queries):,} queries equal a base row, and are found at distance 0"
    yield Finding("note" if repeated else "ok", "held out", detail)
    if data.judgements is not None:
        yield _judged(data)
        held = source.recipe is not None and source.recipe.judgements_sha256
        known = "as its card says" if held else "its card names none"
        yield Finding("ok" if held else "note", "judgements sha256", f"{data.judgements_sha256}, {known}")
    if (upstream := None if source.neighbours is None else source.neighbours()) is not None:
        yield _upstream(data, upstream)


def _zeros(data: Dataset) -> Finding:
    import numpy as np

    from vecbench.formats.blocks import blocks
    from vecbench.types import Metric

    rows = [
        f"{part} row {start + row}"
        for part in ("base", "queries")
        for start, block in blocks(getattr(data, part))
        for row in np.flatnonzero(~block.any(axis=1)).tolist()
    ]
    if not rows:
        return Finding("ok", "zero vectors", "none")
    state: Literal["note", "FAIL"] = "FAIL" if data.card.metric is Metric.COSINE else "note"
    return Finding(state, "zero vectors", f"{len(rows):,}, first {rows[0]}: they have no cosine distance")


def _judged(data: Dataset) -> Finding:
    judged = data.judgements or ()
    known = set(data.ids)
    lost = sum(id_ not in known for grades in judged for id_ in grades)
    none = sum(not any(grades.values()) for grades in judged)
    pairs = sum(len(grades) for grades in judged)
    detail = f"{pairs:,} pairs; {lost:,} name a document that is not there, {none:,} queries have nothing relevant"
    return Finding("note" if lost or none else "ok", "judgements", detail)


def repeated_queries(data: Dataset) -> int:
    """How many queries equal a base row in every component."""
    import numpy as np

    from vecbench.formats.blocks import blocks

    # Rows are compared where a sum of their bits agrees; adding 0 turns −0 into 0, which is equal but has other bits.
    weights = np.array([pow(0x9E3779B97F4A7C15, i, 1 << 64) for i in range(1, data.dim + 1)], np.uint64)

    def keys(rows: Vectors) -> np.ndarray[tuple[int], np.dtype[np.uint64]]:
        return np.asarray(((rows + np.float32(0)).view(np.uint32) * weights).sum(axis=1, dtype=np.uint64))

    asked = np.array(data.queries)
    of_queries = keys(asked)
    found: set[int] = set()
    for _, block in blocks(data.base, 4 << 20):
        of_block = keys(block)
        for row in np.flatnonzero(np.isin(of_block, of_queries)):
            same = np.flatnonzero(of_queries == of_block[row])
            found.update(int(query) for query in same if (asked[query] == block[row]).all())
    return len(found)


def _upstream(data: Dataset, upstream: Neighbours) -> Finding:
    from vecbench.types import Metric

    metric = data.card.metric or Metric.EUCLIDEAN
    try:
        share, worst, k = upstream_agreement(data, upstream, metric)
    except DatasetError as e:
        return Finding("FAIL", "neighbours", str(e))
    detail = (
        f"{share:.4%} of the {k} that came with the files for the first {min(_QUERIES, len(upstream))} queries are "
        f"among ours under {metric}, ties counted by distance; worst query {worst:.1%}"
    )
    return Finding("ok" if share >= 0.999 else "FAIL", "neighbours", detail)


def upstream_agreement(data: Dataset, upstream: Neighbours, metric: Metric) -> tuple[float, float, int]:
    """Share of the given neighbours of the first queries that lie within our k-th distance: mean, worst query, and k.

    Raises DatasetError for row numbers that are not of the base, or fewer rows than queries.
    """
    import numpy as np

    from vecbench.distance import paired_distances, top_k

    if len(upstream) != len(data.queries):
        raise DatasetError(f"{len(upstream):,} rows of neighbours came for {len(data.queries):,} queries")
    k = min(upstream.shape[1], _QUERIES, len(data.base))
    given = upstream[:_QUERIES, :k]
    if (wrong := given[(given < 0) | (given >= len(data.base))]).size:
        raise DatasetError(f"neighbours name row {int(wrong[0])}; the base has {len(data.base):,} rows")
    queries = np.ascontiguousarray(data.queries[:_QUERIES])
    _, ours = top_k(queries, data.base, k, metric)
    shares = []
    for query, rows, reach in zip(queries, given, ours[:, -1], strict=True):
        vectors = data.base[rows]
        theirs = paired_distances(np.broadcast_to(query, vectors.shape), vectors, metric)
        within = theirs <= reach + _TIE * max(abs(float(reach)), 1e-9)
        shares.append(len(np.unique(rows[within])) / k)
    return float(np.mean(shares)), float(np.min(shares)), k
