"""Which files of a folder are loaded, in which order, and what becomes of those that cannot be read."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vecbench.errors import ConfigError, DocumentError, MissingDependency
from vecbench.rag.load.formats import LOADERS, Loader
from vecbench.rag.types import Document

__all__ = ["Unreadable", "UnreadableWarning", "load"]

_NEVER = {"__pycache__", "node_modules"}  # what programs make for themselves
_IGNORE_FILES = (".gitignore", ".vecbenchignore")


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A file that was left out, and why. unknown_kind: no loader knows its suffix."""

    source: str
    reason: str
    unknown_kind: bool = False


class _UnknownKind(DocumentError):
    pass


class UnreadableWarning(UserWarning):
    """A file was left out; the message names it and says why."""


def load(
    path: str | os.PathLike[str],
    *,
    pattern: str = "**/*",
    ignore: Sequence[str] = (),
    loaders: Sequence[Loader] = (),
    on_error: Callable[[Unreadable], None] | None = None,
) -> Iterator[Document]:
    """The documents of a file, or of the files of a folder in the order of their paths; read as they are asked for.

    A source is the path below the folder, with slashes; for a file its name. pattern: which files, as a glob below the
    folder. ignore: more to leave out, in the syntax of .gitignore; .gitignore and .vecbenchignore files of the tree
    count too, and hidden files and folders, `__pycache__` and `node_modules` are left out. Links are followed to files
    inside the folder only. loaders: your own, which come before those of `LOADERS`. on_error: called for each file that
    is left out because it cannot be read or no loader knows its suffix; without it an `UnreadableWarning` is warned.
    DocumentError where `path` is not there, or is a file that cannot be read.
    """
    root = Path(path)
    by_suffix = {suffix: loader for loader in reversed((*loaders, *LOADERS)) for suffix in loader.suffixes}
    if root.is_file():
        return _file(root, by_suffix)
    if not root.is_dir():
        raise DocumentError(f"{root}: there is no such file or folder")
    return _folder(root, by_suffix, pattern, ignore, on_error or _warn)


def _warn(file: Unreadable) -> None:
    warnings.warn(f"{file.source}: {file.reason}", UnreadableWarning, stacklevel=3)


def _file(path: Path, by_suffix: dict[str, Loader]) -> Iterator[Document]:
    try:
        yield from _read(path, path.name, by_suffix)
    except (DocumentError, OSError) as e:
        raise DocumentError(f"{path}: {_reason(e)}") from e


def _folder(
    root: Path, by_suffix: dict[str, Loader], pattern: str, ignore: Sequence[str], report: Callable[[Unreadable], None]
) -> Iterator[Document]:
    for path in _files(root, pattern, ignore, report):
        source = path.relative_to(root).as_posix()
        try:
            yield from _read(path, source, by_suffix)
        except (DocumentError, OSError) as e:
            report(Unreadable(source, _reason(e), isinstance(e, _UnknownKind)))


def _read(path: Path, source: str, by_suffix: dict[str, Loader]) -> Iterator[Document]:
    loader = by_suffix.get(path.suffix.lower())
    if loader is None:
        raise _UnknownKind(f"no loader knows the suffix {path.suffix!r}")
    for document in loader.load(path, source):
        if document.text.strip():
            yield document


def _reason(error: Exception) -> str:
    return (error.strerror or str(error)) if isinstance(error, OSError) else str(error)


def _files(root: Path, pattern: str, ignore: Sequence[str], report: Callable[[Unreadable], None]) -> Iterator[Path]:
    """Files in the order of their paths; a folder that is ignored is not entered."""
    try:
        from pathspec import GitIgnoreSpec
    except ImportError as error:
        raise MissingDependency("Ignore rules", module="pathspec", extra="rag") from error
    try:
        given = GitIgnoreSpec.from_lines(ignore)
        wanted = (
            None if pattern == "**/*" else GitIgnoreSpec.from_lines([pattern if "/" in pattern else f"**/{pattern}"])
        )
    except ValueError as e:
        raise ConfigError(f"a rule of ignore or pattern is wrong: {e}") from e
    real_root = root.resolve()

    def walk(folder: Path, rules: list[tuple[Path, Any]]) -> Iterator[Path]:
        for name in _IGNORE_FILES:
            file = folder / name
            if file.is_file():
                lines = file.read_text("utf-8", errors="replace").splitlines()
                rules = [*rules, (folder, GitIgnoreSpec.from_lines(lines))]
        try:
            entries = sorted(os.scandir(folder), key=lambda e: e.name)
        except OSError as e:
            report(Unreadable(folder.relative_to(root).as_posix(), e.strerror or str(e)))
            return
        for entry in entries:
            path = Path(entry.path)
            if (
                entry.name.startswith(".")
                or entry.name in _NEVER
                or _ignored(path, rules, given, root, is_folder=entry.is_dir())
            ):
                continue
            if entry.is_dir():
                if not entry.is_symlink():  # a link to a folder can lead anywhere, and back to itself
                    yield from walk(path, rules)
                continue
            if entry.is_symlink() and not path.resolve().is_relative_to(real_root):
                report(Unreadable(path.relative_to(root).as_posix(), "it is a link that leads out of the folder"))
            elif not entry.is_file():
                report(Unreadable(path.relative_to(root).as_posix(), "it is neither a file nor a folder"))
            elif wanted is None or wanted.match_file(path.relative_to(root).as_posix()):
                yield path

    yield from walk(root, [])


def _ignored(path: Path, rules: list[tuple[Path, Any]], given: Any, root: Path, *, is_folder: bool) -> bool:
    """Whether the last rule that speaks of the path says so: deeper files of rules come later, as git has it."""
    end = "/" if is_folder else ""
    if given.match_file(path.relative_to(root).as_posix() + end):
        return True
    decided = False
    for folder, spec in rules:
        said = spec.check_file(path.relative_to(folder).as_posix() + end).include
        if said is not None:
            decided = bool(said)
    return decided
