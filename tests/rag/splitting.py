"""What the tests of the recursive splitter share: its reference, and texts to cut."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from langchain_text_splitters import RecursiveCharacterTextSplitter

from vecbench.rag.split import RecursiveSplitter
from vecbench.rag.types import Chunk

ROOT = Path(__file__).resolve().parents[2]
CHINESE = (
    "我们把一段文字切成小块。“为什么？”他问。因为模型一次只能读两百多个词，长的文章读不完！所以要切，而且要切得合适。"
    * 20
)
NASTY = "e\u0301o\u0308 👩\u200d💻🇨🇳 𝒳𝒴 ﬁ İ한글\r\n\r\nक्षि\x00\u200b\ufeff\u2028中\u0301文。" * 30


def count_words(text: str) -> int:
    return len(text.split())


def reference(text: str, splitter: RecursiveSplitter) -> list[str]:
    """What the reference makes of the text, with the same parameters."""
    return RecursiveCharacterTextSplitter(
        separators=list(splitter.separators),
        keep_separator=splitter.keep_separator,
        is_separator_regex=splitter.is_separator_regex,
        chunk_size=splitter.chunk_size,
        chunk_overlap=splitter.chunk_overlap,
        length_function=splitter.length,
        strip_whitespace=splitter.strip_whitespace,
    ).split_text(text)


def texts(chunks: Sequence[Chunk]) -> list[str]:
    return [chunk.text for chunk in chunks]


def real_texts() -> dict[str, str]:
    found = {name: (ROOT / name).read_text() for name in ("README.md", "CONTRIBUTING.md", "vecbench/collection.py")}
    found |= {"chinese": CHINESE, "nasty": NASTY}
    return found


def data_set_texts(folder: Path) -> dict[str, str]:
    articles = json.loads((folder / "drcd" / "DRCD_dev.json").read_text())["data"][:20]
    drcd = "\n\n".join(part["context"] for article in articles for part in article["paragraphs"])
    return {"npl": (folder / "npl" / "doc-text").read_text()[:150_000], "drcd": drcd}
