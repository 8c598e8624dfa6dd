"""Passages to an answer: prompt, language model, citations."""
