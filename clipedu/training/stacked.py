"""`Stack`: many runs over kept features, trained at once.

Each run has a `Trainer` of its own, whose model, loss and optimizer hold the settings and, at the end, the results; the stack makes the
steps for all of them, which are those of `Trainer.run`: the same batches in the same order, the same formulas, the same
learning rates. Sums are in another order, so numbers agree to rounding.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from clipedu.data.batches import Batch, batches
from clipedu.losses import LossOutput
from clipedu.optim import learning_rate
from clipedu.optim.decay_laws import set_weight_decay
from clipedu.training.divergence import step_fault
from clipedu.training.stacked_loss import StackedLoss
from clipedu.training.stacked_norms import StackedNorms
from clipedu.training.stacked_weights import StackedWeights, projected
from clipedu.training.trainer import Trainer
from clipedu.utils.device import autocast
from clipedu.utils.finite import NotFinite

MOST = 2**19  # similarities of a batch in all runs of a stack: a step holds some twenty arrays of them, 2 MiB each


@dataclass(frozen=True)
class StackedRecord:
    """Measurements of one step of R runs.

    They are those of `clipedu.training.trainer.Record`.

    Attributes:
        step, epoch: counted from 0.
        lr, loss: [R].
        terms, watch: by name, [R] each.
        norms: weight, gradient and update by part, [R, 3, parts].
        seconds: of the stack since the loop began.
        elapsed: seconds of this step.
    """

    step: int
    epoch: int
    lr: np.ndarray
    loss: np.ndarray
    terms: dict[str, np.ndarray]
    watch: dict[str, np.ndarray]
    norms: np.ndarray
    seconds: float
    elapsed: float


def runs_at_once(batch_size: int) -> int:
    """Return how many runs are stacked at most, so that memory stays bounded."""
    return max(1, MOST // batch_size**2)


class Stack:
    """R runs that are trained at once.

    Args:
        trainers: prepared, at step 0, of experiments with one `stack_key`; their models share no trained weight.
    Attributes:
        failed: number of a run that diverged -> how many steps it has made before, and what its error says. The others go on.
        norms: what was measured.
    """

    def __init__(self, trainers: Sequence[Trainer]):
        self.trainers, first = trainers, trainers[0]
        self.steps = first.steps
        for trainer in trainers:
            trainer.monitor.close()
            trainer.model.train()
            trainer.loss.train()
        self._stacked = StackedWeights([trainer.optimizer for trainer in trainers])
        self._loss = StackedLoss([t.model.geometry for t in trainers], [t.loss for t in trainers])
        self.norms = StackedNorms(trainers, self._stacked, first.experiment.norms_every)
        self.failed: dict[int, tuple[int, str]] = {}
        self._streams: dict[tuple[int, int, int], int] = {}
        self._stream = [self._streams.setdefault(_source(t), len(self._streams)) for t in trainers]

    def run(self) -> Iterator[StackedRecord]:
        """Make all steps, and yield a record of each."""
        first, seconds = self.trainers[0], 0.0
        sources = [self.trainers[self._stream.index(number)] for number in range(len(self._streams))]
        while first.step < self.steps:
            epoch = first.step // first.steps_per_epoch
            for parts in zip(*(_batches(trainer, epoch) for trainer in sources), strict=True):
                began, step = time.perf_counter(), first.step
                record = self._train_on(parts, step)
                elapsed = time.perf_counter() - began
                seconds += elapsed
                for trainer in self.trainers:
                    trainer.step, trainer.seconds = step + 1, seconds / len(self.trainers)
                yield self._record(*record, step, epoch, seconds, elapsed)

    def part_ways(self) -> None:
        """Give each trainer its results: weights, state of optimizer and loss.

        Raises nothing: a run whose numbers are not finite is in `failed`.
        """
        self._stacked.part_ways()
        self._loss.give_back()
        for number, trainer in enumerate(self.trainers):
            trainer.monitor.load_state(self.norms.state(number))
            if number not in self.failed:
                try:
                    trainer.check_finite()
                except NotFinite as error:
                    self.failed[number] = (trainer.step - 1, str(error))

    def _train_on(self, parts: Sequence[Batch], step: int) -> tuple[list[float], LossOutput, np.ndarray]:
        ex, rates = self.trainers[0].experiment, []
        for trainer in self.trainers:
            rates.append(_rate(trainer, step, self.steps))
            for group in trainer.optimizer.param_groups:
                group["lr"] = rates[-1]
            set_weight_decay(trainer.optimizer)
        leaves = self._stacked.leaves
        with autocast(ex.precision, self.trainers[0].device):
            image, text = (
                projected(leaves, side, self._of_runs([getattr(part, side)[0] for part in parts]))
                for side in ("image", "text")
            )
        index = self._of_runs([part.index for part in parts]).to(image.device)
        learned = {name: value for name, value in leaves.items() if "_projection." not in name}
        output = self._loss(learned, image, text, index, progress=step / self.steps)
        self._stacked.backward(output.total)
        self.norms.before()
        largest = [trainer.experiment.clip_grad for trainer in self.trainers]
        if any(value is not None for value in largest):
            self._stacked.clip(largest)
        self._stacked.step(ex.optimizer)
        return rates, output, self.norms.after(step)

    def _of_runs(self, parts: Sequence[Tensor]) -> Tensor:
        """Return what is the same for all runs as it is, else stack it by run."""
        return parts[0] if len(parts) == 1 else torch.stack([parts[number] for number in self._stream])

    def _record(
        self,
        rates: list[float],
        output: LossOutput,
        norms: np.ndarray,
        step: int,
        epoch: int,
        seconds: float,
        elapsed: float,
    ) -> StackedRecord:
        loss, (terms, watch) = (
            _on_host(output.total),
            ({k: _on_host(v) for k, v in x.items()} for x in (output.terms, output.watch)),
        )
        record = StackedRecord(step, epoch, np.array(rates), loss, terms, watch, norms, seconds, elapsed)
        good = np.isfinite(loss) & np.isfinite(norms[:, :, 0]).all(1)
        for run in np.flatnonzero(~good).tolist():
            if run not in self.failed:
                self.failed[run] = (step, self._fault(run, record))
        return record

    def _fault(self, run: int, record: StackedRecord) -> str:
        """Return what the error of a run that diverged would say."""
        trainer, lr = self.trainers[run], float(record.lr[run])
        loss = float(record.loss[run])
        if math.isfinite(loss) and math.isfinite(record.norms[run, 1, 0]):
            try:
                trainer.check_finite()
            except NotFinite as error:
                return str(error)
        terms, watch = ({k: float(v[run]) for k, v in x.items()} for x in (record.terms, record.watch))
        step = _OfRun(record.step, lr, loss, terms, watch)
        return step_fault(step, trainer.monitor.layers, self.norms.gradients[run])


@dataclass(frozen=True)
class _OfRun:
    """One run's part of a record."""

    step: int
    lr: float
    loss: float
    terms: dict[str, float]
    watch: dict[str, float]


def _on_host(values: Tensor) -> np.ndarray:
    return values.detach().cpu().numpy()


def _source(trainer: Trainer) -> tuple[int, int, int]:
    """Return what the batches of a run come from."""
    kept = trainer.precomputed
    return id(kept.image), id(kept.text), trainer.experiment.seed


def _batches(trainer: Trainer, epoch: int) -> Iterator[Batch]:
    ex = trainer.experiment
    found = batches(trainer.pairs, batch_size=ex.batch_size, seed=ex.seed, epoch=epoch, precomputed=trainer.precomputed)
    return (batch.to(trainer.device) for batch in found)


def _rate(trainer: Trainer, step: int, steps: int) -> float:
    ex = trainer.experiment
    return learning_rate(step, peak=ex.lr, total=steps, warmup=round(ex.warmup * steps), schedule=ex.schedule)
