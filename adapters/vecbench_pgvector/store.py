"""PgvectorStore: a PostgreSQL with the extension pgvector, by URL, or one of our own without."""

from __future__ import annotations

import importlib.util
import os
import threading
from contextlib import suppress
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, ClassVar, Self

from vecbench.capabilities import Capabilities, StoreInfo, Tolerance, deployment_of
from vecbench.collection import Collection
from vecbench.errors import (
    CollectionExists,
    CollectionNotFound,
    ConfigError,
    ConnectionFailed,
    MissingDependency,
    StoreError,
    StoreTimeout,
    UnsupportedIndex,
    cause_of,
    redact,
)
from vecbench.filters import OPERATORS
from vecbench.services.local import Service, start
from vecbench.spec import CollectionSpec
from vecbench.store import VectorStore, import_client
from vecbench.types import Metric
from vecbench_pgvector.collection import PgvectorCollection, table_sql
from vecbench_pgvector.engine import PACKAGE, PgvectorEngine
from vecbench_pgvector.faults import translate_error, words
from vecbench_pgvector.index import build
from vecbench_pgvector.session import Pool, Session

__all__ = ["PgvectorStore"]

_OLDEST = (0, 8)  # of pgvector: iterative scans, without which a filter may shorten an answer
_CATALOGUE = """
create table if not exists vecbench_collections (
    name text collate "C" primary key, id bigint generated always as identity, spec text not null,
    built_rows bigint, notices text)
"""


class PgvectorStore(VectorStore):
    """`connect("pgvector=postgresql://user@host/db", password=…)`, or `connect("pgvector", path="kb")`.

    Without a URL a PostgreSQL is started, on the directory `path` or a temporary one, and ended by `close`.
    """

    name: ClassVar[str] = "pgvector"
    extra: ClassVar[str] = "pgvector"
    modules: ClassVar[tuple[str, ...]] = ("psycopg", "pgvector")
    _service: Service | None = None
    capabilities = Capabilities(
        metrics=frozenset(Metric),
        indexes=frozenset({"flat", "hnsw", "ivf_flat"}),
        filters=OPERATORS,
        ef_search="query",
        nprobe="query",
        exact_search=True,
        persistent=True,
        concurrent_writers=True,
        preserves_vectors=True,
        max_dim=16_000,
        max_batch=10_000,
        tolerance=Tolerance(absolute=1e-6, relative=2e-6),
    )
    LOCK: ClassVar[int] = 0x76656362  # "vecb": the first half of our advisory locks

    def __init__(
        self, address: dict[str, Any], *, timeout: float, connections: int, service: Service | None = None
    ) -> None:
        self.pg = import_client("psycopg", store="pgvector", extra="pgvector")
        self._register = import_client("pgvector.psycopg", store="pgvector", extra="pgvector").register_vector
        self._address = {**address, "autocommit": True, "connect_timeout": max(2, round(timeout))}  # libpq's least is 2
        self._timeout, self._service = timeout, service
        host = str(address.get("host") or os.environ.get("PGHOST") or "localhost")
        self._target = f"{host}:{address.get('port') or os.environ.get('PGPORT') or 5432}"
        self._secret: str | None = address.get("password") or os.environ.get("PGPASSWORD") or None
        self.pool = Pool(self._session, connections, timeout)
        self._native: Any = None
        self._native_lock = threading.Lock()
        with self.pool.session() as s:
            told = s.cursor.execute(
                "select current_setting('server_version'), extversion from pg_extension where extname = 'vector'"
            ).fetchone()
        self._info = StoreInfo(
            name="pgvector",
            label="pgvector",
            deployment="local-process" if host.startswith("/") else deployment_of(f"//{_bracketed(host)}"),
            engine="PostgreSQL",
            engine_version=f"{told[0].split()[0]} / pgvector {told[1]}",
            client="psycopg",
            client_version=version("psycopg"),
            target=self._target,
        )

    @classmethod
    def open(
        cls, *, url: str | None = None, path: str | Path | None = None, mode: str | None = None, **options: Any
    ) -> Self:
        """Connect to the database at `url`, or start a PostgreSQL of our own.

        options: timeout (seconds, 60), connections (at most, 8); with a url also user and password, else PostgreSQL's
        own: the url's, PGUSER, PGPASSWORD, ~/.pgpass. Raises `ConfigError` for any other.
        """
        known = {"timeout", "connections"} | ({"user", "password"} if url is not None else set())
        unknown = set(options) - known
        if unknown or mode is not None:
            what = ", ".join(sorted(unknown)) or f"mode {mode!r}"
            where = "with a url" if url is not None else "without a url"
            raise ConfigError(f"pgvector {where} has no option {what}; it takes {', '.join(sorted(known))}")
        timeout, connections = options.pop("timeout", 60.0), options.pop("connections", 8)
        if not (isinstance(timeout, int | float) and timeout > 0 and isinstance(connections, int) and connections > 0):
            raise ConfigError("pgvector: timeout is a number of seconds and connections a whole number, both above 0")
        import_client("psycopg", store="pgvector", extra="pgvector")
        import_client("pgvector", store="pgvector", extra="pgvector")
        service = None
        if url is None:
            if importlib.util.find_spec(PACKAGE) is None:
                raise MissingDependency("store 'pgvector' without a url", module=PACKAGE, extra="pgvector-local")
            service = start(PgvectorEngine(), None if path is None else Path(path))
            url, options = service.url + "?sslmode=disable&gssencmode=disable", dict(service.secrets)
        try:
            address = _address(url, options)
            opened = cls(address, timeout=timeout, connections=connections, service=service)
        except BaseException:
            if service is not None:
                service.stop()
            raise
        if service is not None:
            kept = path is not None
            opened.capabilities = replace(cls.capabilities, persistent=kept, concurrent_writers=False)
        return opened

    def _session(self, pool: Pool) -> Session:
        """A new connection, on which the extension is there and new enough."""
        doing = f"connecting to {self._target}"
        session = None
        try:
            connection = self.pg.connect(**self._address)
            session = Session(pool, connection, self._timeout)
            self._require_extension(connection)
            self._register(connection)
            session.begin()
        except Exception as e:
            if session is not None:
                session.close()
            if isinstance(e, StoreError):
                raise
            kind = StoreTimeout if isinstance(e, self.pg.errors.ConnectionTimeout) else ConnectionFailed
            raise kind(f"pgvector: {doing} failed: {words(e, self._secret)}") from cause_of(e, self._hidden())
        return session

    def _require_extension(self, connection: Any) -> None:
        ask = "select extversion from pg_extension where extname = 'vector'"
        if connection.execute(ask).fetchone() is None:
            try:
                with connection.transaction():
                    connection.execute("select pg_advisory_xact_lock(%s, 0)", (self.LOCK,))
                    connection.execute("create extension if not exists vector")
            except self.pg.errors.InsufficientPrivilege as e:
                raise ConnectionFailed(
                    f"pgvector: the extension is not in this database, and the account may not create it; let an "
                    f"administrator run there: CREATE EXTENSION vector ({words(e, self._secret)})"
                ) from cause_of(e, self._hidden())
            except (self.pg.errors.FeatureNotSupported, self.pg.errors.UndefinedFile) as e:
                raise ConnectionFailed(
                    f"pgvector: PostgreSQL at {self._target} does not have the extension installed "
                    f"({words(e, self._secret)}); see https://github.com/pgvector/pgvector#installation"
                ) from cause_of(e, self._hidden())
        held = connection.execute(ask).fetchone()[0]
        if tuple(int(n) for n in held.split(".")[:2]) < _OLDEST:
            raise ConnectionFailed(
                f"pgvector: the extension at {self._target} is {held}, 0.8 or newer is needed (iterative scans); "
                "install it and run there: ALTER EXTENSION vector UPDATE"
            )
        connection.execute("select '[1]'::vector")  # loads the library: it checks its settings only from then on

    @property
    def info(self) -> StoreInfo:
        """Versions as the server tells them; the processes only where it is our own."""
        return self._info if self._service is None else replace(self._info, pids=self._service.pids)

    @property
    def native(self) -> Any:
        """A `psycopg.Connection` for the caller alone, in autocommit mode, closed with the store."""
        self._require_open()
        with self._native_lock:
            if self._native is None or self._native.closed:
                self._native = self.pg.connect(**self._address)
                self._register(self._native)
            return self._native

    def _create(self, spec: CollectionSpec) -> Collection:
        made = build(spec)
        with self.pool.session() as s, s.connection.transaction():
            s.cursor.execute("select pg_advisory_xact_lock(%s, 0)", (self.LOCK,))  # one creator at a time
            s.cursor.execute(_CATALOGUE)
            row = s.cursor.execute(
                "insert into vecbench_collections (name, spec) values (%s, %s) on conflict do nothing returning id",
                (spec.name, spec.to_json()),
            ).fetchone()
            if row is None:
                raise CollectionExists(f"pgvector has a collection {spec.name!r} already")
            table = f"vecbench_{row[0]}"
            for statement in table_sql(table, spec.dim):
                s.cursor.execute(statement)
            if made is not None:
                try:  # PostgreSQL checks the parameters; the index is made by optimize, which is faster
                    for key, value in made.settings.items():
                        s.cursor.execute("select set_config(%s, %s, true)", (key, value))
                    s.cursor.execute(made.sql(f"{table}_embedding", table))
                except (self.pg.DataError, self.pg.ProgrammingError) as e:
                    raise UnsupportedIndex(f"pgvector refuses the index: {words(e, self._secret)}") from e
                s.cursor.execute(f"drop index {table}_embedding")
        return PgvectorCollection(self, spec, row[0])

    def _found(self, s: Session, statement: str, name: str) -> Any:
        """The row of a collection in our catalogue; `CollectionNotFound`, also before there is a catalogue."""
        with suppress(self.pg.errors.UndefinedTable):
            if (row := s.cursor.execute(statement, (name,)).fetchone()) is not None:
                return row
        raise CollectionNotFound(f"pgvector has no collection {name!r}")

    def _open_collection(self, name: str) -> Collection:
        with self.pool.session() as s:
            found = self._found(s, "select id, spec from vecbench_collections where name = %s", name)
        return PgvectorCollection(self, CollectionSpec.from_json(found[1]), found[0])

    def _list(self) -> list[str]:
        with self.pool.session() as s, suppress(self.pg.errors.UndefinedTable):
            return [row[0] for row in s.cursor.execute("select name from vecbench_collections").fetchall()]
        return []

    def _drop(self, name: str) -> None:
        with self.pool.session() as s, s.connection.transaction():
            found = self._found(s, "delete from vecbench_collections where name = %s returning id", name)
            s.cursor.execute(f"drop table if exists vecbench_{found[0]}")

    def _close(self) -> None:
        try:
            self.pool.close()
            if self._native is not None:
                self._native.close()
        finally:
            if self._service is not None:
                self._service.stop()

    def _hidden(self) -> tuple[str | None, ...]:
        return (self._secret,)

    def _translate(self, error: Exception, doing: str) -> StoreError | None:
        return translate_error(self.pg, error, doing, self._secret)


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _address(url: str, options: dict[str, Any]) -> dict[str, Any]:
    """The URL and the options as psycopg's parameters; `ConfigError` without a secret in it."""
    if not url.startswith(("postgresql://", "postgres://")):
        raise ConfigError(f"pgvector needs a url like postgresql://user@host/database, got {redact(url)!r}")
    conninfo = import_client("psycopg.conninfo", store="pgvector", extra="pgvector")
    try:
        parsed: dict[str, Any] = conninfo.conninfo_to_dict(url)
    except Exception:  # psycopg's message may quote the url: no cause
        raise ConfigError(f"pgvector cannot read the url {redact(url.partition('?')[0])!r}") from None
    defaults = {"application_name": "vecbench", "client_encoding": "UTF8"}
    return {**defaults, **parsed, **{k: v for k, v in options.items() if v is not None}}
