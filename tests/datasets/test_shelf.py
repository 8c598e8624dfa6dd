"""Every card on the shelf has its source, its entry point and its row in the table."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest

import vecbench_datasets
from vecbench.dataset import DatasetCard, DatasetSource

CARDS = sorted((Path(next(iter(vecbench_datasets.__path__))) / "cards").glob("*.toml"))


@pytest.mark.parametrize("path", CARDS, ids=lambda p: p.stem)
def test_every_card_is_registered_under_its_name(path: Path) -> None:
    card = DatasetCard.from_toml(path)
    assert card.name == path.stem
    (point,) = entry_points(group="vecbench.datasets", name=card.name)
    source = point.load()
    assert isinstance(source, DatasetSource)
    assert source.card == card
    readme = (Path(__file__).parents[2] / "datasets" / "README.md").read_text(encoding="utf-8")
    assert f"| `{card.name}`" in readme


def test_the_shelf_is_not_empty() -> None:
    assert len(CARDS) == 9


def test_listing_the_shelf_reads_and_makes_no_vectors() -> None:
    code = (
        "import numpy, sys\n"
        "def refuse(*a, **k): raise SystemExit('vectors were read')\n"
        "numpy.lib.format.read_array = numpy.load = refuse\n"
        "from vecbench_datasets import glosses, synth\n"
        "synth._block = refuse\n"
        "assert glosses.glosses_10k.card.n_base == synth.synth_text_10k_raw.card.n_base\n"
        "assert synth._basis.cache_info().currsize == synth._centres.cache_info().currsize == 0\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
