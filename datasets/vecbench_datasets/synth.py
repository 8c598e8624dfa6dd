"""synth-text: made vectors with the local geometry of text embeddings, the same bytes on every machine.

A row is a cluster's centre plus a latent vector, both with slowly falling scales, carried into 384 dimensions by a
basis of random signs, plus isotropic noise. Every number is an integer until the very end: a counter hash (splitmix64;
Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014), sums of its bytes, and one
float64 matrix product of integers whose partial sums stay under 2^25, far below 2^53, and so are exact in any order. No
libm, no numpy.random, no state: a row depends on its own number only, so the first 10,000 rows of the million are
the 10,000.
"""

from __future__ import annotations

from functools import cache, partial
from importlib import resources
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from vecbench.dataset import Dataset, DatasetCard, DatasetSource
from vecbench.types import Vectors

__all__ = [
    "DIM",
    "FIRST_QUERY",
    "N_QUERIES",
    "Form",
    "rows",
    "synth_text",
    "synth_text_1m_raw",
    "synth_text_1m_unit",
    "synth_text_10k_raw",
    "synth_text_10k_unit",
    "synth_text_50k_raw",
    "synth_text_50k_unit",
    "synth_text_100k_raw",
    "synth_text_100k_unit",
]

Form: TypeAlias = Literal["unit", "raw"]
"""unit: float32 vectors of length 1. raw: small integers in float32, of differing lengths, with exact distances."""
DIM = 384
N_QUERIES = 1000
FIRST_QUERY = 1 << 32  # queries are the rows from this number on: held out of every base, and the same for all sizes

_CLUSTERS, _LATENT = 256, 128
_TOP_SCALE, _NOISE_SCALE = 256, 128
_SHIFT = {"unit": 4, "raw": 13}  # powers of two of the grid, fixed, so that no row decides over another
_BASIS, _CENTRES, _LABELS, _LATENTS, _NOISE = range(1, 6)  # streams of the hash
_BLOCK_ROWS = 4096

_U64: TypeAlias = npt.NDArray[np.uint64]
_F64: TypeAlias = npt.NDArray[np.float64]


def rows(start: int, stop: int, form: Form) -> Vectors:
    """Rows `start` up to `stop` of the endless data set: float32 (stop − start, 384)."""
    out = np.empty((stop - start, DIM), np.float32)
    for at in range(start, stop, _BLOCK_ROWS):
        until = min(at + _BLOCK_ROWS, stop)
        out[at - start : until - start] = _block(at, until, form)
    return out


def synth_text(n: int, form: Form, card: DatasetCard) -> Dataset:
    """The first n rows as base, and 1,000 queries held out of them."""
    return Dataset(card, rows(0, n, form), rows(FIRST_QUERY, FIRST_QUERY + N_QUERIES, form))


def _block(start: int, stop: int, form: Form) -> _F64:
    n = stop - start
    latent = _normals(_LATENTS, start * _LATENT, n * _LATENT).reshape(n, _LATENT)
    latent *= _scales()
    latent += _centres()[_labels(start, n)]
    x: _F64 = latent @ _basis()
    noise = _normals(_NOISE, start * DIM, n * DIM).reshape(n, DIM)
    noise *= _NOISE_SCALE
    x += noise
    x *= 0.5 ** _SHIFT[form]  # exact: a power of two
    np.floor(x, out=x)
    if form == "unit":
        x /= np.sqrt((x * x).sum(axis=1, keepdims=True))  # the sum is an exact integer, root and quotient IEEE-rounded
    return x


@cache
def _scales() -> _F64:
    """⌊256 / r^0.35⌋ for r = 1 … 128, by integers only: the largest s with s^20 · r^7 ≤ 256^20."""
    limit = _TOP_SCALE**20
    scales = [next(s for s in range(_TOP_SCALE, 0, -1) if s**20 * r**7 <= limit) for r in range(1, _LATENT + 1)]
    return np.array(scales, np.float64)


@cache
def _basis() -> _F64:
    """Signs +1 and −1, (128, 384): the top bit of the hash."""
    top = _hash(_BASIS, 0, _LATENT * DIM) >> np.uint64(63)
    return (1.0 - 2.0 * top.astype(np.float64)).reshape(_LATENT, DIM)


@cache
def _centres() -> _F64:
    return _normals(_CENTRES, 0, _CLUSTERS * _LATENT).reshape(_CLUSTERS, _LATENT) * _scales()


def _labels(start: int, n: int) -> npt.NDArray[np.int64]:
    """The cluster of each row, drawn with probabilities proportional to 1/rank (Zipf)."""
    upto = np.cumsum([10**12 // rank for rank in range(1, _CLUSTERS + 1)], dtype=np.uint64)
    return np.searchsorted(upto, _hash(_LABELS, start, n) % upto[-1:], side="right")


def _normals(stream: int, start: int, n: int) -> _F64:
    """Near-normal integers: the sum of the eight bytes of a hash, less its mean; sd 209, range ±1020."""
    h = _hash(stream, start, n)
    pairs = np.uint64(0x00FF00FF00FF00FF)
    h = (h & pairs) + ((h >> np.uint64(8)) & pairs)
    h *= np.uint64(0x0001000100010001)
    h >>= np.uint64(48)
    values = h.astype(np.float64)
    values -= 1020
    return values


def _hash(stream: int, start: int, n: int) -> _U64:
    """Outputs `start` … `start + n − 1` of the splitmix64 whose state begins at the mixed number of the stream."""
    z = np.arange(start + 1, start + n + 1, dtype=np.uint64)
    z *= np.uint64(_GOLDEN)
    z += _mix(np.array([stream * _GOLDEN % 2**64], np.uint64))
    return _mix(z)


_GOLDEN = 0x9E3779B97F4A7C15


def _mix(z: _U64) -> _U64:
    """The finalizer of splitmix64, in place."""
    z ^= z >> np.uint64(30)
    z *= np.uint64(0xBF58476D1CE4E5B9)
    z ^= z >> np.uint64(27)
    z *= np.uint64(0x94D049BB133111EB)
    z ^= z >> np.uint64(31)
    return z


def _source(label: str, n: int, form: Form) -> DatasetSource:
    card = DatasetCard.from_toml(resources.files("vecbench_datasets") / "cards" / f"synth-text-{label}-{form}.toml")
    return DatasetSource(card, partial(synth_text, n, form, card))


synth_text_10k_unit = _source("10k", 10_000, "unit")
synth_text_10k_raw = _source("10k", 10_000, "raw")
synth_text_50k_unit = _source("50k", 50_000, "unit")
synth_text_50k_raw = _source("50k", 50_000, "raw")
synth_text_100k_unit = _source("100k", 100_000, "unit")
synth_text_100k_raw = _source("100k", 100_000, "raw")
synth_text_1m_unit = _source("1m", 1_000_000, "unit")
synth_text_1m_raw = _source("1m", 1_000_000, "raw")
