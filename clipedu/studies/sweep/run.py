"""`sweep`: choose settings on pairs held out, then score the best.

    SWEEP/sweep.json         what the sweep tries; the same folder takes no other sweep
    SWEEP/study.db           Optuna's studies, one a variant (or they are in the database that --storage names)
    SWEEP/trials/VARIANT/0003/seed-0/           a run of a trial, scored on the pairs held out
    SWEEP/best/VARIANT/trial-0003/seed-0/       a run of the best one, trained on all training pairs and scored on the scored sets
    SWEEP/trials.csv, best.csv, report.html, report.md

Every run, and so every trial, goes on from its checkpoint after Ctrl-C or a kill. Several processes can work on one sweep.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from clipedu.config.experiment import Experiment
from clipedu.data.identity import changes
from clipedu.runs.folders import SWEEP, make_folder
from clipedu.runs.lock import in_use, locked
from clipedu.runs.run import Run
from clipedu.runs.settings import listed
from clipedu.studies.sweep.claims import SETTINGS, counted, next_trial, one_at_a_time
from clipedu.studies.sweep.plan import Plan, folder_name, make_plan
from clipedu.studies.sweep.result import Sweep, write_sweep
from clipedu.studies.sweep.storage import differing_facts, open_storage, open_studies
from clipedu.studies.sweep.table import best_rows, setting_rows, trial_rows
from clipedu.studies.sweep.trials import DoNotGoTogether, SharedData, finish, run_trial
from clipedu.training.datasets import Data, evaluation_sets
from clipedu.utils.errors import ClipeduError
from clipedu.utils.files import read_json, write_json
from clipedu.utils.finite import NotFinite
from clipedu.utils.memory import OutOfMemory
from clipedu.utils.ranks import check_one_process

BEST = "best"
DATA = "data"  # what a study keeps: the identity of the pairs of its first seed
NAME = "sweep"  # of a sweep in the database of its own folder

log = logging.getLogger("clipedu")


@dataclass(frozen=True)
class Ended:
    """A trial that has ended in this process.

    Attributes:
        variant: its name.
        number: of the trial in its variant, from 0.
        settings: by name.
        state: "finished", "pruned" or "failed".
        score: the mean over seeds, or the last one before it was pruned; None if it failed.
        note: why it failed.
    """

    variant: str
    number: int
    settings: Mapping[str, Any]
    state: str
    score: float | None
    note: str


@dataclass
class OpenSweep:
    """A sweep that this process works on; made by `open_sweep`."""

    plan: Plan
    folder: Path
    studies: Mapping[str, Any]
    home: str
    data: SharedData = field(default_factory=SharedData)

    def trials(self, *, progress: bool = True) -> Iterator[Ended]:
        """Do the trials that are left, and yield each when it has ended.

        Those that another process does are not waited for.

        Args:
            progress: show bars.
        Raises:
            ClipeduError: the data cannot be used, or a trial cannot go on for a reason outside of its settings.
        """
        if self.missing:
            for variant in self.plan.variant_settings():
                experiment = self.plan.trial(variant, {}, self.plan.seeds[0])
                self._check_data(variant, self.data.of(experiment))  # what is wrong is said before the first trial
                evaluation_sets(experiment.replace(holdout=None))
        while True:
            with next_trial(self.studies, self.plan, self.folder, self.home) as claim:
                if claim is None:
                    return
                state = run_trial(claim, self.plan, self.data, progress=progress)
                frozen = claim.frozen
            yield Ended(
                claim.variant, claim.number, claim.settings, state, frozen.value, frozen.user_attrs.get("note", "")
            )

    def _check_data(self, variant: str, data: Data) -> None:
        """Check that the pairs are those of the trials before, on this machine or another."""
        study, now = self.studies[variant], {pairs.split: pairs.identity() for pairs in (data.train, *data.scored)}
        before = study.user_attrs.get(DATA)
        if before is None:
            study.set_user_attr(DATA, now)
        for split, identity in (before or {}).items():
            if what := changes(identity, now.get(split, {})):
                raise ClipeduError(
                    f"{self.folder}: the pairs {data.train.name}/{split} are others than those of the trials before "
                    f"({'; '.join(what)}): bring the data back as they were, or give another --folder"
                )

    @property
    def missing(self) -> int:
        """How many trials have not ended."""
        ended = sum(trial.state.is_finished() for study in self.studies.values() for trial in counted(study))
        return self.plan.trials_of_variant * len(self.studies) - ended

    def score_best(self, *, progress: bool = True) -> dict[str, list[Run]]:
        """Train the best setting of each variant, and score it.

        It is trained on all training pairs, a run a seed, and scored on the scored sets.

        What is trained already is not trained again. A run that diverges is named in a log line.

        Args:
            progress: show bars.
        Returns:
            the runs by variant; {} while trials are missing, or if another process does this.
        """
        if self.missing > 0:
            return {}
        make_folder(self.folder / BEST)
        with ExitStack() as stack:
            try:
                stack.enter_context(locked(self.folder / BEST))
            except ClipeduError as error:
                log.warning("the best are left to another process: %s", error)
                return {}
            rows = setting_rows(trial_rows(self.studies, self.plan), self.plan).drop_duplicates("variant")
            return {row["variant"]: list(self._best_runs(row, progress=progress)) for _, row in rows.iterrows()}

    def _best_runs(self, row: Any, *, progress: bool) -> Iterator[Run]:
        """Yield the runs of the best trial of a variant, a row of `setting_rows`."""
        variant, trial = row["variant"], int(row["trial"])
        settings = self._settings(variant, trial)
        for seed in self.plan.seeds:
            place = self.folder / BEST / folder_name(variant) / f"trial-{trial:04d}" / f"seed-{seed}"
            try:
                yield finish(self.plan.best(variant, settings, seed), place, self.data, progress=progress)
            except (NotFinite, OutOfMemory, DoNotGoTogether) as error:
                log.warning("the best setting of %s, trained on all pairs with seed %s: %s", variant, seed, error)

    def result(self, runs: Mapping[str, Sequence[Run]]) -> Sweep:
        """Return what was found so far.

        Args:
            runs: as `score_best` returns them.
        """
        rows = trial_rows(self.studies, self.plan)
        settings = setting_rows(rows, self.plan)
        complete = self.missing <= 0 and all(runs.get(variant) for variant in settings["variant"].unique())
        best = best_rows(settings, runs, self.plan)
        chosen = {row["variant"]: self._settings(row["variant"], int(row["trial"])) for _, row in best.iterrows()}
        return Sweep(self.folder, self.plan, rows, settings, best, chosen, runs, complete)

    def _settings(self, variant: str, number: int) -> dict[str, Any]:
        trial = next(one for one in counted(self.studies[variant]) if one.number == number)
        return trial.user_attrs[SETTINGS]


@contextmanager
def open_sweep(
    plan: Plan,
    folder: str | Path,
    *,
    storage: str | None = None,
    join: bool = False,
    data: SharedData | None = None,
) -> Iterator[OpenSweep]:
    """Open the folder and the storage of a sweep; new ones are made.

    Args:
        plan: of the sweep; it is checked.
        folder: of the sweep.
        storage: URL of a database for several machines; None is a file in the folder.
        join: other processes may work on it too.
        data: of sweeps before this one; None opens them anew.
    Raises:
        ClipeduError: the plan cannot work, the folder holds another sweep, another process has it in use and `join` is not
            given, or the storage cannot be opened.
    """
    plan.check()
    check_one_process("a sweep")
    folder = Path(folder)
    make_folder(folder)
    with ExitStack() as stack:
        try:
            stack.enter_context(locked(folder))
        except ClipeduError as error:
            if not in_use(folder):
                raise
            if not join:
                raise ClipeduError(f"{error}. To let this process work on the same sweep, add --join") from None
        with one_at_a_time(folder):  # tasks of an array begin at once
            kept = _own_plan(folder, plan, storage)
            studies = open_studies(open_storage(folder, storage), plan, kept["name"] if storage else NAME)
        yield OpenSweep(plan, folder, studies, kept["home"], data or SharedData(len(plan.seeds)))


def sweep(
    base: Experiment,
    vary: Mapping[str, Any] | Sequence[str],
    folder: str | Path,
    *,
    variants: Mapping[str, Any] | Sequence[str] = (),
    seeds: Sequence[int] = (0,),
    trials: int | None = None,
    sampler: str = "tpe",
    pruner: str = "median",
    holdout: float = 0.1,
    metric: str = "average",
    storage: str | None = None,
    join: bool = False,
    progress: bool = True,
) -> Sweep:
    """Try settings on pairs held out of training; train and score the best.

        found = clipedu.sweep(Experiment.preset("tiny"), {"lr": "1e-4..1e-2:log"}, "runs/lr", trials=10)
        found.best            # a row a variant: the best setting, and its scores
        found.experiment()    # the best experiment

    Settings are chosen by the score on a fixed part of the training pairs, which no trial trains on. The best of each variant is
    then trained on all training pairs, and scored on the scored sets, which no choice has seen. The same call continues with what
    is missing; more `trials` may be asked for.

    Args:
        base: what all trials share.
        vary: settings to choose, by name ("lr", "optimizer_options.eps"): a list of values, a text such as
            "1e-4..1e-2:log", or a `clipedu.studies.sweep.space.Range`.
        folder: of the sweep.
        variants: settings to compare, each with a list of values: each combination has trials and a best setting of its own.
        seeds: with which each trial is run, at least one.
        trials: of each variant, at least 1; None is 20. A grid has as many as it has combinations.
        sampler: "tpe" (Bergstra et al. 2011, by Optuna), "random" or "grid".
        pruner: "median", "hyperband" (arXiv:1603.06560) or "none"; it looks at the scores that a run of the first seed has
            during training (`evaluate_every`; None is each quarter of it).
        holdout: share of the training pairs to hold out, above 0 and below 1.
        metric: the score to choose by: "average" (of TR@1 and IR@1), "tr@1", "tr@5", "tr@10", "ir@1", "ir@5" or "ir@10".
        storage: URL of a database that several machines share; None is a SQLite file in the folder.
        join: other processes may work on this sweep too.
        progress: show bars.
    Returns:
        what was found; not `complete` while other processes still have trials in hand.
    Raises:
        ClipeduError: an unknown name, a value that is not allowed, no Optuna, a folder in use or with another sweep, or a trial
            that cannot go on for a reason outside of its settings.
        KeyboardInterrupt: what is done is kept, and the same call goes on.
    """
    plan = make_plan(
        base, vary, variants, seeds=seeds, trials=trials, sampler=sampler, pruner=pruner, holdout=holdout, metric=metric
    )
    with open_sweep(plan, folder, storage=storage, join=join) as work:
        for _ in work.trials(progress=progress):
            pass
        found = work.result(work.score_best(progress=progress))
        write_sweep(found)
    return found


def _own_plan(folder: Path, plan: Plan, storage: str | None) -> dict[str, Any]:
    """Return what a sweep's folder keeps of it, written if it is new.

    Raises:
        ClipeduError: it holds another sweep.
    """
    path, facts = folder / SWEEP, plan.facts()
    place = "a database" if storage else "its folder"
    if not path.exists():
        if (folder / "experiment.json").exists():
            raise ClipeduError(f"{folder} holds a run: give another --folder for the sweep")
        write_json(
            path,
            {"format": 1, "name": folder.resolve().name, "home": uuid.uuid4().hex, "storage": place, "plan": facts},
        )
    kept = read_json(path)
    if not isinstance(kept, dict) or not {"name", "home", "storage", "plan"} <= set(kept):
        raise ClipeduError(f"{path} is not that of a sweep: remove it, or give another --folder")
    if changed := differing_facts(kept["plan"], facts):
        raise ClipeduError(
            f"{folder} holds a sweep that tries something else: {listed(changed)}. Give another --folder"
        )
    if kept["storage"] != place:
        raise ClipeduError(
            f"{folder} holds a sweep with its studies in {kept['storage']}: go on {'without' if storage else 'with'} --storage"
        )
    return kept
