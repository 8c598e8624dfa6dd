"""Where the files of a data set come from, and what reads them: the part of a card that is not in any result."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from vecbench.errors import DatasetError, redact

__all__ = ["READERS", "CardFile", "Recipe"]

READERS = ("auto", "vectors", "hdf5", "parquet", "jsonl", "beir", "squad")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_ARCHIVES = (".zip", ".tar.gz", ".tgz", ".tar")


@dataclass(frozen=True, kw_only=True)
class CardFile:
    """One file to fetch.

    name: what it is called in the data set's folder. urls: where it is, the first that answers is taken. sha256: hex
    digest, or "" where nobody could vouch for one: then the hash of the first download is recorded and held to.
    bytes: its size, 0 where unknown. unpacked_bytes: of an archive, at most so much comes out of it.
    """

    name: str
    urls: tuple[str, ...]
    sha256: str = ""
    bytes: int = 0
    unpacked_bytes: int = 0

    def __post_init__(self) -> None:
        for field, kind in (("name", str), ("sha256", str), ("bytes", int), ("unpacked_bytes", int)):
            value: Any = getattr(self, field)
            if not isinstance(value, kind) or isinstance(value, bool):
                raise DatasetError(f"file {self.name!r}: {field} is {value!r}; it must be {kind.__name__}")
        if PurePosixPath(self.name).name != self.name or self.name.startswith(".") or "\\" in self.name:
            raise DatasetError(f"file {self.name!r}: a plain file name is expected, without a folder")
        if self.sha256 and not _SHA256.fullmatch(self.sha256):
            raise DatasetError(f"file {self.name!r}: sha256 is {self.sha256!r}; 64 lower-case hex digits, or ''")
        if self.bytes < 0 or self.unpacked_bytes < 0:
            raise DatasetError(f"file {self.name!r}: a size is negative")
        urls: Any = self.urls  # from a file, whatever the annotation says
        if not isinstance(urls, tuple) or not urls or not all(isinstance(url, str) for url in urls):
            raise DatasetError(f"file {self.name!r}: urls must be a list of at least one address")
        for url in self.urls:
            parts = urlsplit(url)
            if parts.scheme not in {"http", "https"} or not parts.hostname:
                raise DatasetError(f"file {self.name!r}: {redact(url)} is no http or https address")
        if self.is_archive and not self.unpacked_bytes:
            raise DatasetError(f"file {self.name!r}: an archive needs unpacked_bytes, the most that may come out of it")

    @property
    def is_archive(self) -> bool:
        """Whether it is unpacked after it was fetched."""
        return self.name.endswith(_ARCHIVES)


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How the vectors or texts are had.

    reader: one of `READERS`; "auto" decides by what is found. path: a file or folder, absolute, or relative to where
    the files are fetched to. queries: a file of queries beside it. texts_sha256, judgements_sha256: of texts, those of
    `TextDataset`; "" where they are not held to.
    """

    reader: str = "auto"
    path: str = ""
    queries: str = ""
    texts_sha256: str = ""
    judgements_sha256: str = ""
    files: tuple[CardFile, ...] = ()

    def __post_init__(self) -> None:
        for field in ("reader", "path", "queries", "texts_sha256", "judgements_sha256"):
            value: Any = getattr(self, field)  # from a file, whatever the annotation says
            if not isinstance(value, str):
                raise DatasetError(f"{field} is {value!r}; it must be str")
            if field.endswith("_sha256") and value and not _SHA256.fullmatch(value):
                raise DatasetError(f"{field} is {value!r}; 64 lower-case hex digits, or ''")
        if self.reader not in READERS:
            raise DatasetError(f"reader is {self.reader!r}; known are {', '.join(READERS)}")
        if not self.path and not self.files:
            raise DatasetError("neither path nor files say where the data are")
        names = [file.name for file in self.files]
        if len(set(names)) != len(names):
            raise DatasetError(f"two files have one name: {names}")

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Recipe:
        """The recipe in the fields of a card that are its own; DatasetError for a wrong or unknown one."""
        files = data.get("files", [])
        known = {f.name for f in fields(CardFile)}
        if not isinstance(files, list | tuple) or not all(isinstance(file, Mapping) for file in files):
            raise DatasetError("files must be a list of tables")
        made = []
        for file in files:
            if unknown := sorted(set(file) - known):
                raise DatasetError(f"files: unknown fields {unknown}; known are {sorted(known)}")
            if missing := sorted({"name", "urls"} - set(file)):
                raise DatasetError(f"files: fields {missing} are missing")
            urls = file["urls"]
            made.append(CardFile(**{**file, "urls": tuple(urls) if isinstance(urls, list | tuple) else urls}))
        return cls(**{**data, "files": tuple(made)})

    def to_dict(self) -> dict[str, Any]:
        """Every field as plain values."""
        return {**asdict(self), "files": [{**asdict(file), "urls": list(file.urls)} for file in self.files]}

    @property
    def bytes(self) -> int | None:
        """What is to fetch, None where a size is not known."""
        sizes = [file.bytes for file in self.files]
        return sum(sizes) if all(sizes) else None
