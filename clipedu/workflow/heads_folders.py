"""The folder of a run that was trained in a stack, as of `fit`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from clipedu.config.experiment import Experiment
from clipedu.runs.folders import make_folder, new_run
from clipedu.runs.lock import locked
from clipedu.runs.run import Run
from clipedu.runs.status import record_end
from clipedu.training.datasets import Data
from clipedu.training.trainer import Trainer
from clipedu.training.trainer_state import trainer_state
from clipedu.utils.finite import NotFinite
from clipedu.utils.interrupts import by_whom
from clipedu.workflow.keeping import keep_beside_checkpoints
from clipedu.workflow.scoring import score

if TYPE_CHECKING:
    import pandas

NO_CHECKPOINT = "Last good checkpoint: none, a stack writes them at its end"


@dataclass(frozen=True)
class Member:
    """One run of a stack, and where it goes.

    Attributes:
        name: of the run.
        experiment: with absolute paths.
        data: its sets and tokenizer.
        folder: where it is to be written, if at all.
        paths: those of the experiment as they were given (see `clipedu.runs.paths`).
    """

    name: str
    experiment: Experiment
    data: Data
    folder: Path | None
    paths: Mapping[str, str]


@dataclass(frozen=True)
class Tables:
    """The tables of a run's steps; see `clipedu.Run`."""

    history: pandas.DataFrame
    norms: pandas.DataFrame
    layers: pandas.DataFrame


def write_finished(one: Member, folder: Path, trainer: Trainer, tables: Tables) -> dict[str, float]:
    """Write a run that is trained, and score it.

    Args:
        one: the run.
        folder: of the run, new or empty.
        trainer: after its last step.
        tables: of its steps.
    Returns:
        the scores.
    Raises:
        ClipeduError: it cannot be written.
        NotFinite: an embedding is not finite; the run is kept as failed.
        KeyboardInterrupt: the run is kept as stopped.
    """
    with _written(one, folder, trainer, tables) as run:
        run.save_checkpoint(trainer.step, trainer.model, trainer_state(trainer))
        try:
            metrics = score(run, one.data.scored, model=trainer.model, progress=False)
        except NotFinite as error:
            record_end(run, "failed", str(error))
            raise
        except KeyboardInterrupt as error:
            record_end(run, "stopped", f"{by_whom(error)} while it was scored")
            raise
        run.scored = trainer.step
        run.save_status("finished")
        return metrics


def write_failed(one: Member, folder: Path, trainer: Trainer, tables: Tables, fault: str) -> None:
    """Write a run that diverged.

    Args:
        one, folder, trainer, tables: as those of `write_finished`.
        fault: what its error says.
    Raises:
        ClipeduError: it cannot be written.
    """
    with _written(one, folder, trainer, tables) as run:
        record_end(run, "failed", f"{fault}. {NO_CHECKPOINT}")


def write_stopped(one: Member, folder: Path, trainer: Trainer, tables: Tables, whom: str) -> None:
    """Write a run that can go on.

    Args:
        one, folder, trainer, tables: as those of `write_finished`.
        whom: who has stopped it, as in "by the user".
    Raises:
        ClipeduError: it cannot be written.
    """
    with _written(one, folder, trainer, tables) as run:
        run.save_checkpoint(trainer.step, trainer.model, trainer_state(trainer))
        record_end(run, "stopped", f"{whom} after step {trainer.step} of {trainer.steps}")


@contextmanager
def _written(one: Member, folder: Path, trainer: Trainer, tables: Tables) -> Iterator[Run]:
    """Write all but checkpoints and scores, and hold the run for these."""
    make_folder(folder)
    with locked(folder):
        run = new_run(one.experiment, folder, given_paths=one.paths)
        run.seconds = trainer.seconds
        keep_beside_checkpoints(run, trainer, one.data)
        for name in ("history", "norms", "layers"):
            run.append_rows(name, getattr(tables, name))
        yield run
