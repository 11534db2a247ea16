"""Our grid of losses and optimizers beside the course's published one.

It says which numbers can be compared.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from clipedu import plots
from clipedu.config.course import course_benchmarks, course_table, display_name, rank_correlation
from clipedu.evaluation.metrics import SCORES
from clipedu.plots.style import to_png
from clipedu.report.document import Block, Heading, Picture, Table, Text
from clipedu.utils.statistics import interval

if TYPE_CHECKING:
    import pandas

ENOUGH = 4  # cells that a rank correlation needs to mean anything
WARNING = (
    "Only orderings may be compared, never heights: the course trained ResNet-50 and DistilBERT on 100,000 pairs of CC3M and "
    "scored them on 5,000 images of COCO and on ImageNet-1k, where its image tower had been pre-trained with labels. The data "
    "and the scale of the runs here differ from that, unless the settings below say so."
)


def course_blocks(table: pandas.DataFrame) -> list[Block]:
    """Return the blocks that compare our grid with the course's.

    They are heat maps, the course's table with our averages, and the rank correlation; if no cell is shared, our heat
    map alone.

    Args:
        table: as `clipedu.report.score_table.score_table` returns it. Several runs of a cell count with their mean.
    """
    averages = table.groupby(["loss", "optimizer"])["average"].mean()
    ours = {cell: value for cell, value in averages.items() if not math.isnan(value)}
    spread = {cell: interval(of_cell["average"].dropna())[1] for cell, of_cell in table.groupby(["loss", "optimizer"])}
    course = course_table()
    shared = [cell for cell in zip(course["loss"], course["optimizer"], strict=True) if cell in ours]
    blocks: list[Block] = []
    if len(averages) > 1 and ours:
        figure = plots.plot_grid(table, "Our averages: brighter is better")
        blocks.append(Picture("grid", to_png(figure), "A dash: no run, or a run without scores.", half=True))
    if not shared:
        return [Heading("Losses and optimizers"), *blocks] if blocks else []
    figure = plots.plot_grid(course, "The course's averages, corrected")
    return [
        Heading("Losses and optimizers, beside the course's published table"),
        Text(WARNING, warning=True),
        *blocks,
        Picture("course-grid", to_png(figure), "Recomputed from the published scores.", half=True),
        _side_by_side(course, ours, spread, shared),
        Text(_correlation(ours)),
    ]


def _side_by_side(
    course: pandas.DataFrame,
    ours: dict[tuple[str, str], float],
    spread: dict[tuple[str, str], float],
    shared: list[tuple[str, str]],
) -> Table:
    """Return the 15 published cells beside our averages, with half of an interval where a cell has several runs.

    Both ranks are those among the cells that both have.
    """
    theirs = course.set_index(["loss", "optimizer"])["average"]
    our_rank = {cell: 1 + sum(ours[other] > ours[cell] for other in shared) for cell in shared}
    their_rank = {cell: 1 + sum(theirs[other] > theirs[cell] for other in shared) for cell in shared}
    rows = []
    for row in course.to_dict("records"):
        cell = (row["loss"], row["optimizer"])
        scores = [f"{row[key]:.2f}" + "†" * (key == "average" and row["corrected"]) for key in SCORES]
        mine = ["–", "–", "–"]
        if cell in ours:
            half = "" if math.isnan(spread[cell]) else f" ± {spread[cell]:.2f}"
            mine = [f"{ours[cell]:.2f}{half}", str(their_rank[cell]), str(our_rank[cell])]
        rows.append([display_name(row["optimizer"]), display_name(row["loss"]), *scores, *mine])
    fixed = " and ".join(
        f"{r['printed']:.2f} for {display_name(r['optimizer'])} + {display_name(r['loss'])} (its three scores give "
        f"{r['average']:.2f})"
        for r in course[course["corrected"]].to_dict("records")
    )
    benchmarks = ", ".join(f"{display_name(r.loss)} {r.average:.2f}" for r in course_benchmarks().itertuples())
    note = (
        f"† Corrected: printed were {fixed}. The course's own benchmarks (AdamW): {benchmarks}. All are single runs with a "
        "standard error of about 0.2, so that differences below about 0.6 say nothing. Ranks count the cells that both have; a run "
        "without scores has none, and several runs of a cell count with their mean (± Student's 95 % interval)."
    )
    names = (f"course {heading}" for heading in SCORES.values())
    columns = ("optimizer", "loss", *names, "our average", "course rank", "our rank")
    return Table(columns, rows, note=note)


def _correlation(ours: dict[tuple[str, str], float]) -> str:
    """Return the rank correlation in words, with its range by chance.

    It is Spearman's; the range is 1.96 / sqrt(cells - 1).
    """
    rho, cells = rank_correlation(ours)
    if cells < ENOUGH:
        return f"Both tables share {cells} of 15 cells: too few for a rank correlation (at least {ENOUGH})."
    if math.isnan(rho):
        return f"Both tables share {cells} of 15 cells, but all averages are equal: there is no order to compare."
    by_chance = min(1.0, 1.96 / math.sqrt(cells - 1))
    chance = f"Of unrelated tables, 95 in 100 would lie within ±{by_chance:.2f}."
    if by_chance == 1:
        chance = "With so few cells, unrelated tables may give any value."
    return (
        f"Spearman's rank correlation of our averages with the course's, over the {cells} cells that both have: {rho:+.2f} "
        f"(+1: the same order; 0: none; -1: the opposite). {chance}"
    )
