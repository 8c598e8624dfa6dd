"""The verbs of a `Rag`, awaited: each runs in a private pool of threads, so that nothing blocks the event loop."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import os
import weakref
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, ParamSpec, Self, TypeVar, Unpack

from vecbench.errors import RagError
from vecbench.filters import Filter
from vecbench.rag.asking import AnswerStream
from vecbench.rag.index import AddProgress, AddReport, SourceState
from vecbench.rag.load.files import Reading, Unreadable
from vecbench.rag.types import Answer, Document, Message, Passage

if TYPE_CHECKING:
    from vecbench.rag.pipeline import Rag

__all__ = ["AsyncAnswerStream", "AsyncRag"]

_P = ParamSpec("_P")
_T = TypeVar("_T")
_THREADS = 8


class _Pool:
    """Not the loop's default pool: a slow model must not starve the application's own threads."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="vecbench-rag")
        # One for what changes documents, which waits for its turn anyway: asking is not to wait for it.
        self._adder = ThreadPoolExecutor(1, thread_name_prefix="vecbench-rag-add")
        # Of their own: to leave a stream is not to wait for eight slow models.
        self._enders = ThreadPoolExecutor(_THREADS, thread_name_prefix="vecbench-rag-end")
        self._streams = weakref.WeakSet[AnswerStream]()
        self.closed = False

    async def run(self, verb: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        return await self._run(self._threads, functools.partial(verb, *args, **kwargs))

    async def change(self, verb: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        return await self._run(self._adder, functools.partial(verb, *args, **kwargs))

    def watch(self, stream: AnswerStream) -> None:
        """End it with the pool."""
        self._streams.add(stream)
        if self.closed:  # while it was made
            stream.close()

    async def end(self, stream: AnswerStream) -> None:
        if not self.closed:  # or it has ended
            await self._run(self._enders, stream.close)

    def close(self) -> None:
        self.closed = True
        self._threads.shutdown(wait=False)
        self._adder.shutdown(wait=False)
        self._enders.shutdown(wait=False)
        for stream in self._streams.copy():
            stream.close()

    async def _run(self, threads: ThreadPoolExecutor, verb: Callable[[], _T]) -> _T:
        context = contextvars.copy_context()
        try:
            running = asyncio.get_running_loop().run_in_executor(threads, context.run, verb)
        except RuntimeError as error:  # the threads were shut down
            raise RagError("this Rag was closed") from error
        return await running


class AsyncRag:
    """`rag.aio`: the same verbs, arguments, answers and errors as the pipeline, awaited.

    A task that is cancelled stops waiting at once; the work in its thread goes on to its end, and its answer is
    dropped. Callbacks are called in that thread, with the context variables of the task.
    """

    def __init__(self, rag: Rag) -> None:
        self.rag = rag
        self._pool = _Pool()

    def close(self) -> None:
        """End the streams that are open, and let the threads end with their work; `Rag.close` does it.

        What is awaited afterwards raises RagError.
        """
        self._pool.close()

    async def add(
        self,
        what: str | os.PathLike[str] | Iterable[Document],
        *,
        origin: str | None = None,
        prune: bool | None = None,
        on_error: Callable[[Unreadable], None] | None = None,
        progress: Callable[[AddProgress], None] | None = None,
        **reading: Unpack[Reading],
    ) -> AddReport:
        """Await `Rag.add`."""
        return await self._pool.change(
            self.rag.add, what, origin=origin, prune=prune, on_error=on_error, progress=progress, **reading
        )

    async def remove(self, source: str | None = None, *, origin: str | None = None) -> int:
        """Await `Rag.remove`."""
        return await self._pool.change(self.rag.remove, source, origin=origin)

    async def sources(self, *, origin: str | None = None) -> list[SourceState]:
        """Await `Rag.sources`."""
        return await self._pool.run(self.rag.sources, origin=origin)

    async def retrieve(
        self, question: str, k: int | None = None, *, where: Filter | None = None, budget_ms: float | None = None
    ) -> list[Passage]:
        """Await `Rag.retrieve`."""
        return await self._pool.run(self.rag.retrieve, question, k, where=where, budget_ms=budget_ms)

    async def ask(
        self,
        question: str,
        *,
        k: int | None = None,
        where: Filter | None = None,
        budget_ms: float | None = None,
        history: Sequence[Message] = (),
    ) -> Answer:
        """Await `Rag.ask`."""
        return await self._pool.run(self.rag.ask, question, k=k, where=where, budget_ms=budget_ms, history=history)

    async def stream(
        self,
        question: str,
        *,
        k: int | None = None,
        where: Filter | None = None,
        budget_ms: float | None = None,
        history: Sequence[Message] = (),
    ) -> AsyncAnswerStream:
        """Await `Rag.stream`; iterate what it gives with `async for`, then await its `answer()`."""
        stream = await self._pool.run(self.rag.stream, question, k=k, where=where, budget_ms=budget_ms, history=history)
        return AsyncAnswerStream(stream, self._pool)


class AsyncAnswerStream(AsyncIterator[str]):
    """The pieces of an answer, awaited; an async context manager, leaving it ends the request."""

    def __init__(self, stream: AnswerStream, pool: _Pool) -> None:
        self._stream, self._pool = stream, pool
        pool.watch(stream)

    async def __anext__(self) -> str:
        piece = await self._pool.run(next, self._stream, None)
        if piece is None:
            raise StopAsyncIteration
        return piece

    async def answer(self) -> Answer:
        """Await `AnswerStream.answer`."""
        return await self._pool.run(lambda: self._stream.answer)

    async def aclose(self) -> None:
        """Await `AnswerStream.close`; it does not wait for a piece that is on its way."""
        await self._pool.end(self._stream)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.aclose()
