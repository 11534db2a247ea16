"""Comparisons: variants over seeds, and the table of their scores."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clipedu.evaluation.metrics import COLUMNS
from clipedu.utils.files import write_text

if TYPE_CHECKING:
    import pandas

    from clipedu.runs.run import Run


@dataclass(frozen=True)
class Comparison:
    """What is compared: the variants by name, each as changes to an experiment.

    Attributes:
        shared: what all variants have that the preset has not; a setting given by hand goes over it.
        seeds: how many there are by default.
        study: what more is made of the runs than a table of scores: writes figures and tables into the folder, and
            returns what to print of them.
    """

    description: str
    variants: dict[str, dict[str, Any]]
    shared: dict[str, Any] = field(default_factory=dict)
    seeds: tuple[int, ...] = (0, 1, 2)
    study: Callable[[Sequence[Run], Path], str] | None = None


def variant(run: Run) -> str:
    """Which variant of a comparison a run is: its folder's name without the seed."""
    return run.name.rpartition("-seed")[0] or run.name


def comparison_table(runs: Iterable[Run], columns: dict[str, str] = COLUMNS) -> pandas.DataFrame:
    """Mean and standard deviation (n - 1; nan for one run) of every score over the runs of a variant.

    Returns:
        a frame with one row a variant, in the order of the runs; columns "runs" (how many have scores), then
        "<heading> mean" and "<heading> sd" for each of `columns` that a run has measured.
    """
    import pandas

    names, rows = [], []
    for run in runs:
        names.append(variant(run))
        rows.append({key: run.metrics.get(key) for key in columns})
    frame = pandas.DataFrame(rows, dtype=float).assign(variant=names)
    groups = frame.groupby("variant", sort=False)
    table = pandas.DataFrame({"runs": groups["average"].count()})
    for key, heading in columns.items():
        if frame[key].notna().any():
            table[f"{heading} mean"], table[f"{heading} sd"] = groups[key].mean(), groups[key].std()
    return table


def comparison_text(table: pandas.DataFrame) -> str:
    """The table as Markdown, "mean ± sd" a cell."""
    headings = [column.removesuffix(" mean") for column in table.columns if column.endswith(" mean")]
    lines = [
        "| variant | runs | " + " | ".join(headings) + " |",
        "|---|---|" + "---|" * len(headings),
    ]
    for name, row in table.iterrows():
        cells = [_cell(row[f"{heading} mean"], row[f"{heading} sd"]) for heading in headings]
        lines.append(f"| {name} | {int(row['runs'])} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def write_comparison(table: pandas.DataFrame, folder: str | Path) -> Path:
    """Write comparison.md and comparison.csv into `folder`; returns the path of the former."""
    folder = Path(folder)
    write_text(folder / "comparison.md", comparison_text(table) + "\n")
    write_text(folder / "comparison.csv", table.to_csv())
    return folder / "comparison.md"


def _cell(mean: float, sd: float) -> str:
    if mean != mean:
        return "–"
    return f"{mean:.2f}" if sd != sd else f"{mean:.2f} ± {sd:.2f}"
