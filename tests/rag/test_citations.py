from __future__ import annotations

import pytest

from vecbench.rag.answer.citations import check_citations
from vecbench.rag.types import Passage

PASSAGES = [
    Passage("a", "The notice period is three months\nto the end of a quarter.", "a.md", 0, 56),
    Passage("b", "合同的通知期为三个月，到季度末为止。", "b.md", 0, 18),
    Passage("c", "Nothing of the kind.", "c.md", 0, 20),
]


@pytest.mark.parametrize(
    ("text", "clean", "numbers"),
    [
        ("Three months [1].", "Three months [1].", [1]),
        ("Both [3][1], again [3].", "Both [3][1], again [3].", [3, 1]),
        ("A list [2, 1] and [ 3 ;1 ].", "A list [2, 1] and [3, 1].", [2, 1, 3]),
        ("A range [1-3], backwards [3–2].", "A range [1, 2, 3], backwards [3, 2].", [1, 2, 3]),
        ("三个月【1】，季末［２，3］。", "三个月[1]，季末[2, 3]。", [1, 2, 3]),
        ("Partly [1, 9].", "Partly [1].", [1]),
        ("Code `rows[1]` and\n```\nx = y[2]\n```\nand a [1](https://example.org) [3].", None, [3]),
        ("In [2024] the array[1] grew.", None, [1]),
        ("Open [3", None, []),
    ],
)
def test_what_is_a_citation(text: str, clean: str | None, numbers: list[int]) -> None:
    checked = check_citations(text, PASSAGES)
    assert checked.text == (text if clean is None else clean)
    assert [c.number for c in checked.citations] == numbers
    assert [c.passage for c in checked.citations] == [PASSAGES[number - 1] for number in numbers]


def test_what_names_no_passage_is_removed_and_told() -> None:
    checked = check_citations("True [4]. Half [1, 0]. Wide [2-200].", PASSAGES)
    assert checked.text == "True. Half [1]. Wide [2]."
    assert [c.number for c in checked.citations] == [1, 2]
    assert checked.notes == ("the answer cited [4, 0, 200], where no passage is; removed",)
    many = check_citations("All [1-90].", PASSAGES)
    assert many.text == "All [1, 2, 3]."
    assert many.notes == ("the answer cited [4, 5, 6, 7, 8, …], where no passage is; removed",)


def test_an_answer_without_a_source_is_told() -> None:
    assert check_citations("Because I say so.", PASSAGES).notes == ("the answer cites no passage",)
    assert check_citations("No answer. ", PASSAGES, no_answer="No answer.").notes == ()
    assert check_citations("Nothing was given.", []).notes == ()


@pytest.mark.parametrize(
    ("text", "missing"),
    [
        ('It says "The notice period  is THREE months to the end" [1].', None),
        ("It says “the notice period is three months to the end of a quarter” [1].", None),
        ('It says "the notice period is four months and a day" [1].', "the notice period is four months and a day"),
        ('It says "notice period is three months to" [3].', "notice period is three months to"),  # of another passage
        ('A "very short term" [1].', None),
        ("据「通知期为三个月，到季度末」[2]。", None),
        ("据“通知期为六个月，到季度末为止”[2]。", "通知期为六个月，到季度末为止"),
        ('"otice period is three months to the en" [1]', "otice period is three months to the en"),  # whole words
    ],
)
def test_quotations_are_looked_up(text: str, missing: str | None) -> None:
    notes = check_citations(text, PASSAGES).notes
    assert notes == (() if missing is None else (f"the quotation {missing!r} stands in no cited passage",))
