"""Loads on the store of a measured process: clients are kept from pass to pass, what they measure goes to files."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from vecbench.bench.answers import largest_error
from vecbench.bench.client import Connection
from vecbench.bench.clients import Clients, How, ProcessClients, ThreadClients
from vecbench.bench.load import Load, shares
from vecbench.collection import Collection
from vecbench.errors import ConfigError
from vecbench.index import SearchParams
from vecbench.registry import StoreRef
from vecbench.types import Vectors

__all__ = ["Pass", "Press", "Pressing", "clients_for"]


@dataclass(frozen=True, slots=True)
class Pressing:
    """The part of a request that is about load. requests: in one pass, None for two for every query.

    on: the address of a Ray cluster for the clients, None for this machine. each_how: measure with each of these kinds
    of clients, as only the null store can be; empty for the one that the store's deployment asks for.
    """

    loads: tuple[Load, ...] = ()
    requests: int | None = None
    on: str | None = None
    each_how: tuple[How, ...] = ()

    @classmethod
    def from_dict(cls, request: dict[str, Any]) -> Pressing:
        """From JSON."""
        loads = tuple(Load(**load) for load in request["loads"])
        return cls(**{**request, "loads": loads, "each_how": tuple(request.get("each_how", ()))})


def clients_for(*, reachable: bool, on: str | None) -> How:
    """The kind of clients that a store is asked by. reachable: other processes reach its engine. on: see `Pressing`."""
    if on is not None:
        return "ray"
    return "processes" if reachable else "threads"


@dataclass(slots=True)
class Pass:
    """One pass of one load, as it lies in a file. sent_ns, service_ns: int64 (clients, n). rows: int64 (clients, n, k).

    how, clock_ns, notes: of the clients. cpu_seconds: of each. error: the first that a request raised.
    """

    how: How
    sent_ns: npt.NDArray[np.int64]
    service_ns: npt.NDArray[np.int64]
    rows: npt.NDArray[np.int64]
    cpu_seconds: list[float]
    clock_ns: int = 0
    error: str | None = None
    max_distance_error: float = 0.0
    notes: list[str] = field(default_factory=list)

    def save(self, path: Path) -> None:
        """Write `path`.npz and `path`.json."""
        arrays = {name: getattr(self, name) for name in ("sent_ns", "service_ns", "rows")}
        np.savez(path.with_name(f"{path.name}.npz"), **arrays)
        rest = {name: value for name, value in asdict(self).items() if name not in arrays}
        path.with_name(f"{path.name}.json").write_text(json.dumps(rest), "utf-8")

    @classmethod
    def load(cls, path: Path) -> Pass:
        """Read what `save` wrote."""
        with np.load(path.with_name(f"{path.name}.npz"), allow_pickle=False) as arrays:
            return cls(**arrays, **json.loads(path.with_name(f"{path.name}.json").read_text("utf-8")))


class Press:
    """The loads of one collection; `close` ends their clients."""

    def __init__(
        self,
        pressing: Pressing,
        *,
        seed: int,
        queries: Vectors,
        base: Vectors,
        collection: Callable[[], Collection],
        again: tuple[StoreRef, dict[str, str]] | None,
        k: int,
    ) -> None:
        self._pressing, self._seed, self._queries, self._base, self._k = pressing, seed, queries, base, k
        self._collection, self._again = collection, again
        self._stack = ExitStack()
        self._clients: list[Clients] | None = None

    def close(self) -> None:
        """End the clients."""
        self._stack.close()

    def measure(self, number: int, at: int, params: SearchParams) -> list[Pass]:
        """The passes of load number `at` in round `number`; one, unless several kinds of clients are measured."""
        load, queries = self._pressing.loads[at], self._queries
        if self._clients is None:
            self._clients = [self._stack.enter_context(clients) for clients in self._made()]
        asked = shares(load, len(queries), self._pressing.requests, [self._seed, number, at])
        made = []
        for clients in self._clients:
            driven = clients.ask(asked, params)
            notes, clients.notes = clients.notes, []
            metric = self._collection().spec.metric
            errors = [
                largest_error(d.rows, d.distances, queries[share.order], self._base, metric)
                for d, share in zip(driven, asked, strict=True)
            ]
            made.append(
                Pass(
                    clients.how,
                    np.stack([d.sent_ns for d in driven]),
                    np.stack([d.service_ns for d in driven]),
                    np.stack([d.rows for d in driven]),
                    [d.cpu_seconds for d in driven],
                    clients.clock_ns,
                    next((d.error for d in driven if d.error is not None), None),
                    max(errors),
                    notes,
                )
            )
        return made

    def _made(self) -> Sequence[Clients]:
        usual = clients_for(reachable=self._again is not None, on=self._pressing.on)
        return [self._clients_of(how) for how in self._pressing.each_how or (usual,)]

    def _clients_of(self, how: How) -> Clients:
        collection, on = self._collection(), self._pressing.on
        if how == "threads":
            return ThreadClients(self._collection, self._queries, self._k, len(self._base))
        again = self._again
        if collection.store.name == "null":  # which each client has for itself
            again = StoreRef("null"), {}
        if again is None:
            raise ConfigError(
                f"{collection.store.info.label} is an engine in this process: the nodes of a cluster cannot reach "
                "it. Name a server that they can reach: name=url"
            )
        spec, (ref, secrets) = collection.spec, again
        to = Connection(ref, spec.name, spec.metric, self._k, len(self._base), secrets)
        if on is None:
            return ProcessClients(to, self._queries)
        from vecbench.bench.ray_clients import RayClients
        from vecbench.work import RayCluster

        return RayClients(self._stack.enter_context(RayCluster(on)), to, self._queries)
