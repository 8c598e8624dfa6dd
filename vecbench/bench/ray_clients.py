"""The clients of a load on the nodes of a Ray cluster; what they ask, and when, is decided here as for any others."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from vecbench.bench.client import Client, Connection
from vecbench.bench.clients import Clients
from vecbench.bench.load import Driven, Share
from vecbench.errors import ClusterLost
from vecbench.index import SearchParams
from vecbench.types import Vectors
from vecbench.work import RayCluster

__all__ = ["RayClients"]

_AHEAD_NS = 1_000_000_000  # until the instant of the common start has reached every node
_PINGS = 9
_PATIENCE_SECONDS = 120.0


class RayClients(Clients):
    """Actors, spread over the nodes. Their clocks are compared with ours; `clock_ns` is how well that could be done.

    A pass in which a node is lost is measured again with new clients on the nodes that are left: what was measured
    while a part of the load was missing is no measurement of that load.
    """

    how = "ray"

    def __init__(self, cluster: RayCluster, connection: Connection, queries: Vectors) -> None:
        super().__init__()
        self._cluster, self._connection, self._queries = cluster, connection, queries
        self._actors: list[Any] = []
        self._ahead: list[int] = []  # of each node's clock before ours, ns

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
                    self.notes.append("a node of the cluster was lost under load; the pass was measured again without")
                elif time.monotonic() > given_up:
                    raise

    def _start(self, count: int) -> None:
        new = [self._cluster.actor(Client, self._connection, self._queries) for _ in range(count - len(self._actors))]
        self._actors += new
        self._cluster.results([actor.now.remote() for actor in new])  # they are connected
        for actor in new:
            took, ahead = min(self._compare(actor) for _ in range(_PINGS))
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
        for actor in self._actors:
            self._cluster.end(actor)
        self._actors, self._ahead = [], []
