"""Compute the reference vectors with sentence-transformers; run by hand, once, in an environment of its own.

    python -m venv /some/place && /some/place/bin/pip install sentence-transformers
    /some/place/bin/python tests/embed/make_reference.py DIRECTORY_OF_THE_PUBLISHED_MODEL

It shares no code with vecbench but the probe sentences. It writes `reference_vectors.npy` beside itself (one row per
text of `reference_texts.json`) and `vecbench/embed/probe_vectors.npy` (one row per probe sentence), both float32.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
from sentence_transformers import SentenceTransformer

HERE = Path(__file__).resolve().parent
PACKAGE = HERE.parents[1] / "vecbench" / "embed"


def main(model_directory: str) -> None:
    location = importlib.util.spec_from_file_location("probes", PACKAGE / "probes.py")
    assert location is not None
    assert location.loader is not None
    probes = importlib.util.module_from_spec(location)
    location.loader.exec_module(probes)
    model = SentenceTransformer(model_directory, device="cpu")
    model.max_seq_length = 256
    jobs = {
        HERE / "reference_vectors.npy": json.loads((HERE / "reference_texts.json").read_text("utf-8")),
        PACKAGE / "probe_vectors.npy": list(probes.PROBES),
    }
    for path, texts in jobs.items():
        vectors = model.encode(texts, batch_size=1, convert_to_numpy=True, normalize_embeddings=True)
        tokens = [len(ids) for ids in model.tokenizer(texts, truncation=True, max_length=256)["input_ids"]]
        np.save(path, np.asarray(vectors, dtype=np.float32))
        print(path.name, vectors.shape, "tokens", tokens)


if __name__ == "__main__":
    main(sys.argv[1])
