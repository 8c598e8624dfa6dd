"""Pair encoders from real files, against a NumPy encoder in float64 that shares nothing with the graph."""

from __future__ import annotations

import json
import math
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from safetensors.numpy import load_file, save_file
from tokenizers import BertWordPieceTokenizer

from vecbench.embed.pairs import Head, PairEncoder
from vecbench.errors import EmbedderError
from vecbench.rag.rerank import CrossEncoderReranker
from vecbench.rag.split.next_sentence import NextSentenceScorer
from vecbench.rag.types import Passage

Array = npt.NDArray[Any]
Pairs = list[tuple[str, str]]
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WORDS = ["a", "b", *(f"w{number}" for number in range(40))]  # each is one token
VOCABULARY = {token: number for number, token in enumerate(SPECIAL + WORDS)}
CONFIG = {
    "model_type": "bert",
    "num_hidden_layers": 2,
    "hidden_size": 12,
    "num_attention_heads": 3,
    "intermediate_size": 20,
    "max_position_embeddings": 24,
    "vocab_size": len(VOCABULARY),
    "type_vocab_size": 2,
    "layer_norm_eps": 1e-12,
    "hidden_act": "gelu",
}
HEADS = {"next_sentence": "cls.seq_relationship", "classifier": "classifier"}


def random_weights(head: Head, labels: int) -> dict[str, npt.NDArray[np.float32]]:
    """By the names of a published checkpoint with a head: `bert.` in front, and the old gamma and beta."""
    hidden, wide = 12, 20
    shapes: dict[str, tuple[int, ...]] = {
        "bert.embeddings.word_embeddings.weight": (len(VOCABULARY), hidden),
        "bert.embeddings.position_embeddings.weight": (24, hidden),
        "bert.embeddings.token_type_embeddings.weight": (2, hidden),
        "bert.pooler.dense.weight": (hidden, hidden),
        "bert.pooler.dense.bias": (hidden,),
        f"{HEADS[head]}.weight": (labels, hidden),
        f"{HEADS[head]}.bias": (labels,),
        "cls.predictions.bias": (len(VOCABULARY),),  # of another head: not read
    }
    norms = ["bert.embeddings"]
    for layer in range(2):
        name = f"bert.encoder.layer.{layer}"
        for part in ("self.query", "self.key", "self.value", "output.dense"):
            shapes[f"{name}.attention.{part}.weight"] = (hidden, hidden)
            shapes[f"{name}.attention.{part}.bias"] = (hidden,)
        for part, out, into in (("intermediate", wide, hidden), ("output", hidden, wide)):
            shapes[f"{name}.{part}.dense.weight"], shapes[f"{name}.{part}.dense.bias"] = (out, into), (out,)
        norms += [f"{name}.attention.output", f"{name}.output"]
    for name in norms:
        shapes[f"{name}.LayerNorm.gamma"] = shapes[f"{name}.LayerNorm.beta"] = (hidden,)
    rng = np.random.default_rng(11)
    return {
        name: (rng.normal(0, 0.5, shape) + name.endswith("gamma")).astype(np.float32) for name, shape in shapes.items()
    }


def write(directory: Path, head: Head = "next_sentence", labels: int = 2, *, old: bool = True, **changes: Any) -> Path:
    """A checkpoint as it is published, of old names and vocab.txt, or of new ones and tokenizer.json."""
    directory.mkdir(parents=True)
    weights = random_weights(head, labels)
    if not old:
        weights = {
            name.removeprefix("bert.").replace("gamma", "weight").replace("Norm.beta", "Norm.bias"): value
            for name, value in weights.items()
        }
    save_file(weights, directory / "model.safetensors")
    (directory / "config.json").write_text(json.dumps(CONFIG | changes), "utf-8")
    if old:
        (directory / "vocab.txt").write_text("\n".join(VOCABULARY) + "\n", "utf-8")
        (directory / "tokenizer_config.json").write_text('{"do_lower_case": true, "model_max_length": 512}', "utf-8")
    else:
        tokenizer = BertWordPieceTokenizer(VOCABULARY)
        tokenizer.enable_truncation(7)  # as published tokenizers do: not to be believed
        tokenizer.enable_padding(length=9)
        tokenizer.save(str(directory / "tokenizer.json"))
    return directory


def oracle(weights: dict[str, Array], head: Head, first: list[str], second: list[str]) -> Array:
    """One pair in float64, from the published definition: 3 heads of 4, 2 layers, exact gelu, tanh pooler."""
    w = {name.removeprefix("bert."): value.astype(np.float64) for name, value in weights.items()}

    def linear(name: str, x: Array) -> Array:
        result: Array = x @ w[f"{name}.weight"].T + w[f"{name}.bias"]
        return result

    def norm(name: str, x: Array) -> Array:
        spread = np.sqrt(x.var(axis=1, keepdims=True) + 1e-12)
        result: Array = (x - x.mean(axis=1, keepdims=True)) / spread * w[f"{name}.gamma"] + w[f"{name}.beta"]
        return result

    tokens = ["[CLS]", *first, "[SEP]", *second, "[SEP]"]
    segments = [0] * (len(first) + 2) + [1] * (len(second) + 1)
    x = w["embeddings.word_embeddings.weight"][[VOCABULARY[token] for token in tokens]]
    x = x + w["embeddings.position_embeddings.weight"][: len(tokens)]
    x = norm("embeddings.LayerNorm", x + w["embeddings.token_type_embeddings.weight"][segments])
    for layer in range(2):
        name = f"encoder.layer.{layer}"
        q, k, v = (
            linear(f"{name}.attention.self.{part}", x).reshape(-1, 3, 4).transpose(1, 0, 2)
            for part in ("query", "key", "value")
        )
        scores = np.exp(q @ k.transpose(0, 2, 1) / 2)  # 2 = sqrt(4)
        mixed = (scores / scores.sum(axis=2, keepdims=True) @ v).transpose(1, 0, 2).reshape(-1, 12)
        x = norm(f"{name}.attention.output.LayerNorm", x + linear(f"{name}.attention.output.dense", mixed))
        wide = linear(f"{name}.intermediate.dense", x)
        wide = wide * (1 + np.vectorize(math.erf)(wide / math.sqrt(2))) / 2
        x = norm(f"{name}.output.LayerNorm", x + linear(f"{name}.output.dense", wide))
    logits: Array = linear(HEADS[head], np.tanh(linear("pooler.dense", x[:1])))[0]
    return logits


def some_pairs(count: int, longest: int = 10) -> Pairs:
    rng = random.Random(3)  # noqa: S311 - not a secret

    def text() -> str:
        return " ".join(rng.choices(WORDS, k=rng.randint(0, longest)))

    return [(text(), text()) for _ in range(count)]


def expected(head: Head, labels: int, pairs: Pairs) -> Array:
    weights: dict[str, Array] = dict(random_weights(head, labels))
    return np.array([oracle(weights, head, first.lower().split(), second.lower().split()) for first, second in pairs])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("pairs")


@pytest.fixture(scope="module")
def next_sentence(folder: Path) -> PairEncoder:
    return PairEncoder.from_directory(write(folder / "nsp"), "next_sentence", threads=1)


@pytest.mark.parametrize("old", [True, False], ids=["old-names-vocab", "new-names-tokenizer"])
@pytest.mark.parametrize(("head", "labels"), [("next_sentence", 2), ("classifier", 1), ("classifier", 3)])
def test_logits_agree_with_numpy(tmp_path: Path, head: Head, labels: int, old: bool) -> None:
    encoder = PairEncoder.from_directory(write(tmp_path / "m", head, labels, old=old), head, threads=1)
    pairs = [*some_pairs(25), ("", ""), ("W1 w2", "A b"), ("w1 W2", "a B")]
    found = encoder.logits(pairs)
    assert found.dtype == np.float32
    assert (found.shape, encoder.labels) == ((28, labels), labels)
    np.testing.assert_allclose(found, expected(head, labels, pairs), rtol=2e-5, atol=2e-5)
    assert encoder.logits([]).shape == (0, labels)


def test_texts_are_read_in_their_order(next_sentence: PairEncoder) -> None:
    there, back = next_sentence.logits([("w1 w2", "w3"), ("w3", "w1 w2")])
    assert abs(there - back).max() > 1e-3


def test_a_pair_alone_or_in_company(next_sentence: PairEncoder) -> None:
    pairs = some_pairs(200)
    together = next_sentence.logits(pairs)
    alone = np.concatenate([next_sentence.logits([pair]) for pair in pairs])
    assert abs(together - alone).max() <= 1e-6 * abs(together).max()


def test_equal_pairs_are_computed_once_in_bounded_batches(
    next_sentence: PairEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    shapes: list[tuple[int, ...]] = []
    session = next_sentence._session
    run = session.run

    def counted(ids: Array, mask: Array, segments: Array) -> Array:
        shapes.append(ids.shape)
        return run(ids, mask, segments)

    monkeypatch.setattr(session, "run", counted)
    pairs = list(dict.fromkeys(some_pairs(300)))
    found = next_sentence.logits([*pairs, *pairs[::-1], ("w1  ", "B")])
    assert sum(rows for rows, _ in shapes) == len(pairs) + 1
    assert max(rows * width for rows, width in shapes) <= 1024
    widths = [width for _, width in shapes]
    assert len(shapes) > 3
    assert widths == sorted(widths, reverse=True)
    assert np.array_equal(found[: len(pairs)], found[len(pairs) : -1][::-1])
    assert np.array_equal(found[-1:], next_sentence.logits([("w1", "b")]))


def words(start: int, count: int) -> str:
    return " ".join(WORDS[start : start + count])


@pytest.mark.parametrize(
    ("truncation", "max_tokens", "pair", "cut"),
    [
        ("longest_first", None, (words(0, 30), words(5, 4)), (words(0, 17), words(5, 4))),  # 21 = 24 - 3
        ("longest_first", 13, (words(0, 3), words(5, 30)), (words(0, 3), words(5, 7))),
        ("longest_first", 13, (words(0, 20), words(5, 30)), (words(0, 5), words(5, 5))),
        ("only_second", 13, (words(0, 6), words(5, 30)), (words(0, 6), words(5, 4))),
    ],
)
def test_long_pairs_are_cut(
    next_sentence: PairEncoder, truncation: Any, max_tokens: int | None, pair: tuple[str, str], cut: tuple[str, str]
) -> None:
    encoder = PairEncoder(next_sentence.files, "next_sentence", max_tokens=max_tokens, truncation=truncation)
    np.testing.assert_allclose(encoder.logits([pair]), expected("next_sentence", 2, [cut]), rtol=2e-5, atol=2e-5)


def test_no_room_for_the_second_text(next_sentence: PairEncoder) -> None:
    encoder = PairEncoder(next_sentence.files, "next_sentence", max_tokens=13, truncation="only_second")
    with pytest.raises(EmbedderError, match=r"pairs\[1\] cannot be cut"):
        encoder.logits([("a", "b"), (words(0, 20), "b"), ("a", words(0, 20))])


def test_the_first_logit_says_that_it_follows(next_sentence: PairEncoder, tmp_path: Path) -> None:
    pairs = some_pairs(12)
    scores = NextSentenceScorer(next_sentence).score(pairs)
    odds = np.exp(expected("next_sentence", 2, pairs))
    np.testing.assert_allclose(scores, odds[:, 0] / odds.sum(axis=1), rtol=1e-5, atol=1e-6)
    weights = random_weights("next_sentence", 2)
    weights["cls.seq_relationship.weight"] *= 0
    weights["cls.seq_relationship.bias"] = np.array([2, -1], np.float32)
    path = write(tmp_path / "m")
    save_file(weights, path / "model.safetensors")
    scorer = NextSentenceScorer(PairEncoder.from_directory(path, "next_sentence"))
    np.testing.assert_allclose(scorer.score(pairs), 1 / (1 + math.exp(-3)), rtol=1e-6)


@pytest.mark.parametrize("labels", [1, 2])
def test_reranking_with_a_real_cross_encoder(tmp_path: Path, labels: int) -> None:
    encoder = PairEncoder.from_directory(write(tmp_path / "m", "classifier", labels), "classifier", threads=1)
    texts = [second for _, second in some_pairs(20)]
    passages = [Passage(str(row), text, "s", 0, len(text), distance=0.5) for row, text in enumerate(texts)]
    found = CrossEncoderReranker(encoder).rerank("w1 w2", passages)
    logits = expected("classifier", labels, [("w1 w2", text) for text in texts])
    scores = logits[:, 0] if labels == 1 else logits[:, 1] - logits[:, 0]
    assert [passage.id for passage in found] == [str(row) for row in np.argsort(-scores, kind="stable")]
    np.testing.assert_allclose([passage.score or 0 for passage in found], np.sort(scores)[::-1], rtol=1e-4, atol=1e-4)
    assert {passage.distance for passage in found} == {0.5}


def test_fingerprints_tell_encoders_apart(next_sentence: PairEncoder, tmp_path: Path) -> None:
    def made(path: Path, **options: Any) -> str:
        return PairEncoder.from_directory(path, "next_sentence", **options).fingerprint

    same = made(write(tmp_path / "elsewhere"))
    assert same == next_sentence.fingerprint
    assert made(tmp_path / "elsewhere", max_tokens=24, threads=2) == same
    weights = random_weights("next_sentence", 2)
    weights["cls.seq_relationship.bias"] += 1
    save_file(weights, write(tmp_path / "weights") / "model.safetensors")
    (write(tmp_path / "cased") / "tokenizer_config.json").write_text('{"do_lower_case": false}', "utf-8")
    others = [
        made(tmp_path / "elsewhere", max_tokens=20),
        made(tmp_path / "elsewhere", truncation="only_second"),
        made(tmp_path / "weights"),
        made(tmp_path / "cased"),
        made(write(tmp_path / "new", old=False)),
        made(write(tmp_path / "epsilon", layer_norm_eps=1e-5)),
    ]
    assert len({same, *others}) == 7


def test_a_cased_vocabulary_is_not_lower_cased(tmp_path: Path) -> None:
    path = write(tmp_path / "m")
    (path / "tokenizer_config.json").write_text('{"do_lower_case": false}', "utf-8")
    upper, unknown, lower = PairEncoder.from_directory(path, "next_sentence").logits(
        [("W1", "w2"), ("unseen", "w2"), ("w1", "w2")]
    )
    assert np.array_equal(upper, unknown)
    assert not np.array_equal(upper, lower)


def remove(name: str) -> Callable[[Path], object]:
    return lambda path: (path / name).unlink()


def replace(name: str, content: str) -> Callable[[Path], object]:
    return lambda path: (path / name).write_text(content, "utf-8")


def halve(path: Path) -> None:
    weights = {name: value.astype(np.float16) for name, value in load_file(path / "model.safetensors").items()}
    save_file(weights, path / "model.safetensors")


def unframed(path: Path) -> None:
    tokenizer = BertWordPieceTokenizer(VOCABULARY)
    content = json.loads(tokenizer.to_str()) | {"post_processor": None}
    (path / "tokenizer.json").write_text(json.dumps(content), "utf-8")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (remove("config.json"), "config.json: not a readable JSON file"),
        (remove("model.safetensors"), "model.safetensors cannot be read"),
        (remove("vocab.txt"), "has neither tokenizer.json nor vocab.txt"),
        (replace("config.json", "[1]"), "holds list; it must be an object"),
        (replace("config.json", json.dumps(CONFIG | {"model_type": "roberta"})), "only 'bert' with 'absolute'"),
        (replace("config.json", json.dumps(CONFIG | {"hidden_size": "12"})), "a size is no number"),
        (replace("config.json", json.dumps(CONFIG | {"hidden_size": 15})), r"the encoder needs F32 \(47, 15\)"),
        (replace("config.json", json.dumps(CONFIG | {"type_vocab_size": 1})), "cannot tell the texts of a pair apart"),
        (replace("config.json", json.dumps(CONFIG | {"vocab_size": 46})), "has 47 tokens, but the model only 46"),
        (replace("tokenizer.json", "{}"), "not a readable tokenizer"),
        (replace("tokenizer_config.json", '{"do_lower_case": "yes"}'), "not a readable tokenizer"),
        (replace("tokenizer_config.json", "{"), "tokenizer_config.json: not a readable JSON"),
        (replace("model.safetensors", "weights"), "not a readable safetensors file"),
        (halve, "is F16"),
        (unframed, r"frames a pair as \['a', 'a'\]"),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path: Path, damage: Callable[[Path], object], message: str) -> None:
    path = write(tmp_path / "m")
    damage(path)
    with pytest.raises(EmbedderError, match=message):
        PairEncoder.from_directory(path, "next_sentence")


def test_wrong_arguments_are_refused(next_sentence: PairEncoder) -> None:
    files = next_sentence.files
    with pytest.raises(EmbedderError, match=r"no classifier head: the weight 'classifier\.weight' is missing"):
        PairEncoder(files, "classifier")
    wrong_options: list[tuple[dict[str, Any], str]] = [
        ({"head": "mean"}, "head is 'mean'"),
        ({"truncation": "left"}, "truncation is 'left'"),
        ({"max_tokens": 25}, "max_tokens is 25; it must be from 5 to the model's 24"),
        ({"max_tokens": 4}, "max_tokens is 4"),
    ]
    for options, message in wrong_options:
        with pytest.raises(EmbedderError, match=message):
            PairEncoder(files, **{"head": "next_sentence", **options})
    wrong_pairs: list[tuple[Any, str]] = [
        ("ab", r"pairs\[0\] is no pair"),
        ([("a", "b"), ("a", "b", "c")], r"pairs\[1\] is no pair"),
        ([("a", None)], r"pairs\[0\] is no pair"),
        ([("a", "b"), ("a", "\ud800")], r"pairs\[1\] has a lone surrogate"),
    ]
    for pairs, message in wrong_pairs:
        with pytest.raises(EmbedderError, match=message):
            next_sentence.logits(pairs)


def test_importing_loads_no_runtime() -> None:
    code = (
        "import sys, vecbench.embed.pairs, vecbench.rag.rerank.cross_encoder, vecbench.rag.rerank.hosted\n"
        "import vecbench.rag.rerank.lexical, vecbench.rag.split.next_sentence\n"
        "heavy = {'onnxruntime', 'onnx', 'tokenizers', 'safetensors', 'huggingface_hub', 'httpx', 'torch', 'pysbd'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"
