"""The best of listed values, for each of several experiments.

Each experiment is run with every combination of the values, scored on training pairs that are held out, and keeps the best. The
scored sets have no part in it. The runs are cells (`clipedu.studies.grid.run_grid`): several at once, over two frozen encoders in
stacks, none twice, and without their weights afterwards.

A best value at an end of its list says that the list was too short: it is told.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clipedu.config.experiment import Experiment
from clipedu.config.named_settings import with_settings
from clipedu.evaluation.metrics import METRICS
from clipedu.runs.folders import TUNING, make_folder
from clipedu.studies.runner import run_comparison
from clipedu.studies.sweep.space import Values, shown
from clipedu.utils.files import write_json, write_text
from clipedu.utils.markdown import markdown_table

if TYPE_CHECKING:
    import pandas

SCORE = "average"
HOLDOUT = 0.1  # of the training pairs


@dataclass(frozen=True)
class Chosen:
    """What was found.

    Attributes:
        experiments: by name, as they were given but for the values that were chosen; one of which no run has a score stays as
            it was.
        table: one row an experiment and setting: experiment, the settings by name, status, score (percent; nan of a run
            that failed), chosen (bool), ends (names of settings that are chosen at an end of their list, joined by a comma).
    """

    experiments: dict[str, Experiment]
    table: pandas.DataFrame

    def markdown(self) -> str:
        """Return a table: of each experiment its values and score."""
        names = [name for name in self.table.columns if name not in ("experiment", "status", "score", "chosen", "ends")]
        rows = []
        for name, own in self.table.groupby("experiment", sort=False):
            best = own[own["chosen"]]
            for _, row in best.iterrows():
                rows.append([str(name), *(shown(row[one]) for one in names), f"{row['score']:.2f}", row["ends"] or "–"])
            if best.empty:
                rows.append([str(name), *("as it was" for _ in names), "–", "no run has a score"])
        heading = f"{METRICS[SCORE].heading}, held out"
        return markdown_table(["", *names, heading, "at an end of its values"], rows)


def choose(
    experiments: Mapping[str, Experiment],
    values: Mapping[str, Values],
    folder: str | Path,
    *,
    holdout: float = HOLDOUT,
    jobs: int | None = 1,
    threads: int = 1,
    progress: bool = True,
) -> Chosen:
    """Return experiments with the best of the values, each its own.

    The same call again does only what is missing.

    Args:
        experiments: by name; they share their data.
        values: setting -> what it is tried with; all combinations are run.
        folder: of the runs, <experiment>+<setting><value>, of tuning.json, what is tried, and tuning.csv, the table.
        holdout: share of the training pairs that the runs are scored on; an experiment that has one keeps its own.
        jobs, threads, progress: as those of `clipedu.studies.grid.run_grid`.
    Raises:
        LeftOut: a run was left out; the others are done.
        ClipeduError: as `run_grid`, or a value that an experiment does not take.
    """
    import pandas

    settings = [
        dict(zip(values, chosen, strict=True)) for chosen in itertools.product(*(one.values for one in values.values()))
    ]
    trials = {
        "+".join([name, *(f"{key}{shown(value)}" for key, value in setting.items())]): (name, setting)
        for name in experiments
        for setting in settings
    }
    cells = {
        trial: with_settings(experiments[name], setting).replace(holdout=experiments[name].holdout or holdout)
        for trial, (name, setting) in trials.items()
    }
    folder = Path(folder)
    make_folder(folder)
    write_json(
        folder / TUNING, {"values": {name: list(one.values) for name, one in values.items()}, "holdout": holdout}
    )
    rows: list[dict[str, Any]] = []
    options: dict[str, Any] = {"jobs": jobs, "threads": threads, "progress": progress}
    for run in run_comparison({0: cells}, folder, stacked=True, keep_weights=False, **options):
        name, setting = trials[run.name]
        rows.append({"experiment": name, **setting, "status": run.status, "score": run.metrics.get(SCORE, math.nan)})
    table = pandas.DataFrame(rows).assign(chosen=False, ends="")
    found = dict(experiments)
    for name, own in table[table["score"] > 0].groupby("experiment", sort=False):
        best = own["score"].idxmax()
        setting = {key: rows[best][key] for key in values}
        found[str(name)] = with_settings(experiments[str(name)], setting)
        table.loc[best, ["chosen", "ends"]] = [
            True,
            ", ".join(key for key in values if _at_end(setting[key], values[key])),
        ]
    write_text(folder / "tuning.csv", table.to_csv(index=False))
    return Chosen(found, table)


def _at_end(value: Any, tried: Values) -> bool:
    """Check that a number is the smallest or the largest of those that were tried."""
    numbers = [one for one in tried.values if isinstance(one, int | float) and not isinstance(one, bool)]
    return len(numbers) == len(tried.values) > 1 and value in (min(numbers), max(numbers))
