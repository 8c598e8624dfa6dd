"""The documents of a file or a folder, and what becomes of those that cannot be read."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypedDict

from vecbench.errors import ConfigError, DocumentError, MissingDependency
from vecbench.rag.load.encodings import printable
from vecbench.rag.load.formats import LOADERS, Loader
from vecbench.rag.load.reports import Unreadable, UnreadableWarning
from vecbench.rag.load.walk import walk
from vecbench.rag.types import Document

__all__ = ["Reading", "Unreadable", "UnreadableWarning", "check_path", "load"]


class _UnknownKind(DocumentError):
    pass


class Reading(TypedDict, total=False):
    """Which files are read, and by what: the options of `load` that `Rag.add` takes, too."""

    pattern: str
    ignore: Sequence[str]
    loaders: Sequence[Loader]


def check_path(path: str | os.PathLike[str]) -> None:
    """ConfigError for an empty path: a setting that is missing must not mean the working directory."""
    if not os.fspath(path):
        raise ConfigError("the path is empty; the working directory is '.'")


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
    folder; one without a slash is of names at any depth. ignore: more to leave out, in the syntax of .gitignore;
    .gitignore and .vecbenchignore files of the tree count too, and hidden files and folders, `__pycache__` and
    `node_modules` are left out. A link to a file inside the folder is loaded under its own name, one to a folder inside
    is not followed, and one that leads out is reported. loaders: your own, which come before those of `LOADERS`.

    on_error: called for each file that is left out because it cannot be read or no loader knows its suffix, and for
    each row or page that cannot be read; without it an `UnreadableWarning` is warned. DocumentError where `path` is not
    there, or is a file of which nothing can be read.
    """
    check_path(path)
    root = Path(path)
    if isinstance(ignore, str):
        raise ConfigError(f"ignore is a list of rules, got the text {ignore!r}")
    by_suffix = {suffix: loader for loader in reversed((*loaders, *LOADERS)) for suffix in loader.suffixes}
    if root.is_dir():
        return _folder(root, by_suffix, pattern, ignore, on_error or _warn)
    if root.is_file():
        return _file(root, by_suffix, on_error or _warn)
    problem = "it is neither a file nor a folder" if root.exists() else "there is no such file or folder"
    raise DocumentError(f"{root}: {problem}")


def _warn(what: Unreadable) -> None:
    warnings.warn(f"{what.source}: {what.reason}", UnreadableWarning, stacklevel=3)


def _file(path: Path, by_suffix: Mapping[str, Loader], report: Callable[[Unreadable], None]) -> Iterator[Document]:
    for read in _read(path, printable(path.name), by_suffix):
        if isinstance(read, Document):
            yield read
        elif isinstance(read, Unreadable):
            report(read)
        else:
            raise DocumentError(f"{path}: {_reason(read)}") from read


def _folder(
    root: Path,
    by_suffix: Mapping[str, Loader],
    pattern: str,
    ignore: Sequence[str],
    report: Callable[[Unreadable], None],
) -> Iterator[Document]:
    for found in walk(root, pattern=pattern, ignore=ignore):
        if isinstance(found, Unreadable):
            report(found)
            continue
        path, source = found
        for read in _read(path, source, by_suffix):
            if isinstance(read, Document):
                yield read
            elif isinstance(read, Unreadable):
                report(read)
            else:
                report(Unreadable(source, _reason(read), isinstance(read, _UnknownKind)))


def _read(path: Path, source: str, by_suffix: Mapping[str, Loader]) -> Iterator[Document | Unreadable | Exception]:
    """What a loader gives; the error with which it ended, if it did, comes last.

    A loader may fail in any way: one damaged file, or a fault in somebody's own loader, does not end the rest. What is
    wrong with all files alike, a missing package or a wrong option, does.
    """
    loader = by_suffix.get(path.suffix.lower())
    if loader is None:
        yield _UnknownKind(f"no loader knows the suffix {path.suffix!r}")
        return
    try:
        for item in loader.load(path, source):
            if isinstance(item, Unreadable) or item.text.strip():
                yield item
    except (MissingDependency, ConfigError):
        raise
    except Exception as e:
        yield e


def _reason(error: Exception) -> str:
    if isinstance(error, OSError):
        return error.strerror or str(error)
    return str(error) if isinstance(error, DocumentError) else f"{type(error).__name__}: {str(error)[:200]}"
