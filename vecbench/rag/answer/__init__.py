"""Passages to an answer: prompt, language model, citations.

Names are loaded when they are first used, so that importing this package imports no client.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vecbench.lazy import lazy

if TYPE_CHECKING:
    from vecbench.rag.answer.citations import CheckedText, check_citations
    from vecbench.rag.answer.extractive import Extractive
    from vecbench.rag.answer.openai import AnswerCutWarning, OpenAIChat
    from vecbench.rag.answer.prompt import Prompt, build_prompt, estimate_tokens
    from vecbench.rag.answer.templates import TEMPLATES, PromptTemplate

__all__ = [
    "TEMPLATES",
    "AnswerCutWarning",
    "CheckedText",
    "Extractive",
    "OpenAIChat",
    "Prompt",
    "PromptTemplate",
    "build_prompt",
    "check_citations",
    "estimate_tokens",
]

_HOME = {
    "TEMPLATES": "templates",
    "AnswerCutWarning": "openai",
    "CheckedText": "citations",
    "Extractive": "extractive",
    "OpenAIChat": "openai",
    "Prompt": "prompt",
    "PromptTemplate": "templates",
    "build_prompt": "prompt",
    "check_citations": "citations",
    "estimate_tokens": "prompt",
}

__getattr__, __dir__ = lazy(__name__, _HOME)
