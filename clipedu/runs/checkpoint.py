"""Checkpoints: weights and training state in one folder.

    RUN/checkpoint/step-00000250/model.safetensors    the model's tensors by name
    RUN/checkpoint/step-00000250/state.pt             of `clipedu.training.trainer_state`: tensors and plain values only
    RUN/checkpoint/step-00000250/averaged.safetensors the moving average of what is trained, where the run keeps one
    RUN/checkpoint/step-00000250/checkpoint.json      their SHA-256, and what they belong to (`write_checkpoint`)

A checkpoint is written whole or not at all. The last ones are kept, two by default: where the last one is damaged, a run goes on from
the one before. The best one is kept too, where it is known. Checkpoints of older versions have no checkpoint.json; they are
read without a check.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
import shutil
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from clipedu.runs.schema import STATE as STATE_OF_TRAINER
from clipedu.utils.errors import ClipeduError
from clipedu.utils.files import atomic_folder, parse_json, read_text, reported, write_json
from clipedu.utils.schema import misfit
from clipedu.utils.tensor_files import read_tensors, read_torch

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

WEIGHTS, STATE, FACTS, AVERAGED = "model.safetensors", "state.pt", "checkpoint.json", "averaged.safetensors"
CHANGED = "it is not what was written, its SHA-256 is another"

log = logging.getLogger("clipedu")


class DamagedCheckpoint(ClipeduError):
    """A file of a checkpoint is not what was written."""


def checkpoints(run: Path) -> list[Path]:
    """Return the folders of a run's checkpoints, the last one first."""
    return sorted(run.glob("checkpoint/step-*"), reverse=True)


def last_checkpoint(run: Path) -> Path | None:
    """Return the folder of a run's last checkpoint, None if there is none."""
    return next(iter(checkpoints(run)), None)


def step_of(checkpoint: Path) -> int:
    """Return the steps done at a checkpoint, by its name; -1 for another."""
    found = re.match(r"step-([0-9]+)", checkpoint.name)
    return int(found[1]) if found else -1


def checkpoint_of(run: Path, step: int | None) -> Path | None:
    """Return the folder of the checkpoint of a step, None without one."""
    return next((path for path in checkpoints(run) if step is not None and step_of(path) == step), None)


def sound_checkpoint(run: Path) -> Path | None:
    """Return a run's last checkpoint that is undamaged, None if there is none.

    Damaged ones after it are named in a log line and set aside, as damaged-step-..., until the next checkpoint is there.

    Raises:
        DamagedCheckpoint: all of them are damaged; they stay as they are.
        ClipeduError: one cannot be set aside.
    """
    damaged: list[tuple[Path, DamagedCheckpoint]] = []
    for path in checkpoints(run):
        try:
            check_checkpoint(path)
        except DamagedCheckpoint as error:
            damaged.append((path, error))
            continue
        for bad, why in damaged:
            log.warning("%s. Going on from the checkpoint before it, %s", why, path.name)
            with reported(bad):
                bad.rename(bad.with_name(f"damaged-{bad.name}"))
        return path
    if damaged:
        raise damaged[0][1]
    return None


def scorable_checkpoint(run: Path) -> tuple[Path, str]:
    """Return a run's last checkpoint whose weights are sound.

    Nothing is changed: `sound_checkpoint` sets damaged ones aside when training goes on.

    Returns:
        its folder, and a line on the later ones that are damaged, "" if there is none.
    Raises:
        DamagedCheckpoint: the weights of all of them are damaged.
        ClipeduError: there is none.
    """
    damaged: list[DamagedCheckpoint] = []
    for path in checkpoints(run):
        try:
            _check_file(path / WEIGHTS, read_facts(path))
        except DamagedCheckpoint as error:
            damaged.append(error)
        else:
            return path, ". ".join(map(str, damaged))
    if damaged:
        raise DamagedCheckpoint(f"{damaged[0]}. No other checkpoint of {run} is sound: put a copy back")
    raise ClipeduError(f"{run} has no checkpoint: the run was stopped before its first one")


def write_checkpoint(
    run: Path,
    step: int,
    model: nn.Module,
    state: dict[str, Any],
    facts: Mapping[str, Any] | None = None,
    *,
    averaged: Mapping[str, Tensor] | None = None,
    keep: int = 2,
    best: int | None = None,
) -> None:
    """Write weights and training state as one folder.

    Old checkpoints are dropped before it, so that there are never more than `keep` beside the best one; the last one stays until
    the new one is whole, so where `keep` is 1 there are two.

    Args:
        run: the run's folder.
        step: number of steps done.
        model: its state dict is kept.
        state: tensors and plain values only, in dicts and lists (`torch.load(weights_only=True)` reads it).
        facts: what else to keep in checkpoint.json: values that JSON can hold.
        averaged: a moving average of the model's trained tensors, by name.
        keep: how many checkpoints there are to be, with the new one.
        best: the step of one that stays too.
    Raises:
        ClipeduError: it cannot be written; the checkpoint before it is still there.
    """
    from safetensors.torch import save_file

    target = run / "checkpoint" / f"step-{step:08d}"
    while target.exists():  # the same step again: the old one is deleted only after the new one is written
        target = target.with_name(f"{target.name}+")
    drop_old(run, max(1, keep - 1), best)
    with atomic_folder(target) as partial:
        weights = {name: t.detach().cpu().contiguous() for name, t in model.state_dict().items()}
        save_file(weights, partial / WEIGHTS)
        names = [WEIGHTS, STATE]
        if averaged is not None:
            save_file({name: t.detach().cpu().contiguous() for name, t in averaged.items()}, partial / AVERAGED)
            names.append(AVERAGED)
        _save_state(state, partial / STATE)
        content = {
            "step": step,
            "sha256": {name: _sha256(partial / name) for name in names},
            **(facts or {}),
        }
        write_json(partial / FACTS, {"content": content, "sha256": _sha256_of(content)})


class _Writer:
    """A file for torch.save, which hides an error of writing behind one of its own."""

    def __init__(self, file: BinaryIO):
        self.file = file
        self.error: OSError | None = None

    def write(self, data: Any) -> int:
        try:
            return self.file.write(data)
        except OSError as error:
            self.error = error
            raise

    def flush(self) -> None:
        self.file.flush()


def _save_state(state: dict[str, Any], path: Path) -> None:
    """Write a training state. Raises OSError if there is no room."""
    import torch

    with open(path, "wb", buffering=0) as file:
        writer: Any = _Writer(file)
        try:
            torch.save(state, writer)
        except RuntimeError:
            if writer.error is not None:
                raise writer.error from None
            raise


def drop_old(run: Path, keep: int, best: int | None) -> None:
    """Drop a run's old checkpoints, and what kills and damage have left.

    Args:
        run: the run's folder.
        keep: how many of the last ones stay.
        best: the step of one that stays too.
    """
    folder, found = run / "checkpoint", checkpoints(run)
    stay = {*found[:keep], checkpoint_of(run, best)}
    for other in folder.iterdir() if found else ():
        if other not in stay:
            shutil.rmtree(other, ignore_errors=True)


def check_checkpoint(checkpoint: Path) -> dict[str, Any]:
    """Check that the files of a checkpoint are what was written.

    Returns:
        what `write_checkpoint` was given as `facts`, with "step" and "sha256"; {} for one of an older version.
    Raises:
        DamagedCheckpoint: a file is missing, or another than was written.
    """
    facts = read_facts(checkpoint)
    for name in facts.get("sha256", (WEIGHTS, STATE)):
        _check_file(checkpoint / name, facts)
    return facts


def read_facts(checkpoint: Path) -> dict[str, Any]:
    """Read a checkpoint's checkpoint.json; {} for one of an older version.

    Raises:
        DamagedCheckpoint: it is not what was written.
    """
    path = checkpoint / FACTS
    try:
        written = parse_json(read_text(path))
        if written["sha256"] != _sha256_of(written["content"]):
            raise ValueError(CHANGED)
        return dict(written["content"])
    except FileNotFoundError:
        return {}
    except ClipeduError as error:
        raise DamagedCheckpoint(error) from None
    except ValueError as error:
        raise DamagedCheckpoint(f"{path} cannot be read: {error}") from None
    except (LookupError, TypeError):
        raise DamagedCheckpoint(f"{path} cannot be read: {CHANGED}") from None


def read_weights(checkpoint: Path, prefix: str = "", *, name: str = WEIGHTS) -> dict[str, Tensor]:
    """Read the model's tensors by name.

    Args:
        checkpoint: its folder.
        prefix: only those whose name begins with it.
        name: of the file; `AVERAGED` has the moving average of those that are trained.
    Raises:
        DamagedCheckpoint: they cannot be read, or are not what was written.
    """
    path = checkpoint / name
    _check_file(path, read_facts(checkpoint))
    try:
        return read_tensors(path, prefix)
    except ClipeduError as error:
        raise DamagedCheckpoint(error) from None


def read_state(checkpoint: Path, device: torch.device | str) -> dict[str, Any]:
    """Read the training state, with its tensors on `device`.

    Raises:
        DamagedCheckpoint: it cannot be read, is not what was written, or a part of it is missing or wrong.
    """
    path = checkpoint / STATE
    _check_file(path, read_facts(checkpoint))
    try:
        state = read_torch(path, device)
    except ClipeduError as error:
        raise DamagedCheckpoint(error) from None
    if fault := misfit(STATE_OF_TRAINER, state):
        raise DamagedCheckpoint(f"{path} cannot be used: {fault}")
    named = re.fullmatch(r"step-(\d{8})\+*", checkpoint.name)
    if named and int(named[1]) != state["step"]:
        raise DamagedCheckpoint(
            f"{path} cannot be used: field 'step' is {state['step']}, its folder is {checkpoint.name}"
        )
    return state


def _check_file(path: Path, facts: Mapping[str, Any]) -> None:
    """Check a file of a checkpoint against its sum.

    Without a sum its form is checked, as far as that needs no memory.

    Raises:
        DamagedCheckpoint: it is missing or damaged.
    """
    from safetensors import SafetensorError, safe_open

    try:
        if path.exists() and not path.is_file():  # to read a pipe would wait for ever
            raise ValueError("it is a folder" if path.is_dir() else "it is no file")
        if facts:
            if _sha256(path) != facts["sha256"].get(path.name):
                raise ValueError(CHANGED)
        elif path.name == WEIGHTS:
            with safe_open(path, framework="pt") as file:
                file.keys()
        elif bad := zipfile.ZipFile(path).testzip():
            raise ValueError(f"{bad} in it is damaged")
    except (OSError, ValueError, KeyError, AttributeError, zipfile.BadZipFile, SafetensorError) as error:
        raise DamagedCheckpoint(f"{path} cannot be read: {error}") from None


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _sha256_of(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
