"""Read tensors from safetensors files and from torch's.

A file of torch is read as tensors and plain values only: anything else is refused, and none of it is run.
"""

from __future__ import annotations

import pickle
import stat
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clipedu.utils.errors import ClipeduError

if TYPE_CHECKING:
    import torch
    from torch import Tensor


def read_tensors(path: Path, prefix: str = "") -> dict[str, Tensor]:
    """Read the tensors in a safetensors file by name.

    Args:
        path: of the file.
        prefix: only those whose name begins with it.
    Raises:
        ClipeduError: there is no such file, or it is damaged.
    """
    from safetensors import safe_open

    _check_file(path)
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys() if name.startswith(prefix)}  # noqa: SIM118
    except Exception as error:  # noqa: BLE001  a damaged header fails in many ways
        raise ClipeduError(f"{path} cannot be read: {_first_line(error)}") from None


def read_torch(path: Path, device: torch.device | str) -> Any:
    """Read a file of `torch.save` that holds tensors and plain values only.

    Args:
        path: of the file.
        device: where its tensors are put.
    Raises:
        ClipeduError: there is no such file, it is damaged, or it holds other objects.
    """
    import torch

    _check_file(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about a format that is not torch's
            return torch.load(path, weights_only=True, map_location=device)
    except OSError as error:
        raise ClipeduError(f"{path} cannot be read: {error.strerror or 'it is damaged'}") from None
    except Exception as error:  # noqa: BLE001  a damaged file fails in many ways
        # torch's own text is not repeated: it tells how to load the file all the same, which would run what is in it
        refused = "it holds objects other than tensors and plain values, which are never loaded, or it is damaged"
        why = refused if isinstance(error, pickle.UnpicklingError) else "it is damaged"
        raise ClipeduError(f"{path} cannot be read: {why}") from None


def tensors_misfit(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> str | None:
    """Return how tensors differ from those that are wanted, None if not.

    Args:
        found: tensors by name, as they were read.
        wanted: tensors of the same names, sizes and kinds (floating-point or not).
    """
    if missing := [name for name in wanted if name not in found]:
        return f"the tensor {missing[0]!r} is missing{_more(missing)}"
    if extra := [name for name in found if name not in wanted]:
        return f"the tensor {extra[0]!r} is not expected{_more(extra)}"
    for name, tensor in wanted.items():
        if found[name].shape != tensor.shape:
            return f"the tensor {name!r} is {size_of(found[name])}, expected {size_of(tensor)}"
        if found[name].is_floating_point() != tensor.is_floating_point():
            return f"the tensor {name!r} holds {kind_of(found[name])}, expected {kind_of(tensor)}"
    return None


def size_of(tensor: Tensor) -> str:
    """Return the size of a tensor in words, e.g. "[3, 4]"."""
    return str(list(tensor.shape))


def kind_of(tensor: Tensor) -> str:
    """Return the type of a tensor's numbers in words, e.g. "float32"."""
    return str(tensor.dtype).removeprefix("torch.")


def _check_file(path: Path) -> None:
    """Raise a ClipeduError if there is no such file."""
    try:
        mode = path.stat().st_mode
    except OSError as error:
        raise ClipeduError(f"{path} cannot be read: {error.strerror}") from None
    if not stat.S_ISREG(mode):
        raise ClipeduError(f"{path} cannot be read: it is {'a folder' if stat.S_ISDIR(mode) else 'no file'}")


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), "") or type(error).__name__


def _more(names: Sequence[str]) -> str:
    return f" (and {len(names) - 1} more)" if len(names) > 1 else ""
