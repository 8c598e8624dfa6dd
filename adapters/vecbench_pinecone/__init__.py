"""pinecone for vecbench."""
