"""How the vectors of glosses-10k were frozen: `python -m vecbench_datasets.make_glosses VECTORS.npy FOLDER`.

VECTORS.npy holds one row per gloss, in an order that was shuffled once: the vectors of all-MiniLM-L6-v2 for
"lemma: gloss", in any scale. They are brought onto the integers −127 … 127 by one factor for the whole array, 127 over
its largest absolute component, and rounded. Rows that then repeat an earlier row are passed over; the first 10,000 of
what remains are the base, the next 500 the queries. So no query equals a base vector or another query.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["freeze"]

_LARGEST = 127


def freeze(
    vectors: npt.NDArray[Any], n_base: int = 10_000, n_queries: int = 500
) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.int8]]:
    """Base and queries as int8, (n_base, dim) and (n_queries, dim), chosen from `vectors` by the rule above."""
    wide = vectors.astype(np.float64)
    grid = np.rint(wide * _LARGEST / np.abs(wide).max()).astype(np.int8)
    _, first = np.unique(grid, axis=0, return_index=True)
    if len(first) < n_base + n_queries:
        raise ValueError(f"{len(first)} distinct rows; {n_base + n_queries} are needed")
    chosen = grid[np.sort(first)[: n_base + n_queries]]
    return chosen[:n_base], chosen[n_base:]


if __name__ == "__main__":
    source, folder = map(Path, sys.argv[1:])
    for part, array in zip(("base", "queries"), freeze(np.load(source, allow_pickle=False)), strict=True):
        np.save(folder / f"glosses_10k_{part}.npy", array, allow_pickle=False)
