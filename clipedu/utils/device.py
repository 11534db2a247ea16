"""Devices, and the precision to compute in."""

from __future__ import annotations

import re
import warnings
from contextlib import AbstractContextManager, nullcontext

import torch

from clipedu.utils.errors import ClipeduError, quoted
from clipedu.utils.ranks import local_rank


def pick_device(name: str) -> torch.device:
    """Return the device of a name; "auto" takes a GPU where there is one.

    In one of several processes (`clipedu.utils.ranks`) "auto" and "cuda" take the GPU of its number.

    Raises:
        ClipeduError: this machine does not have the device.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    number = local_rank()
    if number is not None and name == "cuda":  # each process has a GPU of its own
        name = f"cuda:{number}"
        if number >= (count := torch.cuda.device_count()):
            raise ClipeduError(
                f"{number + 1} processes or more were started on this machine, which has {count} GPU(s): start {count or 1}, or "
                "give device=cpu"
            )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about a name that torch gives up: the error says it
            device = torch.device(name)
        if device.type == "cpu" and device.index:
            raise ValueError("there is one cpu, without a number")
        if torch.ones(2, device=device).sum().item() != 2:  # "meta" and others that compute nothing fail here
            raise ValueError("it does not compute")
    except Exception as error:  # noqa: BLE001  what is missing differs, and so do the errors: some are a page long
        reason = re.split(r"(?<=[^.\d])\. |\n", str(error))[0][:150].rstrip(".")
        raise ClipeduError(
            f"device={quoted(name)} cannot be used here: {reason}. Allowed: auto, cpu, cuda, cuda:1, mps, where the machine "
            "has them"
        ) from None
    return device


def autocast(precision: str, device: torch.device) -> AbstractContextManager:
    """Return a context of bf16 autocast, or one that does nothing.

    Args:
        precision: "bf16" or "fp32"; "auto" is bf16 on a GPU that computes in it natively, else fp32.
    """
    wanted = precision == "bf16" or (
        precision == "auto" and device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    )
    return torch.autocast(device.type, torch.bfloat16) if wanted else nullcontext()
