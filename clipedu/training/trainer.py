"""The training loop: a `Trainer` makes steps, with a `Record` of each.

    for record in clipedu.train(Experiment(loss="sogclr")):    # a notebook, a widget and the command line
        print(record.step, record.loss)                        # all drive this same loop

`clipedu.train` sets a trainer up; `clipedu.fit` drives it, keeps what it makes, and scores the model.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import closing, nullcontext
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from clipedu.config.experiment import Experiment
from clipedu.data.augment import augment
from clipedu.data.batches import Batch, Precomputed, batches
from clipedu.data.pairs import Pairs
from clipedu.data.prefetch import feed
from clipedu.losses import Loss, LossOutput
from clipedu.models import DualEncoder
from clipedu.norms import NormMonitor
from clipedu.optim import learning_rate
from clipedu.optim.lr_scales import set_lr
from clipedu.training.averaging import WeightAverage
from clipedu.training.distributed import average_gradients, draw_own_numbers, in_parallel, not_averaged, of_all
from clipedu.training.divergence import step_fault
from clipedu.training.fitting import fitting
from clipedu.training.gradient_cache import backward_in_parts, statistics_kept
from clipedu.training.objective import loss_of
from clipedu.training.records import Numbers, Record
from clipedu.utils.device import autocast
from clipedu.utils.finite import NotFinite, first_non_finite, model_fault, optimizer_fault
from clipedu.utils.ranks import rank, world


@dataclass
class Trainer:
    """All parts of a run, ready to step: made by `prepare`.

    Attributes:
        average: the moving average of the model's weights, where the run keeps one.
        late: look at the numbers of a step when the next one is under way, so that the device need not wait for it.
        unused: whether a trained weight of the model may have no part in a step (see `in_parallel`).
        step: number of the next step, from 0.
        seconds: of training so far.
        waited: seconds of this process's steps that went by until their batches were there.
    """

    experiment: Experiment
    device: torch.device
    pairs: Pairs
    model: DualEncoder
    loss: Loss
    optimizer: torch.optim.Optimizer
    monitor: NormMonitor
    precomputed: Precomputed = field(default_factory=Precomputed)
    average: WeightAverage | None = None
    unused: bool = True
    step: int = 0
    seconds: float = 0.0
    waited: float = 0.0
    late: bool = False
    _unread: tuple[Record, Any] | None = field(default=None, repr=False)  # not looked at, and the layers' gradients
    _modes: tuple[list[torch.nn.Module], list[bool]] | None = field(default=None, repr=False)  # modules in training
    state_from: str = field(
        default="", repr=False
    )  # where the optimizer's state is from, before its first step with it

    @property
    def steps_per_epoch(self) -> int:
        return len(self.pairs) // self.experiment.batch_size

    @property
    def steps(self) -> int:
        return self.steps_per_epoch * self.experiment.epochs

    @cached_property
    def identity(self) -> dict[str, Any]:
        """What the training pairs consist of (`Pairs.identity`), computed once."""
        return self.pairs.identity()

    @cached_property
    def encoders(self) -> torch.nn.Module:
        """What a step calls: the model, or what shares it with other processes."""
        return in_parallel(self.model, unused=self.unused)

    def look_late(self) -> None:
        """Let a GPU make the next step while the numbers of a step are looked at.

        On a CPU, which makes a step when it is asked for it, that would change nothing.
        """
        self.late = self.device.type == "cuda"

    def run(self) -> Iterator[Record]:
        """Make the steps that are left of the run, and yield a record of each.

        The model is in training mode whenever a step begins.

        Raises:
            NotFinite: the loss, the gradient, a weight or a buffer became NaN or infinite; names the step. Where records are
                looked at late, that of this step was yielded.
        """
        ex = self.experiment
        draw_own_numbers(ex.seed, self.step)
        while self.step < self.steps:
            epoch, skip = divmod(self.step, self.steps_per_epoch)
            began = time.perf_counter()
            source = batches(
                self.pairs,
                batch_size=ex.batch_size,
                seed=ex.seed,
                epoch=epoch,
                skip=skip,
                rank=rank(),
                ranks=world(),
                precomputed=self.precomputed,
                foil_kinds=ex.foil_kinds if ex.foils else (),
            )
            with closing(feed(source, self.device)) as ahead:
                for batch in ahead:
                    self.waited += time.perf_counter() - began
                    lr = learning_rate(
                        self.step,
                        peak=ex.lr,
                        total=self.steps,
                        warmup=round(ex.warmup * self.steps),
                        schedule=ex.schedule,
                    )
                    numbers = Numbers(self._train_on(batch, lr), self.monitor)
                    self._check_unread()
                    if not self.late:
                        numbers.wait()  # so that the time is that of the step
                    elapsed = time.perf_counter() - began
                    self.step += 1
                    self.seconds += elapsed
                    speed = ex.batch_size / elapsed
                    record = Record(self.step - 1, epoch, self.steps, lr, self.seconds, speed, numbers)
                    self._unread = (record, self.monitor.latest_gradients)
                    if self.step == self.steps:
                        self.check_finite()
                    elif not self.late:
                        self._check_unread()
                    yield record
                    began = time.perf_counter()  # what is done with a record is not the step's time

    def _train_on(self, batch: Batch, lr: float) -> LossOutput:
        """Make one step: gradients, norms and update.

        Nothing in it waits for the device, but for the choice of near pairs in geometries with distances (`few_pairs`).
        """
        ex = self.experiment
        self._in_training_mode()
        self.loss.progress = self.step / self.steps
        if "image" not in self.model.frozen:
            pixels = augment(batch.image[0], ex.augment, seed=ex.seed, step=self.step, first=batch.first, of=batch.of)
            batch = replace(batch, image=(pixels,))
        for group in self.optimizer.param_groups:
            set_lr(group, lr)
            for parameter in group["params"]:
                parameter.grad = None
        if ex.accumulate == 1:
            output = self._loss_of(*self._encode(batch), batch)
            with statistics_kept(self.model) if ex.checkpointing else nullcontext():
                output.total.backward()
        else:
            output = self._backward_in_parts(batch)
        average_gradients([*self.loss.parameters(), *self.model.geometry.parameters()])
        if ex.clip_grad is not None:
            self.monitor.observe_gradients()
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), ex.clip_grad)
        with fitting(self.state_from):  # many an optimizer looks at its state only now
            self.optimizer.step()
        self.state_from = ""
        if self.average is not None:
            self.average.update()
        return output

    def _in_training_mode(self) -> None:
        """Put model and loss in training mode, unless all their modules are as that leaves them."""
        if self._modes is None or [module.training for module in self._modes[0]] != self._modes[1]:
            self.model.train()
            self.loss.train()
            modules = [*self.model.modules(), *self.loss.modules()]
            self._modes = (modules, [module.training for module in modules])

    def _encode(self, batch: Batch) -> tuple[Tensor, Tensor]:
        with autocast(self.experiment.precision, self.device):
            return self.encoders(batch.image, batch.text)

    def _loss_of(self, image: Tensor, text: Tensor, batch: Batch) -> LossOutput:
        """Compute the loss of a batch, and what to watch.

        Watched are norms, and learned numbers of the geometry.
        """
        image, text = image.float(), text.float()
        output = loss_of(self.loss, image, text, batch.index, batch.text)
        norms = {
            f"{side}_norm": of_all(torch.linalg.vector_norm(x.detach(), dim=1)).median()
            for side, x in (("image", image), ("text", text if text.ndim == 2 else text[:, 0]))
        }
        return replace(output, watch=norms | output.watch | self.model.geometry.watched())

    def _backward_in_parts(self, batch: Batch) -> LossOutput:
        outputs: list[LossOutput] = []

        def loss(image: Tensor, text: Tensor) -> Tensor:
            outputs.append(self._loss_of(image, text, batch))
            return outputs[-1].total

        parts, checkpointing = batch.split(self.experiment.accumulate), self.experiment.checkpointing
        alone = not_averaged(self.encoders)
        backward_in_parts(self._encode, parts, loss, self.model, alone, checkpointing=checkpointing)
        return outputs[-1]

    def _check_unread(self) -> None:
        """Look at the numbers of the last step, if nobody has. Raises NotFinite."""
        if self._unread is None:
            return
        (record, gradients), self._unread = self._unread, None
        if record.is_finite:
            return
        if not (math.isfinite(record.loss) and math.isfinite(record.norms["all"]["gradient"])):
            raise NotFinite(step_fault(record, self.monitor.layers, gradients))
        self.check_finite()
        raise NotFinite(f"the update is not finite {self._after(record.lr)}")

    def check_finite(self) -> None:
        """Check all that a checkpoint would keep: weights, buffers, state.

        Raises:
            NotFinite: a number is NaN or infinite, or a weight too large; names the first such tensor and the step.
        """
        self._check_unread()
        named = {**{p: n for n, p in self.loss.named_parameters()}, **{p: n for n, p in self.model.named_parameters()}}
        loss = first_non_finite(self.loss.state_dict().items(), may_be_minus_infinite=True)
        fault = (
            model_fault(self.model)
            or (f"the loss's {loss}" if loss else None)
            or optimizer_fault(self.optimizer, named)
        )
        if fault:
            raise NotFinite(f"{fault} is not finite {self._after(self.optimizer.param_groups[0]['lr'])}")

    def _after(self, lr: float) -> str:
        """Return the words of an error that was seen after the last step."""
        return f"after step {self.step - 1} (lr {lr:g}): a smaller lr, or a larger eps of the optimizer, may help"
