"""How many (question, passage) pairs a cross-encoder of MiniLM-L6's size scores in a second, in a batch and one by one.

`pytest benchmarks/test_rerank.py`; the weights are random, which costs what trained ones cost. The columns to read
are `pairs_per_second` and `pairs_per_second_one_by_one` in the saved JSON; the table shows a call of all pairs.
"""

from __future__ import annotations

import json
import random
import statistics
import time
from pathlib import Path

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture
from safetensors.numpy import save_file

from vecbench.embed.bert import Output, weight_shapes
from vecbench.embed.pairs import PairEncoder, pair_files
from vecbench.rag.rerank import CrossEncoderReranker, LexicalReranker
from vecbench.rag.rerank.cross_encoder import MS_MARCO_MINILM
from vecbench.rag.types import Passage

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WORDS = ["a", *(f"w{number}" for number in range(5000))]  # each is one token
PAIRS, TOKENS = 50, 150
QUERY = " ".join(WORDS[:10])


def passages() -> list[Passage]:
    """Texts of 110 to 164 words: with the question and three special tokens 150 tokens on average."""
    rng = random.Random(20)  # noqa: S311 - not a secret
    texts = [" ".join(rng.choices(WORDS, k=TOKENS - 13 + change)) for change in range(-27, 28)]
    assert len(texts) > PAIRS
    return [Passage(str(row), text, "s", 0, len(text)) for row, text in enumerate(rng.sample(texts, PAIRS))]


@pytest.fixture(scope="module")
def reranker(tmp_path_factory: pytest.TempPathFactory) -> CrossEncoderReranker:
    directory: Path = tmp_path_factory.mktemp("cross-encoder")
    config = MS_MARCO_MINILM.config
    rng = np.random.default_rng(20)
    weights = {
        name: (0.02 * rng.standard_normal(shape, np.float32) + ("LayerNorm.weight" in name)).astype(np.float32)
        for name, shape in weight_shapes(config, Output("classifier", segments=True)).items()
    }
    save_file(weights, directory / "model.safetensors")
    published = {
        "model_type": "bert",
        "num_hidden_layers": config.layers,
        "hidden_size": config.hidden,
        "num_attention_heads": config.heads,
        "intermediate_size": config.intermediate,
        "max_position_embeddings": config.max_positions,
        "vocab_size": config.vocab,
        "type_vocab_size": config.type_vocab,
        "layer_norm_eps": config.layer_norm_eps,
        "hidden_act": config.activation,
    }
    (directory / "config.json").write_text(json.dumps(published), "utf-8")
    (directory / "vocab.txt").write_text("\n".join(SPECIAL + WORDS) + "\n", "utf-8")
    return CrossEncoderReranker(PairEncoder(pair_files(directory), "classifier", max_tokens=512))


def test_pairs_per_second(benchmark: BenchmarkFixture, reranker: CrossEncoderReranker) -> None:
    """One call of all pairs, which the table shows; before each, as many calls of one pair: the machine changes."""
    given = passages()
    one_by_one_seconds: list[float] = []

    def one_by_one() -> None:
        start = time.perf_counter()
        for passage in given:
            reranker.rerank(QUERY, [passage])
        one_by_one_seconds.append(time.perf_counter() - start)

    assert len({passage.score for passage in reranker.rerank(QUERY, given)}) == PAIRS  # also the warm-up
    benchmark.pedantic(reranker.rerank, args=(QUERY, given), setup=one_by_one, rounds=3)  # type: ignore[no-untyped-call]  # is untyped
    assert benchmark.stats is not None
    batch_seconds = benchmark.stats.stats.median
    benchmark.extra_info["pairs_per_second"] = round(PAIRS / batch_seconds, 1)
    benchmark.extra_info["pairs_per_second_one_by_one"] = round(PAIRS / statistics.median(one_by_one_seconds), 1)


def test_lexical(benchmark: BenchmarkFixture) -> None:
    given = passages()
    found = benchmark(LexicalReranker().rerank, QUERY, given)
    assert len(found) == PAIRS
    assert benchmark.stats is not None
    benchmark.extra_info["pairs_per_second"] = round(PAIRS / benchmark.stats.stats.median, 1)
