"""Found passages in a better order: cross-encoder, lexical, hosted."""
