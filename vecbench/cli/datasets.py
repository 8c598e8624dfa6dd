"""`vecbench datasets`: what can be searched, and how hard it is; data sets of one's own, added and checked."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from vecbench.cli.output import complain, console, figure, print_json, table, working
from vecbench.errors import ConfigError, DatasetError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vecbench.cli.checking import Finding
    from vecbench.dataset import Dataset, DatasetCard, DatasetSource
    from vecbench.geometry import Geometry
    from vecbench.types import Metric

__all__ = ["datasets", "group"]
_SHOW = "show"


class _Group(TyperGroup):
    """`datasets`, `datasets NAME` and `datasets --json` are the hidden command that shows; the rest are commands."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        known = {*self.commands, *ctx.help_option_names}
        return super().parse_args(ctx, args if args and args[0] in known else [_SHOW, *args])


group = typer.Typer(
    cls=_Group,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    help="""List the data sets, load one and show how hard it is to search, add your own, check one wholly.

\b
Examples:
  vecbench datasets
  vecbench datasets glosses-10k
  vecbench datasets add ./vectors.npy --name mine
  vecbench datasets check mine
""",
)


def datasets(
    name: Annotated[
        str | None,
        typer.Argument(metavar="[NAME]", help="A data set to load, check and measure. Without it, all are listed."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List the data sets, or load one and show how hard it is to search.

    \b
    Examples:
      vecbench datasets
      vecbench datasets glosses-10k
    """
    from vecbench.cli.documents import found_source
    from vecbench.registry import dataset_names, dataset_source

    if name is not None:
        _details(found_source(name), as_json=as_json)
        return
    sources = []
    for known in dataset_names():
        try:
            sources.append(dataset_source(known))
        except DatasetError as e:  # one broken card hides no other data set
            complain(str(e), head="left out")
    sources.sort(key=lambda s: (_to_fetch(s) is not None, s.card.synthetic, s.card.n_base, s.name))
    if as_json:
        print_json([{**source.card.to_dict(), "fetch": _to_fetch(source)} for source in sources])
        return
    cards = [source.card for source in sources]
    out = console()
    out.print(
        table(
            "",
            ["data set", "rows × dim", "queries", "licence", "vectors", "to fetch"],
            [
                [
                    source.name,
                    f"{source.card.n_base:,} × {source.card.dim}",
                    f"{source.card.n_queries:,}",
                    source.card.licence,
                    "synthetic" if source.card.synthetic else "real",
                    _to_fetch(source) or "",
                ]
                for source in sources
            ],
            right=["rows × dim", "queries"],
        )
    )
    for text, names in _sharing(cards).items():
        out.print(f"{text}:\n    {', '.join(names)}", soft_wrap=True)
    out.print("`vecbench datasets NAME` loads one and measures it; `--dataset ./FILE` searches vectors of your own.")


def _to_fetch(source: DatasetSource) -> str | None:
    """What a first use fetches from the network, None where it fetches nothing; what is here already is not looked at.

    Unpinned is what has no hash that somebody vouches for: the first download's is recorded and held to.
    """
    if source.recipe is None or not source.recipe.files:
        return None
    size = source.recipe.bytes
    pinned = all(file.sha256 for file in source.recipe.files)
    return f"{'size unknown' if size is None else f'{size / 1e6:,.0f} MB'}{'' if pinned else ', unpinned'}"


def _sharing(cards: list[DatasetCard]) -> dict[str, list[str]]:
    """Sources and notes, each with the names of the data sets that it is said of."""
    names: dict[str, list[str]] = {}
    for card in cards:
        for text in (f"source: {card.source}", *(f"note: {note}" for note in card.notes)):
            names.setdefault(text, []).append(card.name)
    return names


def _details(source: DatasetSource, *, as_json: bool) -> None:
    from vecbench.geometry import measure

    card = source.card
    with working(f"loading, checking and measuring {card.name} ({card.n_base:,} × {card.dim}) …"):
        data = source.load()
        geometry = measure(data)
    if as_json:
        print_json({**card.to_dict(), "geometry": geometry.to_dict()})
        return
    made_by = "nothing: the vectors are generated" if card.synthetic else "unknown"
    if card.embedder is not None:
        made_by = card.embedder.describe()
    lines = [
        ("name", card.name),
        ("", card.description),
        ("source", card.source),
        ("licence", card.licence),
        ("embedder", made_by),
        ("sha256", f"{card.sha256} (checked)" if card.sha256 else f"{data.sha256} (not known beforehand)"),
        *_judged(source, data),
        *(("note", note) for note in card.notes),
        ("", ""),
        *_geometry_lines(geometry),
    ]
    out = console()
    for key, value in lines:
        out.print(f"{key:<22}{value}".rstrip(), soft_wrap=True)


def _judged(source: DatasetSource, data: Dataset) -> list[tuple[str, str]]:
    if data.judgements is None:
        return []
    held = source.recipe is not None and source.recipe.judgements_sha256
    return [("judgements sha256", f"{data.judgements_sha256} ({'checked' if held else 'not known beforehand'})")]


def _geometry_lines(g: Geometry) -> list[tuple[str, str]]:
    return [
        ("size", f"{g.n_base:,} base and {g.n_queries:,} query vectors of {g.dim}"),
        (
            "intrinsic dimension",
            f"{figure(g.lid_median, 1)} (10th–90th percentile {figure(g.lid_p10, 1)}–{figure(g.lid_p90, 1)}, "
            f"{g.lid_k} neighbours of {g.queries_used} queries)",
        ),
        ("relative contrast", f"{figure(g.contrast_1)} to the nearest, {figure(g.contrast_10)} to the tenth nearest"),
        ("norms", f"{g.norm_median:.4g} (5th–95th percentile {g.norm_p5:.4g}–{g.norm_p95:.4g}, cv {g.norm_cv:.3f})"),
        ("duplicates", f"{g.duplicate_rate:.2%} of the base repeat an earlier row"),
        ("metrics agree", f"{figure(g.overlap_10, 3)} of the ten nearest are the same under cosine and Euclid"),
    ]


group.command(_SHOW, hidden=True)(datasets)


@group.command("add", short_help="Give vectors or texts of your own a name.")
def add(
    path: Annotated[
        str,
        typer.Argument(metavar="PATH", help="A file or folder of vectors or texts, a folder of documents, or a card."),
    ],
    name: Annotated[
        str | None,
        typer.Option("--name", help="Lower-case words with hyphens.  [default: made of the path]", show_default=False),
    ] = None,
    queries: Annotated[
        Path | None,
        typer.Option(
            "--queries",
            metavar="FILE",
            help="Query vectors or texts.  [default: those beside, or some rows held out]",
            show_default=False,
        ),
    ] = None,
    metric: Annotated[
        str | None,
        typer.Option("--metric", metavar="[euclidean|cosine|dot]", help="What the vectors are made for."),
    ] = None,
) -> None:
    """Give vectors or texts of your own a name for --dataset; they are read and checked, and stay where they are.

    \b
    Vectors: .npy, .fvecs, .bvecs, .fbin and kin, HDF5 (ann-benchmarks), Parquet (VectorDBBench), JSON lines.
    Texts: the BEIR layout, JSON lines with "text", SQuAD's JSON; embedded with the fixed model.
    Documents: a folder of any other files; they are cut into passages, and every n-th becomes a query.
    A card (.toml) says where files are to be fetched; see datasets/README.md.

    \b
    Examples:
      vecbench datasets add ./vectors.npy --name mine --queries ./questions.npy
      vecbench datasets add ./beir/scifact
      vecbench datasets add ./handbook --name handbook
    """
    from vecbench.cli.documents import gathered
    from vecbench.formats.layout import DocumentsFound
    from vecbench.registry import dataset_names
    from vecbench.sources import data_home, path_source, pinned, register, slug

    where = Path(path)
    taken = {*dataset_names(), *group_names()}
    if name is not None and name != slug(name):
        raise ConfigError(f"--name {name!r}: lower-case words joined by hyphens are expected")
    if name is not None and name in taken:
        raise DatasetError(f"a data set is called {name!r} already, or a command is; give another --name")
    try:
        source = path_source(where, name=name, queries=queries, metric=_metric(metric))
    except DocumentsFound:
        called = name or slug(where.resolve().name)
        if called in taken:
            raise DatasetError(f"a data set is called {called!r} already; give another --name") from None
        home = data_home() / called
        try:
            source = path_source(gathered(where, home), name=called, queries=queries, metric=_metric(metric))
        except BaseException:
            if not (home / "card.toml").exists():  # of the same name, added meanwhile
                (home / "corpus.jsonl").unlink(missing_ok=True)
                with suppress(OSError):  # another process's part is in it
                    home.rmdir()
            raise
    if source.recipe is None or not source.recipe.files:
        source = pinned(source)
    card = register(source, taken)
    complain(f"{source.name}: {source.card.n_base:,} × {source.card.dim}, card {card}", head="added")
    for note in source.card.notes:
        complain(note, head="note")


@group.command("check", short_help="Check a data set wholly: hashes, values, duplicates, neighbours.")
def check(
    name: Annotated[str, typer.Argument(metavar="NAME|PATH", help="A data set, or a file or folder.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Load a data set and check all that can be: hashes, shapes, NaN, duplicates, neighbours that came with it.

    \b
    Examples:
      vecbench datasets check sift-128-euclidean
      vecbench datasets check ./vectors.npy
    Exit code 1: something is wrong; every finding is listed.
    """
    found = []
    for finding in _findings(name):
        found.append(finding)
        if not as_json:
            console().print(f"{finding.state:<5} {finding.what}: {finding.detail}", soft_wrap=True)
    if as_json:
        print_json([{"state": f.state, "what": f.what, "detail": f.detail} for f in found])
    if any(finding.state == "FAIL" for finding in found):
        raise typer.Exit(1)


def _findings(name: str) -> Iterator[Finding]:
    """Every finding; what is there and cannot be read is one too, in whatever step that shows."""
    from vecbench.cli.checking import Finding, findings
    from vecbench.cli.documents import found_source
    from vecbench.registry import dataset_names

    try:
        yield from findings(found_source(name))
    except DatasetError as e:
        if name not in dataset_names() and not Path(name).exists():
            raise
        yield Finding("FAIL", "reading", str(e))


def group_names() -> set[str]:
    """The words that mean a command after `vecbench datasets`, and so cannot name a data set."""
    return {command.name for command in group.registered_commands if command.name is not None}


def _metric(name: str | None) -> Metric | None:
    from vecbench.types import Metric

    if name is None:
        return None
    if name not in set(Metric):
        raise ConfigError(f"--metric {name!r} is not known; known: {', '.join(Metric)}")
    return Metric(name)
