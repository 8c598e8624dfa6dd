"""RediSearch for vecbench: a Redis with its query engine, as a local process or a server by URL."""

from vecbench_redisearch.store import RedisearchStore

__all__ = ["RedisearchStore"]
