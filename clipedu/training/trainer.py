"""Training: `train` is a loop that yields a record a step; `fit` drives it, keeps what it makes, and scores the model.

for record in clipedu.train(Experiment(loss="sogclr")):    # a notebook, a widget and the command line
    print(record.step, record.loss)                        # all drive this same loop

run = clipedu.fit(Experiment(loss="sogclr"))               # with a run's folder, checkpoints and scores
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from clipedu.config.experiment import Experiment
from clipedu.data.augment import augment
from clipedu.data.batches import Batch, batches
from clipedu.data.pairs import Pairs
from clipedu.data.prefetch import feed
from clipedu.losses import LossOutput
from clipedu.models import DualEncoder
from clipedu.norms import QUANTITIES, NormMonitor
from clipedu.optim import learning_rate
from clipedu.training.gradient_cache import backward_in_parts
from clipedu.utils.device import autocast
from clipedu.utils.errors import ClipeduError


@dataclass(frozen=True)
class Record:
    """What one step did. Losses are those before the step, norms those around it.

    Attributes:
        step, epoch: counted from 0.
        steps: of the whole run.
        lr: learning rate of the step.
        loss, terms: value of the loss and of its parts.
        watch: what else is worth a curve: "image_norm" and "text_norm" (medians over the batch), and what is learned beside
            the weights: "temperature", "curvature", "alpha_image", ...
        norms: part ("all", "image", "text") -> {"weight", "gradient", "update"}.
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


class NotFinite(ClipeduError):
    """The loss or a gradient became NaN or infinite."""


@dataclass
class Trainer:
    """All parts of a run, ready to step: made by `prepare`. `step` is the number of the next step."""

    experiment: Experiment
    device: torch.device
    pairs: Pairs
    model: DualEncoder
    loss: torch.nn.Module
    optimizer: torch.optim.Optimizer
    monitor: NormMonitor
    features: dict[str, Any]
    step: int = 0
    seconds: float = 0.0
    _names: tuple[list[str], list[str]] = field(default_factory=lambda: ([], []))

    @property
    def steps_per_epoch(self) -> int:
        return len(self.pairs) // self.experiment.batch_size

    @property
    def steps(self) -> int:
        return self.steps_per_epoch * self.experiment.epochs

    def run(self) -> Iterator[Record]:
        """Step through what is left of the run. The model is in training mode whenever a step begins."""
        ex = self.experiment
        while self.step < self.steps:
            epoch, skip = divmod(self.step, self.steps_per_epoch)
            began = time.perf_counter()
            source = batches(
                self.pairs, batch_size=ex.batch_size, seed=ex.seed, epoch=epoch, skip=skip, **self.features
            )
            with closing(feed(source, self.device)) as ahead:
                for batch in ahead:
                    lr = learning_rate(
                        self.step,
                        peak=ex.lr,
                        total=self.steps,
                        warmup=round(ex.warmup * self.steps),
                        schedule=ex.schedule,
                    )
                    values = self._train_on(batch, lr).tolist()
                    elapsed = time.perf_counter() - began
                    self.step += 1
                    self.seconds += elapsed
                    yield self._record(values, epoch, lr, elapsed)
                    began = time.perf_counter()  # what is done with a record is not the step's time

    def _train_on(self, batch, lr: float) -> torch.Tensor:
        """One step. Returns loss, terms and norms in one tensor on the device, so that the host waits once a step."""
        ex = self.experiment
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        self.model.train()
        self.loss.train()
        self.loss.progress = self.step / self.steps
        if "image" not in self.model.frozen:
            pixels = batch.image[0]
            how = {"seed": ex.seed, "step": self.step, "first": batch.first, "of": batch.of}
            batch.image = (augment(pixels, ex.augment, **how),)
        self.optimizer.zero_grad(set_to_none=True)
        if ex.accumulate == 1:
            output = self._loss_of(*self._encode(batch), batch.index)
            output.total.backward()
        else:
            output = self._backward_in_parts(batch)
        self.monitor.observe_gradients()
        if ex.clip_grad is not None:
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), ex.clip_grad)
        self.optimizer.step()
        self._names = list(output.terms), list(output.watch)
        scalars = torch.stack([output.total.detach(), *output.terms.values(), *output.watch.values()])
        return torch.cat([scalars.to(self.monitor.latest.dtype), self.monitor.latest.flatten()])

    def _encode(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        with autocast(self.experiment.precision, self.device):
            return self.model(batch.image, batch.text)

    def _loss_of(self, image: torch.Tensor, text: torch.Tensor, index: torch.Tensor) -> LossOutput:
        """The loss of a batch, with norms and learned numbers of the geometry to watch."""
        image, text = image.float(), text.float()
        output = self.loss(image, text, index)
        norms = {f"{side}_norm": x.detach().norm(dim=1).median() for side, x in (("image", image), ("text", text))}
        return replace(output, watch=norms | output.watch | self.model.geometry.watched())

    def _backward_in_parts(self, batch: Batch) -> LossOutput:
        outputs = []

        def loss(image: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
            outputs.append(self._loss_of(image, text, batch.index))
            return outputs[-1].total

        backward_in_parts(self._encode, batch.split(self.experiment.accumulate), loss, self.model)
        return outputs[-1]

    def _record(self, values: list[float], epoch: int, lr: float, elapsed: float) -> Record:
        """The record of the step just done, from the numbers that `_train_on` returned."""
        step, (loss, *rest) = self.step - 1, values
        (term_names, watch_names), parts = self._names, self.monitor.parts
        terms = dict(zip(term_names, rest, strict=False))
        watch = dict(zip(watch_names, rest[len(terms) :], strict=False))
        norms = rest[len(terms) + len(watch) :]
        by_part = {
            part: {name: norms[k * len(parts) + n] for k, name in enumerate(QUANTITIES)} for n, part in enumerate(parts)
        }
        if not (math.isfinite(loss) and math.isfinite(by_part["all"]["gradient"])):
            what = "the loss" if not math.isfinite(loss) else "the gradient"
            raise NotFinite(
                f"{what} is not finite at step {step} (lr {lr:g}, loss {loss:g}): "
                f"a smaller lr, clip_grad=1, or a larger temperature may help"
            )
        return Record(
            step,
            epoch,
            self.steps,
            lr,
            loss,
            terms,
            watch,
            by_part,
            self.seconds,
            self.experiment.batch_size / elapsed,
        )

    def state(self) -> dict[str, Any]:
        """Everything besides the model's weights that the next step depends on: tensors and plain values only."""
        return {
            "step": self.step,
            "seconds": self.seconds,
            "data": self.pairs.fingerprint(),
            "optimizer": self.optimizer.state_dict(),
            "loss": self.loss.state_dict(),
            "monitor": self.monitor.state(),
            "random": torch.get_rng_state(),
            "random_device": torch.cuda.get_rng_state(self.device) if self.device.type == "cuda" else None,
        }

    def load_state(self, weights: dict[str, torch.Tensor], state: dict[str, Any]) -> None:
        """Go on where `state` was taken. Raises ClipeduError if the data is not what it was."""
        if state["data"] != self.pairs.fingerprint():
            raise ClipeduError(
                f"the data {self.experiment.data!r} is not what it was when the run was stopped, so it cannot go on"
            )
        self.model.load_state_dict(weights)
        self.optimizer.load_state_dict(state["optimizer"])
        self.loss.load_state_dict(state["loss"])
        self.step, self.seconds = state["step"], state["seconds"]
        self.monitor.first_step = self.step
        if "monitor" in state:  # older versions kept none
            self.monitor.load_state(state["monitor"])
        torch.set_rng_state(state["random"])
        if state["random_device"] is not None:
            torch.cuda.set_rng_state(state["random_device"], self.device)
