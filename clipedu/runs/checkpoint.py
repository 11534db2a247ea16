"""Checkpoints: weights and training state in one folder.

    RUN/checkpoint/step-00000250/model.safetensors    the model's tensors by name
    RUN/checkpoint/step-00000250/state.pt             `Trainer.state()`: tensors and plain values only

A checkpoint is written whole or not at all. The one before is dropped only when the next one is there, so a run that is
killed at any time has one.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clipedu.runs.schema import STATE as STATE_OF_TRAINER
from clipedu.utils.errors import ClipeduError
from clipedu.utils.files import atomic_folder
from clipedu.utils.schema import misfit
from clipedu.utils.tensor_files import read_tensors, read_torch

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

WEIGHTS, STATE = "model.safetensors", "state.pt"


def last_checkpoint(run: Path) -> Path | None:
    """Return the folder of a run's last checkpoint, None if there is none."""
    return max(run.glob("checkpoint/step-*"), default=None)


def write_checkpoint(run: Path, step: int, model: nn.Module, state: dict[str, Any]) -> None:
    """Write weights and training state as one folder.

    The checkpoint before it is dropped afterwards.

    Args:
        run: the run's folder.
        step: number of steps done.
        model: its state dict is kept.
        state: tensors and plain values only, in dicts and lists (`torch.load(weights_only=True)` reads it).
    Raises:
        ClipeduError: it cannot be written; the checkpoint before it is still there.
    """
    import torch
    from safetensors.torch import save_file

    target = run / "checkpoint" / f"step-{step:08d}"
    while target.exists():  # the same step again: the old one is deleted only after the new one is written
        target = target.with_name(f"{target.name}+")
    with atomic_folder(target) as partial:
        weights = {name: t.detach().cpu().contiguous() for name, t in model.state_dict().items()}
        save_file(weights, partial / WEIGHTS)
        with open(partial / STATE, "wb") as file:  # a file of its own reports a full disk as an OSError
            torch.save(state, file)
    for other in target.parent.iterdir():
        if other != target:
            shutil.rmtree(other, ignore_errors=True)


def read_weights(checkpoint: Path, prefix: str = "") -> dict[str, Tensor]:
    """Read the model's tensors by name, those whose name begins with `prefix`.

    Raises:
        ClipeduError: they cannot be read.
    """
    return read_tensors(checkpoint / WEIGHTS, prefix)


def read_state(checkpoint: Path, device: torch.device | str) -> dict[str, Any]:
    """Read the training state, with its tensors on `device`.

    Raises:
        ClipeduError: it cannot be read, or a part of it is missing or wrong.
    """
    state = read_torch(checkpoint / STATE, device)
    if fault := misfit(STATE_OF_TRAINER, state):
        raise ClipeduError(f"{checkpoint / STATE} cannot be used: {fault}")
    return state
