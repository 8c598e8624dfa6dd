"""Stores that keep, give back or refuse wrongly, each in one way that real engines and adapters have."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from vecbench.errors import CollectionNotFound
from vecbench.filters import Filter
from vecbench.index import HNSW, SearchParams
from vecbench.memory import MemoryCollection, MemoryStore
from vecbench.spec import CollectionSpec
from vecbench.store import Collection
from vecbench.types import Include, Metric, Records, SearchResult, Vectors

from .planting import PlantedStore, caught_by, store_caught_by

# Records --------------------------------------------------------------------------------------------------------------


class _Write(MemoryCollection):
    """A store that spoils what it writes."""

    def spoil(self, records: Records) -> Records:
        raise NotImplementedError

    def _upsert(self, records: Records) -> None:
        super()._upsert(self.spoil(records))


@caught_by("test_batches_beyond_the_stores_limits")
class LastBatchLost(_Write):
    def spoil(self, records: Records) -> Records:
        return records.rows(0, len(records) // 1000 * 1000) if len(records) > 1000 else records


@caught_by("test_records_come_back_as_they_went")
class LastRowLost(_Write):
    def spoil(self, records: Records) -> Records:
        return records.rows(0, max(1, len(records) - 1))


@caught_by("test_upsert_replaces_the_whole_record")
class FirstWriteWins(_Write):
    def spoil(self, records: Records) -> Records:
        return records.take([i for i, id_ in enumerate(records.ids) if id_ not in self._rows])


@caught_by("test_upsert_replaces_the_whole_record")
class MetadataMerged(_Write):
    def spoil(self, records: Records) -> Records:
        new = records.metadata or [{}] * len(records)
        old = [self._rows[i][1] if i in self._rows else {} for i in records.ids]
        return replace(records, metadata=[{**o, **n} for o, n in zip(old, new, strict=True)])


@caught_by("test_upsert_replaces_the_whole_record")
class OldDocumentKept(_Write):
    def spoil(self, records: Records) -> Records:
        new = records.documents or [None] * len(records)
        kept = [self._rows[i][2] if d is None and i in self._rows else d for i, d in zip(records.ids, new, strict=True)]
        return replace(records, documents=kept)


@caught_by("test_every_kind_of_value_keeps_its_type")
class IntsBecomeFloats(_Write):
    def spoil(self, records: Records) -> Records:
        rows = records.metadata or [{}] * len(records)
        floats = [{k: float(v) if type(v) is int else v for k, v in row.items()} for row in rows]
        return replace(records, metadata=floats)


@caught_by("test_every_kind_of_value_keeps_its_type")
class MinusZeroLosesItsSign(_Write):
    def spoil(self, records: Records) -> Records:
        rows = records.metadata or [{}] * len(records)
        return replace(records, metadata=[{k: 0.0 if v == 0.0 else v for k, v in row.items()} for row in rows])


@caught_by("test_ids_are_any_text")
class IdsFolded(_Write):
    def spoil(self, records: Records) -> Records:
        return replace(records, ids=[i.lower() for i in records.ids])


@caught_by("test_documents_are_any_text")
class EmptyDocumentIsNone(_Write):
    def spoil(self, records: Records) -> Records:
        return replace(records, documents=[d or None for d in records.documents or [None] * len(records)])


@caught_by("test_records_come_back_as_they_went")
class NormalisedVectorsComeBack(_Write):
    def spoil(self, records: Records) -> Records:
        assert records.vectors is not None
        if self.spec.metric is not Metric.COSINE:
            return records
        unit = records.vectors / np.linalg.norm(records.vectors, axis=1, keepdims=True)
        return replace(records, vectors=unit.astype(np.float32))


@caught_by("test_records_come_back_as_they_went")
class BitsLostWhileClaimingToKeepThem(_Write):
    def spoil(self, records: Records) -> Records:
        assert records.vectors is not None
        return replace(records, vectors=np.nextafter(records.vectors, np.float32(np.inf)))


@caught_by("test_the_store_keeps_its_own_copy")
class KeepsTheCallersObjects(MemoryCollection):
    def _upsert(self, records: Records) -> None:
        assert records.vectors is not None
        for i, id_ in enumerate(records.ids):
            metadata = {} if records.metadata is None else records.metadata[i]
            self._rows[id_] = (records.vectors[i], metadata, None)


@caught_by("test_get_keeps_the_order_and_leaves_out_what_is_missing")
class GetGivesMissingRecords(MemoryCollection):
    def _get(self, ids: list[str], include: tuple[Include, ...]) -> Records:
        known = [i if i in self._rows else next(iter(self._rows)) for i in ids]
        return replace(self._columns(known, include), ids=ids)


@caught_by("test_get_keeps_the_order_and_leaves_out_what_is_missing")
class GetInStoreOrder(MemoryCollection):
    def get(self, ids: Any, *, include: Any = ("vectors", "metadata", "documents")) -> Records:
        return self._columns([i for i in self._rows if i in ids], include)  # overrides the verb that re-orders


@caught_by("test_read_your_writes")
class DeleteIsLost(MemoryCollection):
    def _delete_ids(self, ids: list[str]) -> None:
        self._require()


@caught_by("test_read_your_writes")
class StaleUntilOptimized(MemoryCollection):
    """Writes wait in a buffer that only `optimize` empties."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._waiting: list[Records] = []

    def _upsert(self, records: Records) -> None:
        self._waiting.append(records)

    def _optimize(self, timeout: float) -> None:
        for records in self._waiting:
            super()._upsert(records)
        self._waiting.clear()


@caught_by("test_overwritten_again_and_again")
class OldVectorsStayInTheIndex(MemoryCollection):
    """An overwritten record keeps the vector of its first write in the index, not in the row."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._indexed: dict[str, Any] = {}

    def _upsert(self, records: Records) -> None:
        super()._upsert(records)
        for id_ in records.ids:
            self._indexed.setdefault(id_, self._rows[id_])

    def _search(
        self, queries: Vectors, k: int, where: Filter | None, params: SearchParams, include: tuple[Include, ...]
    ) -> SearchResult:
        rows, self._rows = self._rows, {i: self._indexed[i] for i in self._rows}
        try:
            return super()._search(queries, k, where, params, include)
        finally:
            self._rows = rows


@caught_by("test_scan_gives_every_record_once")
class ScanRepeatsAtTheBorder(MemoryCollection):
    def _scan(self, where: Filter | None, batch_size: int, include: tuple[Include, ...]) -> Iterator[Records]:
        ids = self._select(where)
        for start in range(0, len(ids), batch_size - 1):
            yield self._columns(ids[start : start + batch_size], include)


@caught_by("test_scan_gives_every_record_once")
class ScanLeavesOutTheLastBatch(MemoryCollection):
    def _scan(self, where: Filter | None, batch_size: int, include: tuple[Include, ...]) -> Iterator[Records]:
        ids = self._select(where)
        for start in range(0, len(ids) - batch_size + 1, batch_size):
            yield self._columns(ids[start : start + batch_size], include)


@caught_by("test_threads_may_share_a_collection")
class LosesConcurrentWrites(MemoryCollection):
    """Each write works on a copy of the table and puts it back: what another thread wrote meanwhile is gone."""

    def _upsert(self, records: Records) -> None:
        before = dict(self._rows)
        super()._upsert(records)
        written = {i: self._rows[i] for i in records.ids}
        if any(i.startswith("t") for i in records.ids):
            before = {i: row for i, row in before.items() if i.startswith(("id", records.ids[0][:3]))}
        self._rows = before | written


# Input and life -------------------------------------------------------------------------------------------------------


@caught_by("test_numbers_that_cannot_be_compared", bad=np.nan)
@caught_by("test_a_wrong_dimension")
@caught_by("test_a_zero_vector_has_no_cosine")
@caught_by("test_bad_ids", ids=["a", "a"])
@caught_by("test_bad_metadata", value=None)
@caught_by("test_one_bad_row_keeps_the_whole_batch_out")
class ChecksNothing(MemoryCollection):
    def _check_records(self, records: Records) -> Records:
        return records


@caught_by("test_one_bad_row_keeps_the_whole_batch_out")
class WritesUntilTheBadRow(MemoryCollection):
    def upsert(self, records: Records) -> None:
        for i in range(len(records)):
            super().upsert(records.rows(i, i + 1))


@caught_by("test_another_embedder_is_refused")
class EmbedderNotChecked(MemoryCollection):
    def check_embedder(self, embedder: object) -> None:
        pass


@caught_by("test_the_awaited_verbs_answer_alike")
class DeleteByFilterIsLost(MemoryCollection):
    def _delete_where(self, where: Filter) -> None:
        self._require()


@caught_by("test_describe_is_plain_json")
class DescribesWithObjects(MemoryCollection):
    def _describe(self) -> dict[str, Any]:
        return {"index": {"kind": "flat"}, "links": (1, 2)}


@store_caught_by("test_a_closed_store_says_so")
class WorksAfterClosing(MemoryStore):
    def close(self) -> None:
        pass


@store_caught_by("test_dropped_and_created_again_is_empty")
class DropKeepsTheData(MemoryStore):
    def _drop(self, name: str) -> None:
        if name not in self._collections:
            raise CollectionNotFound(name)


@store_caught_by("test_create_get_list_drop")
class ForgetsToListTheFirst(MemoryStore):
    def _list(self) -> list[str]:
        return list(self._collections)[1:]


@store_caught_by("test_the_spec_is_read_back")
class SpecLosesTheEmbedder(MemoryStore):
    def _open_collection(self, name: str) -> Collection:
        found = super()._open_collection(name)
        found.spec = replace(found.spec, embedder=None)
        return found


@store_caught_by("test_exist_ok_demands_the_same")
class AnyExistingCollectionWillDo(MemoryStore):
    def create_collection(self, spec: CollectionSpec, *, exist_ok: bool = False) -> Collection:
        if exist_ok and spec.name in self._collections:
            return self._collections[spec.name]
        return super().create_collection(spec, exist_ok=exist_ok)


@store_caught_by("test_names_are_any_text")
class NamesFolded(MemoryStore):
    def _create(self, spec: CollectionSpec) -> Collection:
        return super()._create(replace(spec, name=spec.name.lower()))


@store_caught_by("test_unclaimed_metrics_and_indexes_are_refused")
class UnknownIndexParameterDropped(MemoryStore):
    def _create(self, spec: CollectionSpec) -> Collection:
        return super()._create(replace(spec, index=HNSW()))


@store_caught_by("test_collections_do_not_mix")
class OneTableForAll(MemoryStore):
    def _create(self, spec: CollectionSpec) -> Collection:
        made = super()._create(spec)
        assert isinstance(made, MemoryCollection)
        made._rows = next(iter(self._collections.values()))._rows
        return made


@store_caught_by("test_an_unknown_option_is_refused")
class UnknownOptionIgnored(MemoryStore):
    @classmethod
    def open(cls, **options: Any) -> UnknownOptionIgnored:
        return cls()


@store_caught_by("test_another_process_finds_everything")
@store_caught_by("test_what_was_flushed_survives_closing")
class ClaimsToPersist(MemoryStore):
    capabilities = replace(MemoryStore.capabilities, persistent=True)


@store_caught_by("test_distances_are_true", metric=Metric.DOT, batch=1)
class AcceptsAMetricItDoesNotClaim(MemoryStore):
    capabilities = replace(MemoryStore.capabilities, metrics=frozenset({Metric.EUCLIDEAN, Metric.COSINE}))

    def create_collection(self, spec: CollectionSpec, *, exist_ok: bool = False) -> Collection:
        return self._create(spec)


@store_caught_by("test_each_operator", operator="exists")
class AcceptsAFilterItDoesNotClaim(PlantedStore):
    capabilities = replace(MemoryStore.capabilities, filters=MemoryStore.capabilities.filters - {"exists"})

    class collection(MemoryCollection):  # noqa: N801  overrides the attribute
        def _check_where(self, where: Filter) -> None:
            pass
