"""`vecbench embed`: texts to vectors by the fixed model."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vecbench.cli.output import complain, console, require_writable
from vecbench.errors import ConfigError

if TYPE_CHECKING:
    from vecbench.embed import MiniLM
    from vecbench.embed.spec import Progress
    from vecbench.types import Vectors

__all__ = ["embed"]

_UNKNOWN_SHARE = 0.10
_TOKENISE_TEXTS = 1000


def embed(
    inputs: Annotated[
        list[str], typer.Argument(metavar="INPUT...", help="Files with one text per line; - reads stdin.")
    ],
    *,
    out: Annotated[
        Path,
        typer.Option("--out", metavar="FILE.npy", help="Where the vectors go; FILE.json beside it describes them."),
    ],
    field: Annotated[
        str | None, typer.Option("--field", metavar="NAME", help="Read JSON lines, and embed this field of each.")
    ] = None,
    id_field: Annotated[
        str | None, typer.Option("--id-field", metavar="NAME", help="The field with each text's id; implies --ids.")
    ] = None,
    ids: Annotated[
        bool, typer.Option("--ids", help="Write FILE.ids.txt too: a JSON string per row, the id or file and line.")
    ] = False,
    no_cache: Annotated[bool, typer.Option("--no-cache", help="Compute every vector; read and keep none.")] = False,
    on: Annotated[
        str | None,
        typer.Option(
            "--on",
            metavar="ray://HOST:PORT",
            help="Embed on a Ray cluster (extra `ray`); `here` gives the same bits in this process.",
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace files that exist.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")] = False,
) -> None:
    """Turn texts into vectors with the fixed model, all-MiniLM-L6-v2.

    Row n of FILE.npy (float32, 384 numbers, length 1) is line n of the input. The model's weights (some 90 MB) are
    fetched once, when they are nowhere on the machine. A text that was embedded before comes from a cache.

    \b
    Examples:
      vecbench embed notes.txt --out notes.npy
      vecbench embed docs.jsonl --field text --id-field id --out docs.npy
      cat notes.txt | vecbench embed - --out notes.npy
    """
    from vecbench.cli.texts import read_texts

    if out.suffix != ".npy":
        raise ConfigError(f"--out {out}: the name must end in .npy")
    card, id_file = out.with_suffix(".json"), out.with_suffix(".ids.txt")
    wanted = [out, card, id_file] if ids or id_field else [out, card]
    for path in wanted:
        require_writable(path, force=force)
    rows = read_texts(inputs, field=field, id_field=id_field)
    texts = [row.text for row in rows]

    from vecbench.embed import fixed_model

    model = fixed_model()
    tokens, unknown = _count_tokens(model, texts)
    share = unknown / tokens if tokens else 0.0
    if share > _UNKNOWN_SHARE:
        complain(
            f"{share:.0%} of the tokens are unknown to {model.spec.name}, which knows English: these vectors say "
            "little about the texts; take another embedder",
            head="warning",
        )
    vectors = _vectors(model, texts, cached=not no_cache, quiet=quiet, on=on)
    _write(wanted, vectors, _card(model, vectors, tokens, share), [row.id for row in rows])
    if not quiet:
        complain(f"{len(texts):,} × {vectors.shape[1]} vectors in {out}, described in {card}", head="done")


def _count_tokens(model: MiniLM, texts: list[str]) -> tuple[int, int]:
    """Tokens of the texts, after cutting, and how many of them the model does not know."""
    tokens = unknown = 0
    for start in range(0, len(texts), _TOKENISE_TEXTS):
        for row in model._tokenise(texts[start : start + _TOKENISE_TEXTS]):
            tokens += len(row) - 2  # without [CLS] and [SEP]
            unknown += int((row == model._unknown).sum())
    return tokens, unknown


def _vectors(model: MiniLM, texts: list[str], *, cached: bool, quiet: bool, on: str | None) -> Vectors:
    from functools import partial

    from platformdirs import user_cache_path

    from vecbench.embed import CachedEmbedder, Embedder, UnknownTokensWarning, fixed_model
    from vecbench.embed.blocks import BlockEmbedder
    from vecbench.work import open_workers

    with open_workers(on) as workers, warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("ignore", UnknownTokensWarning)  # said already, about all texts at once
        embedder: Embedder = model
        if on is not None:
            embedder = BlockEmbedder(partial(fixed_model, threads=1), model.spec, workers)
        if cached:
            embedder = CachedEmbedder(embedder, user_cache_path("vecbench", appauthor=False) / "vectors")
        with _bar("tokens" if embedder is model else "texts", quiet=quiet) as progress:
            vectors = embedder.embed_documents(texts, progress=progress)
    for warning in said:
        complain(str(warning.message), head="warning")
    return vectors


@contextmanager
def _bar(unit: str, *, quiet: bool) -> Iterator[Progress | None]:
    if quiet:
        yield None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    screen = console(stderr=True)
    columns = (TextColumn("embedding"), BarColumn(), MofNCompleteColumn(), TextColumn(unit), TimeRemainingColumn())
    with Progress(*columns, console=screen, disable=not screen.is_terminal) as bar:
        task = bar.add_task("")
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _card(model: MiniLM, vectors: Vectors, tokens: int, share: float) -> dict[str, Any]:
    import hashlib

    import vecbench

    return {
        "vecbench_vectors": 1,
        "vecbench": vecbench.__version__,
        "embedder": model.spec.to_dict(),
        "fingerprint": model.spec.fingerprint,
        "count": len(vectors),
        "dim": int(vectors.shape[1]),
        "vectors_sha256": hashlib.sha256(vectors.astype("<f4", order="C").tobytes()).hexdigest(),
        "tokens": tokens,
        "unknown_token_share": round(share, 6),
    }


def _write(paths: list[Path], vectors: Vectors, card: dict[str, Any], ids: list[str]) -> None:
    """Write each file beside its name and rename it, so that a name never holds half a file."""
    import json

    import numpy as np

    for path, number in zip(paths, range(3), strict=False):
        part = path.with_name(path.name + ".part")
        try:
            with part.open("wb") as file:
                if number == 0:
                    np.lib.format.write_array(file, vectors, allow_pickle=False)
                elif number == 1:
                    file.write((json.dumps(card, indent=2, ensure_ascii=False) + "\n").encode())
                else:
                    file.writelines(json.dumps(id_, ensure_ascii=False).encode() + b"\n" for id_ in ids)
            part.replace(path)
        except OSError as e:
            part.unlink(missing_ok=True)
            raise ConfigError(f"{path} cannot be written: {e.strerror or e}") from e
