"""What a Haystack document store does to all documents that pass a filter, and what it tells of their metadata."""

from __future__ import annotations

import asyncio
import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from vecbench.bridges.haystack_filters import from_haystack_filters, ids_asked, nested_meta, updated_meta
from vecbench.collection import Collection
from vecbench.errors import MissingDependency
from vecbench.filters import And
from vecbench.types import INCLUDE_ALL, Include, Records

try:
    from haystack.errors import FilterError
except ImportError as error:
    raise MissingDependency("The bridge to Haystack", module="haystack", extra="haystack") from error

__all__ = ["ByFilter", "matching"]

_CHUNK = 1000
_TYPES = {bool: "boolean", int: "int", float: "float"}


def matching(
    collection: Collection, filters: Mapping[str, Any] | None, include: Sequence[Include] = INCLUDE_ALL
) -> Iterator[Records]:
    """The records that pass a filter of Haystack's, all without one; FilterError before anything is read."""
    ids = ids_asked(filters)
    if ids is not None:
        return iter([collection.get(ids, include=include)])
    return collection.scan(where=from_haystack_filters(filters), include=include)


class ByFilter(ABC):
    """The methods, for a class that has a collection; filters are those of `filter_documents`.

    A field of metadata is named `meta.year` or `year`, one inside another with a dot, `person.name`.
    """

    @property
    @abstractmethod
    def collection(self) -> Collection:
        """The collection that holds the documents."""

    def delete_all_documents(self) -> None:
        """Delete every document; the collection stays."""
        self.collection.delete(where=And(()))
        self.collection.flush()

    async def delete_all_documents_async(self) -> None:
        """Await `delete_all_documents`."""
        await asyncio.to_thread(self.delete_all_documents)

    def count_documents_by_filter(self, filters: dict[str, Any]) -> int:
        """How many documents pass the filter."""
        if ids_asked(filters) is None:
            return self.collection.count(from_haystack_filters(filters))
        return len(self._ids(filters))

    async def count_documents_by_filter_async(self, filters: dict[str, Any]) -> int:
        """Await `count_documents_by_filter`."""
        return await asyncio.to_thread(self.count_documents_by_filter, filters)

    def delete_by_filter(self, filters: dict[str, Any]) -> int:
        """Delete the documents that pass the filter; returns how many. FilterError for an empty one."""
        ids = self._ids(_some(filters))
        self.collection.delete(ids=ids)
        self.collection.flush()
        return len(ids)

    async def delete_by_filter_async(self, filters: dict[str, Any]) -> int:
        """Await `delete_by_filter`."""
        return await asyncio.to_thread(self.delete_by_filter, filters)

    def update_by_filter(self, filters: dict[str, Any], meta: dict[str, Any]) -> int:
        """Set these keys of the meta of the documents that pass the filter; returns how many. None is a value as well.

        FilterError for an empty filter; what metadata cannot hold is refused before anything is written. Documents are
        written again as a whole, with their vectors as the store gives them back.
        """
        ids, updated = self._ids(_some(filters)), 0
        for start in range(0, len(ids), _CHUNK):
            found = self.collection.get(ids[start : start + _CHUNK])
            rows = zip(found.ids, found.metadata or (), strict=True)
            found.metadata = [updated_meta(held, meta, f"document {id_!r}") for id_, held in rows]
            self.collection.upsert(found)
            updated += len(found)
        self.collection.flush()
        return updated

    async def update_by_filter_async(self, filters: dict[str, Any], meta: dict[str, Any]) -> int:
        """Await `update_by_filter`."""
        return await asyncio.to_thread(self.update_by_filter, filters, meta)

    def get_metadata_fields_info(self) -> dict[str, dict[str, str]]:
        """The keys of the documents' meta, each with its "type": boolean, int, float, or keyword for all else."""
        types = {
            key: _TYPES.get(type(value), "keyword")
            for meta in self._metas(None)
            for key, value in meta.items()
            if value is not None
        }
        return {key: {"type": type_} for key, type_ in types.items()}

    async def get_metadata_fields_info_async(self) -> dict[str, dict[str, str]]:
        """Await `get_metadata_fields_info`."""
        return await asyncio.to_thread(self.get_metadata_fields_info)

    def get_metadata_field_min_max(self, metadata_field: str) -> dict[str, Any]:
        """The least and the greatest value of a field as "min" and "max"; None for what has none or mixes kinds."""
        values = [value for value in self._values(metadata_field, None) if isinstance(value, str | int | float)]
        try:
            return {"min": min(values), "max": max(values)}
        except (TypeError, ValueError):  # of a string and a number; of nothing
            return {"min": None, "max": None}

    async def get_metadata_field_min_max_async(self, metadata_field: str) -> dict[str, Any]:
        """Await `get_metadata_field_min_max`."""
        return await asyncio.to_thread(self.get_metadata_field_min_max, metadata_field)

    def get_metadata_field_unique_values(
        self,
        metadata_field: str,
        search_term: str | None = None,
        from_: int = 0,
        size: int = 10,
        filters: dict[str, Any] | None = None,
    ) -> tuple[list[Any], int]:
        """`size` of a field's values from the `from_`th on, each once, in the order of their text; and how many in all.

        search_term: only values whose text has it in it, small or capital letters. 1, 1.0, "1" and True are four.
        """
        unique = {_text(value): value for value in self._values(metadata_field, filters)}
        term = (search_term or "").lower()
        values = [value for value in unique.values() if term in str(value).lower()]
        values.sort(key=lambda value: (str(value), type(value).__name__))
        return values[from_ : from_ + size], len(values)

    async def get_metadata_field_unique_values_async(
        self,
        metadata_field: str,
        search_term: str | None = None,
        from_: int = 0,
        size: int = 10,
        filters: dict[str, Any] | None = None,
    ) -> tuple[list[Any], int]:
        """Await `get_metadata_field_unique_values`."""
        return await asyncio.to_thread(
            self.get_metadata_field_unique_values, metadata_field, search_term, from_, size, filters
        )

    def count_unique_metadata_by_filter(self, filters: dict[str, Any], metadata_fields: list[str]) -> dict[str, int]:
        """How many different values each of the fields has among the documents that pass the filter."""
        seen: dict[str, set[str]] = {field.removeprefix("meta."): set() for field in metadata_fields}
        for meta in self._metas(filters):
            for field, values in seen.items():
                if (value := _value(meta, field)) is not None:
                    values.add(_text(value))
        return {field: len(values) for field, values in seen.items()}

    async def count_unique_metadata_by_filter_async(
        self, filters: dict[str, Any], metadata_fields: list[str]
    ) -> dict[str, int]:
        """Await `count_unique_metadata_by_filter`."""
        return await asyncio.to_thread(self.count_unique_metadata_by_filter, filters, metadata_fields)

    def _ids(self, filters: Mapping[str, Any]) -> list[str]:
        return [id_ for batch in matching(self.collection, filters, ()) for id_ in batch.ids]

    def _metas(self, filters: Mapping[str, Any] | None) -> Iterator[dict[str, Any]]:
        for batch in matching(self.collection, filters, ("metadata",)):
            yield from map(nested_meta, batch.metadata or ())

    def _values(self, field: str, filters: Mapping[str, Any] | None) -> list[Any]:
        found = (_value(meta, field.removeprefix("meta.")) for meta in self._metas(filters))
        return [value for value in found if value is not None]


def _some(filters: dict[str, Any]) -> dict[str, Any]:
    if not filters:  # a variable that happens to be empty must not delete or change everything
        raise FilterError("the filter is empty; give one. delete_all_documents deletes all")
    return filters


def _value(meta: Mapping[str, Any], field: str) -> Any:
    if field in meta:
        return meta[field]
    first, _, rest = field.partition(".")
    inner = meta.get(first)
    return _value(inner, rest) if rest and isinstance(inner, Mapping) else None


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True)  # tells 1 from 1.0, "1" and True
