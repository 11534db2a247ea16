"""One training step on random numbers, before the run begins.

It is made with a copy of the model. What a model, a loss or an optimizer refuses is thus seen before a folder is written, and how many bytes a step needs is
measured. The copy is dropped; model, loss and random state are what they were.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from clipedu.config.experiment import Experiment
from clipedu.losses import Loss
from clipedu.models import DualEncoder
from clipedu.training.gradient_cache import backward_in_parts
from clipedu.training.memory import model_named
from clipedu.training.objective import loss_of
from clipedu.utils.device import autocast
from clipedu.utils.errors import ClipeduError
from clipedu.utils.memory import is_out_of_memory
from clipedu.utils.ranks import world

PARTS, PAIRS = 2, 4  # parts at most, and pairs of all of them (or more, where a part has more)

Build = Callable[[DualEncoder, Loss], torch.optim.Optimizer]


def try_step(
    experiment: Experiment, model: DualEncoder, loss: Loss, build: Build, vocab_size: int
) -> tuple[int, int, bool]:
    """Make a training step with a copy of model and loss, on random numbers.

    It has up to four pairs, or two parts of one pair each where `accumulate` leaves as few.

    Args:
        experiment: what is to be run.
        model, loss: on their device; they stay as they are.
        build: the optimizer, of a model and a loss.
        vocab_size: of the tokenizer.
    Returns:
        bytes of the optimizer's state; and bytes that autograd keeps for one pair until the backward pass; and whether a
        trained weight of the model may have no gradient.
    Raises:
        ClipeduError: the step fails.
    """
    try:
        model, loss = copy.deepcopy((model, loss))
    except Exception:  # noqa: BLE001  some modules of timm cannot be copied: then nothing is tried
        return 0, 0, True
    ex, device = experiment, model.device
    part = ex.batch_size // ex.accumulate // world()
    parts = min(ex.accumulate, PARTS)
    size = max(1, min(part, PAIRS // parts))
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        seen, read = _random_batch(ex, model, parts * size, vocab_size)
        index = torch.arange(parts * size)
        kept = _KeptBytes(model, loss)

        def encode(rows: slice) -> tuple[Tensor, Tensor]:
            with kept, autocast(ex.precision, device):
                return model(tuple(x[rows] for x in seen), tuple(x[rows] for x in read))

        def total(image: Tensor, text: Tensor) -> Tensor:
            return loss_of(loss, image.float(), text.float(), index, read).total

        try:
            optimizer = build(model, loss)
            model.train()
            loss.train()
            slices = [slice(start, start + size) for start in range(0, parts * size, size)]
            if parts == 1:
                total(*encode(slices[0])).backward()
            else:
                backward_in_parts(encode, slices, total, model)
            unused = any(p.requires_grad and p.grad is None for p in model.parameters())
            optimizer.step()
        except ClipeduError:
            raise
        except Exception as error:  # noqa: BLE001  whatever fails here would fail in the first step
            if is_out_of_memory(error):
                raise
            raise _failed(ex, model, part, error) from None
    return state_bytes(optimizer), kept.bytes // (parts * size), unused


def state_bytes(optimizer: torch.optim.Optimizer) -> int:
    """Return the bytes of an optimizer's state."""
    return sum(x.nbytes for state in optimizer.state.values() for x in state.values() if isinstance(x, Tensor))


class _KeptBytes(torch.autograd.graph.saved_tensors_hooks):
    """Counts the bytes that autograd keeps, without parameters and buffers."""

    def __init__(self, *modules: nn.Module):
        self.bytes = 0
        known = {t.untyped_storage().data_ptr() for m in modules for t in (*m.parameters(), *m.buffers())}

        def pack(tensor: Tensor) -> Tensor:
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in known:
                known.add(storage.data_ptr())
                self.bytes += storage.nbytes()
            return tensor

        super().__init__(pack, lambda tensor: tensor)


@torch.no_grad()
def _random_batch(ex: Experiment, model: DualEncoder, rows: int, vocab_size: int) -> tuple[tuple, tuple]:
    size = ex.image_size
    image: tuple[Any, ...] = (torch.randint(0, 256, (rows, 3, size, size), dtype=torch.uint8, device=model.device),)
    if ex.image_frozen:
        image = (torch.randn(rows, model.widths["image"], device=model.device),)
    first = min(5, vocab_size - 1)  # behind the special tokens
    captions = (rows, 2, ex.text_length) if ex.foils else (rows, ex.text_length)
    ids = torch.randint(first, vocab_size, captions, device=model.device)
    text: tuple[Any, ...] = (ids, torch.ones_like(ids, dtype=torch.bool))
    if ex.text_frozen:
        text = (torch.randn(rows, model.widths["text"], device=model.device),)
    return image, text


def _failed(ex: Experiment, model: DualEncoder, part: int, error: Exception) -> ClipeduError:
    norms = [name for name, module in model.named_modules() if isinstance(module, _BatchNorm) and module.training]
    if part == 1 and norms:
        return ClipeduError(
            f"batch_size={ex.batch_size} with accumulate={ex.accumulate} leaves one pair in a part, and batch norm "
            f"({norms[0]}) needs at least 2: accumulate={max(1, ex.batch_size // 2)} or less, or an encoder without it"
        )
    options = {
        name: value
        for name in (
            "image_options",
            "text_options",
            "loss_options",
            "geometry_options",
            "optimizer_options",
            "lora_options",
        )
        if (value := getattr(ex, name))
    }
    given = "".join(f", {name}={value}" for name, value in options.items())
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
    return ClipeduError(
        f"a step with {model_named(ex)}, loss={ex.loss!r} and optimizer={ex.optimizer!r} fails{given}: {reason}"
    )
