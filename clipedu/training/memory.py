"""Whether a run fits into memory, in words that name the setting.

    weights     4 bytes a number; as many for the gradients, and for the norm monitor's copy
    optimizer   its state, measured (`trial.py`)
    loss        what it keeps for each training pair (SogCLR)
    activations what autograd keeps for a pair, measured, times the pairs of a part

All are lower bounds: what is refused here would certainly not fit.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from clipedu.config.experiment import Experiment
from clipedu.models import build_model
from clipedu.training.objective import build_objective, check_optimizer
from clipedu.utils.disk_space import size_text
from clipedu.utils.errors import ClipeduError
from clipedu.utils.importing import importing
from clipedu.utils.memory import OutOfMemory, free_memory, is_out_of_memory, out_of_memory
from clipedu.utils.ranks import world

SCENE_BYTES = 400  # of what a drawn scene is made from, at least
MOST_TENSORS = 20_000  # of the weights of a model
COPIES = 3  # of each trained number: the weight, its gradient, and the norm monitor's copy


def check_model_memory(experiment: Experiment, vocab_size: int, rows: int, device: torch.device) -> None:
    """Check that the model fits, before it is built.

    It is built without memory first, on torch's "meta" device; where that does not work nothing is checked.

    Args:
        experiment: what is to be run.
        vocab_size: of the tokenizer.
        rows: of the training data.
        device: where it is to be.
    Raises:
        ClipeduError: it does not fit.
    """
    with importing():  # outside "meta", where what a module makes at its import would hold no numbers
        import timm  # noqa: F401
        import transformers  # noqa: F401

    ex = experiment.replace(image_weights="random", text_weights="random")
    image = f"image_encoder={ex.image_encoder!r}{_given('image_options', ex.image_options)}"
    text = f"text_encoder={ex.text_encoder!r}{_given('text_options', ex.text_options)}"
    try:
        with torch.device("meta"), _counted():
            model = build_model(ex, vocab_size)
            loss = build_objective(ex, model.geometry, rows)
    except _TooMany:
        raise ClipeduError(
            f"{image}, {text}: more than {MOST_TENSORS:,} tensors of weights. Choose fewer layers"
        ) from None
    except Exception:  # noqa: BLE001  what is wrong is said when it is built in earnest
        return
    copies = COPIES + _averages(ex) + check_optimizer(experiment)
    whole = ex.lora_rank is None and not ex.lock  # else some of the weights are not trained, and one copy is enough
    projections = [model.image_projection, model.text_projection]
    needs = {
        image: _trained(model.image_encoder, copies if whole else 1),
        text: _trained(model.text_encoder, copies if whole else 1),
        f"embedding_dim={ex.embedding_dim}": sum(_trained(projection, copies) for projection in projections),
        f"loss={ex.loss!r} with {rows} training pairs": sum(b.nbytes for b in loss.buffers()),
    }
    check_fits(needs, device)


def step_needs(experiment: Experiment, model: nn.Module, loss: Any, optimizer: int, pair: int) -> dict[str, int]:
    """Return what training needs at least, in bytes by the setting.

    Args:
        experiment: what is to be run.
        model, loss: as they are trained.
        optimizer: bytes of the optimizer's state.
        pair: bytes that autograd keeps for one pair.
    """
    ex = experiment
    part = ex.batch_size // ex.accumulate // world()
    whole = ex.batch_size <= getattr(loss, "stream_above", math.inf) and hasattr(loss, "stream_above")
    return {
        model_named(ex): _trained(model, COPIES + _averages(ex)),
        f"optimizer={ex.optimizer!r}": optimizer,
        f"batch_size={ex.batch_size} with accumulate={ex.accumulate}": part * pair,
        f"loss={ex.loss!r} with batch_size={ex.batch_size}": 2 * 4 * ex.batch_size**2 if whole else 0,
    }


def model_named(experiment: Experiment) -> str:
    """Return the settings that say what the model is."""
    ex = experiment
    if ex.start is not None:
        return f"start={ex.start!r}"
    return f"image_encoder={ex.image_encoder!r}, text_encoder={ex.text_encoder!r}"


def check_scenes(rows: int | None) -> None:
    """Check that so many drawn scenes can be described in memory.

    Raises:
        ClipeduError: they cannot.
    """
    if rows is not None:
        check_fits({f"train_size={rows}": rows * SCENE_BYTES}, torch.device("cpu"))


def check_fits(needs: dict[str, int], device: torch.device) -> None:
    """Check that what is needed is free on a device.

    Args:
        needs: bytes by the setting that asks for them.
        device: where they are needed.
    Raises:
        OutOfMemory: more is needed than is free. It names the setting that needs most.
    """
    free, needed = free_memory(device), sum(needs.values())
    if free is None or needed <= free:
        return
    most = max(needs, key=lambda name: needs[name])
    raise OutOfMemory(
        f"this run needs at least {size_text(needed)} of memory, and {size_text(free)} are free on {device}. Most of it, "
        f"{size_text(needs[most])}, is for {most}: choose less of that"
    )


class _TooMany(BaseException):  # no builder takes it for a wrong option
    """More than `MOST_TENSORS` tensors."""


@contextmanager
def _counted() -> Iterator[None]:
    """Stop the building of a model that has more than `MOST_TENSORS` tensors, which would take hours."""
    count = 0

    def add(*_: Any) -> None:
        nonlocal count
        count += 1
        if count > MOST_TENSORS:
            raise _TooMany

    hook = register_module_parameter_registration_hook(add)
    try:
        yield
    finally:
        hook.remove()


@contextmanager
def memory_named(experiment: Experiment) -> Iterator[None]:
    """Turn too little memory into a line on which settings to halve.

    Args:
        experiment: what is run in the block.
    Raises:
        OutOfMemory: the block ran out of memory, on any device; its cause is the library's own error.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise OutOfMemory(out_of_memory(error, _halved(experiment))) from error


def _halved(ex: Experiment) -> str:
    """Return what takes less memory than an experiment."""
    part, ways = ex.batch_size // ex.accumulate, []
    if part % 2 == 0 and part >= 4:  # batch norm needs two pairs
        ways.append(f"accumulate={2 * ex.accumulate} (now {ex.accumulate}; the gradients stay the same)")
    if part >= 4 and (part % 2 == 0 or ex.accumulate == 1):
        ways.append(f"batch_size={ex.batch_size // 2} (now {ex.batch_size})")
    ways.append(f"image_size={ex.image_size // 2} (now {ex.image_size})")
    return f"What takes about half of it: {', or '.join(ways)}; or a smaller model"


def _trained(module: nn.Module, copies: float = COPIES) -> int:
    """Return the bytes of a module in training: of what is frozen, once."""
    numbers = sum(p.nbytes * (copies if p.requires_grad else 1) for p in module.parameters())
    return int(numbers) + sum(b.nbytes for b in module.buffers())


def _averages(ex: Experiment) -> int:
    return int(ex.ema_decay is not None)  # copies of each trained number


def _given(name: str, options: dict[str, Any]) -> str:
    return f" with {name}={options}" if options else ""
