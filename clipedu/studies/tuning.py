"""`tune`: the best value of a setting of one experiment.

It is found on training pairs that are held out.

A small sweep (`clipedu.studies.sweep`) without the last part: nothing is scored on the scored sets here. So a grid can tune each of
its cells before it runs them.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from clipedu.config.command_line import experiment_words
from clipedu.config.experiment import Experiment
from clipedu.config.named_settings import with_settings
from clipedu.studies.choosing import choose
from clipedu.studies.sweep.plan import make_plan
from clipedu.studies.sweep.result import NoScore
from clipedu.studies.sweep.run import open_sweep
from clipedu.studies.sweep.space import Range, Values, axes
from clipedu.studies.sweep.trials import SharedData
from clipedu.training.datasets import data_key
from clipedu.utils.errors import ClipeduError, unknown_name

AROUND = 10  # the range of a setting is from a tenth of its value to ten times it
TUNING = "tuning"  # in the folder of a grid
TUNABLE = ("lr", "weight_decay", "temperature")  # those that have a range by themselves

log = logging.getLogger("clipedu")


def default_range(experiment: Experiment, name: str) -> Range:
    """Return the range in which a setting is looked for by default.

    It is a tenth to ten times its value, evenly on a logarithmic scale.

    Args:
        experiment: with a value above 0.
        name: one of `TUNABLE`.
    Raises:
        ClipeduError: another name, or no value above 0.
    """
    if name not in TUNABLE:
        raise unknown_name("setting to tune without a range", name, TUNABLE)
    value = getattr(experiment, name)
    if not value:
        raise ClipeduError(f"{name}={value!r} has no range around it: give one, such as {name}=1e-3..1e-1:log")
    return Range(name, value / AROUND, value * AROUND, log=True)


def tune(
    experiment: Experiment,
    what: str | Mapping[str, Any] | Sequence[str],
    folder: str | Path,
    *,
    trials: int | None = None,
    seeds: Sequence[int] | None = None,
    sampler: str | None = None,
    pruner: str = "median",
    holdout: float = 0.1,
    metric: str = "average",
    progress: bool = True,
    data: SharedData | None = None,
) -> Experiment:
    """Return an experiment with the best value of a setting.

    It is chosen by the score on training pairs held out.

    The scored sets have no part in it. The same call again does only what is missing.

    Args:
        experiment: what is tuned.
        what: the setting: one of `TUNABLE`, which is looked for in `default_range`, or what `clipedu.sweep` varies: "lr=1e-4..1e-2:log",
            a list of such words, or a mapping.
        folder: of the sweep.
        trials: at least 1; None is 10, or all of a grid.
        seeds: of each trial; None is the experiment's own.
        sampler: as that of `clipedu.sweep`; None is "grid" for words that list values, as "lr=0.001,0.01", and else "tpe".
        pruner, holdout, metric: as those of `clipedu.sweep`.
        progress: show bars.
        data: of experiments that were tuned before; None opens them anew.
    Returns:
        the experiment with the best setting: the same seed, and all training pairs.
    Raises:
        NoScore: no trial has a score.
        ClipeduError: as `clipedu.sweep`.
    """
    vary: Any = [what] if isinstance(what, str) else what
    if isinstance(what, str) and "=" not in what:
        vary = {what: default_range(experiment, what)}
    if sampler is None:
        listed = not isinstance(vary, Mapping) and all("=" in word and ".." not in word for word in vary)
        sampler = "grid" if listed else "tpe"
    if trials is None and sampler != "grid":
        trials = 10
    plan = make_plan(
        experiment, vary, seeds=(experiment.seed,) if seeds is None else seeds, trials=trials, sampler=sampler, pruner=pruner,
        holdout=holdout, metric=metric,
    )  # fmt: skip
    with open_sweep(plan, folder, data=data) as work:
        for _ in work.trials(progress=progress):
            pass
        return work.result({}).experiment(seed=experiment.seed)


@dataclass(frozen=True)
class Tuned:
    """Cells with values of their own.

    Attributes:
        experiments: by name.
        text: what was found, to print.
    """

    experiments: dict[str, Experiment]
    text: str


def tune_cells(
    experiments: Mapping[str, Experiment],
    what: Sequence[str],
    folder: str | Path,
    *,
    jobs: int | None = 1,
    threads: int = 1,
    progress: bool = True,
    **options: Any,
) -> Tuned:
    """Return the cells of a grid, each with its own best values.

    Listed values are all tried, several runs at once (`clipedu.studies.choosing`); a range, and settings that change the
    data, are searched by `tune`. A cell of which no trial has a score stays as it is. The same call again does only
    what is missing.

    Args:
        experiments: by name, as `clipedu.studies.grid.cells` returns them.
        what: settings, as words for `tune`: "lr" or "lr=1e-4..1e-2:log" for a range, "lr=0.001,0.01" for values.
        folder: of the grid; what is tried is in its folder tuning/.
        jobs, threads: as those of `clipedu.studies.grid.run_grid`, where values are listed.
        progress: show bars.
        options: of `tune`, where it searches.
    Raises:
        ClipeduError: as `tune` and `choose`.
    """
    folder = Path(folder) / TUNING
    if all("=" in word for word in what):
        values = {name: one for name, one in axes(what).items() if isinstance(one, Values)}
        if len(values) == len(what) and not options and _same_data(experiments, values):
            chosen = choose(experiments, values, folder, jobs=jobs, threads=threads, progress=progress)
            return Tuned(chosen.experiments, chosen.markdown())
    if len(what) > 1 and not all("=" in word for word in what):
        raise ClipeduError(f"{' '.join(what)}: of several settings each needs its values, such as lr=1e-4..1e-2:log")
    found, data = {}, SharedData()
    for name, experiment in experiments.items():
        try:
            words = what[0] if len(what) == 1 else list(what)
            found[name] = tune(experiment, words, folder / name, progress=progress, data=data, **options)
        except NoScore as error:
            log.warning("%s stays as it is: %s", name, error)
            found[name] = experiment
    return Tuned(found, "\n".join(f"{name}: {_changes(experiments[name], cell)}" for name, cell in found.items()))


def _same_data(experiments: Mapping[str, Experiment], values: Mapping[str, Values]) -> bool:
    """Check that no value changes the data."""
    return all(
        data_key(with_settings(one, {name: value})) == data_key(one)
        for one in experiments.values()
        for name, tried in values.items()
        for value in tried.values
    )


def _changes(before: Experiment, after: Experiment) -> str:
    """Return what tuning has changed, as a command would say it."""
    names = [field.name for field in fields(after) if getattr(after, field.name) != getattr(before, field.name)]
    return " ".join(experiment_words({name: getattr(after, name) for name in names})) or "as it was"
