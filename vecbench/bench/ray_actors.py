"""Where the clients of a load are put on a Ray cluster: spread evenly, a node that brings up none being left out."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from vecbench.errors import ClusterError, redact

__all__ = ["UP_SECONDS", "RayActors"]

UP_SECONDS = 60.0  # as long as nothing comes up on a node that is to bring up a client, it may still be coming


@dataclass(eq=False, slots=True)
class _Placed:
    """An actor on its node; up: a reference to its answer that it is there."""

    node: str
    actor: Any
    up: Any


class RayActors:
    """Actors of one kind on the nodes with a CPU, each put where there are the fewest.

    For a while after its death a node is still listed, and what is put there waits. So each actor is put on a node by
    name: one that fails to start an actor, or on which none comes up for `UP_SECONDS`, is given no more.

    ray: the module, connected. kind: a class that other machines can import, with a method `up`. address: of the
    cluster, for messages. tell: hears of every node that is left out.
    """

    def __init__(self, ray: Any, kind: type, *, address: str, tell: Callable[[str], None]) -> None:
        self._ray, self._address, self._tell = ray, redact(address), tell
        # No CPU is reserved: that a node is at work is no reason to refuse a client, nor that there are many.
        self._kind = ray.remote(kind)
        self._placed: list[_Placed] = []
        self._left_out: dict[str, str] = {}  # by the node's id: its name, and why

    def add(self, count: int) -> list[Any]:
        """So many more actors, all of them up; `ClusterError` where no node is left for them."""
        added: list[_Placed] = []
        while len(added) < count:
            added += self._come_up(self._place(count - len(added)))
        return [one.actor for one in added]

    def clear(self) -> None:
        """End all of them."""
        for one in list(self._placed):
            self._end(one)

    def _place(self, count: int) -> list[_Placed]:
        listed = {n["NodeID"]: n for n in self._ray.nodes() if n["Alive"] and n["Resources"].get("CPU", 0) >= 1}
        usable = [node for node in listed if node not in self._left_out]
        if not usable:
            raise ClusterError(self._none_left())
        has = {node: sum(one.node == node for one in self._placed) for node in usable}
        pinned = self._ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy
        new = []
        for _ in range(count):
            node = min(usable, key=has.__getitem__)
            has[node] += 1
            made = self._kind.options(num_cpus=0, max_restarts=0, scheduling_strategy=pinned(node, soft=False))
            actor = made.remote()
            new.append(_Placed(node, actor, actor.up.remote()))
        self._placed += new
        return new

    def _come_up(self, new: Sequence[_Placed]) -> list[_Placed]:
        """Those of them that come up; the others are ended, and their nodes left out."""
        up: list[_Placed] = []
        waiting = {one.up: one for one in new}
        until = dict.fromkeys((one.node for one in new), time.monotonic() + UP_SECONDS)
        while waiting:
            soonest = min(until[one.node] for one in waiting.values())
            left = max(0.0, soonest - time.monotonic())
            ready, _ = self._ray.wait(list(waiting), num_returns=1, timeout=left)
            for reference in ready:
                one = waiting.pop(reference)
                if (why := self._failure(reference)) is None:
                    up.append(one)
                    until[one.node] = time.monotonic() + UP_SECONDS
                else:
                    self._end(one)
                    self._leave_out(one.node, f"could not start a client: {why}")
            if not ready:
                for node in {one.node for one in waiting.values() if until[one.node] <= time.monotonic()}:
                    self._leave_out(node, f"brought up no client in {UP_SECONDS:g} s")
            for one in [one for one in waiting.values() if one.node in self._left_out]:
                del waiting[one.up]
                self._end(one)
        return up

    def _failure(self, reference: Any) -> str | None:
        """Why an actor is not up, None where it is."""
        try:
            self._ray.get(reference)
        except self._ray.exceptions.RayError as error:
            text = redact(str(error)).strip()
            return text.splitlines()[-1] if text else type(error).__name__
        return None

    def _end(self, one: _Placed) -> None:
        self._placed.remove(one)
        with contextlib.suppress(self._ray.exceptions.RayError):
            self._ray.kill(one.actor)

    def _leave_out(self, node: str, why: str) -> None:
        if node not in self._left_out:
            where = next((n["NodeManagerAddress"] for n in self._ray.nodes() if n["NodeID"] == node), "gone")
            self._left_out[node] = f"node {node[:8]} ({where}) {why}"
            self._tell(f"{self._left_out[node]}; it was left out")

    def _none_left(self) -> str:
        told = "; ".join(self._left_out.values()) or "it lists none that is alive and has a CPU"
        return (
            f"no node of the Ray cluster at {self._address} is left for the clients: {told}. See there what "
            "`ray status` and `ray list nodes` say, end or start nodes, and run again"
        )
