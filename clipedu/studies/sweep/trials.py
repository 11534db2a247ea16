"""One trial: a run for each seed, scored on pairs held out of training."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from clipedu.config.experiment import Experiment
from clipedu.evaluation.metrics import METRICS
from clipedu.runs.checkpoint import DamagedCheckpoint, checkpoints
from clipedu.runs.folders import load_run
from clipedu.runs.run import Run
from clipedu.studies.sweep.claims import MOST_ATTEMPTS, SCORES, SECONDS, Claim
from clipedu.studies.sweep.plan import Plan
from clipedu.training.datasets import Data, data_key, load_data
from clipedu.utils.errors import ClipeduError
from clipedu.utils.finite import NotFinite
from clipedu.utils.memory import OutOfMemory
from clipedu.workflow.pipeline import fit, resume

log = logging.getLogger("clipedu")


class Pruned(ClipeduError):
    """A trial is worse than others at the same time of its training."""


@dataclass
class SharedData:
    """The data of the last few experiments, for others that need the same.

    Attributes:
        most: how many are kept; as many as there are seeds.
    """

    most: int = 1
    _kept: dict[str, Data] = field(default_factory=dict)

    def of(self, experiment: Experiment) -> Data:
        """Return the data of an experiment.

        Raises:
            ClipeduError: as `load_data`.
        """
        key = data_key(experiment)
        if key not in self._kept:
            while len(self._kept) >= self.most:
                del self._kept[next(iter(self._kept))]
            self._kept[key] = load_data(experiment)
        return self._kept[key]


def run_trial(claim: Claim, plan: Plan, data: SharedData, *, progress: bool = True) -> str:
    """Do a trial, or what is missing of it.

    The runs of its seeds are in its folder. In the first seed's run it may be pruned. A run that diverges or does not fit into
    memory, and settings that do not go together, make it a failed one, which says why and is not tried again.

    Args:
        claim: the trial.
        plan: of the sweep.
        data: of the runs before.
        progress: show bars.
    Returns:
        how it ended: "finished", "pruned" or "failed".
    Raises:
        ClipeduError: a run cannot go on for a reason outside of its settings (a full disk, data that are gone); the trial stays
            open, and the same sweep goes on with it.
        KeyboardInterrupt: the same.
    """
    try:
        if claim.attempt > MOST_ATTEMPTS:
            raise DoNotGoTogether(f"it was begun {MOST_ATTEMPTS} times, and its process ended each time before it did")
        claim.finish(_all_seeds(claim, plan, data, progress=progress))
        state = "finished"
    except Pruned:
        claim.prune()
        state = "pruned"
    except (NotFinite, OutOfMemory, DoNotGoTogether) as error:
        claim.fail(str(error))
        state = "failed"
    except KeyboardInterrupt:
        claim.forgive()
        raise
    _drop_weights(claim.folder)
    return state


class DoNotGoTogether(ClipeduError):
    """The settings of a trial cannot be run."""


def _all_seeds(claim: Claim, plan: Plan, data: SharedData, *, progress: bool) -> float:
    """Return the mean score of a trial over its seeds."""
    frozen = claim.frozen
    scores: dict[str, dict[str, float]] = dict(frozen.user_attrs.get(SCORES, {}))
    seconds: dict[str, float] = dict(frozen.user_attrs.get(SECONDS, {}))
    reports = set(frozen.intermediate_values)
    if reports and not scores and claim.trial.should_prune():
        raise Pruned(f"worse than other trials at evaluation {max(reports)}")

    def look(number: int, found: Mapping[str, float]) -> None:
        if number not in reports:
            reports.add(number)
            claim.trial.report(found[plan.metric], number)
            if claim.trial.should_prune():
                raise Pruned(f"worse than other trials at evaluation {number}")

    for seed in plan.seeds:
        if str(seed) in scores:
            continue
        try:
            experiment = plan.trial(claim.variant, claim.settings, seed)
        except ClipeduError as error:
            raise DoNotGoTogether(error) from None
        run = finish(
            experiment, claim.folder / f"seed-{seed}", data, look if seed == plan.seeds[0] else None, progress=progress
        )
        scores[str(seed)] = {key: value for key, value in run.metrics.items() if key in METRICS}
        seconds[str(seed)] = run.seconds
        claim.trial.set_user_attr(SCORES, scores)
        claim.trial.set_user_attr(SECONDS, seconds)
    return sum(of[plan.metric] for of in scores.values()) / len(scores)


def finish(
    experiment: Experiment,
    folder: Path,
    data: SharedData,
    look: Callable[[int, Mapping[str, float]], None] | None = None,
    *,
    progress: bool = True,
) -> Run:
    """Return a run of a sweep, run or resumed where it is not finished.

    Args:
        experiment: of the run.
        folder: of the run; one that is damaged is set aside and done again.
        data: of the runs before.
        look: of `clipedu.fit`, its on_scores.
        progress: show a bar.
    Raises:
        NotFinite, OutOfMemory: it diverged, now or earlier; or does not fit.
        DoNotGoTogether: the experiment cannot be run; nothing was written.
        ClipeduError: it cannot go on.
    """
    options: dict[str, Any] = {"progress": progress, "report": False, "on_scores": look}
    if (folder / "experiment.json").exists():
        try:
            run = load_run(folder)
        except ClipeduError as error:
            raise ClipeduError(
                f"{error}. Remove {folder} to have this run done again, and give the same command"
            ) from None
        if run.status == "failed":
            raise NotFinite(run.note)
        try:
            return run if run.status == "finished" else resume(folder, data=data.of(experiment), **options)
        except DamagedCheckpoint as error:
            aside = next(
                path for n in range(1000) if not (path := folder.with_name(f".damaged-{folder.name}-{n}")).exists()
            )
            log.warning("%s: %s is set aside as %s, and done again", error, folder, aside.name)
            folder.rename(aside)
    try:
        return fit(experiment, folder, data=data.of(experiment), **options)
    except (NotFinite, OutOfMemory, Pruned):
        raise
    except ClipeduError as error:
        if (folder / "experiment.json").exists():
            raise
        raise DoNotGoTogether(error) from None


def _drop_weights(folder: Path) -> None:
    """Remove the checkpoints of a trial that has ended: its scores alone are needed, and many models take much space."""
    for run in folder.glob("seed-*"):
        for checkpoint in checkpoints(run):
            shutil.rmtree(checkpoint, ignore_errors=True)
