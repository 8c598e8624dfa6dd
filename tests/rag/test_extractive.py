from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from vecbench.embed.spec import EmbedderSpec, Progress
from vecbench.errors import ConfigError
from vecbench.rag.answer.citations import check_citations
from vecbench.rag.answer.extractive import Extractive
from vecbench.rag.types import Passage
from vecbench.types import Vectors

NO_ANSWER = "The passages do not hold the answer."


def passage(text: str, number: int, headings: list[str] | None = None) -> Passage:
    return Passage(f"id-{number}", text, "a.md", 0, len(text), {"headings": headings} if headings else {})


CONTRACT = [
    passage("The company pays a salary each month. It is due on the last working day. Bonuses are voluntary.", 1),
    passage(
        "Work begins at nine. The notice period is three months to the end of a quarter [see 7]. Dr. Who signs.", 2
    ),
    passage("Holidays are thirty days a year. They lapse in March, if they are not taken.", 3),
    passage("Six months, as of 2024 [12].", 4, ["Employment", "Probation period"]),
]


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("How long is the notice period?", "The notice period is three months to the end of a quarter [see 7]. [2]"),
        (
            "What becomes of holidays which are not taken?",
            "Holidays are thirty days a year. [3] They lapse in March, if they are not taken. [3]",
        ),
        ("When is the salary due?", "The company pays a salary each month. [1] It is due on the last working day. [1]"),
        ("How many months of probation?", "Six months, as of 2024 (12). [4]"),  # found by the heading above it
        ("Who is the king of France?", NO_ANSWER),
        ("How is it?", NO_ANSWER),
        ("?!", NO_ANSWER),
    ],
)
def test_sentences_that_answer(question: str, answer: str) -> None:
    assert Extractive().answer(question, CONTRACT) == answer


def test_chinese() -> None:
    passages = [
        passage("公司每月发放工资。工资于最后一个工作日支付。", 1),
        passage("工作九点开始。合同的通知期为三个月，到季度末为止。", 2),
    ]
    assert (
        Extractive(no_answer="无").answer("合同的通知期有多久？", passages)
        == "合同的通知期为三个月，到季度末为止。 [2]"
    )
    assert Extractive(no_answer="无").answer("法国的国王是谁？", passages) == "无"


def test_every_citation_exists_and_no_quoted_number_becomes_one() -> None:
    text = Extractive(threshold=0.1, most_sentences=4).answer("notice period probation months 2024", CONTRACT)
    checked = check_citations(text, CONTRACT)
    assert checked.text == text
    assert {c.number for c in checked.citations} <= {1, 2, 3, 4}
    assert "[12]" not in text


def test_long_sentences_are_cut_and_marks_of_lines_are_dropped() -> None:
    heading = "## Zebra crossing\n\nLook left before you walk."
    assert (
        Extractive().answer("Where is the zebra crossing?", [passage(heading, 1)]) == "Look left before you walk. [1]"
    )
    long = Extractive(most_sentences=1).answer("zebra stripes", [passage("- " + "zebra stripes " * 60 + "end.", 1)])
    assert long.startswith("zebra stripes")
    assert long.endswith("… [1]")
    assert len(long) <= 400 + len("… [1]")


def test_nothing_given_is_no_answer() -> None:
    assert Extractive(no_answer="none").answer("How long is the notice period?", []) == "none"
    assert Extractive().answer("How long?", [passage("  \n", 1)]) == NO_ANSWER


def test_an_embedder_finds_other_words() -> None:
    class Meaning:
        spec = EmbedderSpec(name="meaning", dim=2)

        def embed_documents(self, texts: Sequence[str], *, progress: Progress | None = None) -> Vectors:
            return np.array([[1, 0] if "remuneration" in t or "paid" in t else [0, 1] for t in texts], np.float32)

        def embed_queries(self, texts: Sequence[str]) -> Vectors:
            return self.embed_documents(texts)

    passages = [passage("Birds fly. Your remuneration arrives weekly.", 1)]
    question = "When am I paid wages?"
    assert Extractive().answer(question, passages) == NO_ANSWER
    assert Extractive(embedder=Meaning()).answer(question, passages) == "Your remuneration arrives weekly. [1]"


@pytest.mark.parametrize("wrong", [{"threshold": 1.5}, {"threshold": -1}, {"most_sentences": 0}])
def test_wrong_settings_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match="extractive answers"):
        Extractive(**wrong)  # type: ignore[arg-type]
