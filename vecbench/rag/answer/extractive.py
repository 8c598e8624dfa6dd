"""An answer without a language model: the sentences of the passages that share most with the question."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from vecbench.embed.spec import Embedder
from vecbench.errors import ConfigError
from vecbench.rag.retrieve.words import tokens
from vecbench.rag.split.sentences import sentences
from vecbench.rag.types import Passage

__all__ = ["Extractive"]

_NO_ANSWER = "The passages do not hold the answer."
_NEARBY_WEIGHT = 0.5  # of a word that does not stand in the sentence but around it
_NEXT_SHARE = 0.15  # of the question's weight that a further sentence must add
_NEXT_SCORE = 0.75  # of the best sentence's score that a further one must have
_MOST_CHARACTERS = 400
_BRACKETED = re.compile(r"[\[【［](\s*\d{1,3}[\d\s,，、;；–—-]*)[\]】］]")
_CODE = re.compile(r"\s*(?:```|~~~)")
_HEADING = re.compile(r"\s*#{1,6}\s")
_LINE_MARKS = re.compile(r"^\s*(?:#{1,6}\s+|[-*+>]\s+)+")
# Words that questions are made of, whatever they ask about.
_ASKING_EN = """
a about an and any are as at be by can could did do does far for from had has have how i if in into is it its long
many may me much must my no not of often old on or our shall should so tell than that the their them there these
they this to us was we were what when where which who whom whose why will with would you your
"""
_ASKING_ZH = re.compile(
    r"什么|多少|多久|多长|怎么样?|怎样|如何|为什么|为何|哪里?|哪些|哪个|是否|几|吗|呢|请问|谁|有|是|的|了"
)
_ASKING = frozenset(_ASKING_EN.split())


@dataclass(frozen=True, slots=True)
class _Candidate:
    number: int  # of the passage
    text: str
    words: frozenset[str]
    nearby: frozenset[str]


class Extractive:
    """Quotes up to `most_sentences` sentences, each with the number of its passage, or says that none answers.

    A word counts by how few sentences hold it. A sentence scores the share of the question's words that it holds, from
    0 to 1; a word around it, in source, headings and the sentences beside it, counts half. It is not asked whether the
    words mean what the question means: a language model does that.
    threshold: a question whose best sentence scores less is not answered. embedder: when given, the score is the mean
    of that share and of the cosine between question and sentence, which finds answers in other words and costs the
    embedding of every sentence. no_answer: what is said when no sentence answers.
    """

    def __init__(
        self,
        *,
        threshold: float = 0.4,
        most_sentences: int = 2,
        embedder: Embedder | None = None,
        no_answer: str = _NO_ANSWER,
    ) -> None:
        if not 0 <= threshold <= 1 or most_sentences < 1:
            raise ConfigError(
                f"extractive answers: threshold {threshold} must be from 0 to 1, most_sentences {most_sentences} "
                "at least 1"
            )
        self._threshold, self._most_sentences, self._embedder = threshold, most_sentences, embedder
        self.no_answer = no_answer

    name = "extractive"

    def answer(self, question: str, passages: Sequence[Passage]) -> str:
        """Sentences, those of the best passage first, each followed by the number of its passage; or `no_answer`."""
        asked = frozenset(_stem(word) for word in tokens(_ASKING_ZH.sub(" ", question)) if word not in _ASKING)
        candidates = [c for number, passage in enumerate(passages, 1) for c in _candidates(number, passage)]
        if not asked or not candidates:
            return self.no_answer
        weights = _weights(asked, candidates)
        scores = [_share(weights, c) for c in candidates]
        if self._embedder is not None:
            cosines = self._cosines(self._embedder, question, candidates)
            scores = [(share + cosine) / 2 for share, cosine in zip(scores, cosines, strict=True)]
        order = sorted(range(len(candidates)), key=lambda row: (-scores[row], row))
        if scores[order[0]] < self._threshold:
            return self.no_answer
        chosen, missing = order[:1], asked - candidates[order[0]].words
        for row in order[1:]:
            added = sum(weights[word] for word in candidates[row].words & missing)
            good = scores[row] >= _NEXT_SCORE * scores[order[0]] and added >= _NEXT_SHARE
            if good and len(chosen) < self._most_sentences:
                chosen.append(row)
                missing -= candidates[row].words
        ranks = {candidates[row].number: rank for rank, row in reversed(list(enumerate(chosen)))}
        read = sorted(
            chosen, key=lambda row: (ranks[candidates[row].number], row)
        )  # within a passage as it stands there
        return " ".join(f"{_quoted(candidates[row].text)} [{candidates[row].number}]" for row in read)

    def _cosines(self, embedder: Embedder, question: str, candidates: Sequence[_Candidate]) -> list[float]:
        import numpy as np

        (asked,) = embedder.embed_queries([question])
        found = embedder.embed_documents([c.text for c in candidates])
        lengths = np.linalg.norm(found, axis=1) * np.linalg.norm(asked)
        return [max(0.0, float(c)) for c in (found @ asked) / np.where(lengths == 0, 1, lengths)]


def _candidates(number: int, passage: Passage) -> list[_Candidate]:
    """The sentences of a passage, each with what stands around it: source and headings, the sentences beside it."""
    headings = passage.metadata.get("headings", ())
    about = frozenset(_words(" ".join([passage.source, *(headings if isinstance(headings, list) else ())])))
    found: list[_Candidate] = []
    before = frozenset[str]()
    for start, end in sentences(passage.text):
        piece = passage.text[start:end]
        words = frozenset(_words(piece))
        if _HEADING.match(piece):  # says what comes, and answers nothing itself
            about |= words
        elif words and not _CODE.match(piece):
            if found:
                found[-1] = replace(found[-1], nearby=found[-1].nearby | words)
            text = " ".join(_LINE_MARKS.sub("", piece).split())
            found.append(_Candidate(number, text, words, about | before))
            before = words
    return found


def _words(text: str) -> list[str]:
    return [_stem(word) for word in tokens(text)]


def _stem(word: str) -> str:
    """The word without the commonest English endings: "months" is to find "month", "tested" is to find "tests"."""
    if not (word.isascii() and word.isalpha()):
        return word
    for ending, least in (("ies", 3), ("ing", 4), ("ed", 4), ("es", 4), ("s", 3), ("e", 4)):
        if word.endswith(ending) and len(word) - len(ending) >= least - 1 and not word.endswith("ss"):
            return word[: -len(ending)] + ("i" if ending == "ies" else "")
    return word[:-1] + "i" if word.endswith("y") and len(word) > 3 else word


def _weights(asked: frozenset[str], candidates: Sequence[_Candidate]) -> dict[str, float]:
    """Each word's share of the question, by how few sentences hold it; none counts like one."""
    holding = Counter(word for c in candidates for word in asked & (c.words | c.nearby))
    raw = {word: math.log(1 + len(candidates) / max(1, holding[word])) for word in asked}
    total = sum(raw.values())
    return {word: weight / total for word, weight in raw.items()}


def _share(weights: dict[str, float], candidate: _Candidate) -> float:
    return sum(
        weight * (1 if word in candidate.words else _NEARBY_WEIGHT if word in candidate.nearby else 0)
        for word, weight in weights.items()
    )


def _quoted(text: str) -> str:
    """The sentence, shortened; numbers in brackets, which would read as citations, in parentheses."""
    text = _BRACKETED.sub(r"(\1)", text)
    if len(text) > _MOST_CHARACTERS:
        cut = text[:_MOST_CHARACTERS].rfind(" ")
        text = text[: cut if cut > _MOST_CHARACTERS // 2 else _MOST_CHARACTERS] + "…"
    return text
