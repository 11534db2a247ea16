"""The training loop: a `Trainer` makes steps, with a `Record` of each.

    for record in clipedu.train(Experiment(loss="sogclr")):    # a notebook, a widget and the command line
        print(record.step, record.loss)                        # all drive this same loop

`clipedu.train` sets a trainer up; `clipedu.fit` drives it, keeps what it makes, and scores the model.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, nullcontext
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
from clipedu.norms import QUANTITIES, NormMonitor
from clipedu.optim import learning_rate
from clipedu.optim.regroup import regroup
from clipedu.training.averaging import WeightAverage
from clipedu.training.datasets import check_unchanged
from clipedu.training.distributed import average_gradients, draw_own_numbers, in_parallel, not_averaged, of_all
from clipedu.training.divergence import step_fault
from clipedu.training.gradient_cache import backward_in_parts, statistics_kept
from clipedu.utils.device import autocast
from clipedu.utils.errors import ClipeduError
from clipedu.utils.finite import NotFinite, first_non_finite, model_fault, optimizer_fault
from clipedu.utils.memory import is_out_of_memory
from clipedu.utils.ranks import rank, world
from clipedu.utils.tensor_files import tensors_misfit

log = logging.getLogger("clipedu")


@dataclass(frozen=True)
class Record:
    """Measurements of one step.

    Attributes:
        step, epoch: counted from 0.
        steps: of the whole run.
        lr: learning rate of the step.
        loss, terms: value of the loss and of its parts, before the step.
        watch: other values to plot: "image_norm" and "text_norm" (medians over the batch), and what is learned beside
            the weights: "temperature", "curvature", "alpha_image", ...
        norms: part ("all", "image", "text") -> {"weight", "gradient", "update"}, around the step.
        seconds: since the loop began, without the time between records.
        pairs_per_second: of this step, with the loading of its batch.
    """

    step: int
    epoch: int
    steps: int
    lr: float
    loss: float
    terms: dict[str, float]
    watch: dict[str, float]
    norms: dict[str, dict[str, float]]
    seconds: float
    pairs_per_second: float


@dataclass
class Trainer:
    """All parts of a run, ready to step: made by `prepare`.

    Attributes:
        average: the moving average of the model's weights, where the run keeps one.
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
    _modes: tuple[list[torch.nn.Module], list[bool]] | None = field(default=None, repr=False)  # modules in training
    _from: str = field(default="", repr=False)  # where the optimizer's state is from, before its first step with it

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

    def run(self) -> Iterator[Record]:
        """Make the steps that are left of the run, and yield a record of each.

        The model is in training mode whenever a step begins.

        Raises:
            NotFinite: the loss, the gradient, a weight or a buffer became NaN or infinite; names the step.
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
                    output = self._train_on(batch, lr)
                    numbers = self._on_host(output)
                    elapsed = time.perf_counter() - began
                    self.step += 1
                    self.seconds += elapsed
                    if self.step == self.steps:
                        self.check_finite()
                    yield self._record(output, numbers, epoch, lr, elapsed)
                    began = time.perf_counter()  # what is done with a record is not the step's time

    def _train_on(self, batch: Batch, lr: float) -> LossOutput:
        """Make one step: gradients, norms and update.

        Nothing in it waits for the device.
        """
        ex = self.experiment
        self._in_training_mode()
        self.loss.progress = self.step / self.steps
        if "image" not in self.model.frozen:
            pixels = augment(batch.image[0], ex.augment, seed=ex.seed, step=self.step, first=batch.first, of=batch.of)
            batch = replace(batch, image=(pixels,))
        for group in self.optimizer.param_groups:
            group["lr"] = lr
            for parameter in group["params"]:
                parameter.grad = None
        if ex.accumulate == 1:
            output = self._loss_of(*self._encode(batch), batch.index)
            with statistics_kept(self.model) if ex.checkpointing else nullcontext():
                output.total.backward()
        else:
            output = self._backward_in_parts(batch)
        average_gradients([*self.loss.parameters(), *self.model.geometry.parameters()])
        if ex.clip_grad is not None:
            self.monitor.observe_gradients()
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), ex.clip_grad)
        with _fitting(self._from):  # many an optimizer looks at its state only now
            self.optimizer.step()
        self._from = ""
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

    def _loss_of(self, image: Tensor, text: Tensor, index: Tensor) -> LossOutput:
        """Compute the loss of a batch, and what to watch.

        Watched are norms, and learned numbers of the geometry.
        """
        image, text = image.float(), text.float()
        output = self.loss(image, text, index)
        norms = {
            f"{side}_norm": of_all(torch.linalg.vector_norm(x.detach(), dim=1)).median()
            for side, x in (("image", image), ("text", text))
        }
        return replace(output, watch=norms | output.watch | self.model.geometry.watched())

    def _backward_in_parts(self, batch: Batch) -> LossOutput:
        outputs: list[LossOutput] = []

        def loss(image: Tensor, text: Tensor) -> Tensor:
            outputs.append(self._loss_of(image, text, batch.index))
            return outputs[-1].total

        parts, checkpointing = batch.split(self.experiment.accumulate), self.experiment.checkpointing
        alone = not_averaged(self.encoders)
        backward_in_parts(self._encode, parts, loss, self.model, alone, checkpointing=checkpointing)
        return outputs[-1]

    def _on_host(self, output: LossOutput) -> dict[str, float]:
        """Return the numbers of the step just done, by name.

        They are copied at once, so that the host waits for the device once a step.
        """
        named = {
            "loss": output.total.detach(),
            **{f"term {name}": value for name, value in output.terms.items()},
            **{f"watch {name}": value for name, value in output.watch.items()},
        }
        norms = self.monitor.latest  # [quantities, parts]
        names = [*named, *(f"{part} {quantity}" for quantity in QUANTITIES for part in self.monitor.parts)]
        if norms.device.type == "cpu":  # no transfer: as quick as can be
            return dict(zip(names, [*map(float, named.values()), *norms.flatten().tolist()], strict=True))
        scalars = torch.stack(list(named.values())).to(norms.dtype)
        return dict(zip(names, torch.cat([scalars, norms.flatten()]).tolist(), strict=True))

    def _record(self, output: LossOutput, numbers: dict[str, float], epoch: int, lr: float, elapsed: float) -> Record:
        """Return the record of the step just done. Raises NotFinite."""
        step, loss = self.step - 1, numbers["loss"]
        norms = {part: {name: numbers[f"{part} {name}"] for name in QUANTITIES} for part in self.monitor.parts}
        terms = {name: numbers[f"term {name}"] for name in output.terms}
        watch = {name: numbers[f"watch {name}"] for name in output.watch}
        if not (math.isfinite(loss) and math.isfinite(norms["all"]["gradient"])):
            raise NotFinite(step_fault(self.monitor, step, lr, loss, terms, watch))
        if not (math.isfinite(norms["all"]["weight"]) and math.isfinite(norms["all"]["update"])):
            self.check_finite()
            raise NotFinite(f"the update is not finite {self._after(lr)}")
        return Record(
            step=step,
            epoch=epoch,
            steps=self.steps,
            lr=lr,
            loss=loss,
            terms=terms,
            watch=watch,
            norms=norms,
            seconds=self.seconds,
            pairs_per_second=self.experiment.batch_size / elapsed,
        )

    def check_finite(self) -> None:
        """Check all that a checkpoint would keep: weights, buffers, state.

        Raises:
            NotFinite: a number is NaN or infinite, or a weight too large; names the first such tensor and the step.
        """
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

    def state(self) -> dict[str, Any]:
        """Return all that the next step depends on, besides the model's weights.

        It consists of tensors and plain values only.
        """
        return {
            "step": self.step,
            "seconds": self.seconds,
            "data": self.pairs.fingerprint(),
            "identity": self.identity,
            "optimizer": self.optimizer.state_dict(),
            "loss": self.loss.state_dict(),
            "monitor": self.monitor.state(),
            **({"average": self.average.state()} if self.average is not None else {}),
            "random": torch.get_rng_state(),
            "random_device": torch.cuda.get_rng_state(self.device) if self.device.type == "cuda" else None,
        }

    def load_state(
        self,
        weights: dict[str, Tensor],
        state: dict[str, Any],
        source: object = "the checkpoint",
        averaged: dict[str, Tensor] | None = None,
    ) -> None:
        """Restore what `state` returned, to continue from there.

        Args:
            weights: the model's tensors by name.
            state: what `state` returned.
            source: where they are from, for the errors.
            averaged: what `average.tensors()` returned, where there is an average.
        Raises:
            ClipeduError: the data has changed, or a part does not fit this run.
            NotFinite: a number is NaN or infinite.
        """
        check_unchanged(state, self.pairs, self.experiment.data)
        if "identity" not in state:
            log.warning("the run was stopped by an older version: whether its pictures have changed cannot be told")
        if fault := tensors_misfit(weights, self.model.state_dict()):
            raise ClipeduError(f"the weights in {source} do not fit the run's model: {fault}")
        if fault := tensors_misfit(state["loss"], self.loss.state_dict()):
            raise ClipeduError(f"the loss in {source} does not fit that of the run: {fault}")
        random = torch.get_rng_state()
        if state["random"].shape != random.shape or not 0 <= state["step"] <= self.steps:
            raise ClipeduError(
                f"the state in {source} does not fit the run: step {state['step']} of {self.steps}, random state of "
                f"{len(state['random'])} bytes, of {len(random)}"
            )
        self.model.load_state_dict(weights)
        self._from = f"the optimizer's state in {source}"
        with _fitting(self._from):
            regroup(self.optimizer, state["optimizer"]["param_groups"])  # of a version that grouped otherwise
            self.optimizer.load_state_dict(state["optimizer"])
        self.loss.load_state_dict(state["loss"])
        if self.average is not None:
            if averaged is None or "average" not in state:
                raise ClipeduError(f"{source} has no averaged weights, which the run keeps (ema_decay)")
            with _fitting(str(source)):
                self.average.load_state(averaged, state["average"])
        self.step, self.seconds = state["step"], state["seconds"]
        try:
            self.check_finite()
        except NotFinite as error:
            raise NotFinite(f"{source} cannot be used: {error}") from None
        self.monitor.first_step = self.step
        if "monitor" in state:  # older versions kept none
            self.monitor.load_state(state["monitor"])
        with _fitting(f"the random state in {source}"):
            torch.set_rng_state(state["random"].cpu())
            if state["random_device"] is not None and self.device.type == "cuda":
                torch.cuda.set_rng_state(state["random_device"].cpu(), self.device)


@contextmanager
def _fitting(what: str) -> Iterator[None]:
    """Turn errors of using `what` into one line; nothing if it is "".

    Raises:
        ClipeduError: the block failed because `what` does not fit.
    """
    try:
        yield
    except (ValueError, KeyError, TypeError, RuntimeError, AttributeError, IndexError) as error:
        if not what or is_out_of_memory(error):
            raise
        if isinstance(error, ClipeduError):
            raise ClipeduError(f"{what} does not fit the run: {error}") from None
        why = next(iter(str(error).splitlines()), "")[:200]
        raise ClipeduError(f"{what} does not fit the run: {type(error).__name__}: {why}") from None
