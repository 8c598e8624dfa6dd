"""Archives of strangers, unpacked: plain files only, inside their folder only, and no more of them than was said."""

from __future__ import annotations

import shutil
import stat
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO

from vecbench.errors import DatasetError

__all__ = ["unpack"]

_MOST_FILES = 10_000
_PIECE = 1 << 20


def unpack(archive: Path, folder: Path, most_bytes: int) -> list[Path]:
    """Unpack a .zip or .tar(.gz) into `folder`, which must not exist yet; returns the files, relative to it.

    It appears whole or not at all. Raises DatasetError for a path that leads out, for a link, a device or any other
    thing that is no file or folder, for a second file of one name, and when more than `most_bytes` come out.
    """
    part = folder.with_name(f"{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    files: list[Path] = []
    left = most_bytes
    try:
        for name, content in _members(archive):
            relative = _inside(archive, name)
            if len(files) == _MOST_FILES or (part / relative).exists():
                raise DatasetError(f"{archive}: member {name!r} is one too many, or a second of that name")
            (part / relative).parent.mkdir(parents=True, exist_ok=True)
            with (part / relative).open("xb") as out:
                while piece := content.read(min(_PIECE, left + 1)):
                    if (left := left - len(piece)) < 0:
                        raise DatasetError(f"{archive} unpacks to more than {most_bytes:,} bytes, as its card allows")
                    out.write(piece)
            files.append(relative)
        part.replace(folder)
    except DatasetError:
        raise
    except Exception as e:  # what decoders raise has no common base: BadZipFile, zlib.error, LZMAError, EOFError …
        raise DatasetError(f"{archive} cannot be unpacked: {e}") from e
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return sorted(files)


def _inside(archive: Path, name: str) -> Path:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name or ":" in name or "\0" in name or not path.parts:
        raise DatasetError(f"{archive}: member {name!r} would lie outside the folder; nothing of it is kept")
    return Path(*path.parts)


def _members(archive: Path) -> Iterator[tuple[str, IO[bytes]]]:
    if archive.name.endswith(".zip"):
        with zipfile.ZipFile(archive) as packed:
            for info in packed.infolist():
                if info.is_dir():
                    continue
                kind = stat.S_IFMT(info.external_attr >> 16)
                if kind not in {0, stat.S_IFREG}:
                    raise DatasetError(f"{archive}: member {info.filename!r} is a link or a device")
                with packed.open(info) as content:
                    yield info.filename, content
        return
    with tarfile.open(archive, "r:*") as tar:
        for member in tar:
            if member.isdir():
                continue
            if not member.isreg():
                raise DatasetError(f"{archive}: member {member.name!r} is a link or a device")
            if (unpacked := tar.extractfile(member)) is not None:
                yield member.name, unpacked
        while tar.fileobj.read(_PIECE):
            pass  # to the end, where the checksum of a compressed archive stands
