"""redisearch for vecbench."""
