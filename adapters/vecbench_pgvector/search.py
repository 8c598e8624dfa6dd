"""A search as SQL: the statement that walks the index, and the one that looks at every row."""

# ruff: noqa: S608  statements are made of constants, a table's number and k; all else is bound

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from vecbench.filters import Filter
from vecbench.index import SearchParams
from vecbench.spec import CollectionSpec
from vecbench.types import Include, Vectors
from vecbench_pgvector.filters import condition
from vecbench_pgvector.index import OPERATORS, order, search_settings
from vecbench_pgvector.session import Session

__all__ = ["Plan", "Question", "columns_sql", "plan"]

_SELECTED: dict[Include, str] = {"vectors": "embedding", "metadata": "metadata::text", "documents": "document"}
_PIPELINED = 256  # queries on their way at a time


@dataclass(frozen=True, slots=True)
class Question:
    """A statement that gives rows (id, distance, what is included), k at most, roughly in order.

    values: what the filter binds. after: the query vector is bound first, and so many times more after `values`.
    """

    statement: str
    values: tuple[Any, ...]
    after: int
    prepare: bool

    def ask(self, s: Session, queries: Vectors) -> list[list[Any]]:
        """The rows of each query; many queries are sent without waiting for the answers of those before."""
        if len(queries) == 1:
            q = queries[0]
            bound = (q, *self.values, *(q,) * self.after)
            return [s.cursor.execute(self.statement, bound, prepare=self.prepare).fetchall()]
        answers: list[list[Any]] = []
        for start in range(0, len(queries), _PIPELINED):
            with s.connection.pipeline():
                asked = [
                    s.connection.cursor(binary=True).execute(
                        self.statement, (q, *self.values, *(q,) * self.after), prepare=self.prepare
                    )
                    for q in queries[start : start + _PIPELINED]
                ]
                answers += [cursor.fetchall() for cursor in asked]
        return answers


@dataclass(frozen=True, slots=True)
class Plan:
    """How one kind of search is made.

    Made once for searches that follow each other with equal arguments: it costs 15 % of a filtered search.
    otherwise: for the queries that the first came back short on; None where it is exact.
    """

    k: int
    where: Filter | None
    params: SearchParams
    include: tuple[Include, ...]
    settings: dict[str, str]
    first: Question
    otherwise: Question | None

    def serves(self, k: int, where: Filter | None, params: SearchParams, include: tuple[Include, ...]) -> bool:
        """Whether it is that of a search with these arguments."""
        return k == self.k and where is self.where and params is self.params and include == self.include


def plan(
    spec: CollectionSpec,
    table: str,
    k: int,
    where: Filter | None,
    params: SearchParams,
    *,
    include: tuple[Include, ...],
) -> Plan:
    """How a search is made; `UnsupportedOperation` for a parameter that pgvector lacks."""
    settings = search_settings(spec.index, params, k)
    filtered, values = ("", ()) if where is None else _where(where)
    rows = f"select id, embedding {OPERATORS[spec.metric]} %s as d{columns_sql(include)} from {table}{filtered}"
    # A filter is planned with its values: they decide between the vectors' index and that of the tokens.
    prepare = where is None
    # The inner select is not merged with the outer one, so no index can give the order, whatever the settings.
    exact = Question(f"select * from ({rows} offset 0) r order by d limit {k}", values, 0, prepare)
    if params.exact or spec.index.kind == "flat":
        return Plan(k, where, params, include, settings, exact, None)
    by = order(spec)
    walk = Question(f"{rows} order by {by or 'd'} limit {k}", values, 0 if by is None else 1, prepare)
    return Plan(k, where, params, include, settings, walk, exact)


def _where(where: Filter) -> tuple[str, tuple[Any, ...]]:
    text, values = condition(where)
    return f" where {text}", values


def columns_sql(include: tuple[Include, ...]) -> str:
    """What is selected beside the id, with a comma before each."""
    return "".join(f", {_SELECTED[what]}" for what in include)
