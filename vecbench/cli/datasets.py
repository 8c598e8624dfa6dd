"""`vecbench datasets`: what can be searched, and how hard it is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from vecbench.cli.output import console, figure, print_json, table

if TYPE_CHECKING:
    from vecbench.dataset import DatasetSource
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
            ["data set", "rows × dim", "queries", "licence", "what it is"],
            [
                [card.name, f"{card.n_base:,} × {card.dim}", f"{card.n_queries:,}", card.licence, card.title]
                for card in cards
            ],
            right=["rows × dim", "queries"],
        )
    )
    for source, notes in _same([(card.source, card.notes, card.name) for card in cards]):
        out.print(f"{source}: {notes}", soft_wrap=True)
    out.print("`vecbench datasets NAME` loads one and measures it.")


def _same(cards: list[tuple[str, tuple[str, ...], str]]) -> list[tuple[str, str]]:
    """Names that share source and notes, joined, with both: the sizes of one generator say the same thing once."""
    names: dict[str, list[str]] = {}
    for source, notes, name in cards:
        names.setdefault("; ".join((source, *notes)), []).append(name)
    return [(", ".join(shared), text) for text, shared in names.items()]


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
