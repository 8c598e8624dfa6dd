"""The ONNX graph against a plain NumPy encoder in float64, on random weights."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from safetensors.numpy import save_file

from vecbench.embed.bert import BertConfig, Output, weight_shapes
from vecbench.embed.session import BertSession, read_weights
from vecbench.errors import EmbedderError

Array = npt.NDArray[Any]
CONFIGS = [
    BertConfig(layers=1, hidden=8, heads=1, intermediate=16, max_positions=12, vocab=40),
    BertConfig(layers=2, hidden=12, heads=3, intermediate=20, max_positions=16, vocab=50, layer_norm_eps=1e-5),
    BertConfig(layers=3, hidden=16, heads=4, intermediate=64, max_positions=12, vocab=30, type_vocab=3),
    BertConfig(layers=2, hidden=8, heads=2, intermediate=8, max_positions=12, vocab=30, activation="gelu_new"),
]
OUTPUTS = [
    Output("mean"),
    Output("mean", normalise=True),
    Output("cls", normalise=True),
    Output("mean", segments=True),
    Output("next_sentence", segments=True),
    Output("classifier", segments=True),
    Output("classifier", labels=3),
]


def random_weights(config: BertConfig, output: Output) -> dict[str, npt.NDArray[np.float32]]:
    rng = np.random.default_rng(7)
    return {
        name: (rng.normal(0, 0.6, shape) + ("LayerNorm.weight" in name)).astype(np.float32)
        for name, shape in weight_shapes(config, output).items()
    }


def linear(weights: dict[str, Array], name: str, x: Array) -> Array:
    result: Array = x @ weights[f"{name}.weight"].T.astype(np.float64) + weights[f"{name}.bias"]
    return result


def norm(weights: dict[str, Array], name: str, x: Array, epsilon: float) -> Array:
    centred = x - x.mean(axis=-1, keepdims=True)
    scaled = centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + epsilon)
    result: Array = scaled * weights[f"{name}.weight"] + weights[f"{name}.bias"]
    return result


def gelu(x: Array, activation: str) -> Array:
    result: Array
    if activation == "gelu":
        result = x * np.vectorize(lambda v: 0.5 * (1 + math.erf(v / math.sqrt(2))))(x)
    else:
        result = 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
    return result


def encode(config: BertConfig, output: Output, weights: dict[str, Array], ids: list[int], segments: list[int]) -> Array:
    """One text, no padding, float64: written from the published definition, head by head."""
    x = (
        weights["embeddings.word_embeddings.weight"][ids].astype(np.float64)
        + weights["embeddings.position_embeddings.weight"][: len(ids)]
        + weights["embeddings.token_type_embeddings.weight"][segments]
    )
    x = norm(weights, "embeddings.LayerNorm", x, config.layer_norm_eps)
    size = config.hidden // config.heads
    for layer in range(config.layers):
        prefix = f"encoder.layer.{layer}"
        query, key, value = (linear(weights, f"{prefix}.attention.self.{n}", x) for n in ("query", "key", "value"))
        mixed = np.empty_like(x)
        for head in range(config.heads):
            part = slice(head * size, (head + 1) * size)
            scores = np.exp(query[:, part] @ key[:, part].T / math.sqrt(size))
            mixed[:, part] = scores / scores.sum(axis=1, keepdims=True) @ value[:, part]
        attended = linear(weights, f"{prefix}.attention.output.dense", mixed)
        x = norm(weights, f"{prefix}.attention.output.LayerNorm", attended + x, config.layer_norm_eps)
        wide = gelu(linear(weights, f"{prefix}.intermediate.dense", x), config.activation)
        narrow = linear(weights, f"{prefix}.output.dense", wide)
        x = norm(weights, f"{prefix}.output.LayerNorm", narrow + x, config.layer_norm_eps)
    pooled: Array = x.mean(axis=0) if output.kind == "mean" else x[0]
    head_name = {"next_sentence": "cls.seq_relationship", "classifier": "classifier"}.get(output.kind)
    if head_name:
        return linear(weights, head_name, np.tanh(linear(weights, "pooler.dense", pooled)))
    return pooled / np.linalg.norm(pooled) if output.normalise else pooled


@pytest.mark.parametrize("output", OUTPUTS, ids=lambda o: f"{o.kind}{'-unit' * o.normalise}{'-pair' * o.segments}")
@pytest.mark.parametrize("config", CONFIGS, ids=lambda c: f"{c.layers}x{c.hidden}/{c.heads}-{c.activation}")
def test_graph_agrees_with_numpy(config: BertConfig, output: Output) -> None:
    weights = random_weights(config, output)
    session = BertSession(config, output, weights, threads=1)
    rng = np.random.default_rng(1)
    lengths = [1, 5, config.max_positions, 3]
    ids, mask, kinds = np.zeros((3, len(lengths), config.max_positions), np.int64)
    ids[:] = rng.integers(0, config.vocab, ids.shape)  # padding too holds tokens: only the mask may say what counts
    expected = []
    for row, length in enumerate(lengths):
        mask[row, :length] = 1
        kinds[row, length // 2 :] = config.type_vocab - 1
        segments = kinds[row, :length].tolist() if output.segments else [0] * length
        expected.append(encode(config, output, weights, ids[row, :length].tolist(), segments))
    found = session.run(ids, mask, kinds if output.segments else None)
    assert found.dtype == np.float32
    assert found.shape == (len(lengths), output.width(config))
    np.testing.assert_allclose(found, np.array(expected), rtol=2e-5, atol=2e-5)


@pytest.fixture(scope="module")
def small() -> tuple[BertConfig, Output, dict[str, npt.NDArray[np.float32]]]:
    config, output = CONFIGS[1], Output("classifier", segments=True, labels=2)
    return config, output, random_weights(config, output)


def test_reads_published_names_old_and_new(
    tmp_path: Path, small: tuple[BertConfig, Output, dict[str, npt.NDArray[np.float32]]]
) -> None:
    config, output, weights = small
    old = {}
    for name, value in weights.items():
        renamed = name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")
        old[renamed if name.startswith("classifier") else f"bert.{renamed}"] = value
    old["cls.predictions.bias"] = np.zeros(3, np.float32)  # of another head: ignored
    save_file(old, tmp_path / "old.safetensors")
    save_file(weights, tmp_path / "new.safetensors")
    for file in ("old", "new"):
        found = read_weights(tmp_path / f"{file}.safetensors", config, output)
        assert found.keys() == weights.keys()
        assert all(np.array_equal(found[name], weights[name]) for name in weights)


def test_refuses_weights_that_do_not_fit(
    tmp_path: Path, small: tuple[BertConfig, Output, dict[str, npt.NDArray[np.float32]]]
) -> None:
    config, output, weights = small
    path = tmp_path / "m.safetensors"
    name = "encoder.layer.1.output.dense.weight"
    cases: list[tuple[dict[str, npt.NDArray[Any]], str]] = [
        ({k: v for k, v in weights.items() if k != name}, rf"1 weights .* missing, first '{name}'"),
        ({**weights, name: weights[name].T.copy()}, rf"'{name}' is F32 \(20, 12\)"),
        ({**weights, name: weights[name].astype(np.float16)}, rf"'{name}' is F16"),
    ]
    for wrong, message in cases:
        save_file(wrong, path)
        with pytest.raises(EmbedderError, match=message):
            read_weights(path, config, output)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(EmbedderError, match="not a readable safetensors file"):
        read_weights(path, config, output)
    with pytest.raises(EmbedderError, match="not a readable safetensors file"):
        read_weights(tmp_path / "absent", config, output)
    with pytest.raises(EmbedderError, match=rf"weight '{name}' is float64"):
        BertSession(config, output, {**weights, name: weights[name].astype(np.float64)})
    with pytest.raises(EmbedderError, match=rf"weight '{name}' is missing"):
        BertSession(config, output, {k: v for k, v in weights.items() if k != name})


def test_refuses_inputs_that_do_not_fit(small: tuple[BertConfig, Output, dict[str, npt.NDArray[np.float32]]]) -> None:
    config, output, weights = small
    session = BertSession(config, output, weights, threads=1)
    ids = np.ones((2, 4), np.int64)
    assert session.run(ids[:0], ids[:0], ids[:0]).shape == (0, 2)
    with pytest.raises(EmbedderError, match="token_type_ids are needed"):
        session.run(ids, ids)
    with pytest.raises(EmbedderError, match=r"attention_mask is int64 \(1, 4\)"):
        session.run(ids, ids[:1], ids)
    with pytest.raises(EmbedderError, match="input_ids is int32"):
        session.run(ids.astype(np.int32), ids, ids)
    long = np.ones((1, 17), np.int64)
    with pytest.raises(EmbedderError, match="17 tokens in a row; the encoder takes 16"):
        session.run(long, long, long)
    plain = BertSession(config, Output("cls"), weights, threads=1)
    with pytest.raises(EmbedderError, match="without segments"):
        plain.run(ids, ids, ids)
    with pytest.raises(EmbedderError, match="threads is 0"):
        BertSession(config, Output("cls"), weights, threads=0)


def test_config_from_a_published_file() -> None:
    published = {
        "model_type": "bert",
        "num_hidden_layers": 6,
        "hidden_size": 384,
        "num_attention_heads": 12,
        "intermediate_size": 1536,
        "max_position_embeddings": 512,
        "vocab_size": 30522,
        "type_vocab_size": 2,
        "layer_norm_eps": 1e-12,
        "hidden_act": "gelu",
    }
    assert BertConfig.from_published(published) == BertConfig(
        layers=6, hidden=384, heads=12, intermediate=1536, max_positions=512, vocab=30522
    )
    with pytest.raises(EmbedderError, match="'hidden_size' is missing"):
        BertConfig.from_published({k: v for k, v in published.items() if k != "hidden_size"})
    with pytest.raises(EmbedderError, match="model_type 'roberta'"):
        BertConfig.from_published({**published, "model_type": "roberta"})
    with pytest.raises(EmbedderError, match="'relative_key' positions"):
        BertConfig.from_published({**published, "position_embedding_type": "relative_key"})
    with pytest.raises(EmbedderError, match="activation 'relu'"):
        BertConfig.from_published({**published, "hidden_act": "relu"})
    with pytest.raises(EmbedderError, match="not a multiple of heads 7"):
        BertConfig.from_published({**published, "num_attention_heads": 7})


def test_logits_are_not_normalised() -> None:
    with pytest.raises(EmbedderError, match="cannot be normalised"):
        Output("classifier", normalise=True)
