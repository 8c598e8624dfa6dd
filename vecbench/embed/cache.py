"""An embedder that remembers: vectors are kept on disk by the content of their texts, one directory per fingerprint."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from vecbench.embed.shards import CacheDamagedWarning, ShardStore
from vecbench.embed.spec import Embedder, EmbedderSpec, Progress
from vecbench.embed.texts import checked_texts, checked_vectors
from vecbench.errors import EmbedderError
from vecbench.types import Vectors

__all__ = ["CacheDamagedWarning", "CachedEmbedder"]

_BLOCK_TEXTS = 2048  # embedded, then kept: so much work is lost at most when the process is killed


class CachedEmbedder:
    """Wraps an embedder; a text that was embedded before, by this or another process, is read from `directory`.

    The vectors lie in `directory/<fingerprint>`. A torn or altered part is noticed by its checksum, dropped with a
    CacheDamagedWarning and computed again. What a call returned was on the disk before.
    """

    def __init__(self, embedder: Embedder, directory: str | Path) -> None:
        if embedder.spec.is_external:
            raise EmbedderError(f"{embedder.spec.describe()}: vectors from outside cannot be computed, so not cached")
        self.embedder = embedder
        self._store = ShardStore(
            Path(directory) / embedder.spec.fingerprint, embedder.spec.to_dict(), embedder.spec.dim
        )

    @property
    def spec(self) -> EmbedderSpec:
        """The identity of the wrapped embedder: the cache changes no vector."""
        return self.embedder.spec

    def __len__(self) -> int:
        """How many vectors are kept for this embedder."""
        return len(self._store)

    def embed_documents(self, texts: Sequence[str], *, progress: Progress | None = None) -> Vectors:
        """Vectors as the wrapped embedder gives them; `progress(done, total)` counts texts."""

        def compute(block: list[str], inner: Progress | None) -> Vectors:
            return self.embedder.embed_documents(block, progress=inner)

        return self._embed("document", checked_texts(texts), compute, progress)

    def embed_queries(self, texts: Sequence[str]) -> Vectors:
        """Vectors as the wrapped embedder gives them; queries are kept apart from documents."""
        return self._embed("query", checked_texts(texts), lambda block, _: self.embedder.embed_queries(block), None)

    def _embed(
        self,
        role: Literal["document", "query"],
        texts: list[str],
        compute: Callable[[list[str], Progress | None], Vectors],
        progress: Progress | None,
    ) -> Vectors:
        keys = [hashlib.sha256(f"{role}\0{text}".encode()).digest() for text in texts]
        text_of = dict(zip(keys, texts, strict=True))
        vectors = self._store.get(list(text_of))
        missing = [key for key in text_of if key not in vectors]
        done, total = len(text_of) - len(missing), len(text_of)
        if progress and total:
            progress(done, total)
        for start in range(0, len(missing), _BLOCK_TEXTS):
            block = missing[start : start + _BLOCK_TEXTS]
            inner = None if progress is None else _scaled(progress, done, len(block), total)
            computed = checked_vectors(compute([text_of[key] for key in block], inner), self.spec, len(block))
            self._store.put(block, computed)
            vectors.update(zip(block, computed, strict=True))
            done += len(block)
            if progress:
                progress(done, total)
        if not texts:
            return np.empty((0, self.spec.dim), np.float32)
        return np.stack([vectors[key] for key in keys])


def _scaled(progress: Progress, done: int, share: int, total: int) -> Progress:
    """A progress for a part that is `share` of `total`, whatever unit the part counts in."""
    return lambda part, parts: progress(done + share * part // max(parts, 1), total)
