"""How many passages the fixed model embeds in a second: `pytest benchmarks/test_embed.py`.

The column to read is `passages_per_second` in the saved JSON; the table shows seconds for one call of all passages.
"""

from __future__ import annotations

import random

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from vecbench.embed import MiniLM, fixed_model

WORDS = [
    "harbour",
    "engine",
    "winter",
    "signal",
    "copper",
    "orchard",
    "archive",
    "meadow",
    "lantern",
    "granite",
    "violin",
    "canyon",
    "thunder",
    "velvet",
    "compass",
    "saddle",
    "mirror",
    "river",
    "market",
    "stone",
    "paper",
    "window",
    "garden",
    "letter",
    "bridge",
    "station",
    "island",
    "forest",
]


def passages(count: int, words: int) -> list[str]:
    """Distinct texts of `words` common words, each of which is one token of the model."""
    rng = random.Random(20)  # noqa: S311 - not a secret
    return [" ".join(rng.choices(WORDS, k=words)) for _ in range(count)]


@pytest.fixture(scope="module")
def model() -> MiniLM:
    return fixed_model()


@pytest.mark.parametrize(("count", "tokens"), [(250, 40), (50, 200)], ids=["short-40-tokens", "long-200-tokens"])
def test_passages_per_second(benchmark: BenchmarkFixture, model: MiniLM, count: int, tokens: int) -> None:
    texts = passages(count, tokens - 2)  # [CLS] and [SEP] are the other two
    vectors = benchmark.pedantic(model.embed_documents, args=(texts,), rounds=5, warmup_rounds=1)
    assert vectors.shape == (count, 384)
    benchmark.extra_info["threads"] = model.threads
    benchmark.extra_info["passages_per_second"] = round(count / benchmark.stats.stats.median, 1)
