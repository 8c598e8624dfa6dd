"""The fixed model, really loaded: weights are found or fetched, and a machine that can do neither fails these tests."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from vecbench.embed import MiniLM
from vecbench.embed.minilm import MINILM_MODEL
from vecbench.embed.weights import ModelFiles, find_model
from vecbench.types import Vectors

HERE = Path(__file__).parent


@pytest.fixture(scope="session")
def model_files() -> ModelFiles:
    return find_model(MINILM_MODEL, download=True)


@pytest.fixture(scope="session")
def minilm(model_files: ModelFiles) -> MiniLM:
    return MiniLM(model_files)


@pytest.fixture(scope="session")
def reference_texts() -> list[str]:
    texts: list[str] = json.loads((HERE / "reference_texts.json").read_text("utf-8"))
    return texts


@pytest.fixture(scope="session")
def reference_vectors() -> Vectors:
    vectors: Vectors = np.load(HERE / "reference_vectors.npy", allow_pickle=False)
    return vectors
