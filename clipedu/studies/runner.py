"""Comparisons over seeds: one experiment with one thing changed.

Each variant is run several times, and all are in one table.

    cells = comparison_cells("geometries", Experiment(), seeds=(0, 1, 2))
    runs = list(run_comparison(cells, "runs/geometries"))
    comparison_table(runs)          # mean and interval of every score, a row a variant

One seed proves little where the differences are small: another seed draws other initial weights and another order of batches
(of the same data, `data_seed`), and a difference has to be compared with its interval over seeds. As in a grid, a finished run
is not run again, and the same command resumes.
"""

from __future__ import annotations

from collections.abc import Collection, Generator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clipedu.config.experiment import Experiment
from clipedu.studies import attributes, decay, decoupling, geometries, memory, momentum, norms, vit
from clipedu.studies.comparison import Comparison
from clipedu.utils.checks import check_distinct
from clipedu.utils.errors import ClipeduError, unknown_name

if TYPE_CHECKING:
    from clipedu.runs.run import Run


COMPARISONS: dict[str, Comparison] = {
    "geometries": geometries.COMPARISON,
    "norms": norms.COMPARISON,
    "decay": decay.COMPARISON,
    "memory": memory.COMPARISON,
    "attributes": attributes.COMPARISON,
    "vit": vit.COMPARISON,
    "momentum": momentum.COMPARISON,
    "decoupling": decoupling.COMPARISON,
}


def find_comparison(name: str) -> Comparison:
    """Return the comparison of this name.

    Raises:
        ClipeduError: there is none.
    """
    if name not in COMPARISONS:
        raise unknown_name("comparison", name, COMPARISONS)
    return COMPARISONS[name]


def comparison_cells(
    name: str,
    base: Experiment,
    seeds: Sequence[int],
    *,
    given: Collection[str] = (),
    only: Collection[str] | None = None,
    per_optimizer: Mapping[str, Mapping[str, Any]] | None = None,
) -> dict[int, dict[str, Experiment]]:
    """Return the experiments of a comparison by seed and folder name.

    Args:
        name: of `COMPARISONS`.
        base: what the variants change.
        seeds: of the initial weights and the order of batches; all train and score on the same data.
        given: fields of `base` that the user has set: they have precedence over what the comparison shares.
        only: names of variants; None is all of them.
        per_optimizer: what a preset changes for the cells of one optimizer, as in a grid.

    Returns:
        seed -> folder name "<variant>-seed<seed>" -> experiment.

    Raises:
        ClipeduError: an unknown comparison or variant, a seed or variant that is given twice, a field in `given` that every variant sets, no pairs held out where
            settings are chosen, or a base experiment that a variant cannot be applied to.
    """
    from clipedu.training.objective import check_names
    from clipedu.workflow.starting import with_loss

    comparison = find_comparison(name)
    check_distinct("seeds", seeds)
    check_distinct("variants", only or ())
    for one in only or ():
        if one not in comparison.variants:
            raise unknown_name(f"variant of {name!r}", one, comparison.variants, most=8)
    varied = set.intersection(*map(set, comparison.variants.values())) | {"seed"}
    if clash := sorted(varied & set(given)):
        raise ClipeduError(f"{clash[0]}={getattr(base, clash[0])!r} cannot be given: {name!r} compares by {clash[0]}")
    free = {key: value for key, value in comparison.shared.items() if key not in given}

    def cell(changes: Mapping[str, Any], seed: int) -> Experiment:
        own = (per_optimizer or {}).get(changes.get("optimizer", base.optimizer), {})
        own = {key: value for key, value in own.items() if key not in given and key not in comparison.shared}
        settings = {**free, **own, **changes, "seed": seed}
        return with_loss(base, settings.get("loss", base.loss), given).replace(**settings)

    cells = {
        seed: {
            f"{variant}-seed{seed}": cell(changes, seed)
            for variant, changes in comparison.variants.items()
            if only is None or variant in only
        }
        for seed in seeds
    }
    for of_seed in cells.values():
        for experiment in of_seed.values():
            if "holdout" in comparison.shared and experiment.holdout is None:
                raise ClipeduError(
                    f"holdout=None cannot be given: {name!r} chooses settings, which is done on pairs held out. Give a share, such as 0.25"
                )
            check_names(experiment)
    return cells


def run_comparison(
    cells: Mapping[int, dict[str, Experiment]],
    folder: str | Path,
    *,
    jobs: int | None = 1,
    threads: int = 1,
    progress: bool = True,
    stacked: bool = False,
    keep_weights: bool = True,
) -> Generator[Run, None, None]:
    """Run what is not finished; yield every run, seed by seed.

    Args:
        cells: as `comparison_cells` returns them.
        folder: of the comparison; each run has a folder in it.
        jobs, threads, progress: as those of `clipedu.studies.grid.run_grid`.
        stacked: first train the cells over two frozen encoders as stacks, before the first run is yielded.
        keep_weights: keep the checkpoints of finished runs.

    Raises:
        LeftOut: as `run_grid`, after the runs of all seeds.
        ClipeduError: the folder holds a run of the same name with other settings.
    """
    from clipedu.studies.grid import run_grid
    from clipedu.studies.stacked_cells import drop_weights, fit_stacks

    every = {name: experiment for of_seed in cells.values() for name, experiment in of_seed.items()}
    if stacked and any(experiment.image_frozen and experiment.text_frozen for experiment in every.values()):
        fit_stacks(every, folder, threads=threads, progress=progress, keep_weights=keep_weights)
    for run in run_grid(every, folder, jobs=jobs, threads=threads, progress=progress):
        if not keep_weights and run.status == "finished":
            drop_weights(run.folder)
        yield run
