"""Which trial is done next, and by which process.

A trial that has begun and has no end is running, or its process has stopped or was killed. The lock of its folder says which,
for all processes on one sweep folder: one that nobody holds is taken over, and its runs go on from their checkpoints. Of a trial
of another folder (another machine, the same storage) Optuna's signs of life say it: without one for `GRACE` seconds it counts as
killed, and a copy of it is tried anew. What has been begun too often without an end has failed.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clipedu.runs.folders import TRIALS, make_folder
from clipedu.runs.lock import locked
from clipedu.studies.sweep.plan import Plan, folder_name
from clipedu.studies.sweep.storage import GRACE, alive, import_optuna, next_sampler, quiet, suggest
from clipedu.utils.errors import ClipeduError
from clipedu.utils.files import reported

if TYPE_CHECKING:
    import optuna

# What a trial keeps beside its numbers; scores and seconds by seed.
HOME, SETTINGS, ATTEMPTS, NOTE, FOLDER, SCORES, SECONDS = (
    "home",
    "settings",
    "attempts",
    "note",
    "folder",
    "scores",
    "seconds",
)
MOST_ATTEMPTS = 3  # of a trial that ends by neither Ctrl-C nor SIGTERM nor a score


@dataclass(frozen=True)
class Claim:
    """A trial that this process does.

    Attributes:
        study: of its variant.
        variant: its name.
        trial: of Optuna.
        settings: by name.
        folder: of its runs.
        goes_on: another process has begun it.
    """

    study: optuna.Study
    variant: str
    trial: Any
    settings: dict[str, Any]
    folder: Path
    goes_on: bool

    @property
    def number(self) -> int:
        """The number of the trial, from 0, in its study."""
        return self.trial.number

    @property
    def frozen(self) -> Any:
        """The trial as the storage has it now."""
        return self.study._storage.get_trial(self.trial._trial_id)

    @property
    def attempt(self) -> int:
        """How many times it was begun, this time included.

        Those that a signal has ended do not count.
        """
        return self.frozen.user_attrs[ATTEMPTS]

    def forgive(self) -> None:
        """Let the attempt not count: the user or the system has stopped it."""
        self.trial.set_user_attr(ATTEMPTS, self.attempt - 1)

    def finish(self, score: float) -> None:
        """Keep the trial as finished, with its score."""
        self.study.tell(self.trial.number, score)

    def prune(self) -> None:
        """Keep the trial as pruned; its score is the last one that was reported."""
        self._end("PRUNED")

    def fail(self, note: str) -> None:
        """Keep the trial as failed, and why."""
        self.trial.set_user_attr(NOTE, note)
        self._end("FAIL")

    def _end(self, state: str) -> None:
        self.study.tell(self.trial.number, state=import_optuna().trial.TrialState[state])


def counted(study: optuna.Study) -> list[Any]:
    """Return the trials of a study that count.

    Those that were begun anew as another one do not, nor do those that never began.
    """
    trials = study.get_trials(deepcopy=False)
    copied = {number for trial in trials for number in trial.system_attrs.get("retry_history", ())}
    return [trial for trial in trials if trial.number not in copied and not _never_began(trial)]


def _never_began(trial: Any) -> bool:
    return trial.state.name == "FAIL" and HOME not in trial.user_attrs


@contextmanager
def next_trial(studies: Mapping[str, optuna.Study], plan: Plan, folder: Path, home: str) -> Iterator[Claim | None]:
    """Take the next trial: one that was stopped, or a new one.

    Inside the block it is this process's.

    The variants take turns.

    Args:
        studies: of each variant.
        plan: of the sweep.
        folder: of the sweep.
        home: what the folder is known by, in trials.
    Yields:
        the trial; None if none is left to begin.
    Raises:
        ClipeduError: the folder cannot be written.
    """
    with ExitStack() as stack:
        claim = None
        with one_at_a_time(folder):
            by_turns = sorted(studies.items(), key=lambda item: len(counted(item[1])))
            for variant, study in by_turns:
                claim = claim or _take_over(study, variant, plan, folder, home, stack)
            for variant, study in by_turns:
                if claim is None:
                    _tidy(study)
                    claim = _begin(study, variant, plan, folder, home, stack)
        if claim is not None:
            stack.enter_context(alive(claim.study._storage, claim.trial._trial_id))
        yield claim


def _take_over(
    study: optuna.Study, variant: str, plan: Plan, folder: Path, home: str, stack: ExitStack
) -> Claim | None:
    """Go on with a trial of this folder that no process has in hand."""
    optuna = import_optuna()
    for frozen in study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.RUNNING,)):
        if frozen.user_attrs.get(HOME) != home:
            continue
        with suppress(ClipeduError):
            stack.enter_context(locked(folder / frozen.user_attrs[FOLDER]))
            with quiet():
                trial = optuna.trial.Trial(study, frozen._trial_id)
            return _claimed(study, variant, trial, plan, folder, home, goes_on=True)
    return None


def _begin(study: optuna.Study, variant: str, plan: Plan, folder: Path, home: str, stack: ExitStack) -> Claim | None:
    """Begin a new trial, or one that is to be tried anew."""
    optuna = import_optuna()
    waiting = study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.WAITING,))
    there = counted(study)
    if not waiting and len(there) >= plan.trials_of_variant:
        return None
    with quiet():
        study.sampler = next_sampler(plan, len(study.get_trials(deepcopy=False)))
        trial = study.ask()
    claim = _claimed(study, variant, trial, plan, folder, home, goes_on=False)
    stack.enter_context(locked(claim.folder))
    return claim


def _claimed(
    study: optuna.Study, variant: str, trial: Any, plan: Plan, folder: Path, home: str, *, goes_on: bool
) -> Claim:
    with quiet():
        settings = suggest(trial, plan.vary)
    kept = trial.user_attrs
    place = kept.get(FOLDER) or f"{TRIALS}/{folder_name(variant)}/{trial.number:04d}"
    make_folder(folder / place)
    for key, value in ((FOLDER, place), (SETTINGS, settings), (ATTEMPTS, kept.get(ATTEMPTS, 0) + 1), (HOME, home)):
        if kept.get(key) != value:
            trial.set_user_attr(key, value)
    return Claim(study, variant, trial, settings, folder / place, goes_on)


def _tidy(study: optuna.Study) -> None:
    """Let trials of other folders without a sign of life be tried anew, and forget those that never began."""
    optuna = import_optuna()
    with quiet():
        optuna.storages.fail_stale_trials(study)
    for trial in study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.RUNNING,)):
        age = datetime.datetime.now() - (trial.datetime_start or datetime.datetime.now())
        if HOME not in trial.user_attrs and age.total_seconds() > GRACE:
            with suppress(ValueError):  # another process has done so
                study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
                if point := trial.system_attrs.get("fixed_params"):  # of a grid: it is not drawn again
                    study.enqueue_trial(point)


@contextmanager
def one_at_a_time(folder: Path) -> Iterator[None]:
    """Let the processes on a sweep folder do the block one after the other.

    Args:
        folder: of the sweep.
    Raises:
        ClipeduError: it cannot be written.
    """
    from filelock import FileLock

    with reported(folder), FileLock(folder / ".claim"):
        yield
