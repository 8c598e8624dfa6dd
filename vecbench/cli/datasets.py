"""`vecbench datasets`: what can be searched, and how hard it is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from vecbench.cli.output import console, figure, print_json, table

if TYPE_CHECKING:
    from vecbench.dataset import DatasetCard, DatasetSource
    from vecbench.geometry import Geometry

__all__ = ["datasets"]


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
    from vecbench.registry import dataset_names, dataset_source

    if name is not None:
        _details(dataset_source(name), as_json=as_json)
        return
    cards = [dataset_source(known).card for known in dataset_names()]
    cards.sort(key=lambda card: (card.synthetic, card.n_base, card.name))
    if as_json:
        print_json([card.to_dict() for card in cards])
        return
    out = console()
    out.print(
        table(
            "",
            ["data set", "rows × dim", "queries", "licence", "vectors"],
            [
                [
                    card.name,
                    f"{card.n_base:,} × {card.dim}",
                    f"{card.n_queries:,}",
                    card.licence,
                    "synthetic" if card.synthetic else "real",
                ]
                for card in cards
            ],
            right=["rows × dim", "queries"],
        )
    )
    for text, names in _sharing(cards).items():
        out.print(f"{text}:\n    {', '.join(names)}", soft_wrap=True)
    out.print("`vecbench datasets NAME` loads one and measures it.")


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
    busy = console(stderr=True)
    with busy.status(f"loading, checking and measuring {card.name} ({card.n_base:,} × {card.dim}) …"):
        geometry = measure(source.load())
    if as_json:
        print_json({**card.to_dict(), "geometry": geometry.to_dict()})
        return
    made_by = "nothing: the vectors are generated" if card.embedder is None else card.embedder.describe()
    lines = [
        ("name", card.name),
        ("", card.description),
        ("source", card.source),
        ("licence", card.licence),
        ("embedder", made_by),
        ("sha256", f"{card.sha256} (checked)"),
        *(("note", note) for note in card.notes),
        ("", ""),
        *_geometry_lines(geometry),
    ]
    out = console()
    for key, value in lines:
        out.print(f"{key:<22}{value}".rstrip(), soft_wrap=True)


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
