"""`fit_heads`: many settings of projections over frozen features, at once.

    base = clipedu.Experiment(image_frozen=True, text_frozen=True)
    runs = clipedu.fit_heads([base.replace(lr=lr) for lr in (1e-3, 3e-3)])
    runs[0].metrics

Experiments that do the same operations are trained as one stack (`clipedu.training.stacked`); the numbers in them may differ. Each
run has the weights, losses and scores of its own `fit`, to rounding. With a folder each is written as a run, which
`load_run`, `evaluate`, `resume` and the report take.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from clipedu.config.experiment import Experiment
from clipedu.runs.folders import check_free
from clipedu.runs.paths import with_absolute_paths
from clipedu.training.datasets import Data, check_held_out, data_key, load_data
from clipedu.training.objective import check_names
from clipedu.training.stackable import plan_stacks
from clipedu.training.stacked import runs_at_once
from clipedu.training.stacked_setup import Encoders
from clipedu.utils.errors import ClipeduError
from clipedu.utils.interrupts import terminable
from clipedu.utils.ranks import check_one_process
from clipedu.workflow.head_run import HeadRun, check_run_names, numbered, run_alone
from clipedu.workflow.heads_folders import Member
from clipedu.workflow.heads_stack import fit_stack


def fit_heads(
    experiments: Sequence[Experiment] | Mapping[str, Experiment],
    folder: str | Path | None = None,
    *,
    data: Data | None = None,
    alone: bool = False,
    progress: bool = True,
) -> list[HeadRun]:
    """Train and score many experiments over frozen features.

    They are divided into stacks by what must be equal: loss, optimizer, geometry, sizes, encoders, batch size and steps. Free for
    each run are learning rate, schedule, decay, betas and eps, clipping, temperature, the loss's constants, and the seed. A stack
    that is too large for memory is trained in parts.

    Ctrl-C and SIGTERM end it after a step. With a folder, runs that are finished are kept, and those that were being trained are kept
    as stopped, with a checkpoint: `clipedu.resume` continues each. Without one nothing is kept. A run that diverges is
    "failed", and the others go on.

    Args:
        experiments: in order, or by name.
        folder: a run's folder is made in it for each, called as the run; None writes nothing.
        data: `load_data(experiment)`, for all of them; None opens what each needs, once.
        alone: also run those that cannot be in a stack, by `fit`, one after the other.
        progress: show a progress bar.
    Returns:
        the runs, in order.
    Raises:
        ClipeduError: an experiment cannot be run, or not in a stack (it says why); nothing is trained then.
        OutOfMemory: the memory is not enough.
        KeyboardInterrupt: after what is done is kept.
    """
    given = (
        dict(experiments)
        if isinstance(experiments, Mapping)
        else dict(zip(numbered(len(experiments)), experiments, strict=True))
    )
    if not given:
        raise ClipeduError("there are no experiments to train: give at least one")
    check_run_names(list(given))
    check_one_process("fit_heads")
    plan = plan_stacks(list(given.values()))
    _check_alone(list(given), plan.alone, alone=alone)
    for experiment in given.values():
        check_names(experiment)
        if data is None:
            check_held_out(experiment)
    folders = [None if folder is None else Path(folder) / name for name in given]
    for path in folders:
        if path is not None:
            check_free(path)
    opened: dict[str, Data] = {}
    members = []
    for (name, experiment), path in zip(given.items(), folders, strict=True):
        absolute, paths = with_absolute_paths(experiment)
        key = data_key(absolute)
        if data is None and key not in opened:
            opened[key] = load_data(absolute)
        check_held_out(absolute, data or opened[key])
        members.append(Member(name, absolute, data or opened[key], path, paths))
    encoders, runs = Encoders(progress=progress), dict[int, HeadRun]()
    with terminable():
        for stack in plan.stacks:
            most = runs_at_once(members[stack[0]].experiment.batch_size)
            for part in (stack[start : start + most] for start in range(0, len(stack), most)):
                found = fit_stack([members[number] for number in part], encoders, progress=progress)
                runs.update(zip(part, found, strict=True))
        encoders.forget()
        for number, why in plan.alone.items():
            one = members[number]
            runs[number] = run_alone(one.name, one.experiment, one.folder, one.data, why, progress=progress)
    return [runs[number] for number in range(len(members))]


def _check_alone(names: list[str], why: Mapping[int, str], *, alone: bool) -> None:
    """Check that all experiments can be in a stack, or may be run alone.

    Raises:
        ClipeduError: one cannot; says why.
    """
    if why and not alone:
        number, reason = next(iter(why.items()))
        more = f" ({len(why) - 1} more cannot either)" if len(why) > 1 else ""
        raise ClipeduError(
            f"experiment {names[number]!r} cannot be trained in a stack{more}: {reason}. Leave it out, or give alone=True "
            "to have such experiments run one by one"
        )
