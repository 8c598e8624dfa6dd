"""Where heavy work is done: in this process, or on a Ray cluster, with the same results bit for bit.

    with open_workers("ray://head:10001") as workers:
        for result in workers.map(function, parts):   # in the order of the parts
            ...

What makes the results the same: work is cut into the same parts wherever it is done, a part's result depends on the
part alone, and results come in the order of the parts. Needs the extra `ray` for a cluster.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from types import TracebackType
from typing import Any, Self, TypeVar

import vecbench
from vecbench.errors import ClusterError, ClusterLost, ConfigError, MissingDependency, VecbenchError, redact

__all__ = ["Here", "RayCluster", "Workers", "open_workers"]

_Part = TypeVar("_Part")
_Value = TypeVar("_Value")
_Result = TypeVar("_Result")
_RETRIES = 8  # of a part whose node died; a part that itself fails is not tried again
_CONNECT_SECONDS, _ANSWER_SECONDS = 10, 120
_LOOK_SECONDS = 20.0  # so often, while a part takes long, it is seen whether there is still a node to do it


class Workers(ABC):
    """Something that does parts of work; a context manager."""

    @abstractmethod
    def map(self, function: Callable[[_Part], _Result], parts: Iterable[_Part]) -> Iterator[_Result]:
        """The results of `function` for every part, in the order of the parts; parts are drawn as they are needed.

        function: one that another process can import. What it raises is raised here.
        """

    def share(self, value: _Value) -> Callable[[], _Value]:
        """What parts may hold in place of a value, and call to get it; it goes to each node once."""
        return partial(_itself, value)

    @abstractmethod
    def close(self) -> None:
        """Give back what was taken."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


class Here(Workers):
    """This process: one part after the other."""

    def map(self, function: Callable[[_Part], _Result], parts: Iterable[_Part]) -> Iterator[_Result]:
        """See `Workers.map`."""
        return map(function, parts)

    def close(self) -> None:
        """Nothing was taken."""


class RayCluster(Workers):
    """A Ray cluster: parts go to any node; one whose node dies is done again elsewhere.

    address: `ray://host:10001` for a cluster elsewhere (the port of Ray's client server), `host:6379` or "auto" from a
    node of it; as an attribute, without what may be secret. Every node needs the same version of vecbench, NumPy and
    onnxruntime: others are refused, as their results could differ in the last bit. cpus: of all nodes together. A
    cluster runs the code that it is sent: connect to your own only.
    """

    def __init__(self, address: str) -> None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # Ray reports usage unless it is told not to
        try:
            import ray
        except ImportError as error:
            raise MissingDependency("A Ray cluster", module="ray", extra="ray") from error
        self._ray: Any = ray
        self.address = redact(address)
        self._mine = not ray.is_initialized()
        if self._mine:
            try:
                _require_listener(address)  # Ray itself waits for half a minute before it gives up
                ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, configure_logging=False)
            except Exception as error:  # Ray raises ConnectionError, ValueError, RuntimeError, and errors of gRPC
                raise ClusterError(
                    f"the Ray cluster at {self.address} cannot be reached: {_last_line(error)}"
                ) from error
        try:
            self.cpus = self._check_nodes()
        except BaseException:
            self.close()
            raise

    def _check_nodes(self) -> int:
        """The CPUs of all nodes, each of which must run the same software as this process."""
        ray = self._ray
        affinity = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy
        probe = ray.remote(_versions)
        mine, cpus = _versions(), 0
        asked = []
        for node in self._nodes():
            pinned = affinity(node["NodeID"], soft=False)
            asked.append((node, probe.options(num_cpus=0, max_retries=0, scheduling_strategy=pinned).remote()))
        until = time.monotonic() + _ANSWER_SECONDS
        for node, answer in asked:
            name = node.get("NodeName") or node["NodeID"]
            try:
                theirs = ray.get(answer, timeout=max(1.0, until - time.monotonic()))
            except ray.exceptions.GetTimeoutError as error:
                raise ClusterError(
                    f"node {name} of the Ray cluster at {self.address} did not answer in {_ANSWER_SECONDS} s. See "
                    "there what `ray status` says; run again when it answers, or is no longer listed"
                ) from error
            except ray.exceptions.RayError as error:
                if node["NodeID"] not in {n["NodeID"] for n in self._nodes()}:
                    continue  # it has died since it was listed
                raise ClusterError(
                    f"node {name} cannot run vecbench (is it installed there?): {_last_line(error)}"
                ) from error
            if theirs != mine:
                differ = ", ".join(f"{k} {theirs.get(k)} (here {v})" for k, v in mine.items() if theirs.get(k) != v)
                raise ClusterError(f"node {name} would not give the same bits: it has {differ}")
            cpus += int(node["Resources"]["CPU"])
        if not cpus:
            raise ClusterError("the Ray cluster has no node with a CPU to work on")
        return cpus

    def _nodes(self) -> list[dict[str, Any]]:
        """The nodes with a CPU that the cluster takes for alive."""
        return [n for n in self._ray.nodes() if n["Alive"] and n["Resources"].get("CPU", 0) >= 1]

    def map(self, function: Callable[[_Part], _Result], parts: Iterable[_Part]) -> Iterator[_Result]:
        """See `Workers.map`; two parts for every CPU are under way at a time."""
        ray = self._ray
        remote = ray.remote(function).options(num_cpus=1, max_retries=_RETRIES, retry_exceptions=False)
        waiting: deque[Any] = deque()
        try:
            for part in parts:
                waiting.append(remote.remote(part))
                if len(waiting) >= 2 * self.cpus:
                    yield self._result(waiting.popleft())
            while waiting:
                yield self._result(waiting.popleft())
        finally:
            for reference in waiting:
                ray.cancel(reference, force=False)

    def results(self, references: Sequence[Any]) -> list[Any]:
        """What the references stand for, once all are there; `ClusterLost` where a node died."""
        return [self._result(reference) for reference in references]

    def share(self, value: _Value) -> Callable[[], _Value]:
        """See `Workers.share`."""
        return partial(_fetch, self._ray.put(value))

    def _result(self, reference: Any) -> Any:
        ray = self._ray
        try:
            while not ray.wait([reference], timeout=_LOOK_SECONDS)[0]:
                if not self._nodes():  # Ray itself waits for new ones, for ever
                    raise ClusterLost(
                        f"no node of the Ray cluster at {self.address} is left to work on: start some, and run again"
                    )
            return ray.get(reference)
        except ray.exceptions.RayTaskError as error:
            cause = getattr(error, "cause", None)
            if isinstance(cause, VecbenchError):
                raise cause from error
            raise ClusterError(f"a part of the work failed: {_last_line(cause or error)}") from error
        except ray.exceptions.RayError as error:
            raise ClusterLost(f"the Ray cluster lost a part of the work: {_last_line(error)}") from error

    def close(self) -> None:
        """Disconnect, unless the connection was there before."""
        if self._mine and self._ray.is_initialized():
            self._ray.shutdown()


def open_workers(on: str | None) -> Workers:
    """The workers that `--on` names: None or "here" for this process, `ray://host:10001` for a cluster."""
    if on is None or on == "here":
        return Here()
    if not on.startswith("ray://"):
        raise ConfigError(f"--on takes ray://host:port, the address of a Ray cluster, or here, got {redact(on)!r}")
    return RayCluster(on)


def _itself(value: _Value) -> _Value:
    return value


def _fetch(reference: Any) -> Any:
    import ray

    return ray.get(reference)


def _require_listener(address: str) -> None:
    host, colon, port = address.removeprefix("ray://").partition("/")[0].rpartition(":")
    if colon and port.isdigit():
        with socket.create_connection((host.strip("[]"), int(port)), timeout=_CONNECT_SECONDS):
            pass


def _versions() -> dict[str, str]:
    """What decides the last bit of a result, and whether a function of ours can be found."""
    import platform
    from importlib.metadata import PackageNotFoundError, version

    found = {"vecbench": vecbench.__version__, "machine": platform.machine()}
    for package in ("numpy", "onnxruntime", "tokenizers"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def _last_line(error: BaseException) -> str:
    text = redact(str(error)).strip()
    return text.splitlines()[-1] if text else type(error).__name__
