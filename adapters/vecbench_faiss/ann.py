"""The approximate index over the rows: how it is built, and how it is asked."""

from __future__ import annotations

from typing import Any

from vecbench.errors import StoreRejected, UnsupportedIndex, UnsupportedOperation
from vecbench.index import HNSW, Flat, Index, IVFFlat, NativeIndex, SearchParams
from vecbench.types import Metric, Vectors

__all__ = ["build", "check_index", "describe", "extend", "search_parameters"]

_BUILD_NATIVE = {"hnsw": frozenset[str](), "ivf_flat": frozenset({"niter", "seed", "max_points_per_centroid"})}
_SEARCH_NATIVE = {"hnsw": {"check_relative_distance", "bounded_queue"}, "ivf_flat": {"max_codes"}}


def check_index(index: Index) -> None:
    """Raise `UnsupportedIndex` for a native parameter that is not FAISS's."""
    known = _BUILD_NATIVE.get(index.kind, frozenset())
    if unknown := set(index.native) - known:
        raise UnsupportedIndex(
            f"faiss: {index.kind} has no native parameter {', '.join(sorted(unknown))}; "
            f"it has: {', '.join(sorted(known)) or 'none'}"
        )


def build(faiss: Any, index: Index, metric: Metric, vectors: Vectors) -> Any:
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
        for name, value in index.native.items():
            setattr(made.cp, name, value)
        made.train(vectors)
    else:
        made = _from_factory(faiss, index, dim, kind, vectors)
    made.add(vectors)
    return made


def _from_factory(faiss: Any, index: NativeIndex, dim: int, kind: int, vectors: Vectors) -> Any:
    try:
        made = faiss.index_factory(dim, index.name, kind)
        if not made.is_trained:
            made.train(vectors)
    except RuntimeError as e:
        reason = str(e).rsplit("Error: ", maxsplit=1)[-1].strip()
        raise StoreRejected(f"faiss: index {index.name!r} cannot be made over {len(vectors)} rows: {reason}") from e
    return made


def check_factory(faiss: Any, index: NativeIndex, dim: int) -> None:
    """Raise `UnsupportedIndex` where FAISS does not understand the factory string."""
    try:
        faiss.index_factory(dim, index.name)
    except RuntimeError as e:
        raise UnsupportedIndex(f"faiss: no index {index.name!r} for {dim} dimensions: {str(e)[-200:].strip()}") from e


def extend(ann: Any, vectors: Vectors) -> None:
    """Add rows to a trained index."""
    ann.add(vectors)


def search_parameters(faiss: Any, ann: Any, index: Index, params: SearchParams, *, k: int, selector: Any) -> Any:
    """FAISS's own parameters for one search; `UnsupportedOperation` for one that this index does not know."""
    inner = faiss.downcast_index(ann)
    while isinstance(inner, faiss.IndexPreTransform | faiss.IndexRefine):
        inner = faiss.downcast_index(inner.index if isinstance(inner, faiss.IndexPreTransform) else inner.base_index)
    if isinstance(inner, faiss.IndexHNSW):
        _refuse(params.nprobe, "nprobe", index)
        ef = params.ef_search or (index.ef_search if isinstance(index, HNSW) else inner.hnsw.efSearch)
        return _with_native(faiss.SearchParametersHNSW(efSearch=max(ef, k), sel=selector), "hnsw", params)
    if isinstance(inner, faiss.IndexIVF):
        _refuse(params.ef_search, "ef_search", index)
        nprobe = params.nprobe or (index.nprobe if isinstance(index, IVFFlat) else inner.nprobe)
        made = faiss.SearchParametersIVF(nprobe=min(nprobe, inner.nlist), sel=selector)
        return _with_native(made, "ivf_flat", params)
    _refuse(params.ef_search, "ef_search", index)
    _refuse(params.nprobe, "nprobe", index)
    return _with_native(faiss.SearchParameters(sel=selector), "native", params)


def _with_native(made: Any, kind: str, params: SearchParams) -> Any:
    check_search_native(kind, params)
    for name, value in params.native.items():
        setattr(made, name, value)
    return made


def check_search_native(kind: str, params: SearchParams) -> None:
    """Raise `UnsupportedOperation` for a native search parameter that this kind of index has not."""
    known = _SEARCH_NATIVE.get(kind, set())
    if unknown := set(params.native) - known:
        raise UnsupportedOperation(
            f"faiss: a search of a {kind} index has no native parameter {', '.join(sorted(unknown))}; "
            f"it has: {', '.join(sorted(known)) or 'none'}"
        )


def _refuse(value: int | None, name: str, index: Index) -> None:
    if value is not None:
        called = index.name if isinstance(index, NativeIndex) else index.kind
        raise UnsupportedOperation(f"faiss: {name} means nothing on the index {called!r}")


def describe(faiss: Any, ann: Any) -> dict[str, Any]:
    """What FAISS says of a built index."""
    inner = faiss.downcast_index(ann)
    out: dict[str, Any] = {"faiss_class": type(inner).__name__}
    if isinstance(inner, faiss.IndexHNSW):
        out |= {"kind": "hnsw", "m": inner.hnsw.nb_neighbors(1), "ef_construction": inner.hnsw.efConstruction}
    elif isinstance(inner, faiss.IndexIVF):
        out |= {"kind": "ivf_flat", "nlist": inner.nlist, "nprobe": inner.nprobe}
    return out
