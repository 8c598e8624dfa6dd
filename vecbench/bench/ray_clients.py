"""The clients of a load on the nodes of a Ray cluster; what they ask, and when, is decided here as for any others."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from vecbench.bench.client import Client, Connection
from vecbench.bench.clients import Clients
from vecbench.bench.load import Driven, Share
from vecbench.bench.ray_actors import RayActors
from vecbench.errors import ClusterLost
from vecbench.index import SearchParams
from vecbench.types import Vectors
from vecbench.work import RayCluster

__all__ = ["ClientActor", "RayClients"]

_AHEAD_NS = 1_000_000_000  # until the instant of the common start has reached every node
_PINGS = 9
_PATIENCE_SECONDS = 120.0


class ClientActor:
    """A client on a node. That it is up says that the node works; whether it then connects is up to the store."""

    _client: Client

    def up(self) -> None:
        """Answers once it is there."""

    def connect(self, connection: Connection, queries: Callable[[], Vectors]) -> None:
        """Be a client. Secrets come this way, because what an actor is made from is kept by the cluster."""
        self._client = Client(connection, queries())

    def now(self) -> int:
        """See `Client.now`."""
        return self._client.now()

    def ask_at(self, share: Share, params: SearchParams, instant: int) -> Driven:
        """See `Client.ask_at`."""
        return self._client.ask_at(share, params, instant)


class RayClients(Clients):
    """Actors, spread over the nodes. Their clocks are compared with ours; `clock_ns` is how well that could be done.

    A pass in which a node is lost is measured again with new clients on the nodes that are left: what was measured
    while a part of the load was missing is no measurement of that load.
    """

    how = "ray"

    def __init__(self, cluster: RayCluster, connection: Connection, queries: Vectors) -> None:
        super().__init__()
        import ray

        self._cluster, self._connection = cluster, connection
        self._queries = cluster.share(queries)
        self._placed = RayActors(ray, ClientActor, address=cluster.address, tell=self._note)
        self._actors: list[Any] = []  # those that are connected
        self._ahead: list[int] = []  # of each node's clock before ours, ns

    def _note(self, note: str) -> None:
        self.notes.append(note)

    def ask(self, shares: Sequence[Share], params: SearchParams) -> list[Driven]:
        """See `Clients.ask`; `ClusterLost` where nodes are lost again and again."""
        given_up = None
        while True:
            try:
                self._start(len(shares))
                begin = time.perf_counter_ns() + _AHEAD_NS
                asked = [
                    actor.ask_at.remote(share, params, begin + ahead)
                    for actor, ahead, share in zip(self._actors, self._ahead, shares, strict=False)
                ]
                return self._cluster.results(asked)
            except ClusterLost:
                self.close()
                if given_up is None:  # the cluster itself may not know for a while that the node is gone
                    given_up = time.monotonic() + _PATIENCE_SECONDS
                    self._note("a node of the cluster was lost under load; the pass was measured again without")
                elif time.monotonic() > given_up:
                    raise

    def _start(self, count: int) -> None:
        new = self._placed.add(count - len(self._actors))
        self._cluster.results([actor.connect.remote(self._connection, self._queries) for actor in new])
        for actor in new:
            took, ahead = min(self._compare(actor) for _ in range(_PINGS))
            self._actors.append(actor)
            self._ahead.append(ahead)
            self.clock_ns = max(self.clock_ns, took // 2)

    def _compare(self, actor: Any) -> tuple[int, int]:
        """How long it took to ask for the time, and how far the clock there is ahead, taking both ways for equal."""
        before = time.perf_counter_ns()
        (there,) = self._cluster.results([actor.now.remote()])
        after = time.perf_counter_ns()
        return after - before, there - (before + after) // 2

    def close(self) -> None:
        """See `Clients.close`."""
        self._placed.clear()
        self._actors, self._ahead = [], []
