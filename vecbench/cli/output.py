"""What every verb prints with: errors as plain lines, tables whose cells are never read as markup."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vecbench.errors import ConfigError, redact

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

__all__ = [
    "complain", "console", "figure", "megabytes", "plain", "print_json", "require_writable", "say", "table", "working",
]  # fmt: skip

# Documents, file names and servers' answers are other people's. Control characters in them could move the cursor, hide
# lines or rename the window; half a surrogate pair (of a file name that is not UTF-8) cannot be written at all.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")


def plain(text: str) -> str:
    """The text with control characters spelled out, but for tabs and ends of lines."""

    def spelled(found: re.Match[str]) -> str:
        code = ord(found[0])
        return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"

    return _CONTROL.sub(spelled, text.replace("\r\n", "\n"))


def say(text: str = "", *, end: str = "\n", stderr: bool = False) -> None:
    """Write a line to stdout, or to stderr."""
    print(plain(text), end=end, file=sys.stderr if stderr else sys.stdout, flush=True)


def complain(message: str, *, head: str = "error") -> None:
    """Write `head: message` to stderr, secrets masked."""
    say(f"{head}: {redact(message)}", stderr=True)


def console(*, stderr: bool = False) -> Console:
    """A console that prints text as it is: square brackets, colons and numbers mean nothing to it."""
    from rich.console import Console

    class Plain(Console):
        def render_str(self, text: str, **options: Any) -> Text:
            return super().render_str(plain(text), **options)

    return Plain(stderr=stderr, markup=False, emoji=False, highlight=False)


@contextmanager
def working(text: str) -> Iterator[Callable[[str], None]]:
    """Show what is being done, on a terminal, until the context ends; gives a function that says something newer."""
    from rich.text import Text

    with console(stderr=True).status(Text(plain(text))) as shown:  # a string would be read as markup
        yield lambda newer: shown.update(Text(plain(newer)))


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
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    print(re.sub("[\x7f-\x9f\ud800-\udfff]", lambda found: f"\\u{ord(found[0]):04x}", text))


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
