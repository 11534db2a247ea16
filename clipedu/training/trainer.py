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
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from clipedu.config.experiment import Experiment
from clipedu.data.augment import augment
from clipedu.data.batches import Batch, Precomputed, batches
from clipedu.data.identity import changes
from clipedu.data.pairs import Pairs
from clipedu.data.prefetch import feed
from clipedu.losses import Loss, LossOutput
from clipedu.models import DualEncoder
from clipedu.norms import QUANTITIES, NormMonitor
from clipedu.optim import learning_rate
from clipedu.optim.regroup import regroup
from clipedu.training.gradient_cache import backward_in_parts
from clipedu.utils.device import autocast
from clipedu.utils.errors import ClipeduError

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


class NotFinite(ClipeduError):
    """The loss or a gradient became NaN or infinite."""


@dataclass
class Trainer:
    """All parts of a run, ready to step: made by `prepare`.

    Attributes:
        step: number of the next step, from 0.
        seconds: of training so far.
    """

    experiment: Experiment
    device: torch.device
    pairs: Pairs
    model: DualEncoder
    loss: Loss
    optimizer: torch.optim.Optimizer
    monitor: NormMonitor
    precomputed: Precomputed = field(default_factory=Precomputed)
    step: int = 0
    seconds: float = 0.0

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

    def run(self) -> Iterator[Record]:
        """Make the steps that are left of the run, and yield a record of each.

        The model is in training mode whenever a step begins.

        Raises:
            NotFinite: the loss or the gradient became NaN or infinite; names the step.
        """
        ex = self.experiment
        while self.step < self.steps:
            epoch, skip = divmod(self.step, self.steps_per_epoch)
            began = time.perf_counter()
            source = batches(
                self.pairs,
                batch_size=ex.batch_size,
                seed=ex.seed,
                epoch=epoch,
                skip=skip,
                precomputed=self.precomputed,
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
                    output = self._train_on(batch, lr)
                    numbers = self._on_host(output)
                    elapsed = time.perf_counter() - began
                    self.step += 1
                    self.seconds += elapsed
                    yield self._record(output, numbers, epoch, lr, elapsed)
                    began = time.perf_counter()  # what is done with a record is not the step's time

    def _train_on(self, batch: Batch, lr: float) -> LossOutput:
        """Make one step: gradients, norms and update.

        Nothing in it waits for the device.
        """
        ex = self.experiment
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        self.model.train()
        self.loss.train()
        self.loss.progress = self.step / self.steps
        if "image" not in self.model.frozen:
            pixels = augment(batch.image[0], ex.augment, seed=ex.seed, step=self.step, first=batch.first, of=batch.of)
            batch = replace(batch, image=(pixels,))
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
        return output

    def _encode(self, batch: Batch) -> tuple[Tensor, Tensor]:
        with autocast(self.experiment.precision, self.device):
            return self.model(batch.image, batch.text)

    def _loss_of(self, image: Tensor, text: Tensor, index: Tensor) -> LossOutput:
        """Compute the loss of a batch, and what to watch.

        Watched are norms, and learned numbers of the geometry.
        """
        image, text = image.float(), text.float()
        output = self.loss(image, text, index)
        norms = {f"{side}_norm": x.detach().norm(dim=1).median() for side, x in (("image", image), ("text", text))}
        return replace(output, watch=norms | output.watch | self.model.geometry.watched())

    def _backward_in_parts(self, batch: Batch) -> LossOutput:
        outputs: list[LossOutput] = []

        def loss(image: Tensor, text: Tensor) -> Tensor:
            outputs.append(self._loss_of(image, text, batch.index))
            return outputs[-1].total

        backward_in_parts(self._encode, batch.split(self.experiment.accumulate), loss, self.model)
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
        scalars = torch.stack(list(named.values())).to(norms.dtype)
        return dict(zip(names, torch.cat([scalars, norms.flatten()]).tolist(), strict=True))

    def _record(self, output: LossOutput, numbers: dict[str, float], epoch: int, lr: float, elapsed: float) -> Record:
        """Return the record of the step just done. Raises NotFinite."""
        step, loss = self.step - 1, numbers["loss"]
        norms = {part: {name: numbers[f"{part} {name}"] for name in QUANTITIES} for part in self.monitor.parts}
        if not (math.isfinite(loss) and math.isfinite(norms["all"]["gradient"])):
            what = "the loss" if not math.isfinite(loss) else "the gradient"
            raise NotFinite(
                f"{what} is not finite at step {step} (lr {lr:g}, loss {loss:g}): "
                f"a smaller lr, clip_grad=1, or a larger temperature may help"
            )
        return Record(
            step=step,
            epoch=epoch,
            steps=self.steps,
            lr=lr,
            loss=loss,
            terms={name: numbers[f"term {name}"] for name in output.terms},
            watch={name: numbers[f"watch {name}"] for name in output.watch},
            norms=norms,
            seconds=self.seconds,
            pairs_per_second=self.experiment.batch_size / elapsed,
        )

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
            "random": torch.get_rng_state(),
            "random_device": torch.cuda.get_rng_state(self.device) if self.device.type == "cuda" else None,
        }

    def _check_data(self, state: dict[str, Any]) -> None:
        """Check that the pairs are those that a state was trained on."""
        what = changes(state.get("identity", {}), self.identity)
        if state["data"] != self.pairs.fingerprint() and not what:
            what = ["its fingerprint, of names, sizes and labels"]
        if what:
            raise ClipeduError(
                f"the data {self.experiment.data!r} has changed since the run was stopped ({'; '.join(what)}), so the run "
                "cannot be resumed: bring back the data as it was, or start a new run"
            )
        if "identity" not in state:
            log.warning("the run was stopped by an older version: whether its pictures have changed cannot be told")

    def load_state(self, weights: dict[str, Tensor], state: dict[str, Any]) -> None:
        """Restore what `state` returned, to continue from there.

        Args:
            weights: the model's tensors by name.
            state: what `state` returned.
        Raises:
            ClipeduError: the data has changed.
        """
        self._check_data(state)
        self.model.load_state_dict(weights)
        regroup(self.optimizer, state["optimizer"]["param_groups"])  # of a version that grouped otherwise
        self.optimizer.load_state_dict(state["optimizer"])
        self.loss.load_state_dict(state["loss"])
        self.step, self.seconds = state["step"], state["seconds"]
        self.monitor.first_step = self.step
        if "monitor" in state:  # older versions kept none
            self.monitor.load_state(state["monitor"])
        torch.set_rng_state(state["random"])
        if state["random_device"] is not None:
            torch.cuda.set_rng_state(state["random_device"], self.device)
