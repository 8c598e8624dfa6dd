"""Texts as chunks: recursive, by next-sentence prediction, by discourse; offsets into the text are exact."""
