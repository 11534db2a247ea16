"""The course's grid: every loss with every optimizer.

One run a cell, all in one folder. A cell that is finished is not run again; one that was stopped resumes from its
checkpoint; one that cannot be used at all is set aside and done again; one whose training diverged is listed as failed and left as
it is. A cell of which a file is damaged, or which cannot go on, is left as it is too: it is named, and all others are done.
So neither Ctrl-C nor a kill loses anything, and the same command resumes the grid. One process at a time has a grid; it may run
several cells at once (`clipedu.studies.cells`).

All cells share the data and every setting of the experiment, except what a preset changes for an optimizer: SGD
needs another learning rate than Adam (`PRESETS[...].per_optimizer`). With several seeds the grid is run once for each.
"""

from __future__ import annotations

import functools
import itertools
import logging
from collections.abc import Callable, Collection, Generator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from clipedu.config.course import LOSSES, OPTIMIZERS
from clipedu.config.experiment import Experiment
from clipedu.runs.run import Run
from clipedu.runs.schema import read_baseline
from clipedu.runs.trained_rows import check_same_sets
from clipedu.studies.baseline import NoWords, ridge_baseline
from clipedu.studies.cell import earlier_run
from clipedu.studies.cells import Group, LeftOut, run_cells
from clipedu.training.datasets import Data, load_data
from clipedu.training.objective import check_names
from clipedu.utils.checks import check_distinct
from clipedu.utils.errors import ClipeduError
from clipedu.utils.files import write_json
from clipedu.workflow.starting import with_loss

__all__ = [
    "COURSE_LOSSES",
    "COURSE_OPTIMIZERS",
    "LeftOut",
    "cells",
    "cells_there",
    "grid_baseline",
    "run_grid",
    "shared_data",
]

COURSE_LOSSES, COURSE_OPTIMIZERS = tuple(LOSSES), tuple(OPTIMIZERS)

log = logging.getLogger("clipedu")


def cells(
    base: Experiment,
    losses: Sequence[str] = COURSE_LOSSES,
    optimizers: Sequence[str] = COURSE_OPTIMIZERS,
    per_optimizer: Mapping[str, Mapping[str, Any]] | None = None,
    seeds: Sequence[int] | None = None,
    given: Collection[str] = (),
) -> dict[str, Experiment]:
    """Return the experiments of a grid by their folder's name.

    The name is "<optimizer>-<loss>", or of several seeds "<optimizer>-<loss>-seed<seed>"; the order is seed by seed, and optimizer by
    optimizer.

    Args:
        base: what all cells share.
        losses: names of `LOSSES`.
        optimizers: names of `OPTIMIZERS`.
        per_optimizer: changes for the cells of one optimizer, e.g. {"sgd": {"lr": 0.5}}.
        seeds: of initial weights and order of batches, of the same data; None is that of `base`.
        given: fields of `base` that the user has set, which stay with every loss and optimizer.

    Raises:
        ClipeduError: an unknown loss or optimizer, or one that is named twice, as a seed too.
    """
    check_distinct("seeds", seeds or ())
    check_distinct("losses", losses)
    check_distinct("optimizers", optimizers)
    experiments = {}
    for seed in seeds or (base.seed,):
        for optimizer in optimizers:
            for loss in losses:
                own = (per_optimizer or {}).get(optimizer, {})
                changes = {key: value for key, value in own.items() if key not in given} | {"seed": seed}
                name = f"{optimizer}-{loss}" + (f"-seed{seed}" if seeds and len(seeds) > 1 else "")
                experiments[name] = with_loss(base, loss, given).replace(optimizer=optimizer, **changes)
                check_names(experiments[name])
    return experiments


def cells_there(experiments: Mapping[str, Experiment], folder: str | Path) -> dict[str, Experiment]:
    """Name cells of several seeds as an earlier grid of one seed did.

    So the cells of `clipedu grid` are not run again by `clipedu grid --seeds 0 1 2`.

    Args:
        experiments: as `cells` returns them.
        folder: of the grid.
    """
    found = {}
    for name, experiment in experiments.items():
        short = name.removesuffix(f"-seed{experiment.seed}")
        with suppress(ClipeduError):  # it has other settings
            if short != name and earlier_run(Path(folder) / short, experiment) is not None:
                name = short
        found[name] = experiment
    return found


def shared_data(experiment: Experiment) -> Callable[[], Data]:
    """Return a function that opens an experiment's data when first called."""
    return functools.cache(functools.partial(load_data, experiment))


def run_grid(
    experiments: dict[str, Experiment],
    folder: str | Path,
    *,
    data: Callable[[], Data] | None = None,
    jobs: int | None = 1,
    threads: int = 1,
    progress: bool = True,
) -> Generator[Run, None, None]:
    """Run the cells that are not finished; yield every run, in order.

    Args:
        experiments: as `cells` returns them; those of a `data_seed` share their data, and come one after the other.
        folder: of the grid; each cell has a folder in it.
        data: `shared_data` of the first cell, where a caller needs it too; it is called only if a cell with these data is missing.
        jobs: how many cells at once, each in a process of its own; None is as many as processors and memory allow, and 1 on
            a GPU. The numbers are the same, bit for bit. With 1 they are run in this process.
        threads: of torch, for each cell on a CPU. Other threads round otherwise.
        progress: show a bar for the whole.

    Raises:
        LeftOut: after all others, for cells of which a file is damaged, which cannot go on, or whose process was killed. Each
            is named in a log line when its turn comes, and left as it is.
        ClipeduError: the folder holds a cell of the same name with other settings, or one that was trained on other data, or
            is in use by another process.
    """
    groups: list[Group] = []
    for _, names in itertools.groupby(experiments, lambda name: experiments[name].data_seed):
        of_data = {name: experiments[name] for name in names}
        opened = functools.partial(load_data, next(iter(of_data.values())))
        groups.append(Group(of_data, data if data is not None and not groups else opened))
    yield from run_cells(groups, Path(folder), jobs=jobs, threads=threads, progress=progress)


def grid_baseline(
    experiment: Experiment,
    folder: str | Path,
    data: Callable[[], Data] | None = None,
    *,
    cells: Collection[str] | None = None,
) -> dict[str, Any] | None:
    """Return the scores of `ridge_baseline`, which a grid has to beat.

    Args:
        experiment: of any cell.
        folder: of the grid, where the scores are kept; they are computed once for the data of its cells, and again if damaged.
        data: `shared_data(experiment)`, where a caller has it already.
        cells: names of those that have this experiment's data, where others in the folder have not; None is all.

    Returns:
        None for an experiment whose image encoder is trained: there are no fixed features to regress from; and, with a log
        line, where the captions hold no word.
    """
    if not experiment.image_frozen:
        return None
    path = Path(folder) / "baseline.json"
    if not path.is_file() or not _is_of_cells(path, cells):
        path.parent.mkdir(parents=True, exist_ok=True)
        opened = (data or shared_data(experiment))()
        try:
            write_json(path, ridge_baseline(experiment, opened))
        except NoWords as error:
            log.warning("no baseline: %s", error)
            return None
    return read_baseline(path.parent)


def _is_of_cells(path: Path, cells: Collection[str] | None) -> bool:
    """Check that a baseline is of the data that the cells were trained on, as far as both say what they were.

    One that is damaged is named in a log line.
    """
    try:
        kept = (read_baseline(path.parent) or {}).get("sets") or {}
    except ClipeduError as error:
        log.warning("%s", error)
        return False
    try:
        for cell in path.parent.glob("*/data.json"):
            if cells is None or cell.parent.name in cells:
                check_same_sets(cell.parent, kept)
    except ClipeduError:
        return False
    return True
