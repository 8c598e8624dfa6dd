"""Data sets that are fetched on first use: `NAME.toml` beside this file says from where, and what hash they have."""

from __future__ import annotations

from importlib import resources

from vecbench.dataset import DatasetSource
from vecbench.sources import card_source

__all__ = [
    "beir_fiqa",
    "beir_nfcorpus",
    "beir_scifact",
    "cohere_768_1m",
    "cohere_768_100k",
    "drcd_dev",
    "drcd_test",
    "gist_960_euclidean",
    "glove_25_angular",
    "glove_100_angular",
    "openai_1536_50k",
    "sift_128_euclidean",
]


def _source(name: str) -> DatasetSource:
    return card_source(resources.files(__name__) / f"{name}.toml")


beir_fiqa = _source("beir-fiqa")
beir_nfcorpus = _source("beir-nfcorpus")
beir_scifact = _source("beir-scifact")
cohere_768_100k = _source("cohere-768-100k")
cohere_768_1m = _source("cohere-768-1m")
drcd_dev = _source("drcd-dev")
drcd_test = _source("drcd-test")
gist_960_euclidean = _source("gist-960-euclidean")
glove_25_angular = _source("glove-25-angular")
glove_100_angular = _source("glove-100-angular")
openai_1536_50k = _source("openai-1536-50k")
sift_128_euclidean = _source("sift-128-euclidean")
