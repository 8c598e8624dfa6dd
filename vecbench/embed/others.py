"""Ready embedders around other libraries, which are imported when an embedder is made."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from vecbench.embed.spec import EmbedderSpec, Progress
from vecbench.embed.texts import checked_texts, checked_vectors
from vecbench.errors import EmbedderError, MissingDependency
from vecbench.types import Vectors

__all__ = ["FastEmbedEmbedder", "SentenceTransformersEmbedder"]


class SentenceTransformersEmbedder:
    """Any model that the sentence-transformers library loads, by name on the hub or by directory.

    revision: the state of the model on the hub; give a commit for vectors that can be made again. device: as torch
    names it. The prompts that the model brings for "query" and "document" are its prefixes. The identity holds a
    hash of the loaded weights, so a model from a directory goes by the directory's last name.
    """

    def __init__(
        self,
        model: str,
        *,
        revision: str = "",
        device: str | None = None,
        normalise: bool = False,
        batch_texts: int = 32,
        local_files_only: bool = False,
    ) -> None:
        library = _library("sentence_transformers", extra="sentence-transformers")
        try:
            self._model: Any = library.SentenceTransformer(
                model, revision=revision or None, device=device, local_files_only=local_files_only
            )
        except (OSError, ValueError, RuntimeError) as error:
            raise EmbedderError(f"sentence-transformers cannot load {model!r}: {error}") from error
        self._normalise, self._batch_texts = normalise, batch_texts
        prompts = dict(self._model.prompts or {})
        self.spec = EmbedderSpec(
            name=Path(model).resolve().name if Path(model).is_dir() else model,
            revision=revision,
            weights_sha256=_state_sha256(self._model.state_dict()),
            dim=int(self._model.encode([""], show_progress_bar=False).shape[1]),
            max_tokens=_whole(self._model.max_seq_length),
            normalised=normalise,
            query_prefix=prompts.get("query") or "",
            document_prefix=prompts.get("document") or prompts.get("passage") or "",
            dtype=str(next(self._model.parameters()).dtype).removeprefix("torch."),
        )

    def embed_documents(self, texts: Sequence[str], *, progress: Progress | None = None) -> Vectors:
        """Vectors of `texts`, float32 (n, dim), in their order; `progress(done, total)` counts texts."""
        return self._embed(checked_texts(texts), self.spec.document_prefix, progress)

    def embed_queries(self, texts: Sequence[str]) -> Vectors:
        """The same with the model's prompt for queries."""
        return self._embed(checked_texts(texts), self.spec.query_prefix, None)

    def _embed(self, texts: list[str], prefix: str, progress: Progress | None) -> Vectors:
        vectors = np.empty((len(texts), self.spec.dim), np.float32)
        # Sorted over all texts, as the library would within one call; cut up only so that progress can be told.
        order = sorted(range(len(texts)), key=lambda row: -len(texts[row]))
        for start in range(0, len(order), step := 8 * self._batch_texts):
            rows = order[start : start + step]
            found = self._model.encode(
                [texts[row] for row in rows],
                prompt=prefix,
                batch_size=self._batch_texts,
                normalize_embeddings=self._normalise,
                convert_to_numpy=True,
                show_progress_bar=False,
            )
            vectors[rows] = checked_vectors(found, self.spec, len(rows))
            if progress:
                progress(start + len(rows), len(texts))
        return vectors


class FastEmbedEmbedder:
    """A model of the fastembed library, by its name there; the files are fastembed's own conversions.

    Prefixes are added by fastembed itself where a model has them, so the identity shows none; it says "fastembed/" in
    the name because the converted, often quantised weights give other vectors than the model's first publisher.
    """

    def __init__(
        self, model: str = "BAAI/bge-small-en-v1.5", *, threads: int | None = None, batch_texts: int = 64
    ) -> None:
        library = _library("fastembed", extra="fastembed")
        try:
            self._model: Any = library.TextEmbedding(model_name=model, threads=threads)
        except (OSError, ValueError, RuntimeError) as error:
            raise EmbedderError(f"fastembed cannot load {model!r}: {error}") from error
        self._batch_texts = batch_texts
        self.spec = EmbedderSpec(name=f"fastembed/{model}", dim=len(next(iter(self._model.embed(["a"])))))

    def embed_documents(self, texts: Sequence[str], *, progress: Progress | None = None) -> Vectors:
        """Vectors of `texts`, float32 (n, dim), in their order; `progress(done, total)` counts texts."""
        rows = checked_texts(texts)
        return self._collect(self._model.passage_embed(rows, batch_size=self._batch_texts), len(rows), progress)

    def embed_queries(self, texts: Sequence[str]) -> Vectors:
        """The same as fastembed treats queries."""
        rows = checked_texts(texts)
        return self._collect(self._model.query_embed(rows), len(rows), None)

    def _collect(self, stream: Any, count: int, progress: Progress | None) -> Vectors:
        found = []
        for vector in stream:
            found.append(vector)
            if progress:
                progress(len(found), count)
        return checked_vectors(found, self.spec, count)


def _library(module: str, *, extra: str) -> Any:
    try:
        return import_module(module)
    except ImportError as error:
        raise MissingDependency("This embedder", module=module, extra=extra) from error


def _state_sha256(state: Any) -> str:
    """sha256 over the names and bytes of a torch state dict, in the order of the names."""
    torch = import_module("torch")
    digest = hashlib.sha256()
    for name in sorted(state):
        digest.update(name.encode())
        tensor = state[name].detach().cpu().contiguous().reshape(-1)
        digest.update(tensor.view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _whole(value: Any) -> int | None:
    """max_seq_length as an int; None where the model does not say."""
    return int(value) if isinstance(value, int) and 0 < value < 1 << 30 else None
