"""Cells over frozen encoders, trained as stacks.

Where both encoders are frozen, hundreds of settings take little longer than a few (`clipedu.fit_heads`). What is left here is trained
one by one, by `clipedu.studies.grid.run_grid`: other cells, and those that were stopped.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

from clipedu.config.experiment import Experiment
from clipedu.runs.checkpoint import checkpoints
from clipedu.runs.folders import check_free
from clipedu.studies.cells import computing_with
from clipedu.training.stackable import plan_stacks
from clipedu.utils.device import pick_device
from clipedu.utils.errors import ClipeduError
from clipedu.workflow.heads import fit_heads


def fit_stacks(
    experiments: Mapping[str, Experiment],
    folder: str | Path,
    *,
    threads: int = 1,
    progress: bool = True,
    keep_weights: bool = True,
) -> list[str]:
    """Train the cells that can be in a stack and have not begun.

    Args:
        experiments: by the name of the cell's folder.
        folder: of the cells' folders.
        threads: of torch, on a CPU.
        progress: show bars.
        keep_weights: keep the checkpoints of what is trained.
    Returns:
        the names of those that were trained.
    Raises:
        ClipeduError: as `fit_heads`.
    """
    missing = {name: one for name, one in experiments.items() if _is_free(Path(folder) / name)}
    names, trained = list(missing), list[str]()
    for stack in plan_stacks(list(missing.values())).stacks:
        chosen = {names[number]: missing[names[number]] for number in stack}
        on_cpu = pick_device(next(iter(chosen.values())).device).type == "cpu"
        with computing_with(threads if on_cpu else None):
            fit_heads(chosen, folder, progress=progress)
        if not keep_weights:
            for name in chosen:
                drop_weights(Path(folder) / name)
        trained += chosen
    return trained


def drop_weights(folder: Path) -> None:
    """Remove the checkpoints of a run.

    Of a setting among many its scores are needed alone.

    Args:
        folder: of the run.
    """
    for checkpoint in checkpoints(folder):
        shutil.rmtree(checkpoint, ignore_errors=True)


def _is_free(folder: Path) -> bool:
    try:
        check_free(folder)
    except ClipeduError:
        return False
    return True
