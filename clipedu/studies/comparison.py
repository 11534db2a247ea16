"""Comparisons over seeds: what is compared, and the table of the scores."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from clipedu.evaluation.metrics import COMPARED, METRICS
from clipedu.utils.files import write_text
from clipedu.utils.markdown import markdown_table
from clipedu.utils.statistics import interval

if TYPE_CHECKING:
    import pandas

    from clipedu.config.experiment import Experiment
    from clipedu.runs.run import Run


@dataclass(frozen=True)
class Comparison:
    """A comparison of variants, each a set of changes to an experiment.

    Attributes:
        description: one line for `clipedu compare --help`.
        variants: name -> fields of `Experiment` that it changes.
        shared: what all variants change in the preset; a setting given by the user has precedence.
        seeds: the default seeds.
        study: makes more of the runs than a table of scores: writes figures and tables into the folder, and returns the
            text to print.
        scan: the variants are a grid of settings, too many for a row each: the table and the report of all runs are left to
            `study`, and their weights are not kept. Cells over two frozen encoders are trained as stacks (`clipedu.fit_heads`).
        follow: makes of the runs those that come after them, in the folder best/: seed -> folder name -> experiment.
    """

    description: str
    variants: Mapping[str, Mapping[str, Any]]
    shared: Mapping[str, Any] = field(default_factory=dict)
    seeds: tuple[int, ...] = (0, 1, 2)
    study: Callable[[Sequence[Run], Path], str] | None = None
    scan: bool = False
    follow: Callable[[Sequence[Run]], Mapping[int, dict[str, Experiment]]] | None = None


def variant(run: Run) -> str:
    """Return the name of a run's variant: its folder's name without the seed."""
    return run.name.rpartition("-seed")[0] or run.name


def comparison_table(runs: Iterable[Run], keys: Sequence[str] = COMPARED) -> pandas.DataFrame:
    """Return the mean and spread of every score of a variant.

    Args:
        runs: of all variants and seeds.
        keys: of `METRICS`, in the order of the columns.

    Returns:
        a frame with one row a variant, in the order of the runs; columns "runs" (how many have scores), then
        "<heading> mean", "<heading> sd" (n - 1; nan for one run) and "<heading> interval" (half of Student's 95 % interval of the
        mean) for each key that a run has measured.
    """
    import pandas

    names, rows = [], []
    for run in runs:
        names.append(variant(run))
        rows.append({key: run.metrics.get(key) for key in keys})
    frame = pandas.DataFrame(rows, dtype=float).assign(variant=names)
    groups = frame.groupby("variant", sort=False)
    table = pandas.DataFrame({"runs": groups["average"].count()})
    for key in keys:
        if frame[key].notna().any():
            heading = METRICS[key].heading
            table[f"{heading} mean"], table[f"{heading} sd"] = groups[key].mean(), groups[key].std()
            table[f"{heading} interval"] = groups[key].agg(lambda values: interval(values.dropna())[1])
    return table


def comparison_text(table: pandas.DataFrame, spread: Literal["sd", "interval"] = "sd") -> str:
    """Return a `comparison_table` as Markdown, "mean ± spread" a cell."""
    headings = [column.removesuffix(" mean") for column in table.columns if column.endswith(" mean")]
    rows = (
        [
            str(name),
            str(int(row["runs"])),
            *(_cell(row[f"{heading} mean"], row[f"{heading} {spread}"]) for heading in headings),
        ]
        for name, row in table.iterrows()
    )
    return markdown_table(["variant", "runs", *headings], rows)


def write_comparison(table: pandas.DataFrame, folder: str | Path, spread: Literal["sd", "interval"] = "sd") -> Path:
    """Write comparison.md and comparison.csv; return the path of the former."""
    folder = Path(folder)
    write_text(folder / "comparison.md", comparison_text(table, spread) + "\n")
    write_text(folder / "comparison.csv", table.to_csv())
    return folder / "comparison.md"


def _cell(mean: float, spread: float) -> str:
    if math.isnan(mean):
        return "–"
    return f"{mean:.2f}" if math.isnan(spread) else f"{mean:.2f} ± {spread:.2f}"
