"""The default data set: what the card says, and integers on which float32 is exact."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import vecbench_datasets
from vecbench.dataset import Dataset
from vecbench.embed import MINILM_SPEC
from vecbench.errors import ChecksumMismatch, DatasetError
from vecbench.geometry import measure
from vecbench_datasets import glosses
from vecbench_datasets.make_glosses import freeze


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return glosses.glosses_10k.load()


def test_the_vectors_are_the_cards(dataset: Dataset) -> None:
    assert dataset.name == "glosses-10k"
    assert dataset.base.shape == (10_000, 384)
    assert dataset.queries.shape == (500, 384)
    assert not dataset.card.synthetic
    assert "cosine and Euclid rank alike" in dataset.card.notes[0]


def test_the_package_carries_less_than_five_megabytes_and_the_licence() -> None:
    data = Path(next(iter(vecbench_datasets.__path__))) / "data"
    assert sum(p.stat().st_size for p in data.iterdir()) < 5_000_000
    licence = (data / "LICENSE-wordnet.txt").read_text()
    assert "WordNet 3.0 Copyright 2006 by Princeton University.  All rights reserved." in licence
    assert "Permission to use, copy, modify and distribute" in licence


def test_queries_are_held_out_and_no_row_occurs_twice(dataset: Dataset) -> None:
    everything = np.concatenate([dataset.base, dataset.queries])
    assert len(np.unique(everything, axis=0)) == 10_500


def test_float32_distances_are_those_of_whole_numbers(dataset: Dataset) -> None:
    base, queries = dataset.base.astype(np.int64), dataset.queries.astype(np.int64)
    np.testing.assert_array_equal(base, dataset.base)
    assert np.abs(base).max() <= 127
    # ‖a − b‖² ≤ (‖a‖ + ‖b‖)² and |⟨a, b⟩| ≤ ‖a‖‖b‖ bound every partial sum; under 2^24 float32 holds all integers.
    longest = int(max((base**2).sum(1).max(), (queries**2).sum(1).max()))
    assert 4 * longest < 2**24
    dots = dataset.queries @ dataset.base.T
    assert dots.dtype == np.float32
    np.testing.assert_array_equal(dots, queries @ base.T)
    for q, whole in zip(dataset.queries[:20], queries[:20], strict=True):
        squared = np.square(dataset.base - q).sum(1)
        assert squared.dtype == np.float32
        np.testing.assert_array_equal(squared, ((base - whole) ** 2).sum(1))


def test_the_embedder_is_the_fixed_model_but_for_the_grid(dataset: Dataset) -> None:
    spec = dataset.embedder
    assert spec == replace(MINILM_SPEC, name="all-MiniLM-L6-v2 on an integer grid", normalised=False)
    assert spec is not None
    assert spec.fingerprint != MINILM_SPEC.fingerprint


def test_both_metrics_rank_nearly_alike_as_the_note_says(dataset: Dataset) -> None:
    figures = measure(dataset)
    assert figures.overlap_10 is not None
    assert 0.99 < figures.overlap_10 < 1
    assert figures.duplicate_rate == 0
    assert figures.norm_cv < 0.001


def test_a_changed_or_missing_file_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(glosses, "_HERE", tmp_path)
    with pytest.raises(DatasetError, match=r"glosses_10k_base\.npy cannot be read"):
        glosses.glosses_10k.load()
    (tmp_path / "data").mkdir()
    source = Path(next(iter(vecbench_datasets.__path__))) / "data"
    for part in ("base", "queries"):
        array = np.load(source / f"glosses_10k_{part}.npy")
        array[0, 0] += part == "queries"
        np.save(tmp_path / "data" / f"glosses_10k_{part}.npy", array)
    with pytest.raises(ChecksumMismatch, match="glosses-10k"):
        glosses.glosses_10k.load()


def test_freezing_rounds_to_the_grid_and_passes_repeated_rows_over() -> None:
    vectors = np.array([[1.0, -0.5], [0.1, 0.2], [0.1001, 0.2], [-1.0, 0.3], [0.0, 0.0]])
    base, queries = freeze(vectors, n_base=2, n_queries=2)
    assert base.tolist() == [[127, -64], [13, 25]]  # 63.5 goes to the even 64; row 2 is row 1 again
    assert queries.tolist() == [[-127, 38], [0, 0]]
    assert base.dtype == np.int8
    with pytest.raises(ValueError, match="4 distinct rows; 5 are needed"):
        freeze(vectors, n_base=3, n_queries=2)
