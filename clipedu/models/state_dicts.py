"""State dicts in files: read them, and find a model's tensors in them.

Training scripts save the same weights under other names: `module.` (DataParallel), `_orig_mod.` (torch.compile),
`visual.trunk.` (an encoder inside a CLIP), `{"state_dict": {...}}` (a checkpoint). `read_state` makes one flat dict of such a
file, in which the key of a dict is one more prefix; `find_prefix` finds what has to be taken off for most names to fit.
"""

from __future__ import annotations

import pickle
import warnings
import zipfile
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from clipedu.utils.errors import ClipeduError

TORCH_SUFFIXES = (".pt", ".pth", ".bin", ".ckpt", ".tar")
WRAPPERS = ("_orig_mod.", "_fsdp_wrapped_module.", "_checkpoint_wrapped_module.")  # torch puts them around any module
DEPTH = 4  # of dicts in dicts


def read_state(path: Path) -> dict[str, Tensor]:
    """Read all tensors of a file by name; dicts in dicts become dotted names.

    A file of torch is read with `weights_only`: nothing in it is run.

    Args:
        path: a .safetensors file, or a file that torch saved (`TORCH_SUFFIXES`).
    Raises:
        ClipeduError: the file cannot be read, or it holds no tensors.
    """
    try:
        held = _read(path)
    except ClipeduError:
        raise
    except Exception as error:  # noqa: BLE001  torch and safetensors have many, for one and the same damage
        kind = "as a file of torch" if path.suffix in TORCH_SUFFIXES else "as safetensors"
        reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise ClipeduError(f"{str(path)!r} cannot be read {kind}: {reason}") from None
    state = dict(_tensors(held, ""))
    if not state:
        raise ClipeduError(f"{str(path)!r} holds no tensors by name: save model.state_dict()")
    return state


def _read(path: Path) -> Any:
    if path.suffix not in TORCH_SUFFIXES:
        from safetensors.torch import load_file

        return load_file(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about the version of a pickle that is damaged anyway
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        if zipfile.is_zipfile(path):
            reason = "it holds Python objects besides tensors, which are not loaded for safety's sake: save model.state_dict() alone"
        else:
            reason = "it is damaged, or no file of torch's"
        raise ClipeduError(f"{str(path)!r} cannot be read as a file of torch: {reason}") from None


def _tensors(held: Any, prefix: str, depth: int = 0) -> Iterator[tuple[str, Tensor]]:
    if isinstance(held, Tensor) and prefix:
        yield prefix[:-1], held
    elif isinstance(held, Mapping) and depth <= DEPTH:
        for key, value in held.items():
            yield from _tensors(value, f"{prefix}{key}.", depth + 1)


def without_wrappers(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a state dict without the words of torch's wrappers."""
    for wrapper in WRAPPERS:
        state = {name.replace(wrapper, ""): tensor for name, tensor in state.items()}
    return dict(state)


def find_prefix(state: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> tuple[str, list[str]]:
    """Find the prefix with which most of a model's tensors are in a file.

    Of two that fit alike the shorter is taken, then the one that comes first in the file.

    Args:
        state: tensors of the file by name.
        wanted: those of the model.
    Returns:
        the prefix, with its dot, or ""; and the others with which all fits just as well.
    """
    fits: Counter[str] = Counter({"": 0})
    named: Counter[str] = Counter({"": 0})
    for key, tensor in state.items():
        at = 0
        while True:
            name = key[at:]
            if name in wanted:
                named[key[:at]] += 1
                fits[key[:at]] += tensor.shape == wanted[name].shape
            dot = name.find(".")
            if dot < 0:
                break
            at += dot + 1
    best = max(named, key=lambda prefix: (fits[prefix], named[prefix], -len(prefix)))
    rivals = [prefix for prefix in named if prefix != best and fits[prefix] == fits[best] > 0]
    return best, rivals
