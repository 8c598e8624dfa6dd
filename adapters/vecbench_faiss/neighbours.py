"""The largest inner products by FAISS, on a GPU: what exact neighbours are made of; see `vecbench.neighbours`."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from vecbench.types import Vectors

__all__ = ["LargestByFaiss", "on_gpu"]


class LargestByFaiss:
    """FAISS's brute force over a block of rows, on the device that `resources` stand for; on the CPU for None.

    It adds in float32: FAISS tells cuBLAS to round nothing further.
    """

    block_rows = 131_072
    most = 2048  # more cannot be selected on a GPU

    def __init__(self, faiss: Any, resources: Any = None) -> None:
        self._faiss, self._resources = faiss, resources

    def __call__(
        self, queries: Vectors, rows: Vectors, count: int
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
        """For each query the `count` largest products with `rows`, descending, and their rows: both (q, count)."""
        kind = self._faiss.METRIC_INNER_PRODUCT
        if self._resources is None:
            products, found = self._faiss.knn(queries, rows, count, metric=kind)
        else:
            products, found = self._faiss.knn_gpu(self._resources, queries, rows, count, metric=kind)
        return np.asarray(products, np.float32), np.asarray(found, np.int64)


def on_gpu() -> LargestByFaiss | None:
    """FAISS on the first GPU; None where FAISS is not installed, was built without CUDA, or finds no GPU."""
    try:
        import faiss
    except ImportError:
        return None
    if not hasattr(faiss, "StandardGpuResources") or faiss.get_num_gpus() == 0:
        return None
    return LargestByFaiss(faiss, faiss.StandardGpuResources())
