"""Data sets from paths and cards: what lies there is found out, fetched if it must be, and made a `DatasetSource`."""

from __future__ import annotations

import json
import re
import sys
import tomllib
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from vecbench.dataset import Dataset, DatasetCard, DatasetSource, TextFile, embed_dataset
from vecbench.embed.minilm import MINILM_SPEC
from vecbench.errors import ChecksumMismatch, DatasetError
from vecbench.formats.arrays import Neighbours
from vecbench.formats.blocks import blocks
from vecbench.formats.convert import cache_home, shown
from vecbench.formats.fetch import fetch
from vecbench.formats.found import TextDataset, VectorSet
from vecbench.formats.layout import open_set
from vecbench.formats.recipe import Recipe
from vecbench.types import Metric

__all__ = [
    "card_source",
    "card_to_toml",
    "data_home",
    "path_source",
    "pinned",
    "register",
    "slug",
    "user_names",
    "user_source",
]

_TEXT_READERS = {"beir", "squad"}
_RECIPE = {f.name for f in fields(Recipe)}


def data_home() -> Path:
    """Where the data sets that a user added are kept: `datasets` in the user's data directory of vecbench."""
    from platformdirs import user_data_path

    return user_data_path("vecbench", appauthor=False) / "datasets"


def slug(text: str) -> str:
    """Lower-case words joined by hyphens, made of `text`; "data" where nothing of it is left."""
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", plain).strip("-") or "data"


def path_source(
    path: Path, *, name: str | None = None, queries: Path | None = None, metric: Metric | None = None
) -> DatasetSource:
    """The data set in a file or folder of the user's own, or the one that a card (.toml) describes.

    Formats that cannot be mapped are converted here, once. name: by default made of the path's last part. queries: a
    file of query vectors or texts; without it those that lie beside are taken, or some rows held out. metric: that the
    vectors are made for. Raises DatasetError for what cannot be read.
    """
    if path.suffix == ".toml":
        if queries is not None or metric is not None:
            raise DatasetError(f"{path} is a card; queries and metric are said in it")
        return card_source(path, name=name)
    path = path.absolute()
    for place in (path, *(() if queries is None else (queries,))):
        try:
            str(place).encode()
        except UnicodeEncodeError:  # a card and a report are UTF-8, and have to name it
            raise DatasetError(f"{str(place)!r}: the name is not UTF-8; rename it") from None
    recipe = Recipe(path=str(path), queries="" if queries is None else str(queries.absolute()))
    found = open_set(path, recipe.reader, queries)
    texts = isinstance(found, TextDataset)
    if isinstance(found, TextDataset):
        n_base, n_queries, dim, native = len(found.documents), len(found.queries), MINILM_SPEC.dim, None
    else:
        n_base, dim, native = len(found.base), found.base.shape[1], found.metric
        n_queries = 0 if found.queries is None else len(found.queries)
    return _source(
        DatasetCard(
            name=slug(path.stem if path.is_file() else path.name) if name is None else name,
            title=path.name,
            description="",
            source="a file of the user",
            licence="unknown",
            dim=dim,
            n_base=n_base,
            n_queries=n_queries,
            sha256="",
            synthetic=False,
            notes=found.notes,
            embedder=MINILM_SPEC if texts else None,
            metric=metric or native,
        ),
        recipe,
        lambda: found,
    )


def card_source(file: TextFile, *, name: str | None = None) -> DatasetSource:
    """The data set of a card in TOML: the fields of `DatasetCard` and of `Recipe`. Nothing is fetched before `load`.

    name: instead of the card's own. A path in the card is relative to the card, or to the fetched files. Of a set of
    texts dim and embedder are those of the fixed model, and may be left out; so may sha256.
    """
    try:
        data = tomllib.loads(file.read_text(encoding="utf-8"))
        recipe = Recipe.from_dict({key: value for key, value in data.items() if key in _RECIPE})
        card = {key: value for key, value in data.items() if key not in _RECIPE}
        card.setdefault("sha256", "")
        if name is not None:
            card["name"] = name
        if recipe.reader in _TEXT_READERS:
            card = {"dim": MINILM_SPEC.dim, "embedder": MINILM_SPEC.to_dict(), **card}
        made = DatasetCard.from_dict(card)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as e:
        raise DatasetError(f"card {file}: cannot be read: {e}") from e
    except DatasetError as e:
        raise DatasetError(f"card {file}: {e}") from e
    if not recipe.files:
        home = file.absolute().parent if isinstance(file, Path) else Path.cwd()
        queries = str(home / recipe.queries) if recipe.queries else ""
        recipe = replace(recipe, path=str(home / recipe.path), queries=queries)
    return _source(made, recipe, lambda: _open(made.name, recipe))


def _open(name: str, recipe: Recipe) -> VectorSet | TextDataset:
    home = cache_home() / "datasets" / name  # where files are fetched to; other paths are absolute
    if recipe.files:
        fetch(recipe.files, home)
    try:
        return open_set(home / recipe.path, recipe.reader, home / recipe.queries if recipe.queries else None)
    except DatasetError as e:
        unpinned = [file.name for file in recipe.files if not file.sha256]
        if not unpinned:
            raise
        raise DatasetError(
            f"{e}; nobody vouches for the hash of {', '.join(unpinned)}, so the first download was kept: "
            f"delete {home} to fetch it again"
        ) from e


def _source(card: DatasetCard, recipe: Recipe, find: Callable[[], VectorSet | TextDataset]) -> DatasetSource:
    """A source that opens the files once, when they are first asked for."""
    opened = cache(find)

    def texts() -> TextDataset:
        found = opened()
        if not isinstance(found, TextDataset):
            raise DatasetError(f"data set {card.name} has vectors and no texts")
        for what, promised, has in (
            ("texts", recipe.texts_sha256, found.sha256),
            ("judgements", recipe.judgements_sha256, found.judgements_sha256),
        ):
            if promised not in {"", has}:
                raise ChecksumMismatch(
                    f"data set {card.name}: the {what} have sha256 {has}, its card says {promised}; they were changed: "
                    f"add them again under another name"
                )
        return found

    def make() -> Dataset:
        found = opened()
        if isinstance(found, TextDataset):
            return _embed(texts(), card)
        if found.queries is None:
            raise DatasetError(f"data set {card.name} has no queries")
        known = replace(card, notes=(*card.notes, *(note for note in found.notes if note not in card.notes)))
        return Dataset(known, found.base, found.queries, found.ids, found.query_ids)

    def neighbours() -> Neighbours | None:
        found = opened()
        return None if isinstance(found, TextDataset) else found.neighbours

    is_text = card.embedder is not None
    return DatasetSource(card, make, texts if is_text else None, neighbours, recipe)


def _embed(texts: TextDataset, card: DatasetCard) -> Dataset:
    from vecbench.embed.minilm import fixed_model

    print(
        f"{card.name}: {len(texts.documents):,} documents and {len(texts.queries):,} queries through "
        f"{MINILM_SPEC.name}, unless they are kept in {cache_home() / 'embedded'}",
        file=sys.stderr,
    )
    with shown(card.name, len(texts.documents), "documents") as progress:
        return embed_dataset(texts, fixed_model(), card, progress=progress)


def pinned(source: DatasetSource) -> DatasetSource:
    """The source with its hash in the card, so that other vectors, texts or judgements are refused from now on.

    All is read. DatasetError for vectors that have no distance by the card's metric.
    """
    recipe = source.recipe
    if recipe is None:
        raise DatasetError(f"data set {source.name!r} has no files")
    if source.texts is not None:
        texts = source.texts()
        held = replace(recipe, texts_sha256=texts.sha256, judgements_sha256=texts.judgements_sha256)
        return replace(source, recipe=held)
    data = source.load()
    if data.card.metric is Metric.COSINE:
        _require_no_zeros(data)
    return replace(source, card=replace(source.card, sha256=data.sha256))


def _require_no_zeros(data: Dataset) -> None:
    for part, rows in (("base", data.base), ("queries", data.queries)):
        for start, block in blocks(rows):
            if not (some := block.any(axis=1)).all():
                raise DatasetError(
                    f"data set {data.name}: row {start + int(np.argmin(some))} of {part} is zero, which has no cosine "
                    f"distance; take it out, or name another metric"
                )


def user_names() -> list[str]:
    """The names of the data sets that the user added, sorted."""
    try:
        return sorted(path.parent.name for path in data_home().glob("*/card.toml"))
    except OSError as e:
        raise DatasetError(f"{data_home()} cannot be read: {e.strerror or e}") from e


def user_source(name: str) -> DatasetSource:
    """The data set that the user added under `name`."""
    source = card_source(data_home() / name / "card.toml")
    if source.name != name:
        raise DatasetError(f"{data_home() / name / 'card.toml'} is the card of {source.name!r}; rename its folder")
    return source


def register(source: DatasetSource, taken: Mapping[str, str] | set[str]) -> Path:
    """Keep a card under the user's data directory, so that its name stands for the data set; returns the card's path.

    taken: names that are in use. The vectors stay where they are, and the card holds their hash, or that of the texts.
    """
    if source.name in taken:
        raise DatasetError(f"a data set is called {source.name!r} already; give another --name")
    if source.recipe is None:
        raise DatasetError(f"data set {source.name!r} has no files; only files can be added")
    path = data_home() / source.name / "card.toml"
    part = path.with_name("card.toml.part")
    text = card_to_toml(source.card, source.recipe)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(text, encoding="utf-8")
        part.replace(path)
    except OSError as e:
        raise DatasetError(f"{path} cannot be written: {e.strerror or e}") from e
    return path


def card_to_toml(card: DatasetCard, recipe: Recipe) -> str:
    """Card and recipe as TOML that `card_source` reads; what has its default is left out."""
    fields_, steps = card.to_dict(), recipe.to_dict()
    tables: dict[str, list[Mapping[str, Any]]] = {"[[files]]": steps.pop("files")}
    if (embedder := fields_.pop("embedder")) is not None:
        tables["[embedder]"] = [{key: value for key, value in embedder.items() if value is not None}]
    plain = {**fields_, **{key: value for key, value in steps.items() if value}}
    lines = [f"{key} = {_toml(value)}" for key, value in plain.items() if value is not None]
    for head, rows in tables.items():
        for row in rows:
            lines += ["", head, *(f"{key} = {_toml(value)}" for key, value in row.items())]
    return "\n".join(lines) + "\n"


def _toml(value: object) -> str:
    """A string, boolean, number or list of them. JSON's escapes are TOML's, but TOML wants DEL escaped too."""
    if isinstance(value, bool | int | str | list):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    raise DatasetError(f"{value!r} cannot be written into a card")
