"""`renormalize`: steps without the growth from moving sideways.

A step w' = (1 - lr * lambda) w - lr * u turns a weight and changes its length. Of u, the part along w changes the length at
first order; the part across it turns w, and makes it longer only because a tangent leaves its circle. The control experiment
takes that second growth away and keeps the direction: with u_par = <u, w> / ||w||,

    w_new = w' * ((1 - lr * lambda) ||w|| - lr * u_par) / ||w'||  =  w' * cos(w', w)

The two are equal since the bracket is <w', w> / ||w||: the length of w' seen along w. So neither lr, lambda nor u need be known,
and it works with any optimizer. Source: Chou 2025 (arXiv:2512.08217, "renormalized AdamW"), reconstructed from descriptions
of its Algorithm 1; where the paper puts the decay is not certain.
"""

from __future__ import annotations

import torch
from torch import Tensor


def renormalize(optimizer: torch.optim.Optimizer) -> None:
    """Take the sideways growth out of each step of an optimizer.

    The direction stays; the length becomes the weight's part along the old one.

    A tensor whose step turns it by a right angle or more (a step longer than the weight), or whose norm is 0, keeps the plain
    step: it has no such length. A copy of the weights is kept during a step.

    With momentum most of the growth is already in u_par, because u contains gradients that are in w by now. In a random
    walk ||w||^2 settles at about 2 (1 - a) / (2 - a) of what it would, a = 1 - beta: at beta 0.9 that is 0.947, hardly
    visible; at beta 0 the weights vanish. In float32 the cosine of a step shorter than about 1e-3 ||w|| is lost in
    rounding.
    """
    before: list[tuple[Tensor, Tensor]] = []

    @torch.no_grad()
    def remember(optimizer: torch.optim.Optimizer, *_: object) -> None:
        before[:] = [
            (p, p.clone()) for g in optimizer.param_groups for p in g["params"] if p.ndim >= 2 and p.grad is not None
        ]

    @torch.no_grad()
    def shorten(*_: object) -> None:
        for parameter, old in before:
            parameter.mul_(_cosine(parameter, old).to(parameter.dtype))
        before.clear()

    optimizer.register_step_pre_hook(remember)
    optimizer.register_step_post_hook(shorten)


def _cosine(new: Tensor, old: Tensor) -> Tensor:
    """Return the cosine of the angle between two tensors.

    It is computed in float64 where the device has it, and is 1 where it isn't above 0.
    """
    wide = torch.float32 if new.device.type == "mps" else torch.float64
    new, old = new.to(wide).flatten(), old.to(wide).flatten()
    cosine = new @ old / (new.norm() * old.norm())
    return torch.where(cosine > 0, cosine, torch.ones_like(cosine))
