"""How many passages the fixed model embeds in a second: `pytest benchmarks/test_embed.py`.

The column to read is `passages_per_second` in the saved JSON; the table shows seconds for one call of all passages.
"""

from __future__ import annotations

import random

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from vecbench.embed import MiniLM, fixed_model

WORDS = [str(year) for year in range(1900, 2000)]  # each is one token of the model


def passages(count: int, words: int) -> list[str]:
    """Distinct texts of so many words, and two tokens more."""
    rng = random.Random(20)  # noqa: S311 - not a secret
    return [" ".join(rng.choices(WORDS, k=words)) for _ in range(count)]


@pytest.fixture(scope="module")
def model() -> MiniLM:
    return fixed_model()


@pytest.mark.parametrize(("count", "tokens"), [(250, 40), (50, 200)], ids=["short-40-tokens", "long-200-tokens"])
def test_passages_per_second(benchmark: BenchmarkFixture, model: MiniLM, count: int, tokens: int) -> None:
    texts = passages(count, tokens - 2)  # [CLS] and [SEP] are the other two
    told: list[int] = []
    model.embed_documents(texts, progress=lambda _done, total: told.append(total))  # also the warm-up
    assert told[-1] == count * tokens
    benchmark.pedantic(model.embed_documents, args=(texts,), rounds=5)  # type: ignore[no-untyped-call]  # is untyped
    assert benchmark.stats is not None
    benchmark.extra_info["threads"] = model.threads
    benchmark.extra_info["passages_per_second"] = round(count / benchmark.stats.stats.median, 1)
