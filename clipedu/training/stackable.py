"""Which experiments can be trained at once, stacked (`stacked.py`).

Both towers must be frozen: then a run trains two projections and a few single numbers over features that are kept, and its step is so
small that calls cost more than arithmetic. Runs of one stack have the same sizes and do the same operations: the same loss,
optimizer, geometry, batch size and number of steps. Numbers may differ (`OWN`).
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from clipedu.config.experiment import Experiment
from clipedu.geometry import build_geometry
from clipedu.losses import Loss
from clipedu.optim import OPTIMIZERS
from clipedu.training.objective import build_objective
from clipedu.training.stacked_optimizer import STEPS
from clipedu.training.stacked_similarity import MAPS

OWN = (
    *("lr", "weight_decay", "optimizer_options", "warmup", "schedule", "clip_grad"),
    *("temperature", "loss_options", "seed", "checkpoint_every", "keep_checkpoints"),
)
"""Settings that each run of a stack has for itself; of options, the numbers."""
_FREE_OPTIONS = ("betas", "eps", "momentum", "lr_max")
_EQUAL_OPTIONS = ("nesterov", "dampening", "decay_law", "heads")
_BOUNDS = ("low", "high", "largest_slope")  # of iSogCLR's clamps, which take plain numbers
_NO_MATTER = ("foreach", "fused")  # how torch's own step is made


@dataclass(frozen=True)
class Plan:
    """How experiments are to be trained.

    Attributes:
        stacks: numbers of experiments that are trained at once, in order of appearance.
        alone: number -> why that experiment can only be run by itself.
    """

    stacks: list[list[int]]
    alone: dict[int, str]


def plan_stacks(experiments: Sequence[Experiment]) -> Plan:
    """Divide experiments into stacks.

    Args:
        experiments: any; names and values in them are not checked here.
    """
    stacks: dict[Any, list[int]] = {}
    alone = {}
    for number, experiment in enumerate(experiments):
        if why := why_alone(experiment):
            alone[number] = why
        else:
            stacks.setdefault(stack_key(experiment), []).append(number)
    return Plan(list(stacks.values()), alone)


def why_alone(experiment: Experiment) -> str:
    """Return why an experiment cannot be in a stack; "" if it can."""
    ex = experiment
    for side in ("image", "text"):
        if not getattr(ex, f"{side}_frozen"):
            return f"its {side} encoder is trained: a stack trains projections over kept features ({side}_frozen=True)"
    if ex.geometry not in MAPS:
        return f"geometry={ex.geometry!r}: stacks have {' or '.join(MAPS)}"
    if ex.optimizer not in STEPS:
        return f"optimizer={ex.optimizer!r}: stacks have {', '.join(STEPS)}"
    allowed = (*_FREE_OPTIONS, *_EQUAL_OPTIONS, *_NO_MATTER)
    if other := [name for name, value in ex.optimizer_options.items() if name not in allowed and value]:
        return f"the optimizer's option {other[0]!r}: stacks have {', '.join(allowed)}"
    if ex.loss_options.get("max_scale"):
        return "the loss's option 'max_scale': stacks have one range of logit scales"
    plain = Experiment()
    for name in (
        "lock",
        "lora_rank",
        "image_lr_scale",
        "text_lr_scale",
        "entailment",
        "accumulate",
        "ema_decay",
        "evaluate_every",
        "compile",
        "checkpointing",
        "track",
    ):
        if getattr(ex, name) != getattr(plain, name):
            return f"{name}={getattr(ex, name)!r}: stacks do without"
    loss = _objective(ex)
    if getattr(loss, "stream_above", ex.batch_size) < ex.batch_size:
        return f"batch_size={ex.batch_size}: above {loss.stream_above} a loss is computed tile by tile"
    return ""


def stack_key(experiment: Experiment) -> Any:
    """Return what experiments of one stack have in common, to compare."""
    settings = {name: value for name, value in dataclasses.asdict(experiment).items() if name not in OWN}
    options = {**OPTIMIZERS[experiment.optimizer].defaults, **experiment.optimizer_options}
    momentum = options.get("momentum", 0) != 0
    equal = {name: options[name] for name in _EQUAL_OPTIONS if name in options}
    return json.dumps([settings, momentum, equal, *structure(_objective(experiment))], sort_keys=True)


def structure(loss: Loss) -> tuple[dict[str, Any], list[str]]:
    """Return what makes two losses do the same operations.

    Args:
        loss: any.
    Returns:
        its attributes that may not differ, by name, and the names of its parameters and buffers.
    """
    words = {
        name: value
        for name, value in vars(loss).items()
        if not name.startswith("_") and (isinstance(value, str | bool) or name in _BOUNDS) and name != "training"
    }
    return words, [name for name, _ in (*loss.named_parameters(), *loss.named_buffers())]


def constants(loss: nn.Module) -> dict[str, float]:
    """Return the numbers that a loss computes with, by the attribute's name."""
    apart = ("progress", *_BOUNDS)
    return {
        name: value
        for name, value in vars(loss).items()
        if not (name.startswith("_") or name in apart)
        and isinstance(value, int | float)
        and not isinstance(value, bool)
    }


def _objective(experiment: Experiment) -> Loss:
    geometry = build_geometry(experiment.geometry, experiment.embedding_dim, **experiment.geometry_options)
    return build_objective(experiment, geometry, num_samples=2)
