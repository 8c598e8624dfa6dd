"""The verbs of a collection, awaited: each runs in a private pool of threads, so that nothing blocks the event loop."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import numpy.typing as npt

from vecbench.embed.spec import EmbedderSpec
from vecbench.filters import Filter
from vecbench.index import DEFAULT_SEARCH, SearchParams
from vecbench.types import INCLUDE_ALL, Include, Records, SearchResult

if TYPE_CHECKING:
    from vecbench.collection import Collection

__all__ = ["AsyncCollection"]

_P = ParamSpec("_P")
_T = TypeVar("_T")
_THREADS = 8


class AsyncCollection:
    """`collection.aio`: the same verbs, arguments, answers and errors as the collection, awaited."""

    def __init__(self, collection: Collection) -> None:
        self.collection = collection
        # Not the loop's default pool: a slow store must not starve the application's own threads.
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix=f"vecbench-{collection.store.name}")

    async def _run(self, verb: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._pool, functools.partial(verb, *args, **kwargs))

    async def upsert(self, records: Records) -> None:
        """Await `Collection.upsert`."""
        await self._run(self.collection.upsert, records)

    async def get(self, ids: Sequence[str], *, include: Sequence[Include] = INCLUDE_ALL) -> Records:
        """Await `Collection.get`."""
        return await self._run(self.collection.get, ids, include=include)

    async def delete(self, *, ids: Sequence[str] | None = None, where: Filter | None = None) -> None:
        """Await `Collection.delete`."""
        await self._run(self.collection.delete, ids=ids, where=where)

    async def count(self, where: Filter | None = None) -> int:
        """Await `Collection.count`."""
        return await self._run(self.collection.count, where)

    async def search(
        self,
        vectors: npt.ArrayLike,
        k: int = 10,
        *,
        where: Filter | None = None,
        params: SearchParams = DEFAULT_SEARCH,
        include: Sequence[Include] = (),
        embedder: EmbedderSpec | None = None,
    ) -> SearchResult:
        """Await `Collection.search`."""
        return await self._run(
            self.collection.search, vectors, k, where=where, params=params, include=include, embedder=embedder
        )

    async def scan(
        self, *, where: Filter | None = None, batch_size: int = 1000, include: Sequence[Include] = INCLUDE_ALL
    ) -> AsyncIterator[Records]:
        """Iterate `Collection.scan` with `async for`."""
        batches = await self._run(self.collection.scan, where=where, batch_size=batch_size, include=include)
        while (batch := await self._run(next, batches, None)) is not None:
            yield batch

    async def flush(self, timeout: float = 60.0) -> None:
        """Await `Collection.flush`."""
        await self._run(self.collection.flush, timeout)

    async def optimize(self, timeout: float = 3600.0) -> None:
        """Await `Collection.optimize`."""
        await self._run(self.collection.optimize, timeout)

    async def describe(self) -> Mapping[str, Any]:
        """Await `Collection.describe`."""
        return await self._run(self.collection.describe)

    async def reconfigure(self, *, ef_search: int | None = None, nprobe: int | None = None) -> None:
        """Await `Collection.reconfigure`."""
        await self._run(self.collection.reconfigure, ef_search=ef_search, nprobe=nprobe)
