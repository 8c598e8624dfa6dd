"""Finding the published models of pairs, with a few bytes in the place of the weights."""

from __future__ import annotations

import hashlib
import math
from pathlib import Path

import pytest
from huggingface_hub import constants

from vecbench.embed.bert import BertConfig, Output, weight_shapes
from vecbench.embed.pairs import PairFiles, PublishedPairModel, find_pair_model
from vecbench.embed.weights import PinnedFile, PublishedModel
from vecbench.errors import WeightsNotFound
from vecbench.rag.rerank.cross_encoder import MS_MARCO_MINILM
from vecbench.rag.split.next_sentence import BERT_BASE

CONTENT = {"model.safetensors": b"weights", "tokenizer.json": b"{}"}
CONFIG = BertConfig(layers=1, hidden=4, heads=1, intermediate=4, max_positions=8, vocab=4)


def pinned(name: str) -> PinnedFile:
    return PinnedFile(name, len(CONTENT[name]), hashlib.sha256(CONTENT[name]).hexdigest())


MODEL = PublishedPairModel(
    PublishedModel(
        name="small",
        weights=pinned("model.safetensors"),
        tokenizers=(pinned("tokenizer.json"),),
        variable="VECBENCH_SMALL_DIR",
        hub_repository="nobody/small",
        hub_revision="0" * 40,
    ),
    CONFIG,
    "next_sentence",
)


def write(directory: Path) -> Path:
    directory.mkdir(parents=True)
    for name, content in CONTENT.items():
        (directory / name).write_bytes(content)
    return directory


@pytest.fixture(autouse=True)
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Empty caches, and a hub where nobody listens."""
    for name in ("VECBENCH_OFFLINE", "VECBENCH_SMALL_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")


def test_the_directory_named_by_the_environment_is_used_or_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "m")
    monkeypatch.setenv("VECBENCH_SMALL_DIR", str(path))
    weights, tokenizer = path / "model.safetensors", path / "tokenizer.json"
    pins = MODEL.files.weights.sha256, MODEL.files.tokenizers[0].sha256
    assert find_pair_model(MODEL) == PairFiles(CONFIG, weights, tokenizer, *pins, f"VECBENCH_SMALL_DIR={path}")
    for name, content, message in (
        ("model.safetensors", b"Weights", "model.safetensors has sha256"),
        ("model.safetensors", b"other", "model.safetensors has 5 bytes"),
        ("tokenizer.json", b"[]", "tokenizer.json has sha256"),
    ):
        (path / name).write_bytes(content)
        with pytest.raises(WeightsNotFound, match=f"VECBENCH_SMALL_DIR is set, but .*{message}"):
            find_pair_model(MODEL)
        (path / name).write_bytes(CONTENT[name])


def test_found_in_the_cache_of_the_hub(tmp_path: Path) -> None:
    snapshot = write(tmp_path / "hub" / "models--nobody--small" / "snapshots" / ("0" * 40))
    found = find_pair_model(MODEL, download=False)
    assert found.source == "the Hugging Face cache"
    assert (found.weights, found.tokenizer) == (snapshot / "model.safetensors", snapshot / "tokenizer.json")
    (snapshot / "model.safetensors").write_bytes(b"Weights")
    with pytest.raises(WeightsNotFound, match="has sha256"):
        find_pair_model(MODEL, download=False)


def test_nowhere_to_be_found(monkeypatch: pytest.MonkeyPatch) -> None:
    start = r"(?s)1\. VECBENCH_SMALL_DIR: not set.*3\. the Hugging Face cache: no model\.safetensors of nobody/small\n"
    start += r"  4\. the "
    end = r"bring model\.safetensors and tokenizer\.json of nobody/small, revision 0{40}.* set VECBENCH_SMALL_DIR"
    with pytest.raises(WeightsNotFound, match=f"{start}hub: not asked, because download=False.*{end}"):
        find_pair_model(MODEL, download=False)
    with pytest.raises(
        WeightsNotFound, match=f"{start}Hugging Face hub: http://127.0.0.1:9 cannot be reached.*{end}"
    ) as caught:
        find_pair_model(MODEL)
    assert "package" not in str(caught.value)  # no package has it
    monkeypatch.setenv("VECBENCH_OFFLINE", "1")
    with pytest.raises(WeightsNotFound, match=f"{start}hub: not asked, because VECBENCH_OFFLINE is set.*{end}"):
        find_pair_model(MODEL)


@pytest.mark.parametrize("model", [BERT_BASE, MS_MARCO_MINILM], ids=lambda model: model.files.name)
def test_the_pins_of_published_models_agree_with_their_sizes(model: PublishedPairModel) -> None:
    """The parameters of the architecture, four bytes each, fill the pinned file up to its other head and header."""
    output = Output(model.head, segments=True)
    needed = 4 * sum(math.prod(shape) for shape in weight_shapes(model.config, output).values())
    vocab, hidden = model.config.vocab, model.config.hidden
    # bert-base-uncased also carries the head for masked words: a dense layer, a norm, and a bias per word.
    masked_words = 4 * (hidden * hidden + 3 * hidden + vocab) if model.head == "next_sentence" else 0
    other = model.files.weights.size_bytes - needed - masked_words
    assert 0 < other < 60_000
    assert len(model.files.weights.sha256) == len(model.files.tokenizers[0].sha256) == 64
