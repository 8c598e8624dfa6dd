"""Files and folders as documents: text, Markdown, HTML, PDF, DOCX, CSV, JSONL.

    for document in load("docs/"):
        print(document.source, len(document.text))

A file that cannot be read is reported, and the rest go on. Documents come one by one: a folder larger than memory
passes. Needs the extra `rag`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vecbench.lazy import lazy

if TYPE_CHECKING:
    from vecbench.rag.load.files import load
    from vecbench.rag.load.formats import LOADERS, Loader, MarkdownLoader, TextLoader
    from vecbench.rag.load.html import HtmlLoader
    from vecbench.rag.load.places import headings_at, page_at
    from vecbench.rag.load.reports import Unreadable, UnreadableWarning
    from vecbench.rag.load.rich import DocxLoader, PdfLoader
    from vecbench.rag.load.rows import CsvLoader, JsonLinesLoader

__all__ = [
    "LOADERS",
    "CsvLoader",
    "DocxLoader",
    "HtmlLoader",
    "JsonLinesLoader",
    "Loader",
    "MarkdownLoader",
    "PdfLoader",
    "TextLoader",
    "Unreadable",
    "UnreadableWarning",
    "headings_at",
    "load",
    "page_at",
]

_HOME = {
    "LOADERS": "formats",
    "CsvLoader": "rows",
    "DocxLoader": "rich",
    "HtmlLoader": "html",
    "JsonLinesLoader": "rows",
    "Loader": "formats",
    "MarkdownLoader": "formats",
    "PdfLoader": "rich",
    "TextLoader": "formats",
    "Unreadable": "reports",
    "UnreadableWarning": "reports",
    "headings_at": "places",
    "load": "files",
    "page_at": "places",
}

__getattr__, __dir__ = lazy(__name__, _HOME)
