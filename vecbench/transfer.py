"""A collection from one store to another, in batches: what is not there yet is written, nothing is ever replaced.

    with connect("faiss", path="kb") as here, connect("qdrant=http://localhost:6333") as there:
        report = vecbench.copy(here.get_collection("docs"), there)

A copy that was stopped, by Ctrl-C or by a kill, is continued with `resume=True`. There is no journal, because `scan`
has no order to go on from: what the destination holds is compared with the source, and the rest is written.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

from vecbench.capabilities import Capabilities
from vecbench.collection import Collection
from vecbench.errors import (
    CollectionExists,
    CollectionMismatch,
    CollectionNotFound,
    ConfigError,
    CopyMismatch,
    DimensionMismatch,
    UnsupportedIndex,
    UnsupportedMetric,
    VecbenchError,
)
from vecbench.index import Index
from vecbench.spec import CollectionSpec
from vecbench.store import VectorStore
from vecbench.types import INCLUDE_ALL, Records
from vecbench.verify import Progress, Verified, first_difference, keep_bits, place, verify_copy

__all__ = ["GO_ON", "CopyPlan", "CopyReport", "copy", "plan_copy"]

GO_ON = "what was copied is kept; copy again with resume=True to go on"
"""The note on every error that a copy ends with half-way."""


@dataclass(frozen=True, slots=True)
class CopyPlan:
    """The collection that a copy makes, how many records it takes, and what the destination has against it.

    obstacles: errors that a copy would end with before it writes anything. losses: what the source can do with the
    collection and the destination cannot, in sentences. What only the store itself knows (the range of an index
    parameter, the longest metadata) comes to light when the collection is made or written to.
    """

    spec: CollectionSpec
    rows: int
    obstacles: tuple[VecbenchError, ...]
    losses: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class CopyReport:
    """What a copy did: records in all, of them written now, and what was verified (None: nothing)."""

    collection: Collection
    rows: int
    written: int
    losses: tuple[str, ...]
    verified: Verified | None
    seconds: float


def copy(
    source: Collection,
    destination: VectorStore,
    name: str | None = None,
    *,
    index: Index | None = None,
    batch_size: int = 1000,
    resume: bool = False,
    verify: bool = True,
    progress: Progress | None = None,
    flush_seconds: float = 30.0,
) -> CopyReport:
    """Copy a collection, its spec and every record, into another store, or into the same one under another name.

    name: of the copy, the source's without one. index: of the copy, the source's without one. resume: continue a copy
    that was stopped; what is there already must be a part of the source, else `CollectionMismatch` before anything is
    written. verify: compare everything at the end, see `vecbench.verify.verify_copy`. flush_seconds: how often what was
    written is made durable on the way: a kill loses as much at most. progress: called with (phase, done, total).

    One batch is in memory at a time. The source must be at rest: a record that is written meanwhile may be missed, and
    the verification will say so. Raises `CollectionExists`, `CollectionMismatch`, `Unsupported…`, and what the stores
    raise; a copy that failed half-way leaves what it wrote.
    """
    if type(batch_size) is not int or batch_size < 1:
        raise ConfigError(f"batch_size must be a whole number of at least 1, got {batch_size!r}")
    show = progress or _silent
    start = time.perf_counter()
    source.flush()  # what was written before must be seen
    plan = plan_copy(source, destination, name, index=index, resume=resume)
    if plan.obstacles:
        raise plan.obstacles[0]
    copied = destination.create_collection(plan.spec, exist_ok=resume)
    there = _require_part_of(source, copied, batch_size, show) if resume else 0
    written = 0
    try:
        flushed = time.monotonic()
        for part in _parts(source, copied if there else None, batch_size, plan.rows, show):
            copied.upsert(part)
            written += len(part)
            if time.monotonic() - flushed >= flush_seconds:
                copied.flush()
                flushed = time.monotonic()
        show("indexing", 0, 1)
        copied.flush()
        copied.optimize()
        copied.flush()  # the index too
        show("indexing", 1, 1)
        copied = destination.get_collection(plan.spec.name)  # its spec as the store keeps it
        verified = verify_copy(source, copied, batch_size=batch_size, progress=progress) if verify else None
    except CopyMismatch:
        raise
    except (VecbenchError, KeyboardInterrupt) as e:
        e.add_note(GO_ON)
        raise
    return CopyReport(copied, there + written, written, plan.losses, verified, time.perf_counter() - start)


def plan_copy(
    source: Collection,
    destination: VectorStore,
    name: str | None = None,
    *,
    index: Index | None = None,
    resume: bool = False,
) -> CopyPlan:
    """What `copy` with the same arguments would make, and what stands against it; nothing is written."""
    spec = replace(
        source.spec,
        name=source.spec.name if name is None else name,
        index=source.spec.index if index is None else index,
    )
    if source.store is destination and spec.name == source.spec.name:
        raise ConfigError(f"{place(source)} cannot be copied onto itself; give the copy another name")
    obstacles = [*_unfit(source, destination, spec, chosen=index is not None), *_in_the_way(destination, spec, resume)]
    losses = _losses(source.store.capabilities, destination.capabilities, spec)
    return CopyPlan(spec, source.count(), tuple(obstacles), tuple(losses))


def _unfit(source: Collection, destination: VectorStore, spec: CollectionSpec, *, chosen: bool) -> list[VecbenchError]:
    """What of the spec the destination does not take."""
    can, label = destination.capabilities, destination.info.label
    found: list[VecbenchError] = []
    if spec.metric not in can.metrics:
        found.append(
            UnsupportedMetric(f"{label} has no {spec.metric} distance; it has {', '.join(sorted(can.metrics))}")
        )
    if can.max_dim is not None and spec.dim > can.max_dim:
        found.append(
            DimensionMismatch(f"{label} takes vectors of up to {can.max_dim} dimensions, these have {spec.dim}")
        )
    has = f"it has {', '.join(sorted(can.indexes))}: choose one of them (index=, --index)"
    if spec.index.kind not in can.indexes:
        found.append(UnsupportedIndex(f"{label} has no {spec.index.kind} index; {has}"))
    elif (spec.index.kind == "native" or spec.index.native) and not chosen and source.store.name != destination.name:
        words = getattr(spec.index, "name", None) or ", ".join(sorted(spec.index.native))
        found.append(
            UnsupportedIndex(
                f"the index of {place(source)} is in {source.store.name}'s own words ({words}); {label}: {has}"
            )
        )
    return found


def _in_the_way(destination: VectorStore, spec: CollectionSpec, resume: bool) -> list[VecbenchError]:
    """What is there already under the name of the copy."""
    try:
        existing = destination.get_collection(spec.name).spec
    except CollectionNotFound:
        return []
    where = f"{destination.info.label} {spec.name!r}"
    if not resume:
        return [
            CollectionExists(
                f"{where} exists; choose another name for the copy, or resume (resume=True, --resume) if it is a copy "
                "that was stopped"
            )
        ]
    differing = [
        what for what in ("dim", "metric", "index", "embedder", "fields") if _of(existing, what) != _of(spec, what)
    ]
    return [
        CollectionMismatch(
            f"{where} has {what} {_of(existing, what)}, the copy needs {_of(spec, what)}: it is not "
            "a copy that was stopped"
        )
        for what in differing
    ]


def _of(spec: CollectionSpec, what: str) -> object:
    if what == "embedder":
        return None if spec.embedder is None else spec.embedder.describe()
    return dict(spec.fields) if what == "fields" else getattr(spec, what)


def _losses(had: Capabilities, can: Capabilities, spec: CollectionSpec) -> list[str]:
    out: list[str] = []
    if not can.preserves_vectors:
        out.append("vectors come back to float32 rounding, not bit for bit")
    if missing := had.filters - can.filters:
        out.append(f"no filter by {', '.join(sorted(missing))}")
    if can.declared_fields and not had.declared_fields:
        declared = f"by {', '.join(sorted(spec.fields))} only" if spec.fields else "by no field, as none is declared"
        out.append(f"filters {declared}: the destination filters by declared fields")
    if had.exact_search and not can.exact_search and spec.index.kind != "flat":
        out.append("no exact search")
    for what, before, after, kind in (
        ("ef_search", had.ef_search, can.ef_search, "hnsw"),
        ("nprobe", had.nprobe, can.nprobe, "ivf_flat"),
    ):
        if spec.index.kind == kind and kind in can.indexes and before == "query" != after:
            out.append(f"{what} cannot be set per query" + ("" if after == "none" else ", only for the collection"))
    if can.max_k is not None and (had.max_k is None or had.max_k > can.max_k):
        out.append(f"a search returns at most {can.max_k} records")
    return out


def _require_part_of(source: Collection, copied: Collection, batch_size: int, show: Progress) -> int:
    """The number of records in `copied`; `CollectionMismatch` unless each is as the source has it."""
    copied.flush()
    bits, total, seen = keep_bits(source, copied), copied.count(), 0
    advice = "it is not a copy that was stopped, or the source has changed since; choose another name, or drop it"
    show("checking", 0, total)
    for batch in copied.scan(batch_size=batch_size, include=INCLUDE_ALL):
        originals = source.get(batch.ids)
        if list(originals.ids) != list(batch.ids):
            known = set(originals.ids)
            foreign = next((i for i in batch.ids if i not in known), batch.ids[0])
            raise CollectionMismatch(f"{place(copied)} holds {foreign!r}, which {place(source)} lacks: {advice}")
        difference = first_difference(originals, batch, bits=bits)
        if difference is not None:
            raise CollectionMismatch(f"{place(copied)} differs from {place(source)} ({difference}): {advice}")
        seen += len(batch)
        show("checking", seen, max(total, seen))
    return seen


def _parts(
    source: Collection, copied: Collection | None, batch_size: int, rows: int, show: Progress
) -> Iterator[Records]:
    """The records of `source` in batches, without those that are in `copied` already."""
    done = 0
    show("copying", 0, rows)
    for batch in source.scan(batch_size=batch_size, include=INCLUDE_ALL):
        missing = batch
        if copied is not None:
            there = set(copied.get(batch.ids, include=()).ids)
            missing = batch.take([row for row, id_ in enumerate(batch.ids) if id_ not in there])
        if len(missing):
            yield missing
        done += len(batch)
        show("copying", done, max(rows, done))


def _silent(phase: str, done: int, total: int) -> None:
    """Show nothing."""
