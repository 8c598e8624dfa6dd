"""Threads that each multiply matrices on their own, with BLAS's own threads out of their way."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from types import TracebackType
from typing import TypeVar

__all__ = ["Threads"]

_T = TypeVar("_T")
_R = TypeVar("_R")


class Threads:
    """Threads that multiply each on its own: a context manager, inside which BLAS uses one thread for each caller.

    threads: None for every processor that this process may use. limit: False leaves BLAS as it is.
    """

    def __init__(self, threads: int | None = None, *, limit: bool = True) -> None:
        self.threads = threads or _processors()
        self._limit = limit
        self._stack = ExitStack()
        self._pool: ThreadPoolExecutor | None = None

    def __enter__(self) -> Threads:
        if self._limit:
            try:
                from threadpoolctl import threadpool_limits
            except ImportError:
                self.threads = 1  # BLAS's own threads and ours would be in each other's way
            else:
                self._stack.enter_context(threadpool_limits(1, user_api="blas"))
        if self.threads > 1:
            self._pool = self._stack.enter_context(ThreadPoolExecutor(self.threads, thread_name_prefix="nearest"))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def map(self, function: Callable[[_T], _R], items: Iterable[_T]) -> list[_R]:
        """`function` of each item, in order."""
        return list(map(function, items) if self._pool is None else self._pool.map(function, items))


def _processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
