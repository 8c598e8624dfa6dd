"""pgvector for vecbench."""
