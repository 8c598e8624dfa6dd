"""Cards of data sets that are fetched or lie with the user: what is on the shelf, and what a user's own may say."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import vecbench_datasets.downloads as shelf
from vecbench import registry
from vecbench.dataset import DatasetCard, DatasetSource
from vecbench.embed.minilm import MINILM_SPEC
from vecbench.errors import ChecksumMismatch, DatasetError
from vecbench.formats.recipe import CardFile, Recipe
from vecbench.sources import (
    card_source,
    card_to_toml,
    data_home,
    path_source,
    pinned,
    register,
    slug,
    user_names,
    user_source,
)
from vecbench.types import Metric

CARDS = sorted(Path(shelf.__file__).parent.glob("*.toml"))
README = (Path(__file__).parents[2] / "datasets" / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("path", CARDS, ids=lambda path: path.stem)
def test_every_card_on_the_shelf_is_whole(path: Path) -> None:
    source = getattr(shelf, path.stem.replace("-", "_"))
    assert isinstance(source, DatasetSource)
    assert source.name == path.stem
    assert registry.dataset_source(path.stem).card == source.card  # registered under its name
    assert source.card.metric is not None
    assert source.card.sha256 == ""  # the vectors' own hash is not known; the files' are what is held to
    assert source.recipe is not None
    assert source.recipe.reader != "auto"
    for file in source.recipe.files:
        assert bool(file.sha256) == bool(file.bytes)
        assert file.urls[0].startswith("https://")  # one without follows only where a hash is held to
        assert file.sha256 or all(url.startswith("https://") for url in file.urls)
    state = "pinned" if all(file.sha256 for file in source.recipe.files) else "unpinned"
    row = next(line for line in README.splitlines() if line.startswith(f"| `{source.name}`"))
    assert f"| {state} |" in row
    assert f"| {source.card.n_base:,} × {source.card.dim} | {source.card.n_queries:,} |" in row


def test_the_shelf_holds_the_standard_sets() -> None:
    assert {path.stem for path in CARDS} == {name.replace("_", "-") for name in shelf.__all__}
    assert len(CARDS) == 12


def test_a_card_of_texts_names_the_fixed_model() -> None:
    card = shelf.beir_scifact.card
    assert (card.dim, card.embedder, card.metric) == (384, MINILM_SPEC, Metric.COSINE)
    assert shelf.beir_scifact.texts is not None
    assert shelf.sift_128_euclidean.texts is None


@pytest.mark.parametrize("part", ["dev", "test"])
def test_drcd_is_read_from_its_pinned_file(part: str, home: Path, real_data: Path) -> None:
    """The files that are here have the hash and the figures that the card says."""
    source = getattr(shelf, f"drcd_{part}")
    folder = home / "cache" / "vecbench" / "datasets" / source.name
    folder.mkdir(parents=True)
    (folder / f"DRCD_{part}.json").write_bytes((real_data / "drcd" / f"DRCD_{part}.json").read_bytes())
    texts = source.texts()
    assert (len(texts.documents), len(texts.queries)) == (source.card.n_base, source.card.n_queries)
    (folder / f"DRCD_{part}.json").write_bytes(b"{}")
    with pytest.raises(ChecksumMismatch):
        card_source(CARDS[0].with_name(f"{source.name}.toml")).load()


def test_bigann_of_bytes_agrees_with_the_neighbours_that_came_with_it(
    home: Path, tmp_path: Path, real_data: Path
) -> None:
    """Ten thousand vectors of a published set: what was published is what we compute, ties counted by distance."""
    from vecbench.cli.checking import repeated_queries, upstream_agreement

    base = np.load(real_data / "bigann10k" / "base_uint8.npy")
    with (tmp_path / "base.u8bin").open("wb") as file:
        np.array(base.shape, np.uint32).tofile(file)
        base.tofile(file)
    np.save(tmp_path / "query.npy", base[:100])
    np.save(tmp_path / "gt.npy", np.load(real_data / "bigann10k" / "upstream_gt_first100.npy"))
    source = path_source(tmp_path / "base.u8bin")
    data = source.load()
    assert (data.base.shape, data.queries.shape) == ((10_000, 128), (100, 128))
    assert source.neighbours is not None
    neighbours = source.neighbours()
    assert neighbours is not None
    share, worst, k = upstream_agreement(data, neighbours, Metric.EUCLIDEAN)
    assert (share, worst, k) == (1, 1, 100)
    assert repeated_queries(data) == 100
    wrong = neighbours.copy()
    wrong[5, :50] = 9_999
    share, worst, _ = upstream_agreement(data, wrong, Metric.EUCLIDEAN)
    assert worst <= 0.51
    assert share == pytest.approx(0.99 + worst / 100)
    with pytest.raises(DatasetError, match="name row 10000"):
        upstream_agreement(data, np.full((100, 3), 10_000), Metric.EUCLIDEAN)


CARD = """
name = "mine"
title = "Mine"
description = "x"
source = "here"
licence = "none"
dim = 2
n_base = 3
n_queries = 1
synthetic = false
metric = "cosine"
queries = "asked.npy"
path = "base.npy"
"""
BASE = np.array([[0, 1], [2, 3], [4, 5]], np.float32)


def own(folder: Path, text: str = CARD) -> Path:
    folder.mkdir(exist_ok=True)
    np.save(folder / "base.npy", BASE)
    np.save(folder / "asked.npy", BASE[:1])
    (folder / "card.toml").write_text(text, encoding="utf-8")
    return folder / "card.toml"


def test_a_card_of_ones_own_lies_beside_its_files(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = own(tmp_path / "set")
    data = registry.dataset_source(str(path)).load()
    np.testing.assert_array_equal(data.base, BASE)
    assert data.card.metric is Metric.COSINE
    monkeypatch.chdir(tmp_path / "set")
    assert registry.dataset_source("./card.toml").load().sha256 == data.sha256
    assert registry.dataset_source("card.toml").load().sha256 == data.sha256
    assert registry.dataset_source("base.npy").card.n_queries == 1


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("n_base = 3", "n_base = 4", r"\(3, 1, 2\), its card says \(4, 1, 2\)"),
        ('metric = "cosine"', 'metric = "manhattan"', "'manhattan'; known are euclidean, cosine, dot"),
        ('metric = "cosine"', "metric = 3", "metric is 3"),
        ('path = "base.npy"', 'path = "nothing.npy"', "does not exist"),
        ('path = "base.npy"', 'paht = "base.npy"', "neither path nor files"),
        ('path = "base.npy"', 'path = "base.npy"\nreader = "csv"', "reader is 'csv'"),
        ('path = "base.npy"', 'path = "base.npy"\ncolour = 1', r"unknown fields \['colour'\]"),
        ('path = "base.npy"', 'path = "base.npy"\nfiles = 1', "files must be a list of tables"),
        ('path = "base.npy"', 'path = "base.npy"\n[[files]]\nname = "a"', r"\['urls'\] are missing"),
        ('path = "base.npy"', 'path = "base.npy"\njudgements_sha256 = "x"', "judgements_sha256 is 'x'; 64 lower-case"),
        (
            'path = "base.npy"',
            'path = "base.npy"\n[[files]]\nname = "a"\nurls = ["https://h/a"]\nmd5 = "x"',
            r"unknown fields \['md5'\]",
        ),
        ('path = "base.npy"', f'path = "base.npy"\nsha256 = "{"0" * 64}"', "have sha256"),
    ],
)
def test_a_wrong_card_says_what(old: str, new: str, complaint: str, home: Path, tmp_path: Path) -> None:
    assert old in CARD
    with pytest.raises(DatasetError, match=complaint):
        registry.dataset_source(str(own(tmp_path / "set", CARD.replace(old, new)))).load()


WORDS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


@settings(max_examples=40, deadline=None)
@given(
    title=WORDS,
    description=WORDS,
    notes=st.lists(WORDS, max_size=3),
    path=WORDS,
    url=WORDS,
    metric=st.sampled_from(Metric),
)
def test_a_written_card_is_read_back(  # noqa: PLR0917
    title: str, description: str, notes: list[str], path: str, url: str, metric: Metric
) -> None:
    """Whatever stands in it: quotes, line ends, control characters."""
    card = DatasetCard(
        name="mine", title=title, description=description, source=path, licence="", dim=2, n_base=3, n_queries=1,
        sha256="", synthetic=False, notes=tuple(notes), metric=metric, embedder=None,
    )  # fmt: skip
    file = CardFile(name="a", urls=(f"https://h/{url}".replace("[", ""),))
    recipe = Recipe(path=path, files=(file,))

    class Memory:
        def read_text(self, encoding: str | None = None) -> str:
            return card_to_toml(card, recipe)

    back = card_source(Memory())
    assert back.card == card
    assert back.recipe == recipe


def test_a_set_that_was_added_has_a_name_from_then_on(home: Path, tmp_path: Path) -> None:
    path = own(tmp_path / "set").with_name("base.npy")
    card = register(pinned(path_source(path, name="mine", queries=path.with_name("asked.npy"))), set())
    assert card == data_home() / "mine" / "card.toml" == home / "data" / "vecbench" / "datasets" / "mine" / "card.toml"
    assert user_names() == ["mine"]
    assert "mine" in registry.dataset_names()
    data = registry.dataset_source("mine").load()
    np.testing.assert_array_equal(data.queries, BASE[:1])
    with pytest.raises(DatasetError, match="called 'mine' already"):
        register(path_source(path, name="mine"), {"mine"})
    np.save(path, BASE + 1)
    with pytest.raises(ChecksumMismatch, match="not the ones"):
        registry.dataset_source("mine").load()
    card.write_text(card.read_text().replace('name = "mine"', 'name = "other"'))
    with pytest.raises(DatasetError, match="rename its folder"):
        user_source("mine")


def test_a_registered_name_comes_before_a_file(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    np.save(tmp_path / "glosses-10k", BASE)
    assert registry.dataset_source("glosses-10k").card.n_base == 10_000
    with pytest.raises(DatasetError, match=r"did you mean 'glosses-10k'"):
        registry.dataset_source("glosses-10")
    with pytest.raises(DatasetError, match="is an address"):
        registry.dataset_source("https://user:secret@host/x.npy")
    with pytest.raises(DatasetError, match="does not exist"):
        registry.dataset_source("./glosses-10.npy")


def test_notes_of_the_reader_reach_the_data_set(home: Path, tmp_path: Path) -> None:
    path = own(tmp_path / "set", CARD.replace('queries = "asked.npy"\n', "").replace("n_base = 3", "n_base = 2"))
    assert "held out of the base" in card_source(path).load().card.notes[0]


def test_what_came_for_an_unpinned_file_can_be_got_rid_of(home: Path, tmp_path: Path) -> None:
    """A page that asks to log in was answered with 200: the first word on it says which folder to delete."""
    files = '\n[[files]]\nname = "base.npy"\nurls = ["https://example.org/base.npy"]\n'
    (tmp_path / "card.toml").write_text(CARD.replace('queries = "asked.npy"\n', "") + files, encoding="utf-8")
    folder = home / "cache" / "vecbench" / "datasets" / "mine"
    folder.mkdir(parents=True)
    (folder / "base.npy").write_bytes(b"<html>log in</html>")
    for _ in range(2):
        with pytest.raises(DatasetError, match=rf"no \.npy file.*hash of base\.npy.*delete {folder} to fetch it again"):
            card_source(tmp_path / "card.toml").load()
    digest = hashlib.sha256((folder / "base.npy").read_bytes()).hexdigest()
    with (tmp_path / "card.toml").open("a", encoding="utf-8") as file:
        file.write(f'sha256 = "{digest}"\n')
    with pytest.raises(DatasetError, match=r"no \.npy file") as caught:
        card_source(tmp_path / "card.toml").load()
    assert "delete" not in str(caught.value)  # it is what the card means


def test_a_row_of_zeros_is_not_added_where_cosine_is_meant(home: Path, tmp_path: Path) -> None:
    own(tmp_path / "set")
    base, asked = (tmp_path / "set" / name for name in ("base.npy", "asked.npy"))
    np.save(base, BASE * [[1], [0], [1]])
    with pytest.raises(DatasetError, match="row 1 of base is zero, which has no cosine distance"):
        pinned(path_source(base, queries=asked, metric=Metric.COSINE))
    assert pinned(path_source(base, queries=asked, metric=Metric.EUCLIDEAN)).card.sha256
    np.save(base, BASE)
    np.save(asked, BASE[:1] * 0)
    with pytest.raises(DatasetError, match="row 0 of queries is zero"):
        pinned(path_source(base, queries=asked, metric=Metric.COSINE))


def test_a_name_that_is_not_utf8_is_refused_before_it_is_read(home: Path, tmp_path: Path) -> None:
    """It could be measured, but no report and no card could say what was measured."""
    name = tmp_path / os.fsdecode(b"q\xff.npy")
    with pytest.raises(DatasetError, match=r"q\\udcff\.npy': the name is not UTF-8; rename it"):
        path_source(name)
    with pytest.raises(DatasetError, match="not UTF-8"):
        path_source(own(tmp_path / "set").with_name("base.npy"), queries=name)


def test_names_made_of_paths() -> None:
    assert [slug(text) for text in ("My Vectors_2", "Übung", "語", "--a--", "")] == [
        "my-vectors-2",
        "ubung",
        "data",
        "a",
        "data",
    ]


def test_a_card_without_a_hash_is_still_held_to_its_figures() -> None:
    card = shelf.sift_128_euclidean.card
    assert DatasetCard.from_dict(json.loads(json.dumps(card.to_dict()))) == card
    with pytest.raises(DatasetError, match="64 lower-case hex"):
        replace(card, sha256="abc")


def test_listing_the_shelf_imports_no_reader_of_others_and_no_network() -> None:
    code = (
        "import sys, vecbench.sources, vecbench.formats.layout, vecbench.formats.fetch\n"
        "import vecbench_datasets.downloads as shelf\n"
        "assert shelf.sift_128_euclidean.card.n_base == 1_000_000\n"
        "found = {'h5py', 'pyarrow', 'httpx', 'onnxruntime', 'tokenizers', 'rich'} & set(sys.modules)\n"
        "sys.exit(f'imported: {found}' if found else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
