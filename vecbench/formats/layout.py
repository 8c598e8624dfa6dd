"""What a path holds, found out by names: a file of vectors or texts, or a folder in one of the known layouts."""

from __future__ import annotations

from pathlib import Path

from vecbench.errors import DatasetError
from vecbench.formats.arrays import NEIGHBOUR_SUFFIXES, VECTOR_SUFFIXES, open_vectors, read_neighbours
from vecbench.formats.found import TextDataset, VectorSet, hold_out_rows
from vecbench.formats.hdf5 import read_hdf5
from vecbench.formats.lines import holds_vectors, read_vector_lines
from vecbench.formats.parquet import read_parquet, train_files
from vecbench.formats.texts import read_beir, read_squad, read_text_lines

__all__ = ["DocumentsFound", "open_set"]

_HDF5 = (".hdf5", ".h5")
_LINES = (".jsonl", ".ndjson")
_NO_DOCUMENTS = {*VECTOR_SUFFIXES, *NEIGHBOUR_SUFFIXES, *_HDF5, ".parquet"}
_LAYOUTS = "corpus.jsonl; train.parquet; base and query vectors, as base.npy or x_base.fvecs; one HDF5 file"
_BASE, _QUERIES, _TRUTH = ("base", "train"), ("query", "queries", "test"), ("groundtruth", "gt", "neighbors")


class DocumentsFound(DatasetError):
    """A folder with none of the known layouts: its files may be documents, which have to be cut first."""


def open_set(path: Path, reader: str = "auto", queries: Path | None = None) -> VectorSet | TextDataset:
    """The vectors or texts at `path`, with their queries; formats that cannot be mapped are converted once.

    reader: decides where "auto" would look at names. queries: a file of them, instead of what lies beside. Raises
    `DocumentsFound` for a folder of other files, DatasetError for what cannot be read.
    """
    if not path.exists():
        raise DatasetError(f"{path} does not exist")
    chosen = _reader(path) if reader == "auto" else reader
    if chosen == "vectors":
        return _vectors(path, queries)
    if chosen == "parquet":
        return read_parquet(path, queries)
    if chosen == "jsonl":
        return read_vector_lines(path, queries) if holds_vectors(path) else read_text_lines(path, queries)
    if chosen == "beir":
        return read_beir(path, queries)
    if queries is not None:
        raise DatasetError(f"{path} brings its own queries; other ones cannot be given")
    return read_hdf5(_only(path, _HDF5)) if chosen == "hdf5" else read_squad(path)


def _reader(path: Path) -> str:
    suffix = path.suffix.lower()
    if path.is_dir():
        if (path / "corpus.jsonl").exists():
            return "beir"
        if train_files(path):
            return "parquet"
        if _part(path, _BASE, VECTOR_SUFFIXES) is not None:
            return "vectors"
        if len([file for file in path.iterdir() if file.suffix.lower() in _HDF5]) == 1:
            return "hdf5"
        shown = [file for file in path.iterdir() if not file.name.startswith(".")]
        if shown and all(file.suffix.lower() in _NO_DOCUMENTS for file in shown):
            raise DatasetError(f"{path} has none of the known layouts ({_LAYOUTS}); name one of its files")
        raise DocumentsFound(
            f"{path} has none of the known layouts ({_LAYOUTS}). Documents are cut and embedded by "
            f"`vecbench run --dataset {path}`, and given a name by `vecbench datasets add {path} --name NAME`"
        )
    for suffixes, reader in (
        (VECTOR_SUFFIXES, "vectors"),
        (_HDF5, "hdf5"),
        ((".parquet",), "parquet"),
        (_LINES, "jsonl"),
        ((".json",), "squad"),
    ):
        if suffix in suffixes:
            return reader
    if suffix in {".npz", ".pkl", ".pickle", ".pt", ".gz", ".zip"}:
        raise DatasetError(f"{path}: {suffix} files are not read; unpack it, and save the vectors as .npy")
    raise DatasetError(
        f"{path}: no reader for {suffix or 'a file without suffix'}; known are "
        f"{', '.join((*VECTOR_SUFFIXES, *_HDF5, '.parquet', *_LINES, '.json (SQuAD)', '.toml (a card)'))}"
    )


def _only(path: Path, suffixes: tuple[str, ...]) -> Path:
    if not path.is_dir():
        return path
    found = [file for file in path.iterdir() if file.suffix.lower() in suffixes]
    if len(found) != 1:
        raise DatasetError(f"{path} has {len(found)} files of {', '.join(suffixes)}; name one")
    return found[0]


def _part(folder: Path, words: tuple[str, ...], suffixes: tuple[str, ...]) -> Path | None:
    """The file of a folder that is one of `words`, or ends in it after `_`, `-` or `.`; DatasetError for two such."""
    found = [file for file in sorted(folder.iterdir()) if file.suffix.lower() in suffixes and _word(file.stem) in words]
    if len(found) > 1:
        raise DatasetError(f"{folder} has {found[0].name} and {found[1].name}; name the file to read")
    return found[0] if found else None


def _word(stem: str) -> str:
    return stem.lower().replace("-", "_").replace(".", "_").rpartition("_")[2]


def _beside(base: Path, words: tuple[str, ...], suffixes: tuple[str, ...]) -> Path | None:
    """The file beside `base` that has the same name but for another last word: sift_base, sift_query."""
    if _word(base.stem) not in _BASE:
        return None
    head = base.stem[: -len(_word(base.stem))]
    for word in words:
        for suffix in suffixes:
            if (file := base.with_name(f"{head}{word}{suffix}")).exists():
                return file
    return None


def _vectors(path: Path, queries: Path | None) -> VectorSet:
    base = path
    if path.is_dir():
        found = _part(path, _BASE, VECTOR_SUFFIXES)
        if found is None:
            raise DatasetError(f"{path} has no file of base vectors ({', '.join(VECTOR_SUFFIXES)})")
        base = found
    asked = queries or _beside(base, _QUERIES, VECTOR_SUFFIXES)
    if asked is None:
        return hold_out_rows(VectorSet(open_vectors(base)), base)
    truth = None if queries is not None else _beside(base, _TRUTH, NEIGHBOUR_SUFFIXES)
    neighbours = None if truth is None else read_neighbours(truth)
    return VectorSet(open_vectors(base), open_vectors(asked), neighbours=neighbours)
