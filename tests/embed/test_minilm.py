"""The fixed model against vectors that sentence-transformers gave (make_reference.py)."""

from __future__ import annotations

import hashlib
import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from vecbench.embed import MINILM_SPEC, Embedder, MiniLM, UnknownTokensWarning, fixed_model
from vecbench.embed.minilm import MINILM_MODEL
from vecbench.embed.weights import ModelFiles
from vecbench.errors import EmbedderError, WeightsNotFound
from vecbench.types import Vectors

UNKNOWN = "龘"  # a character that the model does not know, and that is one token


@pytest.mark.filterwarnings("ignore::vecbench.embed.UnknownTokensWarning")  # some of the texts are Chinese
def test_agrees_with_the_published_model(
    minilm: MiniLM, reference_texts: list[str], reference_vectors: Vectors
) -> None:
    found = minilm.embed_documents(reference_texts)
    assert found.dtype == np.float32
    assert found.shape == reference_vectors.shape
    assert found.flags.c_contiguous
    assert np.abs(found - reference_vectors).max() <= 1e-6
    for text, vector in zip(reference_texts, reference_vectors, strict=True):  # alone, without padding
        assert np.abs(minilm.embed_queries([text])[0] - vector).max() <= 1e-6


def test_is_an_embedder_with_a_fixed_identity(minilm: MiniLM) -> None:
    assert isinstance(minilm, Embedder)
    assert minilm.spec is MINILM_SPEC
    assert (MINILM_SPEC.dim, MINILM_SPEC.max_tokens, MINILM_SPEC.pooling) == (384, 256, "mean")
    assert MINILM_SPEC.fingerprint == "6cef9acdcec0b27d"  # what collections in the field carry: must never change


def test_order_duplicates_and_batches(minilm: MiniLM) -> None:
    texts = [f"{'word ' * (n % 37)}number {n}" for n in range(120)]
    told: list[tuple[int, int]] = []
    vectors = minilm.embed_documents([*texts, *texts], progress=lambda done, total: told.append((done, total)))
    assert np.array_equal(vectors[:120], vectors[120:])
    for row in (0, 36, 37, 119):
        assert np.abs(vectors[row] - minilm.embed_documents([texts[row]])[0]).max() <= 1e-6
    total = told[0][1]
    assert total < 120 * 45  # tokens, of each text once
    assert [done for done, _ in told] == sorted({done for done, _ in told})
    assert len(told) > 2
    assert told[-1] == (total, total)


def test_no_texts(minilm: MiniLM) -> None:
    assert minilm.embed_documents([]).shape == (0, 384)
    assert minilm.embed_queries([]).dtype == np.float32


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ("a string", "texts is one string"),
        (["fine", None], r"texts\[1\] is NoneType"),
        (["fine", "fine", "a\ud800"], r"texts\[2\] has a lone surrogate at character 1"),
    ],
)
def test_what_is_no_text_is_refused(minilm: MiniLM, texts: list[str], message: str) -> None:
    with pytest.raises(EmbedderError, match=message):
        minilm.embed_documents(texts)


def test_unknown_tokens_warn_above_a_tenth(minilm: MiniLM) -> None:
    minilm.embed_documents([UNKNOWN + " the" * 9])  # exactly a tenth; a warning would be an error here
    with pytest.warns(UnknownTokensWarning, match=r"^11% of the tokens are unknown .*retrieval will be poor"):
        minilm.embed_documents([UNKNOWN + " the" * 8])
    with pytest.warns(UnknownTokensWarning, match=r"^75% of the tokens"):
        minilm.embed_queries([f"{UNKNOWN}{UNKNOWN}", f"{UNKNOWN} the"])


def test_self_check_refuses_other_weights(tmp_path: Path, model_files: ModelFiles) -> None:
    weights = load_file(model_files.weights)
    name = "encoder.layer.3.attention.self.query.weight"
    scale = np.abs(weights[name]).max() / 127
    weights[name] = (np.round(weights[name] / scale / 4) * 4 * scale).astype(np.float32)  # coarsely quantised
    save_file(weights, tmp_path / "model.safetensors")
    with pytest.raises(EmbedderError, match=r"failed its self-check: probe sentence \d"):
        MiniLM(ModelFiles(tmp_path / "model.safetensors", model_files.tokenizer, "a test"))


def test_self_check_refuses_another_tokenizer(tmp_path: Path, model_files: ModelFiles) -> None:
    tokenizer = json.loads(model_files.tokenizer.read_text("utf-8"))
    tokenizer["normalizer"]["lowercase"] = False
    (tmp_path / "tokenizer.json").write_text(json.dumps(tokenizer), "utf-8")
    with pytest.raises(EmbedderError, match="probe sentence 1"):
        MiniLM(ModelFiles(model_files.weights, tmp_path / "tokenizer.json", "a test"))


@pytest.mark.parametrize("max_tokens", [128, 512])
def test_self_check_refuses_another_truncation(
    monkeypatch: pytest.MonkeyPatch, model_files: ModelFiles, max_tokens: int
) -> None:
    monkeypatch.setattr("vecbench.embed.minilm._MAX_TOKENS", max_tokens)
    with pytest.raises(EmbedderError, match="failed its self-check"):
        MiniLM(model_files)


def test_vocabulary_alone_is_enough(
    tmp_path: Path, model_files: ModelFiles, reference_texts: list[str], reference_vectors: Vectors
) -> None:
    tokenizer = json.loads(model_files.tokenizer.read_text("utf-8"))
    words = sorted(tokenizer["model"]["vocab"].items(), key=lambda item: item[1])
    content = "".join(f"{word}\n" for word, _ in words).encode()
    assert hashlib.sha256(content).hexdigest() == MINILM_MODEL.tokenizers[1].sha256
    (tmp_path / "vocab.txt").write_bytes(content)
    model = MiniLM(ModelFiles(model_files.weights, tmp_path / "vocab.txt", "a test"), threads=1)
    assert model.threads == 1
    assert np.abs(model.embed_documents(reference_texts) - reference_vectors).max() <= 1e-6


def test_fixed_model_names_the_wrong_directory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("VECBENCH_MODEL_DIR", str(tmp_path))
    with pytest.raises(WeightsNotFound, match=r"VECBENCH_MODEL_DIR is set, but .*model.safetensors cannot be read"):
        fixed_model()


def test_token_spans_are_of_the_whole_text(minilm: MiniLM) -> None:
    text = "Déjà vu, unbelievably! " * 300
    spans = minilm.token_spans(text)
    assert len(spans) % 300 == 0  # nothing is cut at 256
    assert spans[0] == (0, 2)  # "Dé": the model splits what it does not know whole
    assert text[slice(*spans[2])] == "vu"
    assert [text[start:end] for start, end in spans[-2:]][-1] == "!"
    assert all(a[1] <= b[0] for a, b in pairwise(spans))
    assert minilm.token_spans("") == []
    minilm.embed_documents([text])  # which is still cut, and warns of nothing
    short = minilm.embed_documents(["Déjà vu, unbelievably! " * 60])
    assert np.array_equal(short, minilm.embed_documents(["Déjà vu, unbelievably! " * 90]))
