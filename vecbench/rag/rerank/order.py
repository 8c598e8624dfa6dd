"""What every reranker does at its end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from vecbench.errors import ConfigError, ModelError
from vecbench.rag.types import Passage

__all__ = ["best_first", "check_k"]


def check_k(k: int | None) -> None:
    """Raise ConfigError for a k below 1, before a model is asked."""
    if k is not None and k < 1:
        raise ConfigError(f"k is {k}; it must be at least 1, or None for all passages")


def best_first(
    passages: Sequence[Passage], scores: Sequence[float] | npt.NDArray[np.float64], k: int | None, *, model: str
) -> list[Passage]:
    """The passages with these scores, best first, the earlier one first among equals; the best k, or all.

    Raises ModelError, naming the model, for NaN or infinity.
    """
    array = np.asarray(scores, np.float64)
    if not (finite := np.isfinite(array)).all():
        row = int(np.argmin(finite))
        raise ModelError(f"{model}: the score of passage {row} ({passages[row].id!r}) is {array[row]}")
    order = np.argsort(-array, kind="stable")[:k]
    return [replace(passages[row], score=float(array[row])) for row in order]
