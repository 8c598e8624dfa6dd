"""Exact search over the records of one index, with a log of writes and reads that may lag behind it."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from tests.pinecone_spec.knobs import Knobs, Lag

__all__ = ["Index", "Namespace", "Refused", "matches"]

MAX_METADATA_BYTES = 40_960


class Refused(Exception):
    """What the service would answer with an error status."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class Record:
    """Of the columns that the service keeps, the dense ones; float32, as it stores them."""

    values: npt.NDArray[np.float32]
    metadata: Mapping[str, Any]


@dataclass
class _Write:
    number: int
    at: float
    changes: dict[str, Record | None]
    reads: dict[str, int]  # of each view when this was written


class View:
    """The records as one kind of read sees them."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.records: dict[str, Record] = {}
        self.number = 0  # of the last write seen
        self.reads = 0
        self._matrix: tuple[list[str], npt.NDArray[np.float64]] | None = None

    def catch_up(self, log: list[_Write], lag: Lag) -> None:
        """Apply what is due by now, in order."""
        now = time.monotonic()
        for write in log[self.number :]:
            if now < write.at + lag.seconds or self.reads < write.reads.get(self.name, 0) + lag.reads:
                break
            self.apply(write)
        self.reads += 1

    def apply(self, write: _Write) -> None:
        """Make one write visible."""
        for id_, record in write.changes.items():
            if record is None:
                self.records.pop(id_, None)
            else:
                self.records[id_] = record
        self.number, self._matrix = write.number, None

    def matrix(self) -> tuple[list[str], npt.NDArray[np.float64]]:
        """Ids in order and their vectors, kept until the next write."""
        if self._matrix is None:
            ids = sorted(self.records)
            self._matrix = ids, np.array([self.records[i].values for i in ids], np.float64)
        return self._matrix


class Namespace:
    """The one namespace of an index, which exists from its first record on."""

    def __init__(self, knobs: Knobs) -> None:
        self.knobs = knobs
        self.log: list[_Write] = []
        self._head = View("head")
        self._views = {name: View(name) for name in ("search", "stats")}

    def write(self, changes: dict[str, Record | None]) -> int:
        """Append to the log; the number of the write."""
        reads = {name: view.reads for name, view in self._views.items()}
        write = _Write(len(self.log) + 1, time.monotonic(), changes, reads)
        self.log.append(write)
        self._head.apply(write)
        return write.number

    @property
    def now(self) -> dict[str, Record]:
        """What all writes together made: for writes that depend on it, and for reading by id."""
        return self._head.records

    def read(self, view: str) -> View:
        """The records as this kind of read may see them by now."""
        found = self._views[view]
        found.catch_up(self.log, getattr(self.knobs, view))
        return found


@dataclass
class Index:
    """An index: what `describe` tells, and its records."""

    name: str
    dimension: int
    metric: str
    described: dict[str, Any]
    knobs: Knobs
    namespaces: dict[str, Namespace] = field(default_factory=dict)
    looks: int = 0
    going: bool = False

    def namespace(self, name: str, *, create: bool = False) -> Namespace | None:
        """The namespace of that name; None where nothing was ever written to it."""
        if create:
            return self.namespaces.setdefault(name, Namespace(self.knobs))
        return self.namespaces.get(name)

    def record(self, vector: Mapping[str, Any]) -> tuple[str, Record]:
        """A checked record from its JSON."""
        self.check_id(vector["id"])
        metadata = vector.get("metadata") or {}
        check_metadata(metadata)
        return vector["id"], Record(self.vector(vector.get("values") or []), metadata)

    def vector(self, values: list[float]) -> npt.NDArray[np.float32]:
        """A checked vector."""
        if len(values) != self.dimension:
            raise Refused(
                400, f"Vector dimension {len(values)} does not match the dimension of the index {self.dimension}"
            )
        array = np.array(values, np.float32)
        if not np.isfinite(array).all():
            raise Refused(400, "Vector values must be finite")
        if self.metric == "cosine" and not array.any():
            raise Refused(400, "Dense vectors must contain at least one non-zero value")
        return array

    @staticmethod
    def check_id(id_: str) -> None:
        """Ids are printable or not, but ASCII."""
        if not id_.isascii() or "\0" in id_:
            raise Refused(400, f"Vector ID must be ASCII, got {id_[:64]!r}")

    def query(self, view: View, vector: list[float], k: int, where: Mapping[str, Any]) -> list[tuple[str, float]]:
        """The k nearest that match, best first; scores are float32, Euclidean ones squared."""
        query = self.vector(vector).astype(np.float64)
        ids, matrix = view.matrix()
        if where:
            rows = [i for i, id_ in enumerate(ids) if matches(where, view.records[id_].metadata)]
            ids, matrix = [ids[i] for i in rows], matrix[rows]
        if not ids:
            return []
        if self.metric == "euclidean":
            key = scores = np.square(matrix - query).sum(axis=1)
        else:
            scores = (matrix * query).sum(axis=1)
            if self.metric == "cosine":
                scores /= np.linalg.norm(matrix, axis=1) * np.linalg.norm(query)
            key = -scores
        best = np.argsort(key, kind="stable")[:k]
        return [(ids[i], float(np.float32(scores[i]))) for i in best]


def check_metadata(metadata: Mapping[str, Any]) -> None:
    """Raise `Refused` unless it is flat, typed and not too large."""
    if len(json.dumps(metadata, ensure_ascii=False, separators=(",", ":")).encode()) > MAX_METADATA_BYTES:
        raise Refused(400, f"Metadata size exceeds {MAX_METADATA_BYTES} bytes")
    for key, value in metadata.items():
        if not key or key.startswith("$"):
            raise Refused(400, f"Metadata key {key!r} is empty or starts with $")
        if isinstance(value, list) and value and all(isinstance(item, str) for item in value):
            continue
        # An empty list is refused although the service's texts do not tell: nothing may depend on one.
        if isinstance(value, float) and not math.isfinite(value):
            raise Refused(400, f"Metadata value of {key!r} is not finite")
        if not isinstance(value, str | int | float):
            raise Refused(400, f"Metadata value of {key!r} must be a string, number, boolean or list of strings")


_COMPARE: dict[str, Callable[[float, float], bool]] = {
    "$gt": lambda a, b: a > b,
    "$gte": lambda a, b: a >= b,
    "$lt": lambda a, b: a < b,
    "$lte": lambda a, b: a <= b,
}
MAX_VALUES = 10_000


def matches(where: Mapping[str, Any], metadata: Mapping[str, Any]) -> bool:
    """Pinecone's filter language as its documentation has it: numbers are float64, a list matches by any element.

    A missing key matches no operator but `{"$exists": False}`, not even `$ne` and `$nin`.
    """
    if not where:
        raise Refused(400, "A filter needs at least one condition")
    passed = [_clause(key, condition, metadata) for key, condition in where.items()]  # all of them: each may be wrong
    return all(passed)


def _clause(key: str, condition: Any, metadata: Mapping[str, Any]) -> bool:
    if key in {"$and", "$or"}:
        if not isinstance(condition, list) or not condition:
            raise Refused(400, f"{key} takes a list of filters")
        parts = [matches(part, metadata) for part in condition]
        return all(parts) if key == "$and" else any(parts)
    if key.startswith("$"):
        raise Refused(400, f"unknown operator {key}")
    tests = condition if isinstance(condition, dict) else {"$eq": condition}
    if not tests:
        raise Refused(400, f"the condition on {key!r} is empty")
    held = metadata.get(key)
    values = held if isinstance(held, list) else [] if held is None else [held]
    passed = [_test(op, argument, values) for op, argument in tests.items()]
    return all(passed)


def _test(op: str, argument: Any, values: list[Any]) -> bool:
    if op == "$exists":
        return bool(values) is bool(argument)
    if op in _COMPARE:
        if isinstance(argument, bool) or not isinstance(argument, int | float):
            raise Refused(400, f"{op} takes a number")
        return any(_is_number(v) and _COMPARE[op](float(v), float(argument)) for v in values)
    if op in {"$in", "$nin"}:
        if not isinstance(argument, list) or not 1 <= len(argument) <= MAX_VALUES:
            raise Refused(400, f"{op} takes a list of 1 to {MAX_VALUES} values")
        wanted = {_typed(a) for a in argument}
    elif op in {"$eq", "$ne"}:
        wanted = {_typed(argument)}
    else:
        raise Refused(400, f"unknown operator {op}")
    found = any(_typed(v) in wanted for v in values)
    return found if op in {"$eq", "$in"} else bool(values) and not found


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _typed(value: Any) -> tuple[str, Any]:
    if not isinstance(value, str | int | float):
        raise Refused(400, f"a filter compares strings, numbers and booleans, got {value!r}")
    return ("number", float(value)) if _is_number(value) else (type(value).__name__, value)


def page(ids: Iterable[str], after: str, limit: int) -> tuple[list[str], str | None]:
    """Up to `limit` of the ids beyond `after`, in order, and where the next page starts; None on the last one."""
    rest = sorted(i for i in ids if i > after)
    return rest[:limit], rest[limit - 1] if len(rest) > limit else None
