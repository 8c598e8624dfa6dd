"""Elasticsearch for vecbench: a server or Elastic Cloud by URL, a process of our own without one."""

from vecbench_elasticsearch.store import ElasticsearchStore

__all__ = ["ElasticsearchStore"]
