"""Three fixed sentences that tell whether a loaded model is the fixed model; their vectors lie in probe_vectors.npy.

The first is short and mixes case and accents, the second has between 128 and 256 tokens, the third more than 256: so a
wrong pooling, prefix, normalisation, case folding or truncation, and quantised weights, each move at least one vector.
"""

from __future__ import annotations

__all__ = ["PROBES"]

PROBES: tuple[str, str, str] = (
    "The Café on the CORNER sells maps of rivers, not rivers.",
    " ".join(f"Shelf {n} holds {n * n} books about the weather of year {1900 + n}." for n in range(1, 13)),
    " ".join(f"On day {n} the ship sailed {7 * n} miles, turned {n % 4} times and met nobody." for n in range(1, 31)),
)
