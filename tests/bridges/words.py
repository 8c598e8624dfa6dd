"""An embedder for tests that needs no model: texts that share words are near each other."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from vecbench import EmbedderSpec
from vecbench.embed.spec import Progress
from vecbench.types import Vectors

DIM = 64


class WordEmbedder:
    """The sum of one fixed random direction per word, of length 1."""

    def __init__(self, name: str = "words", dim: int = DIM) -> None:
        self.spec = EmbedderSpec(name, dim, revision="r1", normalised=True)

    def embed_documents(self, texts: Sequence[str], *, progress: Progress | None = None) -> Vectors:
        rows = [self._vector(text) for text in texts]
        return np.array(rows, np.float32) if rows else np.empty((0, self.spec.dim), np.float32)

    def embed_queries(self, texts: Sequence[str]) -> Vectors:
        return self.embed_documents(texts)

    def _vector(self, text: str) -> Vectors:
        total = np.full(self.spec.dim, 1e-3)
        for word in re.findall(r"\w+", text.lower()):
            seed = int.from_bytes(hashlib.sha256(word.encode()).digest()[:8], "big")
            total += np.random.default_rng(seed).normal(size=self.spec.dim)
        return np.asarray(total / np.linalg.norm(total), np.float32)


FACTS: list[tuple[str, str, dict[str, Any]]] = [
    ("cat", "The cat sleeps on the warm roof.", {"kind": "animal", "year": 2019, "tags": ["pet", "fur"]}),
    ("dog", "The dog guards the old house.", {"kind": "animal", "year": 2021, "tags": ["pet"]}),
    ("oak", "An oak lives for a thousand years.", {"kind": "plant", "year": 2021}),
    ("fern", "A fern likes the shade of the forest.", {"kind": "plant", "year": 2023, "wild": True}),
    ("iron", "Iron melts at a high temperature.", {"year": 2023.5}),
]
