"""What every embedder checks: the texts before they go in, the vectors after they come out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from vecbench.embed.spec import EmbedderSpec
from vecbench.errors import EmbedderError
from vecbench.types import Vectors

__all__ = ["checked_texts", "checked_vectors"]


def checked_texts(texts: Sequence[str]) -> list[str]:
    """The texts as a list; raises EmbedderError, naming the row, for what is no text or cannot be encoded."""
    if isinstance(texts, str | bytes):
        raise EmbedderError("texts is one string; pass a list of strings, [text], to embed one text")
    rows = list(texts)
    for row, text in enumerate(rows):
        if not isinstance(text, str):
            raise EmbedderError(f"texts[{row}] is {type(text).__name__}; it must be str")
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise EmbedderError(
                f"texts[{row}] has a lone surrogate at character {error.start}; it is not valid text"
            ) from error
    return rows


def checked_vectors(vectors: Any, spec: EmbedderSpec, count: int) -> Vectors:
    """What a model gave as float32 (count, spec.dim), C-contiguous; EmbedderError for another shape, NaN, infinity."""
    try:
        array = np.ascontiguousarray(vectors, dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise EmbedderError(f"{spec.name} gave no array of numbers, or rows of unequal length: {error}") from error
    if count == 0 and array.size == 0:
        return np.empty((0, spec.dim), np.float32)
    if array.shape != (count, spec.dim):
        raise EmbedderError(f"{spec.name} gave shape {array.shape} for {count} texts; {(count, spec.dim)} is expected")
    if not (finite := np.isfinite(array).all(axis=1)).all():
        raise EmbedderError(f"{spec.name} gave NaN or infinity for text {int(np.argmin(finite))} of {count}")
    return array
