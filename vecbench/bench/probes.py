"""Checks between loading and measuring: a store that lost rows or does not filter was fast for nothing."""

from __future__ import annotations

import numpy as np

from vecbench.collection import Collection
from vecbench.distance import paired_distances
from vecbench.errors import RunVoid
from vecbench.filters import Eq
from vecbench.index import SearchParams
from vecbench.types import Metric, Vectors

__all__ = ["check_loaded"]

_PROBES = 5
_NEAR = 1e-2  # of a vector's length, or in cosine: far above float32 rounding, far below a neighbour's distance


def check_loaded(collection: Collection, base: Vectors, query: Vectors, k: int, buckets: int) -> list[str]:
    """Raise `RunVoid` unless every row is there, rows find themselves, and a filter lets its matches through, all of k.

    base: (n, dim), row i stored under the id str(i) with `bucket` = i modulo `buckets`. query: (1, dim).
    Returns what could not be checked, in sentences.
    """
    n, notes = len(base), []
    count = collection.count()
    if count != n:
        raise RunVoid(f"{n} rows were sent, {count} are there")
    answer = collection.search(query, k)
    if len(answer.ids[0]) != min(k, n):
        raise RunVoid(f"a search for {k} of {n} rows gave {len(answer.ids[0])}")
    if collection.spec.metric is Metric.DOT:
        notes.append("rows were not asked to find themselves: under dot another may be nearer")
    else:
        _check_rows_find_themselves(collection, base, k)
    if "eq" not in collection.store.capabilities.filters:
        notes.append("filters were not checked: the store has no eq")
        return notes
    bucket = min(buckets, n) // 2
    wanted = min(k, len(range(bucket, n, buckets)))
    ids = collection.search(query, k, where=Eq("bucket", bucket)).ids[0]
    matching = {str(i) for i in range(bucket, n, buckets)}
    if len(ids) != wanted or not matching.issuperset(ids):
        wrong = len([i for i in ids if i not in matching])
        raise RunVoid(f"a filter on one row in {buckets} gave {len(ids)} of {wanted} answers, {wrong} wrong")
    return notes


def _check_rows_find_themselves(collection: Collection, base: Vectors, k: int) -> None:
    """Exact search must put something at distance 0 first; a graph may miss now and then, not most of the time."""
    spec = collection.spec
    exact = collection.store.capabilities.exact_search or spec.index.kind == "flat"
    params = SearchParams(exact=True) if exact else SearchParams()
    lost: list[int] = []
    rows = sorted({int(i) for i in np.linspace(0, len(base) - 1, _PROBES)})
    for row in rows:
        vector = np.ascontiguousarray(base[row], np.float32)[None, :]
        answer = collection.search(vector, 1 if exact else k, params=params)
        # By distance, not by id: the row may have doubles, scaled ones under cosine.
        found = [int(i) for i in answer.ids[0] if i.isascii() and i.isdigit() and int(i) < len(base)]
        unit = float(np.linalg.norm(vector)) if spec.metric is Metric.EUCLIDEAN else 1.0
        near = paired_distances(np.broadcast_to(vector, (len(found), vector.shape[1])), base[found], spec.metric)
        if not (near <= _NEAR * unit).any():
            lost.append(row)
        elif exact and abs(float(answer.distances[0][0])) > _NEAR * unit:
            raise RunVoid(f"row {row} is {float(answer.distances[0][0])} away from itself")
    if len(lost) > (0 if exact else len(rows) // 2):
        raise RunVoid(f"{len(lost)} of {len(rows)} rows do not find themselves: {lost}")
