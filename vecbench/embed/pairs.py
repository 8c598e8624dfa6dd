"""Scores of text pairs: a BERT with a next-sentence head or a classifier (cross-encoder), by onnxruntime, no torch."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt

from vecbench.embed.bert import BertConfig, Output
from vecbench.embed.session import BertSession, read_weights
from vecbench.embed.weights import PublishedModel, find_model
from vecbench.errors import EmbedderError, MissingDependency

__all__ = ["Head", "PairEncoder", "PairFiles", "PublishedPairModel", "Truncation", "find_pair_model", "pair_files"]

Head: TypeAlias = Literal["next_sentence", "classifier"]
Truncation: TypeAlias = Literal["longest_first", "only_second"]

_SPECIAL = 3  # [CLS] first [SEP] second [SEP]
_BATCH_TOKENS = 1024  # with padding, as the fixed model does
_TOKENISE_PAIRS = 1000
_WORDPIECE = {"do_lower_case": True, "strip_accents": None, "tokenize_chinese_chars": True}  # BERT's defaults


@dataclass(frozen=True)
class PairFiles:
    """Files of one checkpoint, and their digests.

    tokenizer: a tokenizer.json, or a vocab.txt that is read with `wordpiece`: the fields do_lower_case, strip_accents
    and tokenize_chinese_chars of tokenizer_config.json. source: in words, where the files were found.
    """

    config: BertConfig
    weights: Path
    tokenizer: Path
    weights_sha256: str
    tokenizer_sha256: str
    source: str
    wordpiece: Mapping[str, bool | None] = field(default_factory=lambda: dict(_WORDPIECE))


@dataclass(frozen=True)
class PublishedPairModel:
    """A published checkpoint: its pinned files, its sizes and its head."""

    files: PublishedModel
    config: BertConfig
    head: Head


def pair_files(directory: str | os.PathLike[str]) -> PairFiles:
    """What a directory holds: config.json, model.safetensors, and tokenizer.json or vocab.txt.

    A tokenizer.json is preferred; beside a vocab.txt, tokenizer_config.json says whether texts are lower-cased. Raises
    EmbedderError where a file is missing or unreadable, or the model is no BERT.
    """
    folder = Path(directory)
    config = BertConfig.from_published(_json(folder / "config.json"))
    tokenizer = folder / "tokenizer.json"
    wordpiece: dict[str, bool | None] = dict(_WORDPIECE)
    if not tokenizer.exists():
        tokenizer = folder / "vocab.txt"
        if not tokenizer.exists():
            raise EmbedderError(f"{folder} has neither tokenizer.json nor vocab.txt")
        if (settings := folder / "tokenizer_config.json").exists():
            wordpiece |= {name: value for name, value in _json(settings).items() if name in _WORDPIECE}
    path = folder / "model.safetensors"
    return PairFiles(config, path, tokenizer, _sha256(path), _sha256(tokenizer), str(folder), wordpiece)


def find_pair_model(model: PublishedPairModel, *, download: bool = True) -> PairFiles:
    """The verified files of a published model, found or fetched as `find_model` does; WeightsNotFound where it fails.

    For another model or a fine-tuned one, use `PairEncoder.from_directory`.
    """
    found = find_model(model.files, download=download)
    tokenizer_sha256 = next(t.sha256 for t in model.files.tokenizers if t.name == found.tokenizer.name)
    return PairFiles(
        model.config, found.weights, found.tokenizer, model.files.weights.sha256, tokenizer_sha256, found.source
    )


class PairEncoder:
    """Logits of text pairs, read by the model as `[CLS] first [SEP] second [SEP]`; safe to call from several threads.

    max_tokens: of a pair with its three special tokens, the model's own limit when not given. truncation: what is cut
    from a longer pair: the longer of the two texts, token by token from its end ("longest_first"), or the second text
    only. threads: None for all CPUs that this process may use. Raises EmbedderError where the checkpoint has no such
    head, another architecture, another dtype than float32, or a tokenizer that does not fit it.

    `fingerprint` stands for everything that decides a logit, and `labels` is how many of them a pair gets. The logits
    of a pair move in the last digits of float32 with the pairs that it is batched with.
    """

    def __init__(
        self,
        files: PairFiles,
        head: Head,
        *,
        max_tokens: int | None = None,
        truncation: Truncation = "longest_first",
        threads: int | None = None,
    ) -> None:
        config = files.config
        if head not in get_args(Head):
            raise EmbedderError(f"head is {head!r}; it must be one of {get_args(Head)}")
        if truncation not in get_args(Truncation):
            raise EmbedderError(f"truncation is {truncation!r}; it must be one of {get_args(Truncation)}")
        if max_tokens is None:
            max_tokens = config.max_positions
        if not _SPECIAL + 2 <= max_tokens <= config.max_positions:
            raise EmbedderError(
                f"max_tokens is {max_tokens}; it must be from {_SPECIAL + 2} to the model's {config.max_positions}"
            )
        if config.type_vocab < 2:
            raise EmbedderError(f"{files.source}: the model has one segment; it cannot tell the texts of a pair apart")
        self.files, self.head, self.max_tokens, self.truncation = files, head, max_tokens, truncation
        output = Output(head, segments=True, labels=_labels(files.weights, head))
        self.labels = output.width(config)
        self._tokenizer = _load_tokenizer(files)
        self._tokenizer.enable_truncation(max_tokens, strategy=truncation)
        self.fingerprint = _fingerprint(files, head, max_tokens, truncation)
        self._session = BertSession(config, output, read_weights(files.weights, config, output), threads=threads)

    @classmethod
    def from_directory(
        cls,
        directory: str | os.PathLike[str],
        head: Head,
        *,
        max_tokens: int | None = None,
        truncation: Truncation = "longest_first",
        threads: int | None = None,
    ) -> PairEncoder:
        """The checkpoint in a directory with config.json, model.safetensors, and tokenizer.json or vocab.txt."""
        files = pair_files(directory)
        return cls(files, head, max_tokens=max_tokens, truncation=truncation, threads=threads)

    @property
    def threads(self) -> int:
        """How many threads one call uses."""
        return self._session.threads

    def logits(self, pairs: Sequence[tuple[str, str]]) -> npt.NDArray[np.float32]:
        """Logits float32 (n, labels) of n pairs, in their order; equal pairs are computed once.

        Raises EmbedderError, naming the row, for what is no pair of texts, and where truncation="only_second" leaves
        no room for the second text.
        """
        unique: dict[bytes, int] = {}
        rows: list[npt.NDArray[np.int32]] = []
        place: list[int] = []
        for row in self._tokenise(_checked_pairs(pairs)):
            number = unique.setdefault(row.tobytes(), len(unique))
            if number == len(rows):
                rows.append(row)
            place.append(number)
        return self._compute(rows)[np.array(place, dtype=np.intp)]

    def _tokenise(self, pairs: list[tuple[str, str]]) -> Iterator[npt.NDArray[np.int32]]:
        """For each pair int32 (2, s): token ids, and segments."""
        for start in range(0, len(pairs), _TOKENISE_PAIRS):
            part = pairs[start : start + _TOKENISE_PAIRS]
            try:
                encodings = self._tokenizer.encode_batch(part)
            except Exception as error:  # a bare Exception is what the library raises
                raise EmbedderError(f"pairs[{start + self._first_failing(part)}] cannot be cut: {error}") from error
            for encoding in encodings:
                yield np.array([encoding.ids, encoding.type_ids], dtype=np.int32)

    def _first_failing(self, pairs: list[tuple[str, str]]) -> int:
        for number, (first, second) in enumerate(pairs):
            try:
                self._tokenizer.encode(first, second)
            except Exception:
                return number
        return 0

    def _compute(self, rows: list[npt.NDArray[np.int32]]) -> npt.NDArray[np.float32]:
        """Logits of token rows: longest first, so that a batch holds rows of like length and little padding."""
        logits = np.empty((len(rows), self.labels), np.float32)
        order = sorted(range(len(rows)), key=lambda number: -rows[number].shape[1])
        start = 0
        while start < len(order):
            longest = rows[order[start]].shape[1]
            batch = order[start : start + max(1, _BATCH_TOKENS // longest)]
            ids, mask, segments = np.zeros((3, len(batch), longest), np.int64)
            for line, number in enumerate(batch):
                length = rows[number].shape[1]
                ids[line, :length], segments[line, :length] = rows[number]
                mask[line, :length] = 1
            logits[batch] = self._session.run(ids, mask, segments)
            start += len(batch)
        return logits


def _fingerprint(files: PairFiles, head: Head, max_tokens: int, truncation: Truncation) -> str:
    """16 hex digits that stand for everything that decides a logit: files, sizes, head, truncation."""
    identity = {
        "weights": files.weights_sha256,
        "tokenizer": files.tokenizer_sha256,
        "wordpiece": dict(files.wordpiece) if files.tokenizer.suffix == ".txt" else None,
        "config": asdict(files.config),
        "head": head,
        "max_tokens": max_tokens,
        "truncation": truncation,
    }
    canonical = json.dumps(identity, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(canonical.encode("ascii")).hexdigest()[:16]


def _checked_pairs(pairs: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    given: Sequence[Any] = pairs
    checked: list[tuple[str, str]] = []
    for row, pair in enumerate(given):
        if not isinstance(pair, tuple | list) or len(pair) != 2 or not all(isinstance(text, str) for text in pair):
            raise EmbedderError(f"pairs[{row}] is no pair of texts; it must be (str, str)")
        try:
            "".join(pair).encode()
        except UnicodeEncodeError as error:
            raise EmbedderError(f"pairs[{row}] has a lone surrogate; it is not valid text") from error
        checked.append((pair[0], pair[1]))
    return checked


def _load_tokenizer(files: PairFiles) -> Any:
    """The tokenizer, which pads and cuts nothing (published ones do), tried on one pair.

    One that frames pairs in another way than BERT would give plausible nonsense.
    """
    try:
        from tokenizers import BertWordPieceTokenizer, Tokenizer
    except ImportError as error:
        raise MissingDependency("Tokenising", module="tokenizers", extra="embed") from error
    try:
        if files.tokenizer.suffix == ".json":
            tokenizer = Tokenizer.from_file(str(files.tokenizer))
        else:
            tokenizer = BertWordPieceTokenizer.from_file(
                str(files.tokenizer),
                lowercase=files.wordpiece["do_lower_case"],
                strip_accents=files.wordpiece["strip_accents"],
                handle_chinese_chars=files.wordpiece["tokenize_chinese_chars"],
            )
        tokenizer.no_truncation()
        tokenizer.no_padding()
        tried = tokenizer.encode("a", "a")
    except Exception as error:  # a bare Exception is what the library raises
        raise EmbedderError(f"{files.tokenizer}: not a readable tokenizer ({error})") from error
    cls, sep = (tokenizer.token_to_id(token) for token in ("[CLS]", "[SEP]"))
    half = len(tried.ids) // 2  # [CLS] a [SEP] | a [SEP], where "a" may be one token or more
    if (
        len(tried.ids) % 2 == 0
        or (tried.ids[0], tried.ids[half], tried.ids[-1]) != (cls, sep, sep)
        or tried.type_ids != [0] * (half + 1) + [1] * half
    ):
        raise EmbedderError(
            f"{files.tokenizer}: frames a pair as {tried.tokens} with segments {tried.type_ids}; "
            "BERT needs [CLS] first [SEP] of segment 0, second [SEP] of segment 1"
        )
    if (size := tokenizer.get_vocab_size()) > files.config.vocab:
        raise EmbedderError(f"{files.tokenizer}: has {size} tokens, but the model only {files.config.vocab}")
    return tokenizer


def _labels(path: Path, head: Head) -> int:
    """How many logits the checkpoint's head gives; EmbedderError where it has none."""
    try:
        from safetensors import SafetensorError, safe_open
    except ImportError as error:
        raise MissingDependency("Reading weights", module="safetensors", extra="embed") from error
    name = f"{Output(head).head}.weight"
    try:
        with safe_open(path, framework="numpy") as file:
            if name not in file.keys():  # noqa: SIM118 - not a mapping
                raise EmbedderError(f"{path}: has no {head} head: the weight {name!r} is missing")
            labels: int = file.get_slice(name).get_shape()[0]
    except (OSError, SafetensorError) as error:
        raise EmbedderError(f"{path}: not a readable safetensors file ({error})") from error
    return labels


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise EmbedderError(f"{path}: not a readable JSON file ({error})") from error
    if not isinstance(content, dict):
        raise EmbedderError(f"{path}: holds {type(content).__name__}; it must be an object")
    return content


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise EmbedderError(f"{path} cannot be read ({error.strerror})") from error
