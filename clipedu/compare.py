"""Comparisons over seeds: the same experiment with one thing changed, each several times, in one table.

    for run in run_comparison("geometries", Experiment(), seeds=(0, 1, 2), folder="runs/geometries"): ...
    comparison_table(runs)          # mean and standard deviation of every score, a row a variant

One seed proves little where the differences are small: another seed draws other data, other first weights and another
order of batches, and the standard deviation over seeds is what a difference has to be held against. As in a grid, a
finished run is never run again, and the same command goes on where it was stopped.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clipedu.experiment import Experiment
from clipedu.files import write_text
from clipedu.registry import unknown_name

if TYPE_CHECKING:
    import pandas

    from clipedu.runs import Run


@dataclass(frozen=True)
class Comparison:
    """What is compared: the variants by name, each as changes to an experiment, and what all of them share."""

    description: str
    variants: dict[str, dict[str, Any]]
    shared: dict[str, Any]


# -d^2 starts at temperature 1, for long runs: a learned temperature moves by a factor of 1.2 in the laptop preset's 250 steps,
# and retrieval stays near 8 %. At 0.03 to 0.1 it reaches 45 %.
SQUARED = {"geometry": "euclidean-squared", "temperature": 0.1}

COMPARISONS = {
    "geometries": Comparison(
        "cosine, Euclidean d^2 and Lorentz d, the last two also with entailment; temperature learned",
        {
            "cosine": {"geometry": "cosine"},
            "euclidean-squared": SQUARED,
            "lorentz": {"geometry": "lorentz"},
            "euclidean-squared+entailment": {
                **SQUARED,
                "entailment": 0.2,
                "entailment_options": {"min_radius": 0.3, "final_min_radius": 0.1},
            },
            "lorentz+entailment": {"geometry": "lorentz", "entailment": 0.2, "entailment_options": {"min_radius": 0.1}},
        },
        {"learn_temperature": True},
    ),
}

# What a table shows, in this order, of what the runs measured.
COLUMNS = {
    "tr@1": "TR@1",
    "ir@1": "IR@1",
    "top1": "top-1",
    "average": "average",
    "generality_within": "generality, within",
    "generality_pooled": "generality, pooled",
    "text_nearer_root": "text nearer root",
    "cone_captions": "captions in cone",
    "cone_captions_chance": "chance of it",
    "cone_images": "images in cone",
    "cone_images_chance": "chance of that",
    "modality_gap": "modality gap",
}


def comparison_cells(name: str, base: Experiment, seeds: Sequence[int]) -> dict[int, dict[str, Experiment]]:
    """The experiments of a comparison: seed -> folder name "<variant>-seed<seed>" -> experiment.

    Raises:
        ClipeduError: an unknown comparison, or a base experiment that does not go with a variant.
    """
    from clipedu.objective import check_names

    if name not in COMPARISONS:
        raise unknown_name("comparison", name, COMPARISONS)
    comparison = COMPARISONS[name]
    cells = {
        seed: {
            f"{variant}-seed{seed}": base.replace(**{**comparison.shared, **changes, "seed": seed})
            for variant, changes in comparison.variants.items()
        }
        for seed in seeds
    }
    for of_seed in cells.values():
        for experiment in of_seed.values():
            check_names(experiment)
    return cells


def run_comparison(
    name: str, base: Experiment, *, seeds: Sequence[int], folder: str | Path, progress: bool = True
) -> Iterator[Run]:
    """Run what is not finished yet, seed by seed; yields every run. Raises ClipeduError as `comparison_cells`."""
    from clipedu.grid import run_grid

    for of_seed in comparison_cells(name, base, seeds).values():
        yield from run_grid(of_seed, folder, progress=progress)


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
