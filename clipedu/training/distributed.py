"""One run in N processes: the numbers of one process, from N devices.

Each process takes its slice of each batch (`clipedu.data.batches.share`), encodes it, and gathers the embeddings of all
(`clipedu.losses.distributed.gather`); then each computes the same loss of the whole batch, keeps the same memory of it, and, as
gradients are the same everywhere, makes the same step. What is exchanged, with PyTorch's own parts:

    embeddings                 [B, D] a side    gathered; each process gets the gradient of its own rows
    gradients of the encoders  all weights      averaged by `DistributedDataParallel`, while backward still runs
    gradients of the loss      a few numbers    averaged: temperature, SigLIP's bias, curvature, alpha
    batch norm                 2 C a layer      `SyncBatchNorm` on GPUs, which has no CPU version: there the batch is gathered

So the batch size is that of the whole run, whatever the number of processes. Two things are not those of one process: dropout,
whose masks each process draws for its rows, and batch norm with `accumulate` (a part of the batch consists of other rows).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

from clipedu.config.experiment import Experiment
from clipedu.data.tokenizer import Tokenizer
from clipedu.models import DualEncoder
from clipedu.training.datasets import Data, load_data
from clipedu.utils.errors import ClipeduError
from clipedu.utils.ranks import first_alone, is_first, of_first, rank, world

_KEEP_BUFFERS = "broadcast_buffers"
if "forward_sync_buffers" in inspect.signature(DistributedDataParallel).parameters:  # its name from torch 2.15 on
    _KEEP_BUFFERS = "forward_sync_buffers"


def check_shared(experiment: Experiment) -> None:
    """Check that the processes of a run can share its batches.

    Raises:
        ClipeduError: the batch does not divide, or leaves a process less than two pairs.
    """
    size, processes, parts = experiment.batch_size, world(), experiment.accumulate
    if processes == 1:
        return
    unit = processes * parts
    given = f"batch_size={size}" + (f" with accumulate={parts}" if parts > 1 else "")
    if size % unit:
        near = [n for n in (size // unit * unit, (size // unit + 1) * unit) if n >= 2 * processes]
        raise ClipeduError(
            f"{given} cannot be shared equally by {processes} processes: give a multiple of {unit}, such as "
            f"{' or '.join(map(str, near))}, or start another number of processes"
        )
    if size < 2 * processes:
        raise ClipeduError(
            f"{given} leaves {size // processes} pair to each of {processes} processes, and at least 2 are needed: give "
            f"batch_size={2 * unit} or more, or start fewer processes"
        )


def load_shared_data(experiment: Experiment, tokenizer: Tokenizer | None = None) -> Data:
    """Load all sets of an experiment in each process.

    The first one does so first: it decodes and makes the tokenizer.

    Args:
        experiment, tokenizer: as those of `load_data`.
    Raises:
        ClipeduError: as `load_data`; or another process has ended.
    """
    if world() == 1:
        return load_data(experiment, tokenizer)
    data = load_data(experiment, tokenizer) if is_first() else None
    made = of_first(lambda: data.tokenizer if data is not None else None)
    if data is None:
        with first_alone():  # of this machine
            return load_data(experiment, made)
    with first_alone():
        return data


def synchronise_batch_norms(model: DualEncoder) -> DualEncoder:
    """Let batch norms in training see the batch of all processes.

    Args:
        model: changed in place; its tensors keep their names.
    Returns:
        the same model.
    """
    if world() == 1:
        return model
    if model.device.type == "cuda":
        from timm.layers import convert_sync_batchnorm  # knows timm's own classes besides

        return convert_sync_batchnorm(model)
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            module.register_forward_pre_hook(_with_all_rows)
            module.register_forward_hook(_own_rows)
    return model


def in_parallel(model: DualEncoder, *, unused: bool = True) -> nn.Module:
    """Return the module to call in training.

    It averages gradients of the encoders. Those of the geometry are not: it is used in the loss, too, which is outside of it (`average_gradients`).

    Args:
        model: on its device.
        unused: some of its trained weights may have no part in a forward pass; to look for them takes time.
    """
    if world() == 1:
        return model
    keep: dict[str, Any] = {_KEEP_BUFFERS: False}  # they are equal
    left_out = [name for name, _ in model.named_parameters() if name.startswith("geometry.")]
    DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(model, left_out)
    return DistributedDataParallel(
        model,
        device_ids=[model.device] if model.device.type == "cuda" else None,
        find_unused_parameters=unused,
        **keep,
    )


def not_averaged(encoders: nn.Module) -> Callable[[], AbstractContextManager[None]]:
    """Return what makes a context in which gradients are only added up.

    It is for the parts of a batch but the last.
    """
    return encoders.no_sync if isinstance(encoders, DistributedDataParallel) else nullcontext


@torch.no_grad()
def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Average the gradients of a few small parameters, in one message.

    Args:
        parameters: the same in all processes; those without a gradient are left out, which are so in all.
    """
    if world() == 1:
        return
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    if gradients:
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        dist.all_reduce(flat)
        for gradient, mean in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
            gradient.copy_((mean / world()).view_as(gradient))


def of_all(values: Tensor) -> Tensor:
    """Gather one value a row, without gradient: [B / N] -> [B]."""
    if world() == 1:
        return values
    parts = [torch.empty_like(values) for _ in range(world())]
    dist.all_gather(parts, values.contiguous())
    return torch.cat(parts)


def draw_own_numbers(seed: int, step: int) -> None:
    """Let each process but the first draw other random numbers from here on.

    They are for its dropout.
    """
    if rank() > 0:
        torch.manual_seed((seed * 1_000_003 + step) * 1_000_003 + rank())


class _AllRows(torch.autograd.Function):
    """Gather rows; the gradient is the sum of what all processes do with this one's."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        parts = [torch.empty_like(rows) for _ in range(world())]
        dist.all_gather(parts, rows.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        whole = gradient.contiguous()
        dist.all_reduce(whole)
        return whole.chunk(world())[rank()]


def _with_all_rows(module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
    return (_AllRows.apply(inputs[0]), *inputs[1:]) if module.training and world() > 1 else None


def _own_rows(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
    if not module.training or world() == 1:
        return output
    rows = len(output) // world()
    return output.narrow(0, rank() * rows, rows)  # not `chunk`: what follows may change its rows in place
