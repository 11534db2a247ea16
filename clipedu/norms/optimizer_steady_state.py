r"""`steady_state`: where a layer's norm would settle, and how fast.

Under an optimizer as it is now, with the angle that the layer turns in a step.

    state = steady_state(optimizer, model.text_projection.weight)
    state.norm, state.time_constant, state.rotation

It reads the optimizer's class and the parameter's group: lr, decay and its law, betas or alpha. From these come the memory
of its steps, the size C = E||u||^2 of an update made of noise, and so the balance of `equilibrium.py`:

    AdamW, RAdam, NAdam     C = d (squared size of the memory), TUC = d: the root mean square of w is sqrt(lr / (2 lambda))
    Lion                    C = d, signs
    Scion, ScionC, Muon     C = ||U||_F^2 of a step on noise, which a twin of the optimizer takes; vectors, signs or polar factors
    SGD, SGDW               C from what was measured: ||u|| ~ 1 / ||w||, as in a layer that a normalisation follows

d is the number of entries, all of which are taken to get gradients. In an embedding most rows do not: give `measured`, and C is
that of the updates really taken. The rest of the theory still assumes noise, see `equilibrium.py`. An output layer has
no such balance; `steady_state` cannot detect which layer is one.

Under a decay law (`clipedu.optim.follow`) the balance is that at the current lr. Under "corrected" it does not move with lr.

Not modelled: RAdam's first steps, some 1 / (1 - beta2), are shorter. A renormalised optimizer
(`clipedu.optim.renormalized`) looks like a plain one from here and settles lower, by sqrt(2 (1 - alpha) / (2 - alpha)):
0.973 for beta 0.9.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from clipedu.norms import contribution
from clipedu.norms.contribution import Memory, contribution_factor, fade_of
from clipedu.norms.equilibrium import balance, rotation, time_constant
from clipedu.optim.blockwise import BlockAdam, BlockAdamW
from clipedu.optim.decay_laws import coefficient
from clipedu.optim.lmo import auto_norm
from clipedu.optim.shrinkage import shrink as share_taken
from clipedu.optim.shrinkage import way_of_decay
from clipedu.utils.errors import ClipeduError
from clipedu.utils.wrappers import bare_name

if TYPE_CHECKING:
    import pandas

_ADAMS = ("torch.Adam", "torch.AdamW", "torch.RAdam", "torch.NAdam")
_SGDS = ("torch.SGD", "timm.SGDW")
_KNOWN = (*_ADAMS, *_SGDS, "timm.Lion", "timm.Muon", "clipedu.Scion", "clipedu.ScionC")


@dataclass(frozen=True)
class SteadyState:
    """Where a layer would settle at the current lr and decay.

    Attributes:
        norm: ||w||, the root of its mean square; inf without decay.
        time_constant: steps in which the gap of ||w||^2 to its balance falls by e; inf without decay.
        rotation: angle in radians between w before and after a step; 0 where the norm is inf.
        tuc: E||total contribution of a minibatch||^2 before lr, for `predicted_norms`. For SGD and SGDW that of ||w|| = 1:
            call it with scale_invariant=True.
        effective_step: lr sqrt((2 - alpha) / alpha), or the like of another memory: lr of a walk without memory that goes as far
            (for updates that are neither signs nor polar factors).
        shrink: share of the weight that decay takes in a step, lr * lambda. For coupled L2 in SGD: in the long run.
        cosine: cos(w, u), w before the step. Below 0: the step -lr u points outward.
        fade: correlation of successive updates, for `predicted_norms`.
    """

    norm: float
    time_constant: float
    rotation: float
    tuc: float
    effective_step: float
    shrink: float
    cosine: float
    fade: float


@dataclass(frozen=True)
class _Motion:
    """How updates are made.

    The fields are the memory, the normaliser, and C = E||u||^2 of noise (None: it must be measured).
    """

    memory: Memory
    normaliser: str
    squared_update: float | None
    shape: tuple[int, int] | None = None


def steady_state(
    optimizer: torch.optim.Optimizer,
    parameter: Tensor | str,
    *,
    measured: pandas.DataFrame | Mapping[str, Any] | None = None,
) -> SteadyState:
    """Predict the norm, time constant and rotation of one parameter.

    Args:
        optimizer: SGD, AdamW, RAdam, NAdam, SGDW, Lion, Muon, Scion or ScionC, with any decay law.
        parameter: the tensor, or its name where the groups have "param_names".
        measured: rows of `NormMonitor.frame()` of this layer, from a time when its updates had their steady size (columns
            weight, lr, injection; or for SGD weight and gradient alone). Needed for SGD and SGDW.
    Raises:
        ClipeduError: an optimizer without such a balance, a parameter that it does not have, SGD without `measured`, or with one whose updates are
            lost in rounding.
    """
    group, parameter = _find(optimizer, parameter)
    lr = float(group["lr"])
    if lr == 0:  # the limit, which a corrected law has
        tiny = 1e-9 * group.get("lr_max", 1.0)
        state = _settle(optimizer, group | {"lr": tiny}, parameter, measured)
        return replace(state, time_constant=math.inf, rotation=0.0, effective_step=0.0, shrink=0.0, cosine=0.0)
    return _settle(optimizer, group, parameter, measured)


def _settle(
    optimizer: torch.optim.Optimizer,
    group: dict[str, Any],
    parameter: Tensor,
    measured: pandas.DataFrame | Mapping[str, Any] | None,
) -> SteadyState:
    kind = _kind(optimizer)
    motion = _motion(kind, optimizer, group, parameter)
    memory, lr = motion.memory, float(group["lr"])
    sgd, coupled = kind in _SGDS, kind == "torch.SGD"
    shrink = _shrink(optimizer, group, parameter)
    if coupled:
        shrink = lr * float(group["weight_decay"]) * memory.total
    squared_update = _measured_update(measured, memory, sgd) if measured is not None else motion.squared_update
    if squared_update is None:
        raise ClipeduError(
            f"{kind.split('.')[1]} does not normalise its steps, so its balance depends on the gradients' size: "
            "give measured=rows of NormMonitor.frame() of this layer"
        )

    factor = contribution_factor(memory, motion.normaliser, motion.shape)
    exact = factor if coupled else contribution_factor(memory, motion.normaliser, motion.shape, keep=1 - shrink)
    squared_norm = balance(lr, shrink, squared_update * exact)
    if sgd:
        squared_norm = math.sqrt(squared_norm)
    norm = math.sqrt(squared_norm)
    size = math.sqrt(squared_update) / (norm if sgd else 1.0)  # ||u||
    settled = math.isfinite(norm) and norm > 0
    step = lr * size / norm if settled else 0.0
    # coupled L2 is in u, and must bring back what the step adds: 2 lr <w, u> = lr^2 ||u||^2
    cosine = step / 2 if coupled else -step * (exact - 1) / (2 * (1 - shrink))
    return SteadyState(
        norm=norm,
        time_constant=time_constant(shrink) / (2 if sgd else 1),
        rotation=rotation(0.0 if coupled else shrink, step, cosine) if settled else 0.0,
        tuc=squared_update * factor,
        effective_step=lr * math.sqrt(contribution_factor(memory)),
        shrink=shrink,
        cosine=cosine,
        fade=fade_of(factor),
    )


def _kind(optimizer: torch.optim.Optimizer) -> str:
    kind = type(optimizer)
    if isinstance(optimizer, (BlockAdam, BlockAdamW)):  # torch's own, only faster
        kind = torch.optim.AdamW if isinstance(optimizer, BlockAdamW) else torch.optim.Adam
    return f"{kind.__module__.split('.')[0]}.{kind.__name__}"


def _find(optimizer: torch.optim.Optimizer, parameter: Tensor | str) -> tuple[dict[str, Any], Tensor]:
    """Find the group of a parameter, and its tensor."""
    for group in optimizer.param_groups:
        for name, tensor in zip(group.get("param_names", [None] * len(group["params"])), group["params"], strict=True):
            if tensor is parameter or (isinstance(parameter, str) and name in (parameter, bare_name(parameter))):
                return group, tensor
    given = repr(parameter) if isinstance(parameter, str) else f"of shape {list(parameter.shape)}"
    raise ClipeduError(f"this {type(optimizer).__name__} has no parameter {given}: give one of its own, or its name")


def _shrink(optimizer: torch.optim.Optimizer, group: dict[str, Any], parameter: Tensor) -> float:
    """Return lr * lambda at the current lr.

    Under a law it is right also before the step at which the law sets lambda.
    """
    if "weight_decay_max" not in group:
        return share_taken(optimizer, group, parameter)
    lr = float(group["lr"])
    peak = max(group["lr_max"], lr)
    return lr * coefficient(group["decay_law"], lr, lr_max=peak, weight_decay=group["weight_decay_max"])


def _motion(kind: str, optimizer: torch.optim.Optimizer, group: dict[str, Any], parameter: Tensor) -> _Motion:
    """Return how an optimizer makes its updates.

    Raises ClipeduError for one without a formula.
    """
    if group.get("caution"):
        raise ClipeduError("a cautious optimizer leaves out part of each step: there is no theory of its steady state")
    if kind in _ADAMS:
        if way_of_decay(optimizer, group) != "decoupled":
            raise ClipeduError(
                f"{kind.split('.')[1]} with L2 in the gradient has no steady norm of its own: the decay is divided by the "
                "gradients' size like everything else, so where it settles depends on them. Decoupled decay (adamw) has one"
            )
        memory = _nadam(optimizer, group, parameter) if kind == "torch.NAdam" else _average_of(group["betas"][0])
        return _adam(memory, group, parameter)
    if kind in _SGDS:
        return _Motion(contribution.heavy_ball(group["momentum"], group["dampening"], group["nesterov"]), "none", None)
    if kind == "timm.Lion":
        return _Motion(contribution.lion(*group["betas"]), "sign", float(parameter.numel()))
    if kind == "timm.Muon":
        return _muon(optimizer, group, parameter)
    if kind in ("clipedu.Scion", "clipedu.ScionC"):
        norm = auto_norm(parameter.shape) if group["norm"] == "auto" else group["norm"]
        normaliser, shape = _scion_step(norm, parameter.shape)
        memory = (contribution.nesterov if group.get("nesterov") else _average_of)(1 - group["alpha"])
        return _Motion(memory, normaliser, _step_on_noise(optimizer, group, parameter)[0], shape)
    names = ", ".join(name.split(".")[1] for name in _KNOWN if name != "torch.Adam")
    raise ClipeduError(f"there is no theory of a steady state for {kind.split('.')[1]}; there is for {names}")


def _average_of(beta: float) -> Memory:
    return contribution.average(1 - beta)


def _nadam(optimizer: torch.optim.Optimizer, group: dict[str, Any], parameter: Tensor) -> Memory:
    """Return NAdam's memory with the momentum that it has now.

    The momentum grows over some ten thousand steps from beta1 / 2 to beta1.
    """
    steps, beta = float(optimizer.state[parameter].get("step", 0)), group["betas"][0]
    ahead = beta * (1 - 0.5 * 0.96 ** (steps * group["momentum_decay"]))
    return Memory(1 - ahead + ahead * (1 - beta), ahead * (1 - beta) * beta, beta)


def _adam(memory: Memory, group: dict[str, Any], parameter: Tensor) -> _Motion:
    return _Motion(memory, "adam", None if group.get("amsgrad") else parameter.numel() * memory.squared_size)


def _muon(optimizer: torch.optim.Optimizer, group: dict[str, Any], parameter: Tensor) -> _Motion:
    """Return how timm's Muon makes its updates.

    They are polar factors of matrices and flattened kernels, and (N)AdamW for shapes that it finds unsuitable.
    """
    if group["algo"] != "muon" or group["conv_mode"] != "flatten" or group["fallback_lr_scale"] != 1:
        raise ClipeduError(
            "there is no theory of a steady state for Muon with algo, conv_mode or fallback_lr_scale changed"
        )
    memory_of = contribution.nesterov if group["nesterov"] else _average_of
    squared_update, state = _step_on_noise(optimizer, group, parameter)
    if not state["use_muon"]:
        return _adam(memory_of(group["betas"][0]), group, parameter)
    shape = (parameter.shape[0], parameter.numel() // parameter.shape[0])
    return _Motion(memory_of(group["momentum"]), "polar", squared_update, shape)


def _scion_step(norm: str, shape: torch.Size) -> tuple[str, tuple[int, int] | None]:
    """Return which correlations a norm's steps have, and the matrix shape."""
    if norm == "sign":
        return "sign", None
    if norm == "spectral":
        return "polar", (shape[-2], shape[-1])
    if norm == "spectral-conv-per-position":
        return "polar", (shape[0], shape[1])
    if norm in ("spectral-conv", "patchifier"):
        return "polar", (shape[0], math.prod(shape[1:]))
    return "vector", None


def _step_on_noise(
    optimizer: torch.optim.Optimizer, group: dict[str, Any], parameter: Tensor
) -> tuple[float, dict[str, Any]]:
    """Return ||u||^2 of one step on noise, and the state after it.

    A twin of the optimizer takes the step from 0 with lr 1.
    """
    tensor = torch.zeros(parameter.shape, requires_grad=True)
    tensor.grad = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0))
    settings = {name: value for name, value in group.items() if name not in ("params", "param_names")}
    make: Callable[..., torch.optim.Optimizer] = type(optimizer)  # each class takes groups alone
    twin = make([settings | {"params": [tensor], "lr": 1.0, "weight_decay": 0.0}])
    twin.step()
    return tensor.detach().double().square().sum().item(), twin.state[tensor]


def _measured_update(measured: pandas.DataFrame | Mapping[str, Any], memory: Memory, sgd: bool) -> float:
    """Average ||u||^2 over the rows (||u||^2 ||w||^2 for SGD).

    Each row is weighted by its lr^2, because short steps are mostly rounding.
    """
    if "layer" in measured and len(names := set(measured["layer"])) != 1:
        raise ClipeduError(f"measured has rows of {len(names)} layers: give those of one, with their updates")

    def column(name: str) -> np.ndarray:
        return np.atleast_1d(np.asarray(measured[name], dtype=float))

    weight_squared = column("weight") ** 2 if sgd else 1.0
    if "injection" in measured:
        steps, rates = column("injection") * weight_squared, column("lr") ** 2
        known = np.isfinite(steps) & np.isfinite(rates)
        if not rates[known].sum() > 0:
            raise ClipeduError("measured has no row with a finite injection and an lr above 0")
        if (size := float(steps[known].sum() / rates[known].sum())) <= 0:
            raise ClipeduError("measured has no updates above rounding, so nothing says how large they are")
        return size
    if sgd and "gradient" in measured:
        return float(np.nanmean(column("gradient") ** 2 * weight_squared)) * memory.squared_size
    raise ClipeduError(
        "measured needs the columns weight, lr and injection of NormMonitor.frame(), or for SGD weight and gradient"
    )
