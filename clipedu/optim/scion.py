r"""Scion and ScionC: steps of a chosen size in a norm of the layer.

With the decay that goes with them:

$$ d_t = (1 - \alpha) d_{t-1} + \alpha g_t, \qquad
   \theta_t = (1 - s_t)\, \theta_{t-1} - \gamma_t\, U(d_t), \qquad \gamma_t = \mathrm{lr}_t \cdot \mathrm{radius} $$

U is the unit step of `lmo.py`. Shrink first, then step, both with the lr of this step, like AdamW. There is no bias
correction: d starts at 0, and U(k d) = U(d). `alpha` is the weight of the newest gradient, 1 - beta: 0.1 is what others
call momentum 0.9 (Scion's code calls alpha "momentum"); 1 keeps no buffer.

    Scion        s_t = lr_t * weight_decay
      weight_decay 0   unconstrained: no shrink, nothing bounds the weights
      weight_decay 1   constrained, a Frank-Wolfe step: for 0 <= lr <= 1 each weight stays in the ball of size `radius`
                       of its norm, if it starts there: theta_t is a mean of a point of the ball and of -radius U
                       (other values: the ball of size radius / weight_decay)
    ScionC       s_t = gamma_t^2 (2 - alpha) / (2 alpha target) = (effective step)^2 / (2 target)

Why the square: if steps were random, ||theta||^2 would settle where shrink and growth balance, at
gamma_t^2 ||U||^2 (2 - alpha) / (2 alpha s_t). With s_t ~ lr_t that is proportional to lr_t: a schedule drags the norm
down, and gradients surge. With s_t ~ lr_t^2 it is `target` * ||U||^2, whatever the schedule does to lr or alpha. The
factor (2 - alpha)/alpha is the square of the effective step: successive U share their gradients, so their sum grows faster
than that of independent steps.

Sources: Pethick et al. 2025 (arXiv:2502.07529); Chou 2025 (arXiv:2512.08217) and his training code. We could not read the
full text of the second: "target", his C^2, is ||theta||^2 / ||U||^2 as his code has it (c_sq, one value for all corrected
layers; 1.1875 for a ViT). The balance is exact for vectors; square matrices settle at about 0.88 of the norm it predicts,
as polar factors and signs of successive buffers are less alike than the buffers. He wrote the step with radius 1 and one
lr a group; here one schedule can serve all groups, and `radius` is their ratio.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from clipedu.optim.lmo import check, lmo
from clipedu.optim.param_groups import HEADS, head_apart, parameter_groups
from clipedu.utils.errors import ClipeduError

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_WITH_A_NORM = (nn.Embedding, *_CONVOLUTIONS)


def effective_step(gamma: float, alpha: float, nesterov: bool = False) -> float:
    """Return the size gamma_eff of independent steps that go as far.

    It is gamma sqrt((2 - alpha) / alpha): their sum would grow as fast (Chou).

    With Nesterov momentum successive steps share less, and it is smaller: divided by sqrt(1 + 4 a - 6 a^2 + 2 a^3), a = alpha.

    Args:
        gamma: lr * radius, size of a step.
        alpha: weight of the newest gradient, in (0, 1].
        nesterov: whether the step is one ahead of the buffer.
    """
    spread = 1 + 4 * alpha - 6 * alpha**2 + 2 * alpha**3 if nesterov else 1.0
    return gamma * math.sqrt((2 - alpha) / alpha / spread)


def corrected_shrink(gamma: float, alpha: float, target: float, nesterov: bool = False) -> float:
    """Return the share of the weight that ScionC takes away in a step.

    It is effective_step^2 / (2 target), so that ||theta||^2 -> target.

    Args:
        gamma, alpha, nesterov: as for `effective_step`.
        target: ||theta||^2 / ||U||^2 to settle at, > 0.
    """
    return effective_step(gamma, alpha, nesterov) ** 2 / (2 * target)


class Scion(torch.optim.Optimizer):
    """Steps of size lr * radius in the norm of each layer.

    The shrink is lr * weight_decay: 0 is unconstrained, 1 constrained.

    Every argument but `params` can be given per group. A group's `lr` is read at each step, as a schedule sets it.

    Args:
        params: parameters, or groups as `scion_groups` or `parameter_groups` make them.
        lr: >= 0; with radius 1 the relative size of a step, since weights of a well-started layer have size about 1.
        weight_decay: >= 0.
        alpha: weight of the newest gradient, in (0, 1].
        norm: one of `clipedu.optim.lmo.NORMS`.
        radius: > 0, size of the steps, and of the ball of the constrained form.
        polar: how polar factors are found, one of `clipedu.optim.lmo.POLAR_METHODS`.
        nesterov: step along (1 - alpha) d + alpha g, with d the new buffer: one step ahead of it.
    State: "buffer" (d), of the parameter's dtype; none where alpha is 1.
    Raises:
        ClipeduError: a value out of range, an unknown norm, a parameter of a shape that its norm is not made for.
    """

    def __init__(
        self,
        params: Iterable,
        lr: float = 0.01,
        weight_decay: float = 0.0,
        alpha: float = 0.1,
        norm: str = "auto",
        radius: float = 1.0,
        polar: str = "polar-express",
        nesterov: bool = False,
    ):
        # One keyword a setting, not a settings object: torch's convention, in which a group overrides each by its name.
        settings = {"lr": lr, "weight_decay": weight_decay, "alpha": alpha, "norm": norm, "radius": radius}
        super().__init__(params, {**settings, "polar": polar, "nesterov": nesterov})

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group as in torch, after a check of its values."""
        super().add_param_group(param_group)
        group = self.param_groups[-1]
        try:
            self._check(group)
        except (ClipeduError, TypeError):
            self.param_groups.pop()
            raise

    def _check(self, group: dict[str, Any]) -> None:
        ranges = {
            "lr": (0 <= group["lr"] < math.inf, "at least 0"),
            "weight_decay": (0 <= group["weight_decay"] < math.inf, "at least 0"),
            "alpha": (0 < group["alpha"] <= 1, "above 0 and at most 1 (0.1 is momentum 0.9)"),
            "radius": (0 < group["radius"] < math.inf, "above 0"),
        }
        for name, (fits, allowed) in ranges.items():
            if not fits:
                raise ClipeduError(f"{name} {group[name]!r} must be {allowed}")
        for parameter in group["params"]:
            check(parameter.shape, group["norm"], group["polar"])

    def shrink(self, group: dict[str, Any], parameter: Tensor) -> float:
        """Return s_t, the share of a weight that this step takes away first."""
        return group["lr"] * group["weight_decay"]

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Step over all parameters that have a gradient.

        The result is what `closure` returns.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                direction = parameter.grad
                if group["alpha"] < 1:
                    state = self.state[parameter]
                    if not state:
                        state["buffer"] = torch.zeros_like(parameter)
                    direction = state["buffer"].lerp_(parameter.grad, group["alpha"])
                    if group["nesterov"]:
                        direction = direction.lerp(parameter.grad, group["alpha"])
                step = lmo(direction, group["norm"], group["polar"])
                parameter.mul_(1 - self.shrink(group, parameter)).add_(step, alpha=-group["lr"] * group["radius"])
        return loss


class ScionC(Scion):
    """Scion with corrected decay.

    ||theta||^2 of a layer settles at target * ||U||^2, at any lr of a schedule.

    Args as `Scion`, and:
        weight_decay: lambda at the `lr` of construction, which must be the peak of the schedule. Without `target` it
            sets the target: (effective step at the peak)^2 / (2 peak lr weight_decay). 0: no shrink. Over a
            cosine a lambda 4/3 that of plain Scion shrinks as much in all.
        target: > 0, ||theta||^2 / ||U||^2 to settle at, Chou's c^2; if given, weight_decay is not used.
        corrected: False in a group keeps Scion's own shrink, lr * weight_decay, there: right for an output layer, whose
            steps are not independent of its weights.

    A single number (a temperature, a curvature) has a value, not a norm to settle: it is never corrected nor shrunk.
    `target` is worked out once and kept in the group (None without shrink), so that a resumed run has the same. To schedule
    alpha or the target, set them in `param_groups`, like lr.
    """

    def __init__(
        self,
        params: Iterable,
        lr: float = 0.01,
        weight_decay: float = 0.0,
        alpha: float = 0.1,
        norm: str = "auto",
        radius: float = 1.0,
        polar: str = "polar-express",
        nesterov: bool = False,
        target: float | None = None,
        corrected: bool = True,
    ):
        settings = {"lr": lr, "weight_decay": weight_decay, "alpha": alpha, "norm": norm, "radius": radius}
        own = {"polar": polar, "nesterov": nesterov, "target": target, "corrected": corrected}
        torch.optim.Optimizer.__init__(self, params, {**settings, **own})

    def _check(self, group: dict[str, Any]) -> None:
        super()._check(group)
        if group["target"] is not None:
            if not 0 < group["target"] < math.inf:
                raise ClipeduError(f"target {group['target']!r} must be above 0")
        elif group["corrected"] and group["weight_decay"] > 0:
            if group["lr"] == 0:
                raise ClipeduError(
                    "lr 0 with weight_decay: build ScionC with the peak lr of the schedule, or give target"
                )
            squared_step = effective_step(group["radius"], group["alpha"], group["nesterov"]) ** 2
            group["target"] = group["lr"] * squared_step / (2 * group["weight_decay"])

    def shrink(self, group: dict[str, Any], parameter: Tensor) -> float:
        """Return s_t of the corrected law, or of Scion's if not `corrected`."""
        if not group["corrected"]:
            return super().shrink(group, parameter)
        if group["target"] is None or parameter.numel() == 1:
            return 0.0
        return corrected_shrink(group["lr"] * group["radius"], group["alpha"], group["target"], group["nesterov"])


def scion_groups(model: nn.Module, weight_decay: float, heads: Sequence[str] = HEADS) -> list[dict[str, Any]]:
    """Make groups for `Scion` and `ScionC`, a norm for each layer.

    Modules decide where shapes are not enough.

    Embeddings get the norm "embedding"; convolutions "spectral-conv", or "patchifier" where the stride is the kernel, or
    "row-norm" where they are depthwise. (At kernel 1 the first two are the same step.) Other weights of three or more axes
    are stacks of matrices, as a fused [3, d, d] is: "spectral"; tokens and positions [1, n, d] and all else are "auto".
    Two or more axes are decayed, the rest is not, as in `parameter_groups`. (Chou's ViT decays and corrects biases and
    norms too.) Heads are not corrected. Their norm is "auto" as well, that is spectral: a projection into a shared space is
    a linear layer; for logits over many classes Scion's authors take "sign".

    Args:
        model: its parameters that require a gradient are taken.
        weight_decay: >= 0, of the decayed groups.
        heads: names of modules that are output layers, as in `build_optimizer`.
    Returns:
        groups with keys "name", "params", "param_names", "weight_decay", "norm" and "corrected".
    Raises:
        ClipeduError: a head that is not in the model.
    """
    groups: dict[tuple[str, bool], dict[str, Any]] = {}
    norms = {parameter: _norm_of(module) for module in model.modules() for parameter in _weights_of(module)}
    for group in parameter_groups(model, weight_decay):
        for name, parameter in zip(group["param_names"], group["params"], strict=True):
            norm = norms.get(parameter) or _norm_by_shape(parameter)
            settings = {"name": f"{norm}, {group['name']}", "norm": norm, "corrected": True}
            same = groups.setdefault((norm, group["name"]), group | settings | {"params": [], "param_names": []})
            same["params"].append(parameter)
            same["param_names"].append(name)
    return head_apart(model, list(groups.values()), heads, corrected=False)


def _weights_of(module: nn.Module) -> list[nn.Parameter]:
    """Return the weight of an embedding or a convolution.

    `_norm_of` has a norm for these modules.
    """
    return [module.weight] if isinstance(module, _WITH_A_NORM) else []  # type: ignore[list-item]  # torch types a Conv's as Tensor


def _norm_of(module: nn.Module) -> str:
    if not isinstance(module, _CONVOLUTIONS):
        return "embedding"
    if module.groups == module.in_channels > 1:
        return "row-norm"
    return "patchifier" if module.stride == module.kernel_size != (1,) * len(module.stride) else "spectral-conv"


def _norm_by_shape(parameter: Tensor) -> str:
    return "spectral" if parameter.ndim == 3 and parameter.shape[0] > 1 else "auto"
