"""Questions to passages: by vector, by words (BM25), by both."""
