"""`clipedu bench norms`: the cost of logging the norms of every layer.

ResNet-50 and DistilBERT with random weights, 90 million numbers in 261 tensors, one training step with AdamW, and an
observer:

    monitor   `NormMonitor`: weight, gradient, update, and their products, of each layer at each step
    loop      norms of weight, gradient and update, a `.norm().item()` for each tensor, as one would write it by hand
    hooks     the norm of each gradient, by a hook that calls `.norm().item()`, as experiment trackers do: no updates

An observer costs a few per cent of a step, less than steps differ among themselves. So its *own* cost is measured
separately: with the gradients of the last step, and an optimizer that does nothing. On a GPU each `.item()` also waits
for the device, which shows in the step's time; on a CPU memory bandwidth decides.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Callable
from importlib import metadata
from typing import Any

import torch
from torch import Tensor, nn

from clipedu.bench.measure import in_turn, machine, print_line
from clipedu.losses import build_loss
from clipedu.norms import NormMonitor
from clipedu.optim import build_optimizer
from clipedu.utils.errors import ClipeduError
from clipedu.utils.markdown import markdown_row, markdown_table

OBSERVERS = ("monitor", "loop", "hooks")


class TwoTowers(nn.Module):
    """Random ResNet-50 and DistilBERT with projections and CLIP's loss."""

    def __init__(self) -> None:
        super().__init__()
        import timm
        from transformers import DistilBertConfig, DistilBertModel

        encoder: Any = timm.create_model("resnet50", num_classes=0)
        self.image_encoder = encoder
        self.text_encoder = DistilBertModel(DistilBertConfig())
        self.image_projection = nn.Linear(encoder.num_features, 256, bias=False)
        self.text_projection = nn.Linear(self.text_encoder.config.dim, 256, bias=False)
        self.loss = build_loss("clip", temperature=0.07)

    def forward(self, pixels: Tensor, ids: Tensor) -> Tensor:
        """Compute the loss of images [B, 3, S, S] and token ids [B, L]."""
        image = self.image_projection(self.image_encoder(pixels))
        text = self.text_projection(self.text_encoder(input_ids=ids).last_hidden_state[:, 0])
        return self.loss(image, text, torch.arange(len(pixels), device=pixels.device)).total


class Nothing(torch.optim.Optimizer):
    """An optimizer whose step does nothing; only the hooks around it run."""

    def __init__(self, model: nn.Module):
        super().__init__(model.parameters(), {"lr": 0.0})

    def step(self, closure: Callable[[], float] | None = None) -> Any:
        """Do nothing."""


def bench_norms(
    batch_size: int = 4,
    *,
    image_size: int = 64,
    tokens: int = 16,
    threads: int | None = None,
    model: nn.Module | None = None,
    write: Callable[[str], None] = print_line,
) -> list[dict[str, Any]]:
    """Measure, write a Markdown table, and return its rows.

    Args:
        batch_size: number of pairs in a step, at least 2; they are random.
        image_size: side of an image, in pixels.
        tokens: length of a caption.
        threads: of torch; None keeps the current number.
        model: maps pixels [B, 3, S, S] and token ids [B, L] to a loss; default `TwoTowers`.
        write: called with each line; prints by default.

    Returns:
        for "none" and each of `OBSERVERS`: observer, step (seconds, the optimizer's and the observer's work in it), own
        (seconds of the observer alone; 0 for none), share (own / step of none) and against_loop (own / own of the
        loop).

    Raises:
        ClipeduError: a size below 1, or a batch below 2.
    """
    for name, value, least in (
        ("batch_size", batch_size, 2),
        ("image_size", image_size, 1),
        ("tokens", tokens, 1),
        ("threads", threads, 1),
    ):
        if value is not None and value < least:
            raise ClipeduError(f"{name} must be at least {least}, got {value}")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    try:
        torch.manual_seed(0)
        model = (model or TwoTowers()).to(device).train()
        pixels = torch.randn(batch_size, 3, image_size, image_size, device=device)
        ids = torch.randint(1000, 30_000, (batch_size, tokens), device=device)
        write(_header(model, device, f"batch {batch_size}, {image_size} px, {tokens} tokens"))
        rows = _measure(model, lambda: model(pixels, ids))
    finally:
        torch.set_num_threads(before)
    columns = ["observer", "a step, s", "the observer alone, ms", "of a plain step", "against the loop"]
    write(markdown_table(columns, []))
    for row in rows:
        own = ("", "", "")
        if row["own"]:
            own = (f"{1e3 * row['own']:.1f}", f"{row['share']:.1%}", f"**{row['against_loop']:.2f}**")
        write(markdown_row([row["observer"], f"{row['step']:.3f}", *own]))
    return rows


def _measure(model: nn.Module, forward: Callable[[], Tensor]) -> list[dict[str, Any]]:
    optimizer = build_optimizer(model, "adamw", lr=1e-4, weight_decay=0.02)
    watched = build_optimizer(model, "adamw", lr=1e-4, weight_decay=0.02)
    watched.state = optimizer.state  # shared averages of past gradients: the two take turns
    hooks = _GradientHooks(model)

    def training_step(step: Callable[[], Any], hooked: bool = False) -> Callable[[], None]:
        def train() -> None:
            optimizer.zero_grad(set_to_none=True)
            hooks.on = hooked
            forward().backward()
            step()
            _wait(model)

        return train

    with NormMonitor(model, watched):
        steps = in_turn(
            training_step(optimizer.step),
            training_step(watched.step),
            training_step(_looped(model, optimizer.step)),
            training_step(optimizer.step, hooked=True),
        )
    own = (0.0, *_alone(model, hooks))
    return [
        {"observer": name, "step": step, "own": cost, "share": cost / steps[0], "against_loop": cost / own[2]}
        for name, step, cost in zip(("none", *OBSERVERS), steps, own, strict=True)
    ]


def _alone(model: nn.Module, hooks: _GradientHooks) -> tuple[float, ...]:
    """Measure seconds of each of `OBSERVERS`, without the optimizer's work."""
    idle, watched = Nothing(model), Nothing(model)

    def waiting(step: Callable[[], Any]) -> Callable[[], None]:
        def run() -> None:
            step()
            _wait(model)

        return run

    with NormMonitor(model, watched):
        return in_turn(waiting(watched.step), waiting(_looped(model, idle.step)), waiting(hooks.all))


def _looped(model: nn.Module, step: Callable[[], Any]) -> Callable[[], None]:
    """Return a step between the two loops that one would write by hand."""

    def looped() -> None:
        parameters = [p for p in model.parameters() if p.grad is not None]
        before = [p.detach().clone() for p in parameters]
        for gradient in (p.grad for p in parameters if p.grad is not None):
            gradient.norm().item()
        step()
        for p, old in zip(parameters, before, strict=True):
            p.detach().norm().item()
            (p.detach() - old).norm().item()

    return looped


class _GradientHooks:
    """Hooks that bring the norm of each gradient to the host, while `on`."""

    def __init__(self, model: nn.Module):
        self.on = False
        self._parameters = list(model.parameters())
        for parameter in self._parameters:
            parameter.register_hook(self._see)

    def _see(self, gradient: Tensor) -> None:
        if self.on:
            gradient.norm().item()

    def all(self) -> None:
        """Run the hook on each gradient that exists."""
        self.on = True
        for parameter in self._parameters:
            if parameter.grad is not None:
                self._see(parameter.grad)


def _wait(model: nn.Module) -> None:
    if next(model.parameters()).device.type == "cuda":
        torch.cuda.synchronize()


def _header(model: nn.Module, device: str, sizes: str) -> str:
    numbers = sum(p.numel() for p in model.parameters())
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in ("clipedu", "torch"))
    return (
        f"{machine(device)}, {torch.get_num_threads()} of {os.cpu_count()} threads; {versions}, Python "
        f"{platform.python_version()}. {numbers / 1e6:.1f} million numbers in {len(list(model.parameters()))} tensors, "
        f"{sizes}, float32, AdamW.\n"
    )
