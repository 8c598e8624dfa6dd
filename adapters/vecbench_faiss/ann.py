"""The approximate index over the rows: how it is built, and how it is asked."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from vecbench.errors import StoreRejected, UnsupportedIndex, UnsupportedOperation
from vecbench.index import HNSW, Flat, Index, IVFFlat, NativeIndex, SearchParams
from vecbench.types import Metric, Vectors

__all__ = ["Ann", "build", "check_index", "check_search", "reason"]

_BUILD_NATIVE = {"ivf_flat": frozenset({"niter", "nredo", "seed", "max_points_per_centroid"})}
_Found: TypeAlias = tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]
_SEARCH_NATIVE: dict[str, dict[str, type]] = {
    "hnsw": {"check_relative_distance": bool, "bounded_queue": bool},
    "ivf_flat": {"max_codes": int},
}


def reason(error: Exception) -> str:
    """The part of FAISS's message that is not a C++ signature."""
    text = str(error).rsplit("Error: ", maxsplit=1)[-1].strip()
    return text or f"FAISS refused the arguments ({type(error).__name__})"


def check_index(faiss: Any, index: Index, dim: int) -> str:
    """How the index is searched: "flat", "hnsw", "ivf_flat" or "native".

    Raises `UnsupportedIndex` for a native parameter that is not FAISS's and for a factory string that it cannot parse.
    """
    known = _BUILD_NATIVE.get(index.kind, frozenset())
    if unknown := set(index.native) - known:
        raise UnsupportedIndex(
            f"faiss: {index.kind} has no native parameter {', '.join(sorted(unknown))}; "
            f"it has: {', '.join(sorted(known)) or 'none'}"
        )
    for name, value in index.native.items():
        if type(value) is not int or value < 1:
            raise UnsupportedIndex(f"faiss: native parameter {name} is a whole number of at least 1, got {value!r}")
    if not isinstance(index, NativeIndex):
        return index.kind
    try:
        return Ann(faiss, index, faiss.index_factory(dim, index.name)).kind
    except RuntimeError as e:
        raise UnsupportedIndex(f"faiss: no index {index.name!r} for {dim} dimensions: {reason(e)}") from e


def check_search(kind: str, index: Index, params: SearchParams) -> None:
    """Raise `UnsupportedOperation` for a search parameter that an index of this kind has not."""
    called = index.name if isinstance(index, NativeIndex) else index.kind
    for name, value, its in (("ef_search", params.ef_search, "hnsw"), ("nprobe", params.nprobe, "ivf_flat")):
        if value is not None and kind != its:
            raise UnsupportedOperation(f"faiss: {name} means nothing on the index {called!r}")
    known = {} if params.exact else _SEARCH_NATIVE.get(kind, {})
    for name, value in params.native.items():
        if name not in known or type(value) is not known[name]:
            has = ", ".join(f"{k} ({v.__name__})" for k, v in sorted(known.items())) or "none"
            how = "an exact search" if params.exact else f"a search of the index {called!r}"
            raise UnsupportedOperation(f"faiss: {how} has no native parameter {name} = {value!r}; it has: {has}")


def build(faiss: Any, index: Index, metric: Metric, vectors: Vectors) -> Ann | None:
    """An index over all `vectors`; None where brute force serves, or where there are too few rows to train on."""
    n, dim = vectors.shape
    if n == 0 or isinstance(index, Flat):
        return None
    kind = faiss.METRIC_L2 if metric is Metric.EUCLIDEAN else faiss.METRIC_INNER_PRODUCT
    if isinstance(index, HNSW):
        made = faiss.IndexHNSWFlat(dim, index.m, kind)
        made.hnsw.efConstruction = index.ef_construction
        made.hnsw.efSearch = index.ef_search
    elif isinstance(index, IVFFlat):
        if n < index.nlist:
            return None
        made = faiss.index_factory(dim, f"IVF{index.nlist},Flat", kind)
        made.nprobe = min(index.nprobe, index.nlist)
        made.cp.min_points_per_centroid = 1  # below it FAISS only prints a warning to stderr
        for name, value in index.native.items():
            setattr(made.cp, name, value)
        made.train(vectors)
    else:
        try:
            made = faiss.index_factory(dim, index.name, kind)
            if not made.is_trained:
                made.train(vectors)
            ann = Ann(faiss, index, made)
            ann.add(vectors, 0)
            ann.probe(vectors[:1])
        except RuntimeError as e:
            raise StoreRejected(f"faiss: index {index.name!r} cannot be made over {n} rows: {reason(e)}") from e
        return ann
    ann = Ann(faiss, index, made)
    ann.add(vectors, 0)
    return ann


class Ann:
    """A FAISS index over rows 0 to n − 1, which are also the numbers it answers with.

    handle: the index itself. kind: "hnsw", "ivf_flat", or "native" for one that knows neither ef_search nor nprobe.
    takes_selector: whether it can search among some rows only; product quantisers, NSG and LSH cannot.
    """

    def __init__(self, faiss: Any, index: Index, handle: Any) -> None:
        self._faiss, self.handle, self.takes_selector = faiss, handle, True
        self._refine: Any = None
        self._core = self._unwrap(handle)
        self.kind = "native"
        if isinstance(self._core, faiss.IndexHNSW):
            self.kind = "hnsw"
        elif isinstance(self._core, faiss.IndexIVF):
            self.kind = "ivf_flat"
        self._cached: tuple[SearchParams | None, int, Any] = (None, 0, None)

    def _unwrap(self, handle: Any) -> Any:
        f = self._faiss
        while True:
            handle = f.downcast_index(handle)
            if isinstance(handle, f.IndexRefine):
                self._refine, handle = handle, handle.base_index
            elif isinstance(handle, f.IndexPreTransform | f.IndexIDMap):
                handle = handle.index
            else:
                return handle

    def add(self, vectors: Vectors, start: int) -> None:
        """Add rows; the first of them has the number `start`."""
        if isinstance(self.handle, self._faiss.IndexIDMap):
            self.handle.add_with_ids(vectors, np.arange(start, start + len(vectors)))
        else:
            self.handle.add(vectors)
        self._cached = (None, 0, None)

    def probe(self, query: Vectors) -> None:
        """Find out whether the index takes a selector: FAISS tells only when asked to search."""
        try:
            self.handle.search(query, 1, params=self._parameters(SearchParams(), 1, self._faiss.IDSelectorRange(0, 1)))
        except RuntimeError:
            self.takes_selector = False

    def distances_computed(self, params: SearchParams) -> int:
        """About how many distances a search of a graph computes; 0 for another index."""
        if self.kind != "hnsw":
            return 0
        return int((params.ef_search or self._core.hnsw.efSearch) * self._core.hnsw.nb_neighbors(0))

    def search(self, queries: Vectors, k: int, params: SearchParams, selector: Any) -> _Found:
        """FAISS's own scores float32 (n, k) and row numbers int64 (n, k), padded with −1.

        selector: the rows that may be found; None for all.
        """
        if selector is not None:
            return self.handle.search(queries, k, params=self._parameters(params, k, selector))  # type: ignore[no-any-return]  # faiss ships no types
        known, known_k, made = self._cached  # making the object costs microseconds, and a caller repeats its parameters
        if params is not known or k != known_k:
            made = self._parameters(params, k, None)
            self._cached = (params, k, made)
        return self.handle.search(queries, k, params=made)  # type: ignore[no-any-return]  # faiss ships no types

    def _parameters(self, params: SearchParams, k: int, selector: Any) -> Any:
        f, core, made = self._faiss, self._core, None
        if self.kind == "hnsw":
            wanted = k if self._refine is None else math.ceil(k * self._refine.k_factor)
            made = f.SearchParametersHNSW(efSearch=max(params.ef_search or core.hnsw.efSearch, wanted), sel=selector)
        elif self.kind == "ivf_flat":
            made = f.SearchParametersIVF(nprobe=min(params.nprobe or core.nprobe, core.nlist), sel=selector)
        elif selector is not None:
            made = f.SearchParameters(sel=selector)  # without one: some indexes refuse even empty parameters
        for name, value in params.native.items():
            setattr(made, name, value)
        if self._refine is not None and made is not None:
            return f.IndexRefineSearchParameters(k_factor=self._refine.k_factor, base_index_params=made)
        return made

    def size(self) -> int:
        """Bytes of the index as it would be written; counted as they come, not kept."""
        sizes: list[int] = []
        self._faiss.write_index(self.handle, self._faiss.PyCallbackIOWriter(lambda part: sizes.append(len(part))))
        return sum(sizes)

    def describe(self) -> Mapping[str, Any]:
        """What FAISS says of the index."""
        out: dict[str, Any] = {"kind": self.kind, "faiss_class": type(self.handle).__name__}
        if self.kind == "hnsw":
            graph = self._core.hnsw
            out |= {"m": graph.nb_neighbors(1), "ef_construction": graph.efConstruction, "ef_search": graph.efSearch}
        elif self.kind == "ivf_flat":
            out |= {"nlist": self._core.nlist, "nprobe": self._core.nprobe}
        return out
