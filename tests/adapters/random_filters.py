"""Filters by chance, over keys and values that a store's own language could misread, and metadata for them."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from vecbench.filters import And, Contains, Eq, Exists, Filter, Gt, Gte, In, Lt, Lte, Ne, Not, NotIn, Or

BIG = 2**53
FIELDS = ['a.b"[]', "year", "tags[]", "é"]
VALUES: list[Any] = [
    "x", "n:1", "", "true", 0, 1, 1.0, 1.5, -1, True, False, BIG, BIG + 1, BIG + 2, float(BIG), -BIG - 1,
    2**63 - 1, 2**63 - 2, -(2**63), 1e300, -0.0, 5e-324,
]  # fmt: skip
LISTS = [[], ["x"], ["x", "y"], ["n:1", "1"]]
# Where a float64 rounds; chance alone would miss them.
BOUNDS = [op("year", v) for op in (Lt, Lte, Gt, Gte, Eq) for v in (BIG, BIG + 1, 2**63 - 1, -(2**63))]


def random_metadata(
    rng: random.Random, n: int, fields: Sequence[str] = FIELDS, values: Sequence[Any] = (*VALUES, *LISTS)
) -> list[dict[str, Any]]:
    """Of n records, up to four keys each."""
    return [{f: rng.choice(values) for f in rng.sample(fields, rng.randrange(1, 5))} for _ in range(n)]


def random_filter(
    rng: random.Random,
    fields: Sequence[str] = FIELDS,
    values: Sequence[Any] = VALUES,
    words: Sequence[str] = ("x", "1", "n:1"),
    depth: int = 2,
) -> Filter:
    """Some are compound, `depth` levels deep; words: what lists are asked for."""
    if depth and rng.random() < 0.4:
        parts = tuple(random_filter(rng, fields, values, words, depth - 1) for _ in range(rng.randrange(3)))
        compound: list[Filter] = [
            And(parts), Or(parts), Not(random_filter(rng, fields, values, words, depth - 1))
        ]  # fmt: skip
        return rng.choice(compound)
    field = rng.choice(fields)
    number = rng.choice([v for v in values if type(v) in {int, float}] + [10**400, -(10**400), 2**64])
    many = rng.sample(values, rng.randrange(4))
    single: list[Filter] = [
        Eq(field, rng.choice(values)), Ne(field, rng.choice(values)), Lt(field, number), Lte(field, number),
        Gt(field, number), Gte(field, number), In(field, many), NotIn(field, many),
        Contains(field, rng.choice(words)), Exists(field),
    ]  # fmt: skip
    return rng.choice(single)
