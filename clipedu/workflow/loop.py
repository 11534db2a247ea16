"""The training loop of a run, and what is kept however it ends."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress

from tqdm import tqdm

from clipedu.runs.run import Run
from clipedu.runs.status import record_end
from clipedu.training.memory import memory_named
from clipedu.training.trainer import Trainer
from clipedu.utils.errors import ClipeduError
from clipedu.utils.finite import NotFinite
from clipedu.utils.interrupts import StopAfterStep, by_whom
from clipedu.utils.ranks import together
from clipedu.workflow.recorder import RunRecorder
from clipedu.workflow.tracking import Tracking
from clipedu.workflow.validation import Validation

Progress = bool | Callable[[int, int], None]  # show bars; or a function of the steps done and of all steps


@contextmanager
def end_recorded(run: Run, when: str) -> Iterator[None]:
    """Let the status say how the block has ended, if not well.

    Args:
        run: whose status it is.
        when: of the run, as in "while it was scored".
    """
    try:
        with memory_named(run.experiment):
            yield
    except KeyboardInterrupt as error:
        record_end(run, "stopped", f"{by_whom(error)} {when}")
        raise
    except NotFinite as error:
        record_end(run, "failed", str(error))
        raise
    except Exception as error:
        record_end(run, "stopped", f"{when} by {_first_line(error)}")
        raise


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0]


def train_run(run: Run, trainer: Trainer, validation: Validation, tracking: Tracking, *, progress: Progress) -> None:
    """Run the training loop, with checkpoints and scores on the way.

    However it ends, the status says how.

    Args:
        run: its folder is there.
        trainer: at the step to go on from.
        validation, tracking: of this run.
        progress: of `clipedu.fit`.
    Raises:
        ClipeduError: a checkpoint cannot be written.
        NotFinite: it diverged; names the last good checkpoint.
        KeyboardInterrupt: after the checkpoint is written.
    """
    recorder, stop = RunRecorder(run, trainer), StopAfterStep()
    trainer.look_late()
    bar = tqdm(
        together(trainer.run()),
        total=trainer.steps,
        initial=trainer.step,
        unit="step",
        disable=progress is not True,
        desc=f"{run.experiment.loss} + {run.experiment.optimizer}",
    )
    count = progress if callable(progress) else lambda done, of: None
    count(trainer.step, trainer.steps)
    saved, shown, before = trainer.step if run.has_checkpoint else None, {}, None
    try:
        tracking.update()
        if validation.due:  # the run was stopped while it was scored
            shown["average"] = f"{validation.measure():.2f}"
        with memory_named(run.experiment), closing(stop.watch(bar)) as records:
            for record in records:
                recorder.append(record)
                count(trainer.step, trainer.steps)
                if before is None or record.numbers.are_here:
                    before = record  # else the loss shown is that of the step before, which is here by now
                shown |= {"loss": f"{before.loss:.3f}", "pairs_s": f"{record.pairs_per_second:.0f}"}
                before = record
                bar.set_postfix(shown, refresh=False)
                best = False
                if validation.due:
                    with stop.at_once():
                        shown["average"] = f"{validation.measure():.2f}"
                    best = validation.is_best
                if recorder.due or best:
                    _save(recorder)
                    saved = trainer.step
                    tracking.update()
    except KeyboardInterrupt as error:
        how = f"{by_whom(error)} after step {trainer.step} of {trainer.steps}"
        try:
            if stop.step_is_whole and trainer.step != saved:
                _save(recorder)
        except NotFinite as fault:
            raise _failed(run, recorder, fault) from None
        except (ClipeduError, KeyboardInterrupt) as fault:
            record_end(run, "stopped", f"{how}; {fault}" if str(fault) else how)
            raise
        record_end(run, "stopped", how)
        raise
    except NotFinite as error:
        raise _failed(run, recorder, error) from None
    except Exception as error:
        record_end(run, "stopped", f"by {_first_line(error)}")
        raise
    finally:
        bar.close()
        trainer.monitor.close()


def _save(recorder: RunRecorder) -> None:
    """Write rows and a checkpoint.

    Raises:
        ClipeduError: they cannot be written; the message says what is kept, and how to go on.
    """
    try:
        recorder.save()
    except NotFinite:
        raise
    except ClipeduError as error:
        run = recorder.run
        kept = f"{run.checkpoint().name} is kept" if run.has_checkpoint else "There is no checkpoint yet"
        raise ClipeduError(
            f"{error}. {kept}. When the disk has room and can be written, go on with: clipedu train --resume {run.folder}"
        ) from None


def _failed(run: Run, recorder: RunRecorder, error: NotFinite) -> NotFinite:
    """Keep a run as failed, and return the error that says which checkpoint is the last good one."""
    with suppress(ClipeduError):  # a full disk must not hide why it failed
        recorder.write_rows()
    last = run.checkpoint() if run.has_checkpoint else "none, it failed before its first one"
    note = f"{error}. Last good checkpoint: {last}"
    record_end(run, "failed", note)
    return NotFinite(note)
