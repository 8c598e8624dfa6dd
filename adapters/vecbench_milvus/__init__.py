"""milvus for vecbench."""
