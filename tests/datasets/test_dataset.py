"""Cards, checksums, and that listing a source reads nothing."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from vecbench.dataset import Dataset, DatasetCard, DatasetSource, array_sha256
from vecbench.embed.spec import EmbedderSpec
from vecbench.errors import ChecksumMismatch, DatasetError

CARD = """
name = "three-rows"
title = "Three rows"
description = "For tests."
source = "made up"
licence = "Apache-2.0"
dim = 2
n_base = 3
n_queries = 1
sha256 = "{sha256}"
synthetic = true
notes = ["a note", "another"]
[embedder]
name = "toy"
dim = 2
"""
BASE = np.array([[0, 1], [2, 3], [4, 5]], np.float32)
QUERIES = np.array([[1, 1]], np.float32)
# Written out by hand: dtype and shape as JSON, a line feed, then the bytes.
SHA256 = hashlib.sha256(
    b'{"dtype":"<f4","shape":[3,2]}\n'
    + bytes.fromhex("000000000000803f0000004000004040000080400000a040")
    + b'{"dtype":"<f4","shape":[1,2]}\n'
    + bytes.fromhex("0000803f0000803f")
).hexdigest()


def card(tmp_path: Path, text: str = CARD.format(sha256=SHA256)) -> DatasetCard:
    path = tmp_path / "card.toml"
    path.write_text(text, encoding="utf-8")
    return DatasetCard.from_toml(path)


def test_a_card_is_read_from_toml(tmp_path: Path) -> None:
    read = card(tmp_path)
    assert (read.name, read.dim, read.n_base, read.n_queries, read.synthetic) == ("three-rows", 2, 3, 1, True)
    assert read.notes == ("a note", "another")
    assert read.embedder == EmbedderSpec(name="toy", dim=2)
    assert DatasetCard.from_dict(read.to_dict()) == read


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ('title = "Three rows"', "", r"\['title'\] are missing"),
        ('title = "Three rows"', 'titel = "Three rows"', r"unknown fields \['titel'\]"),
        ("dim = 2\nn_base", 'dim = "2"\nn_base', "dim is '2'; it must be int"),
        ("dim = 2\nn_base", "dim = true\nn_base", "dim is True; it must be int"),
        ("n_base = 3", "n_base = 0", "at least 1"),
        ("three-rows", "Three Rows", "lower-case"),
        (SHA256, SHA256[:-1], "64 lower-case hex digits"),
        ('["a note", "another"]', '"a note"', "list of strings"),
        ('["a note", "another"]', "[1]", "strings"),
        ("dim = 2\nn_base", "dim = 3\nn_base", "its embedder"),
        ('name = "toy"', "", "embedder spec"),
        ("dim = 2\nn_base", "dim = = 2\nn_base", "cannot be read"),
    ],
)
def test_a_wrong_card_says_where_and_what(tmp_path: Path, old: str, new: str, complaint: str) -> None:
    text = CARD.format(sha256=SHA256)
    assert old in text
    with pytest.raises(DatasetError, match=complaint) as caught:
        card(tmp_path, text.replace(old, new))
    assert "card.toml" in str(caught.value)


def test_the_hash_is_over_dtype_shape_and_little_endian_bytes() -> None:
    assert array_sha256(BASE, QUERIES) == SHA256
    assert array_sha256(BASE.astype(">f4"), np.asfortranarray(QUERIES)) == SHA256
    assert array_sha256(np.asfortranarray(BASE), QUERIES) == SHA256
    different: list[tuple[np.ndarray, np.ndarray]] = [
        (QUERIES, BASE),
        (BASE.reshape(2, 3), QUERIES),
        (BASE.astype(np.float64), QUERIES),
        (BASE[:2], np.vstack([BASE[2:], QUERIES])),
    ]
    assert len({array_sha256(*arrays) for arrays in different} - {SHA256}) == len(different)


def test_a_source_loads_and_verifies_only_when_asked(tmp_path: Path) -> None:
    calls = []

    def make() -> Dataset:
        calls.append(1)
        return Dataset(promised, BASE, QUERIES)

    promised = card(tmp_path)
    source = DatasetSource(promised, make)
    assert source.name == "three-rows"
    assert not calls
    dataset = source.load()
    assert calls == [1]
    assert dataset.sha256 == SHA256
    assert dataset.ids == ["0", "1", "2"]
    assert dataset.query_ids == ["q0"]
    assert dataset.embedder == EmbedderSpec(name="toy", dim=2)


def test_other_vectors_than_the_card_promises_are_refused(tmp_path: Path) -> None:
    promised = card(tmp_path)
    changed = BASE.copy()
    changed[2, 1] = np.nextafter(changed[2, 1], np.float32(9))
    for base, queries, complaint in (
        (changed, QUERIES, "sha256"),
        (BASE, -QUERIES, "sha256"),
        (BASE[:2], QUERIES, r"\(2, 1, 2\), its card says \(3, 1, 2\)"),
    ):
        with pytest.raises(ChecksumMismatch, match=complaint):
            DatasetSource(promised, partial(Dataset, promised, base, queries)).load()


def test_a_loader_cannot_bring_a_card_of_its_own(tmp_path: Path) -> None:
    promised = card(tmp_path)
    own = Dataset.from_arrays("three-rows", BASE + 1, QUERIES)
    own.verify()
    with pytest.raises(ChecksumMismatch):
        DatasetSource(promised, lambda: own).load()
    same = Dataset(replace(promised, title="Another"), BASE, QUERIES)
    assert DatasetSource(promised, lambda: same).load().card == promised


def test_arrays_of_the_user_become_a_data_set_with_their_own_hash() -> None:
    dataset = Dataset.from_arrays("mine", BASE.tolist(), QUERIES.astype(np.float64), notes=["mine"])
    dataset.verify()
    assert dataset.card.sha256 == SHA256
    assert dataset.base.dtype == np.float32
    assert dataset.card.notes == ("mine",)


@pytest.mark.parametrize(
    ("base", "queries", "complaint"),
    [
        (BASE.astype(np.float64), QUERIES, "base is float64"),
        (BASE, QUERIES[0], r"queries is float32 \(2,\)"),
        (BASE[:0], QUERIES, "must not be empty"),
        (BASE, np.ones((1, 3), np.float32), "2 dimensions, queries 3"),
        (np.array([[0, 0], [1, np.nan], [0, 0]], np.float32), QUERIES, "row 1 of base holds NaN"),
        (np.array([[0, 0], [1, 0], [-np.inf, np.inf]], np.float32), QUERIES, "row 2 of base holds NaN or inf"),
        (BASE, np.array([[3e38, np.inf]], np.float32), "row 0 of queries"),
    ],
)
def test_unusable_arrays_are_refused(tmp_path: Path, base: np.ndarray, queries: np.ndarray, complaint: str) -> None:
    with pytest.raises(DatasetError, match=complaint):
        Dataset(card(tmp_path), base, queries)


def test_the_largest_floats_are_finite() -> None:
    Dataset.from_arrays("large", np.full((2, 400), np.finfo(np.float32).max), np.ones((1, 400)))


def test_ids_must_be_as_many_as_rows_and_unique(tmp_path: Path) -> None:
    for ids in (["a", "b"], ["a", "b", "a"]):
        with pytest.raises(DatasetError, match="ids"):
            Dataset(card(tmp_path), BASE, QUERIES, ids)
    with pytest.raises(DatasetError, match="query_ids"):
        Dataset(card(tmp_path), BASE, QUERIES, query_ids=["a", "b"])


def test_vectors_are_frozen_and_the_callers_array_is_not(tmp_path: Path) -> None:
    mine = BASE.copy()
    dataset = Dataset(card(tmp_path), mine, QUERIES)
    with pytest.raises(ValueError, match="read-only"):
        dataset.base[0, 0] = 7
    mine[0, 0] = 0
