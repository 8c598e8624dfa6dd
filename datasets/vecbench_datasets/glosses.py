"""glosses-10k: real text embeddings carried by the package, the default data set."""

from __future__ import annotations

from importlib import resources

import numpy as np

from vecbench.dataset import Dataset, DatasetCard, DatasetSource
from vecbench.errors import DatasetError
from vecbench.types import Vectors

__all__ = ["glosses_10k"]

_HERE = resources.files("vecbench_datasets")


def _read(name: str) -> Vectors:
    """Integers of ±127 as float32, which holds them, their products and their sums exactly."""
    try:
        with (_HERE / "data" / name).open("rb") as file:
            return np.lib.format.read_array(file, allow_pickle=False).astype(np.float32)
    except (OSError, ValueError) as e:
        raise DatasetError(f"glosses-10k: {name} cannot be read ({e}); install vecbench again") from e


def _load() -> Dataset:
    return Dataset(_CARD, _read("glosses_10k_base.npy"), _read("glosses_10k_queries.npy"))


_CARD = DatasetCard.from_toml(_HERE / "cards" / "glosses-10k.toml")
glosses_10k = DatasetSource(_CARD, _load)
