"""What a run goes on from: the state of a trainer, kept and restored."""

from __future__ import annotations

import logging
from typing import Any

import torch
from torch import Tensor

from clipedu.optim.regroup import regroup
from clipedu.training.datasets import check_unchanged
from clipedu.training.fitting import fitting
from clipedu.training.trainer import Trainer
from clipedu.utils.errors import ClipeduError
from clipedu.utils.finite import NotFinite
from clipedu.utils.tensor_files import tensors_misfit

log = logging.getLogger("clipedu")


def trainer_state(trainer: Trainer) -> dict[str, Any]:
    """Return all that the next step depends on, besides the model's weights.

    It consists of tensors and plain values only.
    """
    return {
        "step": trainer.step,
        "seconds": trainer.seconds,
        "data": trainer.pairs.fingerprint(),
        "identity": trainer.identity,
        "optimizer": trainer.optimizer.state_dict(),
        "loss": trainer.loss.state_dict(),
        "monitor": trainer.monitor.state(),
        **({"average": trainer.average.state()} if trainer.average is not None else {}),
        "random": torch.get_rng_state(),
        "random_device": torch.cuda.get_rng_state(trainer.device) if trainer.device.type == "cuda" else None,
    }


def restore(
    trainer: Trainer,
    weights: dict[str, Tensor],
    state: dict[str, Any],
    source: object = "the checkpoint",
    averaged: dict[str, Tensor] | None = None,
) -> None:
    """Restore what `trainer_state` returned, to continue from there.

    Args:
        weights: the model's tensors by name.
        state: what `trainer_state` returned.
        source: where they are from, for the errors.
        averaged: what `average.tensors()` returned, where there is an average.
    Raises:
        ClipeduError: the data has changed, or a part does not fit this run.
        NotFinite: a number is NaN or infinite.
    """
    check_unchanged(state, trainer.pairs, trainer.experiment.data)
    if "identity" not in state:
        log.warning("the run was stopped by an older version: whether its pictures have changed cannot be told")
    if fault := tensors_misfit(weights, trainer.model.state_dict()):
        raise ClipeduError(f"the weights in {source} do not fit the run's model: {fault}")
    if fault := tensors_misfit(state["loss"], trainer.loss.state_dict()):
        raise ClipeduError(f"the loss in {source} does not fit that of the run: {fault}")
    random = torch.get_rng_state()
    if state["random"].shape != random.shape or not 0 <= state["step"] <= trainer.steps:
        raise ClipeduError(
            f"the state in {source} does not fit the run: step {state['step']} of {trainer.steps}, random state of "
            f"{len(state['random'])} bytes, of {len(random)}"
        )
    trainer.model.load_state_dict(weights)
    trainer.state_from = f"the optimizer's state in {source}"
    with fitting(trainer.state_from):
        regroup(trainer.optimizer, state["optimizer"]["param_groups"])  # of a version that grouped otherwise
        trainer.optimizer.load_state_dict(state["optimizer"])
    trainer.loss.load_state_dict(state["loss"])
    if trainer.average is not None:
        if averaged is None or "average" not in state:
            raise ClipeduError(f"{source} has no averaged weights, which the run keeps (ema_decay)")
        with fitting(str(source)):
            trainer.average.load_state(averaged, state["average"])
    trainer.step, trainer.seconds = state["step"], state["seconds"]
    try:
        trainer.check_finite()
    except NotFinite as error:
        raise NotFinite(f"{source} cannot be used: {error}") from None
    trainer.monitor.first_step = trainer.step
    if "monitor" in state:  # older versions kept none
        trainer.monitor.load_state(state["monitor"])
    with fitting(f"the random state in {source}"):
        torch.set_rng_state(state["random"].cpu())
        if state["random_device"] is not None and trainer.device.type == "cuda":
            torch.cuda.set_rng_state(state["random_device"].cpu(), trainer.device)
