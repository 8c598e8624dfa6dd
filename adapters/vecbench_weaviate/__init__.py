"""weaviate for vecbench."""
