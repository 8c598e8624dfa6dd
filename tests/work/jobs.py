"""What the workers of the tests do: functions that another process can import."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from vecbench import EmbedderSpec
from vecbench.embed.spec import Progress
from vecbench.errors import ConfigError
from vecbench.types import Vectors

SPEC = EmbedderSpec("batchy", 4)


def square(x: int) -> int:
    return x * x


def where(part: tuple[int, str]) -> tuple[int, int]:
    """Leaves a mark when it begins, and waits there until it may go on."""
    number, folder = part
    Path(folder, f"begun-{number}-{os.getpid()}").touch()
    for _ in range(2000):
        if Path(folder, "go").exists():
            return number, os.getpid()
        threading.Event().wait(0.02)
    raise TimeoutError


def refuse(x: int) -> int:
    if x == 3:
        raise ConfigError(f"part {x} is refused")
    return x


def break_down(x: int) -> int:
    return 1 // (x - 2)


class Batchy:
    """An embedder whose vectors depend on their batch, as a real one's last bits do."""

    spec = SPEC

    def embed_documents(self, texts: Sequence[str], *, progress: Progress | None = None) -> Vectors:
        lengths = [len(text) for text in texts]
        return np.array([[n, sum(lengths), max(lengths), time.process_time() * 0] for n in lengths], np.float32)

    def embed_queries(self, texts: Sequence[str]) -> Vectors:
        return self.embed_documents(texts)


def make() -> Batchy:
    return Batchy()
