"""Comparisons over seeds: what is compared, and the table of the scores."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clipedu.evaluation.metrics import COMPARED, METRICS
from clipedu.utils.files import write_text
from clipedu.utils.markdown import markdown_table
from clipedu.utils.statistics import interval

if TYPE_CHECKING:
    import pandas

    from clipedu.config.experiment import Experiment
    from clipedu.runs.run import Run

MEANING = "± is half of Student's 95 % interval of the mean over the seeds, which are those of the training: the data are the same."


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


def paired_differences(runs: Iterable[Run], keys: Sequence[str] = COMPARED) -> pandas.DataFrame:
    """Return the differences of every two variants, seed by seed.

    Runs of one seed share the data, the first weights of equal parts and the order of batches, so a difference varies less between
    seeds than the scores do.

    Args:
        runs: of all variants and seeds.
        keys: of `METRICS`.

    Returns:
        a frame with columns "one", "other" (variants, in the order of the runs), "score" (key), "difference" (the mean of other
        minus one), "interval" (half of Student's 95 % interval of it; nan for one seed) and "seeds" (how many both have).
    """
    import pandas

    scores: dict[str, dict[int, Run]] = {}
    for run in runs:
        scores.setdefault(variant(run), {})[run.experiment.seed] = run
    rows = []
    for one, other in itertools.combinations(scores, 2):
        for key in keys:
            pairs = [(scores[one][seed], scores[other][seed]) for seed in scores[one] if seed in scores[other]]
            both = [(a.metrics[key], b.metrics[key]) for a, b in pairs if key in a.metrics and key in b.metrics]
            if both:
                rows.append((one, other, key, *interval([b - a for a, b in both]), len(both)))
    return pandas.DataFrame(rows, columns=["one", "other", "score", "difference", "interval", "seeds"])


def smallest_differences(differences: pandas.DataFrame) -> dict[str, float]:
    """Return the smallest difference that could have been seen, by score.

    A difference is seen where its interval excludes 0, so it must be larger than half of the interval: here the root mean square of
    these halves over all pairs of variants.

    Args:
        differences: as `paired_differences` returns them.
    Returns:
        key -> difference, of the scores that two seeds or more have.
    """
    halves = differences.dropna(subset="interval").groupby("score", sort=False)["interval"]
    return {str(key): math.sqrt((half**2).mean()) for key, half in halves}


def comparison_notes(runs: Sequence[Run], keys: Sequence[str] = COMPARED) -> str:
    """Return what stands below a table: what ± is, and what could be seen.

    Differences are from the first variant, seed by seed; there are none for one variant or one seed.

    Args:
        runs: of all variants and seeds.
        keys: of `METRICS`.
    """
    differences = paired_differences(runs, keys)
    smallest = smallest_differences(differences)
    if not smallest:
        return "No two variants share two seeds: no difference can be told from chance."
    first = str(differences["one"].iloc[0])
    rows = []
    for other, part in differences[differences["one"] == first].groupby("other", sort=False):
        of_score = {row.score: _cell(row.difference, row.interval) for row in part.itertuples()}
        rows.append([str(other), str(part["seeds"].max()), *(of_score.get(key, "–") for key in smallest)])
    headings = [METRICS[key].heading for key in smallest]
    seen = ", ".join(f"{METRICS[key].heading} {value:.2f}" for key, value in smallest.items())
    return (
        f"{MEANING}\n\nMinus {first}, seed by seed:\n\n{markdown_table(['variant', 'seeds', *headings], rows)}\n\n"
        f"The smallest difference of two variants that could have been seen (half of its interval, over all pairs): {seen}."
    )


def comparison_text(table: pandas.DataFrame) -> str:
    """Return a `comparison_table` as Markdown, "mean ± interval" a cell."""
    headings = [column.removesuffix(" mean") for column in table.columns if column.endswith(" mean")]
    rows = (
        [
            str(name),
            str(int(row["runs"])),
            *(_cell(row[f"{heading} mean"], row[f"{heading} interval"]) for heading in headings),
        ]
        for name, row in table.iterrows()
    )
    return markdown_table(["variant", "runs", *headings], rows)


def write_comparison(table: pandas.DataFrame, folder: str | Path, notes: str = "") -> Path:
    """Write comparison.md and comparison.csv.

    Args:
        table: as `comparison_table` returns it.
        folder: to write them into.
        notes: what stands below the table (`comparison_notes`).
    Returns:
        the path of comparison.md.
    """
    folder = Path(folder)
    write_text(folder / "comparison.md", "\n\n".join(filter(None, [comparison_text(table), notes])) + "\n")
    write_text(folder / "comparison.csv", table.to_csv())
    return folder / "comparison.md"


def _cell(mean: float, spread: float) -> str:
    if math.isnan(mean):
        return "–"
    return f"{mean:.2f}" if math.isnan(spread) else f"{mean:.2f} ± {spread:.2f}"
