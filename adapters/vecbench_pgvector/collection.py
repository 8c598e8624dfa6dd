"""A collection: one table, with its vectors beside ids, documents, metadata, and what filters look at."""

# ruff: noqa: S608  statements are made of constants, numbers of ours and fields in hexadecimal; all else is bound

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from operator import itemgetter
from typing import TYPE_CHECKING, Any

import numpy as np

from vecbench.collection import Collection
from vecbench.errors import CollectionNotFound, StoreTimeout, UnsupportedOperation
from vecbench.filters import Filter
from vecbench.index import IVFFlat, SearchParams
from vecbench.spec import CollectionSpec
from vecbench.typed import dump_metadata, load_metadata, number_key, numbers, tokens
from vecbench.types import Distances, Include, Records, SearchResult, Vectors
from vecbench_pgvector.filters import Condition, condition
from vecbench_pgvector.index import build, effective
from vecbench_pgvector.search import Plan, columns_sql, plan
from vecbench_pgvector.session import Session, milliseconds
from vecbench_pgvector.words import index_statement, require_language, search_statement

if TYPE_CHECKING:
    from vecbench_pgvector.store import PgvectorStore

__all__ = ["PgvectorCollection", "table_sql"]

_COLUMNS = "id, document, metadata, tokens, numbers, embedding"
_COPIED = ["text", "text", "text", "text[]", "jsonb", "vector"]  # metadata is json: as text it is sent as it stands
_REPLACED = ", ".join(f"{c} = excluded.{c}" for c in _COLUMNS.split(", ")[1:])
_IN_ROW = 1900  # dimensions: with the pointers to what is stored elsewhere, such a row still fits a page of 8 kB
_ATTEMPTS = 5
_DEAD_SHARE = 0.02  # of the rows; beyond it a graph is built anew sooner than it is mended


def table_sql(table: str, dim: int) -> list[str]:
    """The statements that make the table of a collection."""
    made = [
        f'create table {table} (id text collate "C" primary key, document text, metadata json, tokens text[], '
        f"numbers jsonb, embedding vector({dim}) not null)"
    ]
    if dim <= _IN_ROW:
        # By default a vector over 2 kB is stored outside of its row: exact searches then take 2.6 times as long, and
        # the planner, which does not count that, prefers them too often.
        made.append(f"alter table {table} alter embedding set storage plain")
    return made


class PgvectorCollection(Collection):
    """A table `vecbench_<number>`; its index, and one over the tokens, are made by `optimize`."""

    store: PgvectorStore

    def __init__(self, store: PgvectorStore, spec: CollectionSpec, number: int) -> None:
        super().__init__(store, spec)
        self._number, self._table = number, f"vecbench_{number}"
        self._fresh = True  # no id was met twice yet
        self._plan: Plan | None = None  # of the last search

    @property
    def native(self) -> Any:
        """The store's own connection for callers; the table's name is in `describe()["table"]`."""
        return self.store.native

    # Writing ----------------------------------------------------------------------------------------------------------

    def _upsert(self, records: Records) -> None:
        """COPY into the table while every id is new, else into a temporary one and from there; one transaction."""
        with self.store.pool.session() as s:
            if self._fresh:
                try:
                    with s.connection.transaction():
                        self._copy(s, self._table, records)
                    return
                except (self.store.pg.errors.UniqueViolation, self.store.pg.errors.DeadlockDetected):
                    self._fresh = False
            self._retried(lambda: self._replace(s, records))

    def _replace(self, s: Session, records: Records) -> None:
        staged = f"{self._table}_staged"
        with s.connection.transaction():
            s.cursor.execute(f"create temp table if not exists {staged} (like {self._table}) on commit delete rows")
            self._copy(s, f"pg_temp.{staged}", records)
            s.cursor.execute(
                f"insert into {self._table} ({_COLUMNS}) select {_COLUMNS} from pg_temp.{staged} "
                f"order by id on conflict (id) do update set {_REPLACED}"  # in one order: no deadlock among writers
            )

    def _copy(self, s: Session, table: str, records: Records) -> None:
        assert records.vectors is not None  # noqa: S101  written records have vectors
        nothing = [None] * len(records)
        columns = zip(
            records.ids, records.documents or nothing, records.metadata or nothing, records.vectors, strict=True
        )
        with s.cursor.copy(f"copy {table} ({_COLUMNS}) from stdin with (format binary)") as copy:
            copy.set_types(_COPIED)
            for id_, document, metadata, vector in columns:
                if metadata:
                    filtered = dump_metadata(metadata), tokens(metadata), numbers(metadata) or None
                    copy.write_row((id_, document, *filtered, vector))
                else:
                    copy.write_row((id_, document, None, None, None, vector))

    def _delete_ids(self, ids: list[str]) -> None:
        self._run(Condition(f"delete from {self._table} where id = any(%s)", (ids,)))

    def _delete_where(self, where: Filter) -> None:
        wanted = condition(where)
        self._run(Condition(f"delete from {self._table} where {wanted.text}", wanted.values))

    def _run(self, statement: Condition) -> None:
        with self.store.pool.session() as s:
            self._retried(lambda: s.cursor.execute(statement.text, statement.values))

    def _retried(self, write: Any) -> None:
        """PostgreSQL ends one of two writers that wait for each other; it has written nothing, and may try again."""
        for attempt in range(_ATTEMPTS):
            try:
                write()
                return
            except self.store.pg.errors.DeadlockDetected:
                if attempt == _ATTEMPTS - 1:
                    raise

    # Reading ----------------------------------------------------------------------------------------------------------

    def _get(self, ids: list[str], include: tuple[Include, ...]) -> Records:
        statement = f"select id{columns_sql(include)} from {self._table} where id = any(%s)"
        with self.store.pool.session() as s:
            return _columns(s.cursor.execute(statement, (ids,)).fetchall(), include, 1)

    def index_words(self, language: str) -> None:
        """Have PostgreSQL keep an index of the documents' words, which follows every write; once is enough."""
        with self.store._doing(self, f"indexing the words of {self.spec.name!r}"), self.store.pool.session() as s:
            require_language(s, language)
            s.cursor.execute(index_statement(self._table, language))

    def search_words(
        self, words: Sequence[str], k: int | None, *, where: Filter | None = None, language: str
    ) -> list[tuple[str, float]]:
        """Ids and `ts_rank` of up to k matching records that hold any of the words, best first; k None for all."""
        if where is not None:
            self._check_where(where)
        with self.store._doing(self, f"searching the words of {self.spec.name!r}"), self.store.pool.session() as s:
            require_language(s, language)
            asked = search_statement(self._table, words, k, where, language)
            return list(s.cursor.execute(asked.text, asked.values).fetchall()) if words else []

    def _count(self, where: Filter | None) -> int:
        wanted = condition(where)
        with self.store.pool.session() as s:
            statement = f"select count(*) from {self._table} where {wanted.text}"
            return int(s.cursor.execute(statement, wanted.values).fetchone()[0])

    def _scan(self, where: Filter | None, batch_size: int, include: tuple[Include, ...]) -> Iterator[Records]:
        """In the order of ids, a page at a time: no connection and no snapshot is held between pages."""
        wanted = condition(where)
        statement = (
            f"select id{columns_sql(include)} from {self._table} "
            f"where id > %s and {wanted.text} order by id limit {batch_size}"
        )
        last = ""
        while True:
            with self.store.pool.session() as s:
                rows = s.cursor.execute(statement, (last, *wanted.values)).fetchall()
            if not rows:
                return
            last = rows[-1][0]
            yield _columns(rows, include, 1)

    def _search(
        self, queries: Vectors, k: int, where: Filter | None, params: SearchParams, include: tuple[Include, ...]
    ) -> SearchResult:
        how = self._plan
        if how is None or not how.serves(k, where, params, include):
            how = self._plan = plan(self.spec, self._table, k, where, params, include=include)
        with self.store.pool.session() as s:
            try:
                s.set(how.settings)
            except self.store.pg.errors.InvalidParameterValue as e:
                raise UnsupportedOperation(f"pgvector refuses the search parameters {dict(params.native)}: {e}") from e
            answers = how.first.ask(s, queries)
            if how.otherwise is not None and (short := [i for i, rows in enumerate(answers) if len(rows) < k]):
                # The walk ends after hnsw.max_scan_tuples rows, or with the lists: look at every row instead.
                for i, rows in zip(short, how.otherwise.ask(s, queries[short]), strict=True):
                    answers[i] = rows
        for rows in answers:
            rows.sort(key=itemgetter(1))  # almost in order already
        distances: list[Distances] = [np.array([row[1] for row in rows]) for rows in answers]
        return SearchResult(
            [[row[0] for row in rows] for rows in answers],
            distances,
            self.spec.metric,
            raw=distances,  # what pgvector returns is the distance
            records=[_columns(rows, include, 2) for rows in answers] if include else None,
        )

    # The index --------------------------------------------------------------------------------------------------------

    def _flush(self, timeout: float) -> None:
        with self.store.pool.session() as s, s.patient(timeout):  # COMMIT has done it; a dropped collection is told
            s.cursor.execute(f"select from {self._table} limit 0")

    def _optimize(self, timeout: float) -> None:
        """Build what is not built, then vacuum and count for the planner. Readers go on meanwhile, writers wait."""
        deadline = time.monotonic() + timeout
        with self.store.pool.session() as s:
            with s.patient(timeout):
                if s.connection.info.server_version >= 150_000:  # else what was just deleted may not be counted yet
                    s.cursor.execute("select pg_stat_force_next_flush()")
                notices: list[str] = []
                s.connection.add_notice_handler(keep := lambda d: notices.append(d.message_primary))
                try:
                    with s.connection.transaction():
                        self._build(s, notices, deadline)
                finally:
                    s.connection.remove_notice_handler(keep)
            left = deadline - time.monotonic()
            if left <= 0:
                raise StoreTimeout(f"pgvector: {self.spec.name!r} was not optimized within {timeout:g} s")
            with s.patient(left):
                s.cursor.execute(f"vacuum (analyze) {self._table}")

    def _build(self, s: Session, notices: list[str], deadline: float) -> None:
        name = f"{self._table}_embedding"
        s.cursor.execute("select pg_advisory_xact_lock(%s, %s)", (self.store.LOCK, self._number))
        found = s.cursor.execute(
            f"select (select count(*) from {self._table}), to_regclass(%s) is not null, built_rows, "
            "pg_stat_get_dead_tuples(%s::regclass) from vecbench_collections where id = %s",
            (name, self._table, self._number),
        ).fetchone()
        if found is None:
            raise CollectionNotFound(f"pgvector: collection {self.spec.name!r} was dropped")
        rows, built, built_rows, dead = found
        if not rows:
            return  # loading first and building then is faster by far; and there is nothing to cluster
        s.cursor.execute(f"create index if not exists {self._table}_tokens on {self._table} using gin (tokens)")
        for i, (field, kind) in enumerate(sorted(self.spec.fields.items())):
            if kind in {"int", "float"}:  # for ranges, and so that the planner knows how many rows one holds
                number = f"((numbers ->> '{number_key('n', field)}')::float8)"
                s.cursor.execute(f"create index if not exists {self._table}_n{i} on {self._table} ({number})")
        made = build(self.spec)
        if made is None:
            return
        if isinstance(self.spec.index, IVFFlat):
            # Its lists are the clusters of the rows that were there when it was built.
            worn = built and not built_rows / 2 <= rows <= built_rows * 2
        else:
            # To take rows out of a graph, VACUUM connects their neighbours anew, one after the other.
            worn = dead > _DEAD_SHARE * rows
        if not built or worn:
            left = milliseconds(deadline - time.monotonic())
            for setting in ("statement_timeout", left), *made.settings.items():
                s.cursor.execute("select set_config(%s, %s, true)", setting)
            notices.clear()
            s.cursor.execute(made.sql(f"{name}_new", self._table))
            if built:  # only now, so that readers have one while the other is built
                s.cursor.execute(f"drop index {name}")
            s.cursor.execute(f"alter index {name}_new rename to {name}")
            s.cursor.execute(
                "update vecbench_collections set built_rows = %s, notices = %s where id = %s",
                (rows, "; ".join(notices) or None, self._number),
            )

    def _describe(self) -> dict[str, Any]:
        with self.store.pool.session() as s:
            method, options, definition, index_bytes = s.cursor.execute(
                "select a.amname, c.reloptions, pg_get_indexdef(c.oid), pg_relation_size(c.oid) "
                "from pg_class c join pg_am a on a.oid = c.relam where c.oid = to_regclass(%s)",
                (f"{self._table}_embedding",),
            ).fetchone() or (None, None, "", 0)
            rows, disk, notices = s.cursor.execute(
                f"select (select count(*) from {self._table}), pg_total_relation_size(%s), "
                "(select notices from vecbench_collections where id = %s)",
                (self._table, self._number),
            ).fetchone()
        told = {
            "table": self._table,
            "index": effective(self.spec, method, options, definition),
            "rows": rows,
            "indexed_rows": 0 if method is None else rows,
            "index_bytes": index_bytes,
            "disk_bytes": disk,
        }
        if notices:
            told["notices"] = notices
        return told


def _columns(rows: list[Any], include: tuple[Include, ...], first: int) -> Records:
    """Rows of ids and, from the column `first` on, what was included."""
    found: dict[str, Any] = {what: [row[i] for row in rows] for i, what in enumerate(include, first)}
    if found.get("vectors"):
        found["vectors"] = np.stack([v.to_numpy() for v in found["vectors"]])
    elif "vectors" in found:
        found["vectors"] = np.empty((0, 0), np.float32)
    if "metadata" in found:
        found["metadata"] = [load_metadata(text) for text in found["metadata"]]
    return Records([row[0] for row in rows], found.get("vectors"), found.get("metadata"), found.get("documents"))
