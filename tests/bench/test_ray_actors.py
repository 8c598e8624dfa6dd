"""Where clients are put on a cluster whose nodes are pretended: working, slow, hanging, or failing at once.

On real nodes, one of which hangs: tests/work/test_load_cluster.py.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest

from vecbench.bench import ray_actors
from vecbench.bench.ray_actors import UP_SECONDS, RayActors
from vecbench.errors import ClusterError, ClusterLost


class RayError(Exception):
    pass


@dataclass(eq=False)
class Put:
    """An actor, and at once the reference to its answer that it is up."""

    node: str

    @property
    def up(self) -> Any:
        return SimpleNamespace(remote=lambda: self)


class FakeRay:
    """nodes: how long each takes to bring up one actor after the other, in seconds; None if it fails at once."""

    exceptions = SimpleNamespace(RayError=RayError)

    def __init__(self, **nodes: float | None) -> None:
        self.takes, self.clock = nodes, 0.0
        self.dead: set[str] = set()
        self.ready_at = dict.fromkeys(nodes, 0.0)
        self.put: list[Put] = []
        self.due: dict[Put, float] = {}
        self.killed: list[Put] = []
        self.util = SimpleNamespace(scheduling_strategies=SimpleNamespace(NodeAffinitySchedulingStrategy=self._pinned))

    @staticmethod
    def _pinned(node: str, *, soft: bool) -> str:
        assert not soft
        return node

    def nodes(self) -> list[dict[str, Any]]:
        listed: list[dict[str, Any]] = [
            {
                "NodeID": name,
                "Alive": name not in self.dead,
                "NodeManagerAddress": f"at-{name}",
                "Resources": {"CPU": 4.0},
            }
            for name in self.takes
        ]
        return [{"NodeID": "head", "Alive": True, "NodeManagerAddress": "at-head", "Resources": {}}, *listed]

    def remote(self, kind: type) -> Any:
        return SimpleNamespace(options=lambda **o: SimpleNamespace(remote=lambda: self._put(o["scheduling_strategy"])))

    def _put(self, node: str) -> Put:
        self.put.append(made := Put(node))
        self.ready_at[node] = max(self.clock, self.ready_at[node]) + (self.takes[node] or 0.0)
        self.due[made] = self.ready_at[node]
        return made

    def wait(self, references: Sequence[Put], *, num_returns: int, timeout: float) -> tuple[list[Put], list[Put]]:
        first = min(references, key=self.due.__getitem__)
        if self.due[first] > self.clock + timeout:
            self.clock += timeout
            return [], list(references)
        self.clock = max(self.clock, self.due[first])
        return [first], [one for one in references if one is not first]

    def get(self, put: Put) -> None:
        if self.takes[put.node] is None:
            raise RayError(f"something went wrong\nno module on {put.node}")

    def kill(self, put: Put) -> None:
        self.killed.append(put)


HANGS = float("inf")


@pytest.fixture
def told() -> list[str]:
    return []


def _actors(monkeypatch: pytest.MonkeyPatch, ray: FakeRay, told: list[str]) -> RayActors:
    monkeypatch.setattr(ray_actors, "time", SimpleNamespace(monotonic=lambda: ray.clock))
    return RayActors(ray, object, address="ray://u:hunter2@head:10001", tell=told.append)


def _spread(actors: Sequence[Put]) -> dict[str, int]:
    return dict(Counter(one.node for one in actors))


def test_they_are_spread_evenly_over_the_nodes_that_have_a_cpu(
    monkeypatch: pytest.MonkeyPatch, told: list[str]
) -> None:
    actors = _actors(monkeypatch, ray := FakeRay(a=1, b=1, c=1), told)
    ray.dead.add("c")
    first = actors.add(3)
    assert _spread(first) == {"a": 2, "b": 1}
    more = actors.add(3)
    assert _spread([*first, *more]) == {"a": 3, "b": 3}
    assert actors.add(0) == []
    assert ray.killed == []
    assert told == []
    actors.clear()
    assert set(ray.killed) == {*first, *more}
    actors.clear()
    assert len(ray.killed) == 6


def test_what_does_not_come_up_is_ended_and_put_on_another_node(
    monkeypatch: pytest.MonkeyPatch, told: list[str]
) -> None:
    actors = _actors(monkeypatch, ray := FakeRay(a=1, b=HANGS, c=1), told)
    made = actors.add(6)
    assert _spread(made) == {"a": 3, "c": 3}
    assert UP_SECONDS <= ray.clock < UP_SECONDS + 10
    assert ray.killed == [one for one in ray.put if one.node == "b"]
    assert len(ray.killed) == 2
    assert told == ["node b (at-b) brought up no client in 60 s; it was left out"]
    before = ray.clock
    assert _spread(actors.add(2)) == {"a": 1, "c": 1}  # it is not waited for again
    assert ray.clock < before + 10
    assert len(told) == 1


def test_a_node_that_fails_is_left_out_at_once(monkeypatch: pytest.MonkeyPatch, told: list[str]) -> None:
    actors = _actors(monkeypatch, ray := FakeRay(a=None, b=1), told)
    assert _spread(actors.add(4)) == {"b": 4}
    assert ray.clock < 10
    assert told == ["node a (at-a) could not start a client: no module on a; it was left out"]
    assert _spread(ray.killed) == {"a": 2}


def test_a_node_is_given_time_as_long_as_one_after_the_other_comes_up(
    monkeypatch: pytest.MonkeyPatch, told: list[str]
) -> None:
    actors = _actors(monkeypatch, ray := FakeRay(a=UP_SECONDS - 1, b=1), told)
    assert _spread(actors.add(20)) == {"a": 10, "b": 10}
    assert ray.clock == 10 * (UP_SECONDS - 1)
    assert told == []


@pytest.mark.parametrize("listed", [True, False])
def test_where_no_node_is_left_it_is_said_which_cluster_why_and_what_to_do(
    monkeypatch: pytest.MonkeyPatch, told: list[str], listed: bool
) -> None:
    actors = _actors(monkeypatch, ray := FakeRay(a=HANGS, b=None), told)
    if not listed:
        ray.dead = {"a", "b"}
    with pytest.raises(ClusterError) as caught:
        actors.add(4)
    assert not isinstance(caught.value, ClusterLost)  # which would be tried again
    said = str(caught.value)
    assert "@head:10001" in said
    assert "hunter2" not in said
    assert "`ray status`" in said
    why = ["node a (at-a) brought up no client in 60 s", "node b (at-b) could not start a client: no module on b"]
    assert [text in said for text in why] == [listed] * 2
    assert ("lists none that is alive" in said) != listed
    assert set(ray.killed) == set(ray.put)
