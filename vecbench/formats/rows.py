"""Names of rows that are made when they are asked for: ten million strings would take more memory than some engines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, overload

import numpy as np
import numpy.typing as npt

__all__ = ["RowNames", "distinct"]


class RowNames(Sequence[str]):
    """`prefix` and a number for each row, as strings: "0", "1" … or the whole numbers that a file brings as ids."""

    __slots__ = ("numbers", "prefix")

    def __init__(self, numbers: range | npt.NDArray[np.int64], prefix: str = "") -> None:
        self.numbers, self.prefix = numbers, prefix

    def __len__(self) -> int:
        return len(self.numbers)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[str]: ...
    def __getitem__(self, index: int | slice) -> str | Sequence[str]:
        if isinstance(index, slice):
            return RowNames(self.numbers[index], self.prefix)
        return f"{self.prefix}{self.numbers[index]}"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence) or isinstance(other, str):
            return NotImplemented
        return len(self) == len(other) and all(mine == theirs for mine, theirs in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]  # equal to a list, which has none either

    def __reduce__(self) -> tuple[Any, ...]:
        return RowNames, (self.numbers, self.prefix)

    def __repr__(self) -> str:
        return f"RowNames({self.numbers!r}, {self.prefix!r})"


def distinct(names: Sequence[str]) -> int:
    """How many different names there are."""
    if isinstance(names, RowNames):
        return len(names) if isinstance(names.numbers, range) else len(np.unique(names.numbers))
    return len(set(names))
