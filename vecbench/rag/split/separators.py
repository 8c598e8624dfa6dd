"""Where texts of many kinds are cut: regular expressions, strongest separator first."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePath
from types import MappingProxyType

from vecbench.errors import ConfigError

__all__ = ["DEFAULT", "LANGUAGES", "for_source", "language_of", "separators"]

DEFAULT = ("\n\n", "\n", " ", "")
"""Paragraphs, lines, words, characters: literal and as regular expressions the same."""


def _lines(*openings: str) -> tuple[str, ...]:
    """A cut before each line that opens so, then as any text."""
    return (*(f"\n{opening} " for opening in openings), *DEFAULT)


_JAVASCRIPT = ("function", "const", "let", "var", "class", "if", "for", "while", "switch", "case", "default")
_TYPESCRIPT = ("enum", "interface", "namespace", "type", "class", *(word for word in _JAVASCRIPT if word != "class"))
_C = _lines("class", "void", "int", "float", "double", "if", "for", "while", "switch", "case")
_TAGS = (
    *("body", "div", "p", "br", "li", "h1", "h2", "h3", "h4", "h5", "h6", "span", "table", "tr", "td", "th", "ul"),
    *("ol", "header", "footer", "nav", "head", "style", "script", "meta", "title"),
)
_LATEX_SECTIONS = ("chapter", "section", "subsection", "subsubsection")
_LATEX_LISTS = (*("enumerate", "itemize", "description", "list", "quote", "quotation", "verse", "verbatim", "align"),)

LANGUAGES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "text": DEFAULT,
        # Full-width signs carry no space behind them; a sentence keeps the quotes and brackets that close it.
        "chinese": (
            "\n\n",
            "\n",
            "[。！？!?｡…]+[”’」』）》】〉)\"']*",
            "[；;]",
            "[，,：]",
            "、",
            "[ \u3000]",
            "\u200b",
            "",
        ),
        "markdown": ("\n#{1,6} ", "```\n", "\n\\*\\*\\*+\n", "\n---+\n", "\n___+\n", *DEFAULT),
        "html": (*(f"<{tag}" for tag in _TAGS), ""),
        "latex": (
            *(f"\n\\\\{section}{{" for section in _LATEX_SECTIONS),
            *(f"\n\\\\begin{{{name}}}" for name in _LATEX_LISTS),
            "$$",
            "$",
            " ",
            "",
        ),
        "python": ("\nclass ", "\ndef ", "\n\tdef ", *DEFAULT),
        "javascript": _lines(*_JAVASCRIPT),
        "typescript": _lines(*_TYPESCRIPT),
        "java": _lines(*("class", "public", "protected", "private", "static", "if", "for", "while", "switch", "case")),
        "go": _lines("func", "var", "const", "type", "if", "for", "switch", "case"),
        "rust": _lines("fn", "const", "let", "if", "while", "for", "loop", "match"),
        "c": _C,
        "cpp": _C,
        "ruby": _lines("def", "class", "if", "unless", "while", "for", "do", "begin", "rescue"),
    }
)
"""By name. All but "text" and "chinese" are those of langchain-text-splitters, its `$` of LaTeX included, which as a
regular expression is the end of the text and cuts nothing."""

_SUFFIXES = {
    **dict.fromkeys((".md", ".markdown", ".mdx"), "markdown"),
    **dict.fromkeys((".html", ".htm", ".xhtml"), "html"),
    **dict.fromkeys((".tex", ".ltx"), "latex"),
    **dict.fromkeys((".py", ".pyi", ".pyw"), "python"),
    **dict.fromkeys((".js", ".mjs", ".cjs", ".jsx"), "javascript"),
    **dict.fromkeys((".ts", ".mts", ".cts", ".tsx"), "typescript"),
    ".java": "java",
    ".go": "go",
    ".rs": "rust",
    ".c": "c",
    **dict.fromkeys((".h", ".cc", ".cpp", ".cxx", ".hh", ".hpp", ".hxx"), "cpp"),
    ".rb": "ruby",
}


def separators(language: str) -> tuple[str, ...]:
    """The separators of a language or format, as regular expressions; ConfigError for an unknown one."""
    if language not in LANGUAGES:
        raise ConfigError(f"no separators for {language!r}; there are: {', '.join(sorted(LANGUAGES))}")
    return LANGUAGES[language]


def language_of(source: str) -> str:
    """The name of the separators that fit a file by its suffix; "text" where the suffix says nothing."""
    return _SUFFIXES.get(PurePath(source).suffix.lower(), "text")


def for_source(source: str) -> tuple[str, ...]:
    """The separators that fit a file by its suffix, as regular expressions."""
    return LANGUAGES[language_of(source)]
