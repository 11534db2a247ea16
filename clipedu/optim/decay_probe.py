r"""`StepProbe`: measure what weight decay takes in a step.

It is for optimizers that nobody described.

The optimizer's own code is run on copies (weights, gradients, state, options) beside the real step: once without decay, and
once without decay but with g + lambda w for the gradient. With w' the weight after the real step, w'_0 and w'_c after these two:

    decoupled   w'_0 - w' = s w, and decay left no trace in the state: s is the shrink of this step
    coupled     w' = w'_c, and so is the state: decay is L2 in the gradient, a part of the update, and s = 0
    not known   anything else: decay that goes on in the state (averaged iterates, decay inside momentum), that takes some
                numbers and spares others, a step that is not repeated exactly (a closure, other processes), code that fails

The copies have the real ones' random numbers, and none of their hooks; the real optimizer is only read. What cannot be
seen: a part of the step that is not in the optimizer (a scheduler's wrapper, a loss scaler), and an s below rounding, about
1e-8 of float32 weights. In plain SGD without momentum the two laws are the same, and called decoupled.

It costs two more steps, and copies of weights, gradients and state; one step where the optimizer has been found decoupled
before, none where it has been found coupled or not known.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from clipedu.optim.decay_laws import set_weight_decay
from clipedu.optim.twins import random_numbers_kept, step_alone, twin_of

_SAME = 1e-2  # two changes agree where they differ by at most this share


class Decay(NamedTuple):
    """What decay does to a weight in a step.

    Attributes:
        law: one of `clipedu.optim.shrinkage.LAWS`.
        shrink: share of the weight that it takes; nan where that is not known.
    """

    law: str
    shrink: float


NOT_KNOWN, COUPLED, NONE = Decay("not known", math.nan), Decay("coupled", 0.0), Decay("none", 0.0)


class StepProbe:
    """Measures around a step: call `before`, step, call `after`.

    Args:
        optimizer: any. It is read, never written to.
        parameters: those of its weights to measure.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, parameters: Sequence[Tensor]):
        self._optimizer, self._parameters = optimizer, parameters
        self._settled: dict[Tensor, Decay] = {}  # found once and for all
        self._decoupled: set[Tensor] = set()
        self._open: dict[Tensor, Tensor] = {}  # to measure in this step, and their values before it
        self._free: _Ends | None = None
        self._as_gradient: _Ends | None = None

    def before(self) -> None:
        """Take the steps without decay, on copies."""
        self._open, self._free, self._as_gradient = {}, None, None
        decays = {
            p: group.get("weight_decay_max", group.get("weight_decay"))  # under a law this step's own comes later
            for group in self._optimizer.param_groups
            for p in group["params"]
        }
        watched = [p for p in self._parameters if p in decays and p.grad is not None and p not in self._settled]
        self._settle_without_key([p for p in watched if decays[p] is None])
        self._open = {p: p.detach().clone() for p in watched if decays[p] is not None and float(decays[p] or 0.0) != 0}
        if not self._open:
            return
        self._free = _ends(self._optimizer)
        if self._free is None:
            self._settled.update(dict.fromkeys(self._open, NOT_KNOWN))
        elif not self._decoupled.issuperset(self._open):
            self._as_gradient = _ends(self._optimizer, decay_in_gradient=True)

    def after(self) -> dict[Tensor, Decay]:
        """Compare with the real step.

        The result has all weights whose group's decay is not 0 and that have a gradient.
        """
        found = {p: decay for p, decay in self._settled.items() if p.grad is not None}
        for p, start in self._open.items():
            if p in self._settled:
                continue
            found[p] = self._decay_of(p, start)
            if found[p].law == "decoupled":
                self._decoupled.add(p)
            elif p in self._decoupled:  # a step of another kind
                self._decoupled.discard(p)
            elif p.grad is not None and bool(torch.isfinite(p.grad).all()):
                self._settled[p] = found[p]
        self._open, self._free, self._as_gradient = {}, None, None
        return found

    def _decay_of(self, p: Tensor, start: Tensor) -> Decay:
        assert self._free is not None
        end, state = p.detach(), self._optimizer.state.get(p, {})
        free, free_state = self._free[p]
        change = free.double() - end.double()
        rounding = 2 * torch.finfo(end.dtype).eps * float(start.double().norm())
        if _equal(state, free_state):
            for weight in (start.double(), free.double()):  # shrinks first, then steps; or the other way round
                square = float(weight.square().sum())
                share = float((change * weight).sum()) / square if square > 0 else 0.0
                if _near(change, share * weight, change, rounding):
                    return Decay("decoupled", share)
        elif self._as_gradient is not None:
            other, other_state = self._as_gradient[p]
            if _near(other, end, change, rounding) and _alike(state, other_state, free_state):
                return COUPLED
        return NOT_KNOWN

    def _settle_without_key(self, parameters: list[Tensor]) -> None:
        """Look whether an optimizer without `weight_decay` has a decay of another name.

        Without past and gradient nothing else moves a weight.
        """
        if not parameters:
            return
        ends = _ends(self._optimizer, at_rest=True)
        for p in parameters:
            still = ends is not None and torch.equal(ends[p][0], p.detach())
            self._settled[p] = NONE if still else NOT_KNOWN


def measure(optimizer: torch.optim.Optimizer, steps: int = 3, tensors: int = 2) -> list[list[Decay]]:
    """Measure each group in some steps from now on, with random gradients.

    They are taken on copies of the group's smallest weights, so that it is quick; random ones where these are 0.

    Args:
        optimizer: any. It is read, never written to.
        steps: how many to take.
        tensors: of each group; those with two or more axes first, the smallest first.
    Returns:
        for each group what was found, step by step; nothing where its decay is 0.
    """
    chosen = {}
    for number, group in enumerate(optimizer.param_groups):
        if float(group.get("weight_decay_max", group.get("weight_decay", 1.0)) or 0.0):
            order = sorted((p for p in group["params"] if p.requires_grad), key=lambda p: (p.ndim < 2, p.numel()))
            chosen.update(dict.fromkeys(order[:tensors], number))
    found: list[list[Decay]] = [[] for _ in optimizer.param_groups]
    generator = torch.Generator().manual_seed(0)
    try:
        with random_numbers_kept(optimizer):
            twin, copies = twin_of(optimizer, chosen)
            for p in copies.values():
                if not p.any():  # of a weight of 0 nothing can be taken
                    p.data.copy_(torch.randn(p.shape, generator=generator))
            probe = StepProbe(twin, list(copies.values()))
            for _ in range(steps):
                for p in copies.values():
                    p.grad = 0.01 * torch.randn(p.shape, generator=generator).to(p)
                set_weight_decay(twin)
                probe.before()
                step_alone(twin)
                decays = probe.after()
                for p, number in chosen.items():
                    found[number].append(decays.get(copies[p], NOT_KNOWN))
    except Exception:  # as in `_ends`
        for number in chosen.values():
            found[number] = [NOT_KNOWN]
    return found


_Ends = dict[Tensor, tuple[Tensor, Any]]  # weight -> its value and its state after a step


def _ends(optimizer: torch.optim.Optimizer, *, decay_in_gradient: bool = False, at_rest: bool = False) -> _Ends | None:
    """Take a step without decay on copies.

    Args:
        decay_in_gradient: lambda w is added to the gradient.
        at_rest: without a state and with gradients of 0.
    Returns:
        None if the optimizer's code fails on copies.
    """
    try:
        with random_numbers_kept(optimizer):
            twin, copies = twin_of(optimizer)
            for group in twin.param_groups:
                decay = float(group.get("weight_decay") or 0.0)
                sign = -1 if group.get("maximize") else 1
                for p in group["params"] if decay_in_gradient else ():
                    if p.grad is not None:
                        p.grad.add_(p.detach(), alpha=sign * decay)
                if decay:
                    group["weight_decay"] = 0 * group["weight_decay"]
                if group.get("target") is not None:  # clipedu's ScionC decays by it
                    group["target"] = None
            if at_rest:
                twin.state.clear()
                for twin_p in copies.values():
                    twin_p.grad = None if twin_p.grad is None else torch.zeros_like(twin_p)
            step_alone(twin)
            return {p: (twin_p.detach(), twin.state.get(twin_p, {})) for p, twin_p in copies.items()}
    except Exception:  # whatever somebody else's code does on copies, training goes on without a measurement
        return None


def _near(one: Tensor, other: Tensor, change: Tensor, rounding: float) -> bool:
    """Return whether two tensors differ by far less than `change`, or by rounding."""
    error = float((one.double() - other.double()).norm())
    return error <= _SAME * float(change.norm()) + rounding


def _leaves(state: Any) -> Iterator[Any]:
    """Yield tensors, numbers and the like of a state, however it is nested."""
    if isinstance(state, dict):
        for key in sorted(state, key=str):
            yield str(key)
            yield from _leaves(state[key])
    elif isinstance(state, list | tuple):
        for value in state:
            yield from _leaves(value)
    else:
        yield state


def _equal(one: Any, other: Any) -> bool:
    """Return whether two states are the same, bit for bit."""
    a, b = list(_leaves(one)), list(_leaves(other))
    return len(a) == len(b) and all(map(_equal_leaves, a, b))


def _equal_leaves(a: Any, b: Any) -> bool:
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        return torch.equal(a, b)
    if isinstance(a, int | float | str | bool | None) and type(a) is type(b):
        return a == b
    return isinstance(a, Tensor) == isinstance(b, Tensor) and type(a) is type(b)  # objects cannot be compared


def _alike(one: Any, other: Any, free: Any) -> bool:
    """Return whether two states differ by far less than either from a third, or by rounding."""
    leaves = [list(_leaves(state)) for state in (one, other, free)]
    if len(set(map(len, leaves))) > 1:
        return False
    for a, b, c in zip(*leaves, strict=True):
        if not isinstance(a, Tensor):
            continue
        if not isinstance(b, Tensor) or not isinstance(c, Tensor) or a.shape != b.shape or a.shape != c.shape:
            return False
        if a.is_floating_point():
            rounding = 8 * torch.finfo(a.dtype).eps * float(a.double().norm())
            if not _near(a, b, a.double() - c.double(), rounding):
                return False
    return True
