"""chroma for vecbench."""
