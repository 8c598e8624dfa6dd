"""A collection: one index over the hashes of one key prefix. All of its commands are sent as the server reads them."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from vecbench.distance import from_squared
from vecbench.errors import CollectionNotFound, StoreRejected, StoreTimeout
from vecbench.filters import Filter
from vecbench.index import SearchParams
from vecbench.spec import CollectionSpec
from vecbench.typed import translate
from vecbench.types import Distances, Include, Metric, Records, SearchResult, Vectors
from vecbench_redisearch.engine import pairs
from vecbench_redisearch.filters import EVERYTHING, QueryDialect
from vecbench_redisearch.hashes import columns, encode, wanted_fields
from vecbench_redisearch.parameters import index_parameters, search_parameters
from vecbench_redisearch.words import LANGUAGE, WORDS, WordCollection, attributes

if TYPE_CHECKING:
    from vecbench_redisearch.store import RedisearchStore

__all__ = ["RedisearchCollection"]

_OURS = frozenset({"v", "t", WORDS})  # the rest of an index's attributes are number keys
_QUERIES, _READS, _DELETES = 100, 1_000, 10_000  # commands, or keys, in one round trip


class RedisearchCollection(WordCollection):
    """prefix: of its keys, and the index's name: made anew with each creation, so that no old handle meets new data."""

    def __init__(self, store: RedisearchStore, spec: CollectionSpec, prefix: str) -> None:
        super().__init__(store, spec)
        self._client, self._timeout = store.native, store.timeout
        self._spec_key, self._prefix, self._index = store.spec_key(spec.name), prefix.encode(), prefix.rstrip(":")
        self._ef = index_parameters(spec).get("EF_RUNTIME")
        self._numbers: frozenset[str] = frozenset()  # the number keys that the index is known to have
        self._failures = int(self._info()["hash_indexing_failures"])  # of others, before us

    @property
    def native(self) -> Any:
        """The `redis.Redis` client; the index is called `describe()["native_name"]`."""
        return self._client

    # Talking ----------------------------------------------------------------------------------------------------------

    def _ask(self, commands: Sequence[Sequence[Any]], *, transaction: bool = False) -> list[Any]:
        """The answers to commands sent in one round trip; the first error is raised."""
        if len(commands) == 1 and not transaction:
            return [self._client.execute_command(*commands[0])]
        with self._client.pipeline(transaction=transaction) as pipe:
            for command in commands:
                pipe.execute_command(*command)
            return list(pipe.execute())

    def _ask_alive(self, commands: Sequence[Sequence[Any]], *, transaction: bool = False) -> list[Any]:
        """The same, with a look in the same round trip whether this collection is still the one of its name."""
        alive, *answers = self._ask([["HGET", self._spec_key, "prefix"], *commands], transaction=transaction)
        if alive != self._prefix:
            raise CollectionNotFound(f"redisearch: the collection {self.spec.name!r} was dropped")
        return answers

    def _query(self, verb: str, text: str, params: dict[str, Any], *rest: Any) -> list[Any]:
        flat = [x for item in params.items() for x in item]
        bound = ["PARAMS", len(flat), *flat] if flat else []
        # The server's own limit, 0.5 s by default, ends a query early and calls what it has the answer. Ours is later
        # than the socket's, so that such an answer never arrives.
        limit = ["TIMEOUT", int(self._timeout * 1000) + 1000]
        return [verb, self._index, text, *rest, *limit, *bound, "DIALECT", 2]

    def _where(self, where: Filter | None) -> tuple[str, dict[str, Any]]:
        if where is None:
            return "*", {}
        dialect = QueryDialect(self._has_number)
        return translate(where, dialect), dict(dialect.params)

    def _info(self) -> dict[str, Any]:
        return pairs(self._client.execute_command("FT.INFO", self._index))

    # Number fields ----------------------------------------------------------------------------------------------------

    def _has_number(self, key: str) -> bool:
        if key not in self._numbers:
            self._learn_numbers()
        return key in self._numbers

    def _learn_numbers(self) -> None:
        self._numbers = frozenset(attributes(self._info())) - _OURS

    def _add_numbers(self, keys: set[str]) -> None:
        """Tell the index of number fields before the first record that has them is written.

        No scan: no record has them yet. Another writer may add some at the same moment: then the rest is tried again.
        """
        while new := sorted(keys - self._numbers):
            added = [word for key in new for word in (key, "NUMERIC")]
            try:
                self._client.execute_command("FT.ALTER", self._index, "SKIPINITIALSCAN", "SCHEMA", "ADD", *added)
                self._numbers |= set(new)
            except Exception as e:
                if "Duplicate field" in str(e):
                    self._learn_numbers()
                elif "Schema is limited" in str(e):
                    raise StoreRejected(
                        f"redisearch: {self.spec.name!r} has numbers under {len(self._numbers)} metadata keys, and an "
                        f"index of RediSearch has room for 1,022; nothing of the batch with {len(new)} more was written"
                    ) from e
                else:
                    raise

    # The verbs --------------------------------------------------------------------------------------------------------

    def _keys(self, ids: Sequence[str]) -> list[bytes]:
        return [self._prefix + id_.encode() for id_ in ids]

    def _record_bytes(self, records: Records, row: int) -> int:
        """The vector is sent as bytes."""
        return super()._record_bytes(records, row) - 10 * self.spec.dim

    def _upsert(self, records: Records) -> None:
        """All of the batch or none: one MULTI."""
        rows, numbers = encode(records)
        self._add_numbers(numbers)
        keys = self._keys(records.ids)
        commands: list[list[Any]] = []
        for key, fields in zip(keys, rows, strict=True):
            commands += [["DEL", key], ["HSET", key, *fields]]
        try:
            self._ask_alive(commands, transaction=True)
        except CollectionNotFound:
            self._ask([["DEL", *keys]])  # nobody would ever find them
            raise

    def _read(self, keys: Sequence[bytes], include: tuple[Include, ...]) -> Records:
        """The records of these keys; "meta" is read always, because it tells whether there is one."""
        fields = list(dict.fromkeys(["meta", *wanted_fields(include)]))
        ids: list[str] = []
        found: list[dict[str, bytes | None]] = []
        for start in range(0, len(keys), _READS):
            part = keys[start : start + _READS]
            for key, values in zip(part, self._ask_alive([["HMGET", k, *fields] for k in part]), strict=True):
                if values[0] is not None:
                    ids.append(self._id(key))
                    found.append(dict(zip(fields, values, strict=True)))
        return columns(ids, found, include, self.spec.dim)

    def _id(self, key: bytes) -> str:
        return key[len(self._prefix) :].decode()

    def _get(self, ids: list[str], include: tuple[Include, ...]) -> Records:
        return self._read(self._keys(ids), include)

    def _delete_ids(self, ids: list[str]) -> None:
        self._delete_keys(self._keys(ids))

    def _delete_keys(self, keys: list[bytes]) -> None:
        for start in range(0, len(keys), _DELETES):
            self._ask_alive([["DEL", *keys[start : start + _DELETES]]])

    def _delete_where(self, where: Filter) -> None:
        self._delete_keys(self._matching(where))

    def _matching(self, where: Filter | None) -> list[bytes]:
        """The keys of all matches, as one answer: pages would move under us while records come and go."""
        text, params = self._where(where)
        (answer,) = self._ask([self._query("FT.AGGREGATE", text, params, "LOAD", 1, "@__key")])
        return [row[1] for row in answer[1:]]

    def _count(self, where: Filter | None) -> int:
        text, params = self._where(where)
        (answer,) = self._ask([self._query("FT.SEARCH", text, params, "LIMIT", 0, 0)])
        return int(answer[0])

    def _search(
        self, queries: Vectors, k: int, where: Filter | None, params: SearchParams, include: tuple[Include, ...]
    ) -> SearchResult:
        text, bound = self._where(where)
        fields = ["d", *wanted_fields(include)]
        rest = ["SORTBY", "d", "RETURN", len(fields), *fields, "LIMIT", 0, k]

        def nearest(queries: Vectors, how: dict[str, Any]) -> list[list[Any]]:
            """The server's answers: the number of hits, then key and fields of each."""
            some = EVERYTHING if text == "*" and how.keys() & {"HYBRID_POLICY", "BATCH_SIZE"} else text
            clause = f"{some}=>[KNN $k @v $q {' '.join(f'{name} {value}' for name, value in how.items())} AS d]"
            commands = [self._query("FT.SEARCH", clause, {**bound, "k": k, "q": q.tobytes()}, *rest) for q in queries]
            answers: list[list[Any]] = []
            for start in range(0, len(commands), _QUERIES):
                answers += self._ask(commands[start : start + _QUERIES])
            return answers

        how = search_parameters(self._ef, k, params)
        answers = nearest(queries, how)
        if self._ef is not None and how.get("HYBRID_POLICY") != "ADHOC_BF":
            # A graph may hold nodes that no path reaches. Where answers are missing, all vectors are compared.
            short = [i for i, answer in enumerate(answers) if len(answer) < 1 + 2 * k]
            again = nearest(queries[short], {"HYBRID_POLICY": "ADHOC_BF"}) if short else []
            for i, answer in zip(short, again, strict=True):
                answers[i] = answer
        return self._result(answers, include)

    def _result(self, answers: list[list[Any]], include: tuple[Include, ...]) -> SearchResult:
        ids = [[self._id(key) for key in answer[1::2]] for answer in answers]
        hashes = [[pairs(fields) for fields in answer[2::2]] for answer in answers]
        raw: list[Distances] = [np.array([h["d"] for h in found], np.float64) for found in hashes]
        metric = self.spec.metric
        if metric is Metric.EUCLIDEAN:
            distances = [from_squared(s) for s in raw]
        else:
            distances = raw if metric is Metric.COSINE else [s - 1 for s in raw]
        records = None
        if include:
            records = [columns(i, h, include, self.spec.dim) for i, h in zip(ids, hashes, strict=True)]
        return SearchResult(ids, distances, metric, raw, records)

    def _scan(self, where: Filter | None, batch_size: int, include: tuple[Include, ...]) -> Iterator[Records]:
        keys = self._matching(where)
        for start in range(0, len(keys), batch_size):
            batch = self._read(keys[start : start + batch_size], include)
            if batch.ids:
                yield batch

    def _flush(self, timeout: float) -> None:
        """Writes are visible at once; wait until they are on disk too, where the server keeps an append-only file."""
        deadline = time.monotonic() + timeout
        self.settle(deadline)
        # WAITAOF waits for what its own connection wrote; the file is in order, so all that was written before is in.
        step = int(min(timeout, self._timeout) * 500) + 1
        commands = [["SET", "vecbench:flush", 1, "PX", 1], ["WAITAOF", 1, 0, step]]
        try:
            while self._ask(commands)[1][0] == 0:
                if time.monotonic() > deadline:
                    raise StoreTimeout(f"redisearch: {self.spec.name!r} was not on disk within {timeout:g} s")
        except Exception as e:
            if "appendonly is disabled" not in str(e) and "unknown command" not in str(e):
                raise

    def _optimize(self, timeout: float) -> None:
        self.settle(time.monotonic() + timeout)

    def settle(self, deadline: float) -> None:
        """Wait until the server's scan of keys, if one runs, is over; raise where it could not index a record."""
        pause = threading.Event()
        while (info := self._info())["indexing"] or float(info["percent_indexed"]) < 1:
            if time.monotonic() > deadline:
                raise StoreTimeout(
                    f"redisearch: {self.spec.name!r} was not indexed in time; {float(info['percent_indexed']):.0%} is"
                )
            pause.wait(0.02)
        failed = int(info["hash_indexing_failures"])
        new, self._failures = failed - self._failures, failed
        if new > 0:
            told = pairs(info.get("Index Errors", []))
            raise StoreRejected(
                f"redisearch: {new} records of {self.spec.name!r} were stored but could not be indexed, the last of "
                f"them {told.get('last indexing error key')!r}: {told.get('last indexing error')!r}"
            )

    def _describe(self) -> dict[str, Any]:
        info = self._info()
        known = attributes(info)
        index: dict[str, Any] = {"kind": self.spec.index.kind}
        for name, value in known["v"].items():
            if name not in {"identifier", "attribute", "type"}:
                index[name] = value.decode() if isinstance(value, bytes) else value
        if self._ef is not None:
            index["EF_RUNTIME"] = self._ef  # not told, but sent with every query
        return {
            "native_name": self._index,
            "index": index,
            "rows": int(info["num_docs"]),
            "indexed_rows": int(info["num_docs"]),
            "index_bytes": int(float(info["vector_index_sz_mb"]) * 2**20),
            "number_fields": len(known.keys() - _OURS),
            **({"words": LANGUAGE} if WORDS in known else {}),
        }
