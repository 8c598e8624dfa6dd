"""elasticsearch for vecbench."""
