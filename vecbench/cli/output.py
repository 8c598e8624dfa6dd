"""What every verb prints with: errors as plain lines, tables whose cells are never read as markup."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vecbench.errors import ConfigError, redact

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

__all__ = ["complain", "console", "figure", "megabytes", "print_json", "require_writable", "table"]


def complain(message: str, *, head: str = "error") -> None:
    """Write `head: message` to stderr, secrets masked."""
    print(f"{head}: {redact(message)}", file=sys.stderr, flush=True)


def console(*, stderr: bool = False) -> Console:
    """A console that prints text as it is: square brackets, colons and numbers mean nothing to it."""
    from rich.console import Console

    return Console(stderr=stderr, markup=False, emoji=False, highlight=False)


def table(title: str, columns: Iterable[str], rows: Iterable[Sequence[str]], *, right: Sequence[str] = ()) -> Table:
    """A plain table; columns named in `right` hold figures, are aligned to the right and never wrapped."""
    from rich import box
    from rich.table import Table

    made = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        number = column in right
        made.add_column(column, justify="right" if number else "left", no_wrap=number, overflow="fold")
    for row in rows:
        made.add_row(*row)
    return made


def print_json(value: Any) -> None:
    """Write `value` to stdout as indented JSON."""
    print(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False))


def figure(value: float | None, digits: int = 2) -> str:
    """A number with thousands separated, or a dash."""
    return "–" if value is None else f"{value:,.{digits}f}"


def megabytes(size_bytes: int | None) -> str:
    """Bytes as a number of millions, or a dash."""
    return "–" if size_bytes is None else f"{size_bytes / 1e6:,.1f}"


def require_writable(path: Path, *, force: bool) -> None:
    """Raise `ConfigError` unless a file can be made at `path`; one that exists is replaced with `force` only."""
    import tempfile

    if path.is_dir():
        raise ConfigError(f"--out {path} is a directory; name a file in it")
    if path.exists() and not force:
        raise ConfigError(f"{path} exists; choose another name, or give --force to replace it")
    try:
        with tempfile.TemporaryFile(dir=path.parent):  # asking for permission says yes on a read-only file system
            pass
    except OSError as e:
        raise ConfigError(f"--out {path}: nothing can be written to {path.parent} ({e.strerror or e})") from e
