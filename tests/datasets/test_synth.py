"""synth-text against a second writing of its definition, in Python's own integers and without NumPy arithmetic."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import pytest

from vecbench.dataset import DatasetSource
from vecbench.errors import ChecksumMismatch
from vecbench.geometry import measure
from vecbench_datasets import synth

MASK = 2**64 - 1
DIM, CLUSTERS, LATENT = 384, 256, 128


def mix(z: int) -> int:
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 & MASK
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB & MASK
    return z ^ (z >> 31)


def output(stream: int, index: int) -> int:
    state = mix(stream * 0x9E3779B97F4A7C15 & MASK)
    return mix((state + (index + 1) * 0x9E3779B97F4A7C15) & MASK)


def normal(stream: int, index: int) -> int:
    return sum(output(stream, index).to_bytes(8, "little")) - 8 * 255 // 2


@cache
def scales() -> list[int]:
    return [math.floor(256 / (rank**0.35) + 1e-9) for rank in range(1, LATENT + 1)]


@cache
def sign(r: int, column: int) -> int:
    return -1 if output(1, r * DIM + column) >= 2**63 else 1


def label(row: int) -> int:
    weights = [10**12 // rank for rank in range(1, CLUSTERS + 1)]
    drawn = output(3, row) % sum(weights)
    cluster = 0
    while drawn >= weights[cluster]:
        drawn -= weights[cluster]
        cluster += 1
    return cluster


def whole_row(row: int) -> list[int]:
    cluster = label(row)
    latent = [(normal(2, cluster * LATENT + r) + normal(4, row * LATENT + r)) * scales()[r] for r in range(LATENT)]
    return [
        sum(latent[r] * sign(r, column) for r in range(LATENT)) + 128 * normal(5, row * DIM + column)
        for column in range(DIM)
    ]


@pytest.mark.parametrize("row", [0, 1, 9_999, 999_999, 2**32, 2**32 + 999])
def test_rows_are_those_of_the_slow_definition(row: int) -> None:
    whole = whole_row(row)
    raw = synth.rows(row, row + 1, "raw")[0]
    assert raw.dtype == np.float32
    assert raw.tolist() == [value // 2**13 for value in whole]
    grid = [value // 2**4 for value in whole]
    length = math.sqrt(sum(value * value for value in grid))
    expected = np.array([value / length for value in grid], np.float32)
    assert synth.rows(row, row + 1, "unit")[0].tobytes() == expected.tobytes()


def test_the_first_outputs_of_splitmix64_are_the_published_ones() -> None:
    # Seed 1234567, from the reference implementation's widely published test sequence.
    state, expected = 1234567, [6457827717110365317, 3203168211198807973, 9817491932198370423]
    assert [mix((state + (i + 1) * 0x9E3779B97F4A7C15) & MASK) for i in range(3)] == expected


SMALL = [synth.synth_text_10k_unit, synth.synth_text_10k_raw]
ALL = [
    *SMALL,
    synth.synth_text_50k_unit,
    synth.synth_text_50k_raw,
    synth.synth_text_100k_unit,
    synth.synth_text_100k_raw,
    synth.synth_text_1m_unit,
    synth.synth_text_1m_raw,
]


@pytest.mark.parametrize("source", ALL[:6], ids=lambda s: s.name)
def test_the_bytes_are_the_cards(source: DatasetSource) -> None:
    dataset = source.load()
    assert dataset.base.shape == (source.card.n_base, DIM)
    assert len(dataset.queries) == 1000


@pytest.mark.parametrize("source", ALL, ids=lambda s: s.name)
def test_every_card_warns_that_it_is_synthetic(source: DatasetSource) -> None:
    n = {"10k": 10_000, "50k": 50_000, "100k": 100_000, "1m": 1_000_000}[source.name.split("-")[2]]
    assert source.card.synthetic
    assert source.card.n_base == n
    assert source.card.notes[0].startswith("synthetic, LID ")
    assert "not a retrieval-quality measure" in source.card.notes[0]


def test_a_changed_constant_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(synth, "_NOISE_SCALE", 129)
    with pytest.raises(ChecksumMismatch, match="synth-text-10k-raw"):
        synth.synth_text_10k_raw.load()


def test_a_row_depends_on_its_number_only() -> None:
    whole = synth.rows(0, 5000, "unit")
    np.testing.assert_array_equal(synth.rows(4090, 4100, "unit"), whole[4090:4100])
    np.testing.assert_array_equal(synth.rows(0, 7, "unit"), whole[:7])


def test_a_smaller_size_is_the_head_of_a_larger_one_with_the_same_queries() -> None:
    small, large = synth.synth_text_10k_raw.load(), synth.synth_text_50k_raw.load()
    np.testing.assert_array_equal(small.base, large.base[:10_000])
    np.testing.assert_array_equal(small.queries, large.queries)


@pytest.mark.parametrize("source", SMALL, ids=lambda s: s.name)
def test_queries_are_held_out_and_no_row_occurs_twice(source: DatasetSource) -> None:
    dataset = source.load()
    assert len(np.unique(np.concatenate([dataset.base, dataset.queries]), axis=0)) == 11_000


def test_float32_distances_of_the_raw_form_are_those_of_whole_numbers() -> None:
    dataset = synth.synth_text_10k_raw.load()
    base, queries = dataset.base.astype(np.int64), dataset.queries.astype(np.int64)
    np.testing.assert_array_equal(base, dataset.base)
    assert 4 * int(max((base**2).sum(1).max(), (queries**2).sum(1).max())) < 2**24
    np.testing.assert_array_equal(dataset.queries[:100] @ dataset.base.T, queries[:100] @ base.T)
    for q, whole in zip(dataset.queries[:20], queries[:20], strict=True):
        np.testing.assert_array_equal(np.square(dataset.base - q).sum(1), ((base - whole) ** 2).sum(1))


def test_the_unit_form_has_length_one() -> None:
    lengths = np.linalg.norm(synth.synth_text_10k_unit.load().base.astype(np.float64), axis=1)
    np.testing.assert_allclose(lengths, 1, atol=1e-6)


def test_geometry_is_like_text_and_the_raw_form_separates_the_metrics() -> None:
    unit, raw = (measure(source.load()) for source in SMALL)
    for figures, source in ((unit, SMALL[0]), (raw, SMALL[1])):
        assert figures.lid_median is not None
        assert f"LID {figures.lid_median:.0f};" in source.card.notes[0]
        assert figures.lid_median == pytest.approx(20, abs=1.5)  # 19 to 20 were measured on real text embeddings
    assert unit.overlap_10 == 1.0
    assert raw.overlap_10 is not None
    assert 0.5 < raw.overlap_10 < 0.75
