"""`fit_stack`: one stack from start to scores."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack, closing

from tqdm.auto import tqdm

from clipedu.data.overlap import row_hashes, shared
from clipedu.data.pairs import hashed_once
from clipedu.evaluation.held_out import trained_counts
from clipedu.evaluation.scoring import average
from clipedu.training.datasets import Data
from clipedu.training.memory import memory_named
from clipedu.training.stacked import Stack
from clipedu.training.stacked_setup import Encoders
from clipedu.training.stacked_tables import StackedTables
from clipedu.training.trainer import Trainer
from clipedu.utils.finite import NotFinite
from clipedu.utils.interrupts import StopAfterStep, by_whom
from clipedu.workflow.head_run import HeadRun
from clipedu.workflow.heads_folders import Member, Tables, write_failed, write_finished, write_stopped
from clipedu.workflow.scoring import score_set


def fit_stack(members: Sequence[Member], encoders: Encoders, *, progress: bool = True) -> list[HeadRun]:
    """Train, score and write the runs of one stack.

    Args:
        members: of experiments with one `stack_key`.
        encoders: make the trainers.
        progress: show progress bars.
    Raises:
        ClipeduError, OutOfMemory, KeyboardInterrupt: as `clipedu.fit_heads`.
    """
    ex, stop = members[0].experiment, StopAfterStep()
    with ExitStack() as inside:
        inside.enter_context(memory_named(ex))
        for data in {id(one.data): one.data for one in members}.values():
            inside.enter_context(hashed_once(data.train, *data.scored))
        stack = Stack([encoders.trainer(one.experiment, one.data) for one in members])
        tables = StackedTables(len(members), ex.batch_size, stack.norms.parts)
        what = f"{len(members)} x {ex.loss} + {ex.optimizer}"
        bar = tqdm(stack.run(), total=stack.steps, unit="step", disable=not progress, desc=what)
        left = dict(enumerate(members))
        try:
            with closing(stop.watch(bar)) as records:
                for record in records:
                    tables.append(record)
            stack.part_ways()
            runs = []
            for number in tqdm(
                range(len(members)), desc="scores", unit="run", disable=not progress, leave=False, delay=1
            ):
                runs.append(_finish(left.pop(number), stack, number, tables))
        except KeyboardInterrupt as error:
            if stop.step_is_whole:
                stack.part_ways()
                for number, one in left.items():
                    _keep_stopped(one, stack, number, tables, by_whom(error))
            raise
        finally:
            bar.close()
        return runs


def _finish(one: Member, stack: Stack, number: int, tables: StackedTables) -> HeadRun:
    """Score a run that is trained, and write it where it has a folder."""
    trainer, found = stack.trainers[number], _tables(stack, number, tables)
    fault = stack.failed[number][1] if number in stack.failed else ""
    metrics: dict[str, float] = {}
    if fault and one.folder is not None:
        write_failed(one, one.folder, trainer, found, fault)
    elif not fault:
        try:
            metrics = (
                _scores(trainer, one.data) if one.folder is None else write_finished(one, one.folder, trainer, found)
            )
        except NotFinite as error:
            fault = str(error)
    trainer.model.remembered = None  # what others need too; this one is the caller's from here on
    return HeadRun(
        *(one.name, one.experiment, "failed" if fault else "finished", fault, metrics),
        *(found.history, found.norms, found.layers, trainer.seconds, trainer.model.eval()),
        folder=one.folder,
    )


def _keep_stopped(one: Member, stack: Stack, number: int, tables: StackedTables, whom: str) -> None:
    """Write a run that was being trained, where it has a folder."""
    if one.folder is None:
        return
    trainer, found = stack.trainers[number], _tables(stack, number, tables)
    if number in stack.failed:
        write_failed(one, one.folder, trainer, found, stack.failed[number][1])
    else:
        write_stopped(one, one.folder, trainer, found, whom)


def _tables(stack: Stack, number: int, tables: StackedTables) -> Tables:
    steps = stack.failed[number][0] if number in stack.failed else stack.trainers[number].step
    return Tables(tables.history(number, steps), tables.norms(number, steps), stack.norms.frame(number, steps))


def _scores(trainer: Trainer, data: Data) -> dict[str, float]:
    """Return the scores that a run of `fit` would keep."""
    metrics: dict[str, float] = {}
    known = row_hashes(data.train)
    for pairs in data.scored:
        metrics |= score_set(trainer.model, pairs, progress=False)[0]
        metrics |= trained_counts(pairs, shared(pairs, known))
    return metrics | {"average": average(metrics)}
