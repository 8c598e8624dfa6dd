"""Which files of a folder are meant, in which order: a glob, the ignore rules of git, and links."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vecbench.errors import ConfigError, MissingDependency
from vecbench.rag.load.encodings import printable
from vecbench.rag.load.reports import Unreadable

__all__ = ["walk"]

_NEVER = {"__pycache__", "node_modules"}  # what programs make for themselves
_IGNORE_FILES = (".gitignore", ".vecbenchignore")
_BELOW = re.compile(r"/\*\*/ *$")  # pathspec takes a/**/ for a/ itself; git means the folders below it


@dataclass(frozen=True, slots=True)
class _Rules:
    """The patterns of one ignore file, last first, and the folder that they are of: its source with a slash, or ""."""

    folder: str
    patterns: tuple[tuple[re.Pattern[str], bool], ...]

    def ignored(self, entry: str) -> bool | None:
        """What the last pattern that is of the entry itself says; None where none is. A folder ends in a slash."""
        path = entry.removeprefix(self.folder)
        return next((ignore for regex, ignore in self.patterns if _is_of(regex, path)), None)


def walk(root: Path, *, pattern: str, ignore: Sequence[str]) -> Iterator[tuple[Path, str] | Unreadable]:
    """The files that are meant, with their sources, in the order of their paths; a folder ignored is not entered.

    ConfigError for a rule or a pattern that is wrong, at the first step.
    """
    given = _rules("", ignore)
    if given is None:
        raise ConfigError(f"a rule of ignore or pattern is wrong: {', '.join(map(repr, ignore))}")
    wanted = None if pattern == "**/*" else _wanted(pattern)
    real_root = root.resolve()
    # A stack of its own: folders can be nested deeper than Python's calls may be.
    stack: list[tuple[Iterator[os.DirEntry[str]], tuple[_Rules, ...]]] = []
    yield from _enter(root, "", (), stack)
    while stack:
        entries, rules = stack[-1]
        entry = next(entries, None)
        if entry is None:
            stack.pop()
            continue
        if entry.name.startswith(".") or entry.name in _NEVER:
            continue
        source = Path(entry.path).relative_to(root).as_posix()
        is_folder, problem = _kind(entry, source, real_root)
        name = f"{source}/" if is_folder else source
        if _ignored(name, rules, given):
            continue
        if problem is not None:
            yield Unreadable(printable(source), problem)
        elif is_folder:
            if not entry.is_symlink():  # inside the folder: its files come under their own names
                yield from _enter(root, name, rules, stack)
        elif wanted is None or wanted.ignored(name):
            yield Path(entry.path), source


def _enter(
    root: Path,
    folder: str,
    rules: tuple[_Rules, ...],
    stack: list[tuple[Iterator[os.DirEntry[str]], tuple[_Rules, ...]]],
) -> Iterator[Unreadable]:
    """Put the entries of a folder on the stack, in order, with the rules that are of them."""
    try:
        with os.scandir(root / folder) as found:
            entries = sorted(found, key=lambda entry: entry.name)
    except OSError as e:
        yield Unreadable(printable(folder.rstrip("/") or "."), e.strerror or str(e))
        return
    there = {entry.name for entry in entries}
    for file in (file for file in _IGNORE_FILES if file in there):
        try:
            lines = (root / folder / file).read_text("utf-8", errors="replace").splitlines()
        except OSError as e:
            yield Unreadable(printable(folder + file), f"{e.strerror or e}: its rules are not followed")
            continue
        for line in lines:  # one by one: git, too, passes over what is no rule
            rules = (*rules, made) if (made := _rules(folder, [line])) is not None else rules
    stack.append((iter(entries), rules))


def _kind(entry: os.DirEntry[str], source: str, real_root: Path) -> tuple[bool, str | None]:
    """Whether an entry is a folder, and why it cannot be read."""
    try:
        return entry.is_dir(), _problem(entry, source, real_root)
    except (OSError, RuntimeError):  # links in a circle: before Python 3.13 Path says it by a RuntimeError
        return False, "it is a link that leads to itself"


def _problem(entry: os.DirEntry[str], source: str, real_root: Path) -> str | None:
    if printable(source) != source:
        return "its name is not UTF-8"
    if entry.is_symlink() and not Path(entry.path).resolve().is_relative_to(real_root):
        return "it is a link that leads out of the folder"
    return None if entry.is_file() or entry.is_dir() else "it is neither a file nor a folder"


def _ignored(entry: str, rules: tuple[_Rules, ...], given: _Rules) -> bool:
    """Whether `ignore`, or the last rule that speaks of the entry, says so; deeper files of rules come later."""
    if given.ignored(entry):
        return True
    said = (of_folder.ignored(entry) for of_folder in reversed(rules))
    return next((bool(decided) for decided in said if decided is not None), False)


def _rules(folder: str, lines: Sequence[str]) -> _Rules | None:
    """The rules of the lines; None where one is none."""
    try:
        from pathspec import GitIgnoreSpec
    except ImportError as error:
        raise MissingDependency("Ignore rules", module="pathspec", extra="rag") from error
    try:
        patterns: list[Any] = list(GitIgnoreSpec.from_lines([_BELOW.sub("/**/*/", line) for line in lines]).patterns)
    except ValueError:
        return None
    return _Rules(folder, tuple((p.regex, p.include) for p in reversed(patterns) if p.regex and p.include is not None))


def _is_of(regex: re.Pattern[str], path: str) -> bool:
    """Whether a pattern of pathspec matches the entry itself, as git asks, and not only a folder that it is in.

    pathspec answers for single paths, and so lets a pattern match all that is below; here each folder was asked before.
    """
    if "ps_d" in regex.groupindex:  # its name for the slash at which what the pattern names has ended
        return any(at["ps_d"] is None or at.end("ps_d") == len(path) for at in regex.finditer(path))
    return regex.search(path.rstrip("/")) is not None


def _wanted(pattern: str) -> _Rules:
    rules = _rules("", [pattern if "/" in pattern else f"**/{pattern}"])
    if not pattern or rules is None or [chosen for _, chosen in rules.patterns] != [True]:
        raise ConfigError(f"pattern is no glob: {pattern!r}")
    return rules
