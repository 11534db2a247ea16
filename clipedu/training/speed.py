"""Encoders that need less memory, or less time.

These are gradient checkpointing and `torch.compile`.
"""

from __future__ import annotations

import copy
import logging
from typing import Any

import torch
from torch import Tensor

from clipedu.config.experiment import Experiment
from clipedu.models import DualEncoder
from clipedu.utils.errors import ClipeduError

log = logging.getLogger("clipedu")


def checkpoint_encoders(model: DualEncoder, experiment: Experiment) -> None:
    """Let the encoders that are trained keep only what blocks begin with.

    All else that the backward pass needs is computed again in it (Chen et al. 2016, arXiv:1604.06174): a second forward pass
    for the memory of one block at a time. The gradient is the same, dropout masks too; `gradient_cache.py: statistics_kept` does
    the rest.

    Raises:
        ClipeduError: an encoder that cannot do so.
    """
    for side in ("image", "text"):
        if side in model.frozen:
            continue
        encoder: Any = _that_can(model.encoder(side))
        try:
            if hasattr(encoder, "set_grad_checkpointing"):  # timm, open_clip
                encoder.set_grad_checkpointing(True)
            elif hasattr(encoder, "activation_checkpointing_enable"):  # transformers 5, later the only name
                encoder.activation_checkpointing_enable({"use_reentrant": False})
            else:
                encoder.gradient_checkpointing_enable({"use_reentrant": False})
        except Exception as error:  # noqa: BLE001  what cannot do it says so in many ways
            name = getattr(experiment, f"{side}_encoder")
            raise ClipeduError(
                f"checkpointing=True cannot be used with {side} encoder {name!r}, which has no gradient checkpointing "
                f"({type(error).__name__}): choose another encoder, or accumulate={2 * experiment.accumulate}, which saves memory too"
            ) from None


def _that_can(encoder: Any) -> Any:
    """Return the module with gradient checkpointing: the encoder, or what it holds of its library."""
    names = ("set_grad_checkpointing", "activation_checkpointing_enable", "gradient_checkpointing_enable")
    return next((m for m in (encoder, *encoder.children()) if any(hasattr(m, name) for name in names)), encoder)


def compile_encoders(model: DualEncoder, experiment: Experiment, *, backend: str | Any = "inductor") -> None:
    """Compile the encoders that are trained, or log why that fails.

    It is tried on a copy, with a step on random numbers, so that nothing of the model changes but its speed.

    Args:
        model: on its device; names and values of its tensors stay.
        experiment: its `compile` is a mode of `torch.compile`, its sizes are those of the trial.
        backend: of `torch.compile`.
    """
    ex = experiment
    how = {"backend": backend} if ex.compile == "default" or backend != "inductor" else {"mode": ex.compile}
    for side in ("image", "text"):
        if side in model.frozen:
            continue
        try:
            with torch.random.fork_rng(devices=[model.device] if model.device.type == "cuda" else []):
                one = copy.deepcopy(model)
                one.encoder(side).compile(**how)
                _forward(one, side, ex).square().sum().backward()
        except Exception as error:  # noqa: BLE001  compilers fail in many ways
            why = next(iter(str(error).strip().splitlines()), type(error).__name__)[:200]
            log.warning(
                "compile=%s: the %s encoder %r cannot be compiled here and runs as it is (%s: %s)",
                *(ex.compile, side, getattr(ex, f"{side}_encoder"), type(error).__name__, why),
            )
            continue
        model.encoder(side).compile(**how)


def _forward(model: DualEncoder, side: str, ex: Experiment) -> Tensor:
    size = max(2, ex.batch_size // ex.accumulate)
    if side == "image":
        return model.image_features(torch.zeros(size, 3, ex.image_size, ex.image_size, device=model.device))
    ids = torch.zeros(size, ex.text_length, dtype=torch.long, device=model.device)
    return model.text_features(ids, torch.ones_like(ids, dtype=torch.bool))
