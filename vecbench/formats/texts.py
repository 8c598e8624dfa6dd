"""Texts with queries and judgements: the BEIR layout, question-answering sets as SQuAD has them, plain JSON lines."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

from vecbench.errors import DatasetError
from vecbench.formats.found import Text, TextDataset, hold_out_texts, unique
from vecbench.formats.lines import LineTexts
from vecbench.relevance import Judgements

__all__ = ["SPLITS", "read_beir", "read_squad", "read_text_lines"]

SPLITS = ("test", "dev", "train")
_LARGEST_JSON = 256 << 20


def read_text_lines(path: Path, queries: Path | None = None) -> TextDataset:
    """The texts of a file of JSON lines; queries from another such file, or every n-th text held out."""
    documents = LineTexts(path)
    return hold_out_texts(documents) if queries is None else TextDataset(documents, LineTexts(queries))


def read_beir(folder: Path, queries: Path | None = None) -> TextDataset:
    """A folder with corpus.jsonl, queries.jsonl and qrels/test.tsv (or dev, or train; the first that is there).

    With judgements only judged queries are kept, in the order of queries.jsonl. A judged document that is not in the
    corpus stays in the judgements, and a note counts them. Without qrels there are no judgements, and without
    queries.jsonl queries are held out. queries: take these instead, without judgements.
    """
    documents = LineTexts(folder / "corpus.jsonl")
    if queries is not None or not (folder / "queries.jsonl").exists():
        return hold_out_texts(documents) if queries is None else TextDataset(documents, LineTexts(queries))
    asked = LineTexts(folder / "queries.jsonl")
    split = next((split for split in SPLITS if (folder / "qrels" / f"{split}.tsv").exists()), None)
    if split is None:
        return TextDataset(documents, asked)
    path = folder / "qrels" / f"{split}.tsv"
    grades = _qrels(path)
    if strangers := sorted(set(grades) - set(asked.ids)):
        raise DatasetError(f"{path}: query {strangers[0]!r} is not in queries.jsonl ({len(strangers)} such)")
    kept = [text for text in asked if text.id in grades]
    known = set(documents.ids)
    lost = sum(id_ not in known for judged in grades.values() for id_ in judged)
    notes = (f"{lost} judged documents are not in the corpus and cannot be found",) if lost else ()
    return TextDataset(documents, kept, Judgements([grades[text.id] for text in kept]), notes)


def _qrels(path: Path) -> dict[str, dict[str, int]]:
    grades: dict[str, dict[str, int]] = {}
    try:
        with path.open(encoding="utf-8", newline="") as file:
            for number, row in enumerate(csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE), 1):
                if number == 1 and [cell.strip() for cell in row] == ["query-id", "corpus-id", "score"]:
                    continue
                if len(row) != 3 or not row[2].strip().isdecimal():
                    raise DatasetError(
                        f"{path}:{number}: query-id, corpus-id and a whole score ≥ 0 are expected: {row}"
                    )
                query, document, grade = row
                if document in grades.setdefault(query, {}):
                    raise DatasetError(f"{path}:{number}: {document!r} is judged twice for query {query!r}")
                grades[query][document] = int(grade)
    except (OSError, UnicodeDecodeError, csv.Error) as e:
        raise DatasetError(f"{path} cannot be read: {e}") from e
    if not grades:
        raise DatasetError(f"{path} holds no judgement")
    return grades


def read_squad(path: Path) -> TextDataset:
    """A question-answering set in SQuAD's JSON: paragraphs are documents, and a question's own paragraph is relevant.

    ids: the paragraph's `id` as DRCD has it, else title number and paragraph number. A question is asked of one
    paragraph, so one document is judged for each, though others may answer it too: the figures are lower bounds.
    """
    try:
        if path.stat().st_size > _LARGEST_JSON:
            raise DatasetError(f"{path} is larger than {_LARGEST_JSON >> 20} MB; convert it to JSON lines")
        articles = json.loads(path.read_bytes())["data"]
        documents, queries, grades = _paragraphs(articles)
    except OSError as e:
        raise DatasetError(f"{path} cannot be read: {e.strerror or e}") from e
    except (ValueError, KeyError, TypeError, RecursionError) as e:
        raise DatasetError(f"{path} is not laid out as SQuAD is ({type(e).__name__}: {e})") from e
    unique((text.id for text in documents), f"{path}, paragraphs")
    unique((text.id for text in queries), f"{path}, questions")
    return TextDataset(documents, queries, Judgements(grades))


def _paragraphs(articles: Any) -> tuple[list[Text], list[Text], list[dict[str, int]]]:
    documents: list[Text] = []
    queries: list[Text] = []
    grades: list[dict[str, int]] = []
    for number, article in enumerate(articles):
        for place, paragraph in enumerate(article["paragraphs"]):
            id_ = str(paragraph.get("id", f"{number}-{place}"))
            documents.append(Text(id_, _string(paragraph["context"])))
            for question in paragraph["qas"]:
                queries.append(Text(str(question["id"]), _string(question["question"])))
                grades.append({id_: 1})
    return documents, queries, grades


def _string(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is no string")
    value.encode()  # a lone surrogate is a ValueError
    return value
