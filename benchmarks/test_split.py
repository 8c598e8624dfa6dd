"""How fast texts are split, and by how much faster than the reference: `pytest benchmarks/test_split.py`.

The texts are the project's own prose and code, and Chinese of a few sentences repeated. `characters_per_second` and,
where there is a reference, how many times its median is of ours in the same run, stand in the saved JSON:
`times_reference` where it says where its chunks stand too (`create_documents` with `add_start_index`; ours always do),
`times_reference_without_places` where it gives bare strings.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from langchain_text_splitters import RecursiveCharacterTextSplitter
from pytest_benchmark.fixture import BenchmarkFixture

from vecbench.embed import MiniLM, fixed_model
from vecbench.rag.split import RecursiveSplitter, SentenceSplitter
from vecbench.rag.split.sentences import sentences

ROOT = Path(__file__).resolve().parents[1]
ROUNDS = 5
PROSE = "\n\n".join(path.read_text() for path in sorted(ROOT.glob("**/*.md")) if ".venv" not in path.parts)[:200_000]
CODE = "\n".join(path.read_text() for path in sorted((ROOT / "vecbench").glob("**/*.py")))[:300_000]
CHINESE = (
    "我们把一段文字切成小块，因为模型一次只能读两百多个词。“为什么？”他问，长的文章读不完！所以要切，而且要切得合适。\n"
    * 2000
)
TEXTS = {"prose": PROSE, "one-line": " ".join(PROSE.split()), "code": CODE, "chinese": CHINESE}


@pytest.fixture(scope="module")
def model() -> MiniLM:
    return fixed_model()


def median_seconds(work: Callable[[], Any], rounds: int = ROUNDS) -> float:
    taken = []
    for _ in range(rounds):
        begun = time.perf_counter()
        work()
        taken.append(time.perf_counter() - begun)
    return statistics.median(taken)


def measure(benchmark: BenchmarkFixture, work: Callable[[], Any], text: str, **references: Callable[[], Any]) -> None:
    benchmark.pedantic(work, rounds=ROUNDS, warmup_rounds=1)  # type: ignore[no-untyped-call]  # is untyped
    assert benchmark.stats is not None
    ours = benchmark.stats.stats.median
    benchmark.extra_info["characters_per_second"] = round(len(text) / ours)
    for name, reference in references.items():
        benchmark.extra_info[name] = round(median_seconds(reference, 3) / ours, 2)


@pytest.mark.parametrize("size", [200, 1000, 4000])
@pytest.mark.parametrize("name", TEXTS)
def test_by_characters(benchmark: BenchmarkFixture, name: str, size: int) -> None:
    text, overlap = TEXTS[name], size // 10
    ours = RecursiveSplitter(size, overlap)
    theirs = RecursiveCharacterTextSplitter(chunk_size=size, chunk_overlap=overlap, add_start_index=True)
    assert [chunk.text for chunk in ours.split(text)] == theirs.split_text(text)
    measure(
        benchmark,
        lambda: ours.split(text),
        text,
        times_reference=lambda: theirs.create_documents([text]),
        times_reference_without_places=lambda: theirs.split_text(text),
    )


@pytest.mark.parametrize("size", [64, 254])
@pytest.mark.parametrize("name", TEXTS)
def test_by_tokens(benchmark: BenchmarkFixture, model: MiniLM, name: str, size: int) -> None:
    text, overlap = TEXTS[name][:60_000], size // 8
    ours = RecursiveSplitter.by_tokens(model, size, overlap)
    theirs = RecursiveCharacterTextSplitter(
        chunk_size=size, chunk_overlap=overlap, length_function=lambda piece: len(model.token_spans(piece))
    )
    assert [chunk.text for chunk in ours.split(text)] == theirs.split_text(text)
    measure(benchmark, lambda: ours.split(text), text, times_reference_without_places=lambda: theirs.split_text(text))


@pytest.mark.parametrize("name", ["prose", "chinese"])
def test_sentences(benchmark: BenchmarkFixture, name: str) -> None:
    text = TEXTS[name][:100_000]
    assert len(sentences(text)) > 100
    measure(benchmark, lambda: sentences(text), text)


def test_sentences_packed(benchmark: BenchmarkFixture) -> None:
    text, splitter = PROSE[:100_000], SentenceSplitter(1000, 1)
    assert splitter.split(text)
    measure(benchmark, lambda: splitter.split(text), text)
