"""An embedder that works in fixed blocks of texts, in this process or on a cluster, to the same bits."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from vecbench.embed.spec import Embedder, EmbedderSpec, Progress
from vecbench.embed.texts import checked_texts, checked_vectors
from vecbench.types import Vectors
from vecbench.work import Workers

__all__ = ["BlockEmbedder"]

BLOCK_TEXTS = 512

_made: dict[Callable[[], Embedder], Embedder] = {}  # one embedder for each way of making one, kept by the process


@dataclass(frozen=True, slots=True)
class _Block:
    make: Callable[[], Embedder]
    role: Literal["documents", "queries"]
    texts: list[str]


class BlockEmbedder:
    """Cuts texts into blocks of 512 and has workers embed them; equal texts are embedded once.

    A vector's last bit depends on the texts that it was batched with, so the blocks are the same wherever they are
    embedded. make: a function that another process can import, `fixed_model` or a partial of it; it is called once in
    each process that embeds. spec: what it makes, checked with the first block.
    """

    def __init__(self, make: Callable[[], Embedder], spec: EmbedderSpec, workers: Workers) -> None:
        self.make, self.spec, self.workers = make, spec, workers

    def embed_documents(self, texts: Sequence[str], *, progress: Progress | None = None) -> Vectors:
        """Vectors as the embedder gives them; `progress(done, total)` counts texts."""
        return self._embed("documents", texts, progress)

    def embed_queries(self, texts: Sequence[str]) -> Vectors:
        """The vectors of texts that will be searched for."""
        return self._embed("queries", texts, None)

    def _embed(self, role: Literal["documents", "queries"], texts: Sequence[str], progress: Progress | None) -> Vectors:
        rows = checked_texts(texts)
        place = {text: i for i, text in enumerate(dict.fromkeys(rows))}
        unique = list(place)
        vectors = np.empty((len(unique), self.spec.dim), np.float32)
        done = 0
        for made, told in self.workers.map(_embed_block, self._blocks(role, unique)):
            vectors[done : done + len(made)] = checked_vectors(made, self.spec, min(BLOCK_TEXTS, len(unique) - done))
            done += len(made)
            for warning in told:
                warnings.warn(warning, stacklevel=3)
            if progress:
                progress(done, len(unique))
        return vectors[[place[text] for text in rows]] if rows else vectors

    def _blocks(self, role: Literal["documents", "queries"], texts: list[str]) -> Iterator[_Block]:
        for start in range(0, len(texts), BLOCK_TEXTS):
            yield _Block(self.make, role, texts[start : start + BLOCK_TEXTS])


def _embed_block(block: _Block) -> tuple[Vectors, list[Warning]]:
    """The vectors of a block, and what the embedder warned of, for the process that asked."""
    embedder = _made.get(block.make)
    if embedder is None:
        embedder = _made[block.make] = block.make()
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        embed = embedder.embed_documents if block.role == "documents" else embedder.embed_queries
        vectors = embed(block.texts)
    return vectors, [w.message for w in told if isinstance(w.message, Warning)]
