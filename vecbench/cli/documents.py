"""A folder of documents as a corpus of passages: loaded, cut, and kept as JSON lines."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from vecbench.cli.output import complain
from vecbench.errors import DatasetError

if TYPE_CHECKING:
    from vecbench.dataset import DatasetSource
    from vecbench.rag.load import Unreadable

__all__ = ["found_source", "gathered"]


def found_source(name: str) -> DatasetSource:
    """The data set of this name, or at this path; the documents of a folder are cut and kept in the cache for it."""
    from vecbench.formats.convert import cache_home
    from vecbench.formats.layout import DocumentsFound
    from vecbench.registry import dataset_source
    from vecbench.sources import path_source, slug

    try:
        return dataset_source(name)
    except DocumentsFound:
        folder = Path(name).resolve()
    key = hashlib.sha256(os.fsencode(folder)).hexdigest()[:16]
    return path_source(gathered(folder, cache_home() / "documents" / key), name=slug(folder.name))


def _tell(file: Unreadable) -> None:
    if not file.unknown_kind:  # a folder of documents holds other things too
        complain(f"{file.source}: {file.reason}", head="left out")


def gathered(folder: Path, home: Path) -> Path:
    """Load every document of `folder`, cut it to what the fixed model embeds whole, and write the passages.

    Returns `home`, which has `corpus.jsonl` then; an id is the document's source and the passage's first character.
    Queries are held out when it is read. DatasetError where no text is found.
    """
    from vecbench.embed.minilm import fixed_model
    from vecbench.rag.intake import default_splitter, splitter_language
    from vecbench.rag.load import load

    model = fixed_model()
    documents = passages = 0
    part = home / f"corpus.jsonl.{os.getpid()}.part"
    try:
        home.mkdir(parents=True, exist_ok=True)
        for left in home.glob("corpus.jsonl.*.part"):  # a killed process could not take its own away
            pid = left.name.split(".")[2]
            if pid.isdecimal() and not psutil.pid_exists(int(pid)):
                left.unlink(missing_ok=True)
        with part.open("w", encoding="utf-8") as out:
            for document in load(folder, on_error=_tell):
                documents += 1
                # As `Rag` cuts, so that what is measured is what would be searched.
                for chunk in default_splitter(splitter_language(document), model).split(document.text):
                    row = {"_id": f"{document.source}#{chunk.start}", "text": chunk.text}
                    out.write(json.dumps(row, ensure_ascii=False) + "\n")
                    passages += 1
            out.flush()
            os.fsync(out.fileno())
        if passages < 2:
            raise DatasetError(f"{folder}: {documents} documents with {passages} passages were found; two are needed")
        part.replace(home / "corpus.jsonl")
    except OSError as e:
        raise DatasetError(f"{home} cannot be written: {e.strerror or e}") from e
    finally:
        part.unlink(missing_ok=True)
    complain(f"{documents:,} documents of {folder}, {passages:,} passages", head="cut")
    return home
