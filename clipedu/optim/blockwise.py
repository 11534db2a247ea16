"""`BlockAdam`, `BlockAdamW`: torch's Adam on a CPU, bit by bit, faster.

torch's own step makes eight passes over each tensor, one for each operation; of a large tensor each pass comes from memory
and goes back, of a small one each is a call. Here the same operations, in the same order, are done with one piece after
the other: a block of a large tensor that fits into the cache, or many small tensors side by side in one array. Every
operation is elementwise, so each number is what torch's default gives, to the last bit. With `fused=True` torch's fused
kernel makes the step of each piece: faster still, and rounded otherwise (its square roots are right to the last bit, those of
`torch.sqrt` by MKL are not).

While a piece is in the cache it can be measured at little cost: `StepSums` (`step_sums.py`), which `NormMonitor` sets.

A block of which no number has had a gradient so far is only decayed: all else would leave it as it is. So rows of a word
embedding that never occurred cost little.

What is not float32 on a CPU, and options such as amsgrad, go torch's way.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.optim.adam import adam

from clipedu.optim.step_sums import EACH_STEP, NORMS, ROW, WHOLE, StepSums

BLOCK = 2**16  # numbers a thread: several arrays of them fit into a core's cache
SMALL = 2**16  # numbers: smaller tensors are put side by side
AVERAGES = ("exp_avg", "exp_avg_sq")
ALIGN = 64  # numbers: a small tensor begins at a multiple of it

Lists = tuple[list[Tensor], list[Tensor], list[Tensor], list[Tensor], list[Tensor], list[Tensor]]


class _ByBlocks(torch.optim.Adam):
    """What both classes share: a `step` by blocks where that is possible.

    Attributes:
        sums: measures the steps; None measures nothing.
    """

    sums: StepSums | None = None
    _plan: _Plan | None = None

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Make one step, as torch's Adam does.

        Args:
            closure: computes the loss again, as torch's optimizers have it.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        with torch.no_grad():
            if self._plan is None or not self._plan.holds(self):
                self._plan = self._made_plan()
            if self._plan is not None:
                self._plan.run(self.param_groups, self.sums)
        return loss

    def _made_plan(self) -> _Plan | None:
        """Return how to step by blocks; None after a step made in torch's way, where that is not possible."""
        members: list[tuple[dict[str, Any], Lists, bool]] = []
        for group in self.param_groups:
            lists: Lists = ([], [], [], [], [], [])
            members.append((group, lists, self._init_group(group, *lists)))
        counts = {float(t) for _, lists, _ in members for t in lists[5]}
        if len(counts) == 1 and all(_possible(group, lists) for group, lists, _ in members):
            return _Plan(self, [lists[0] for _, lists, _ in members], counts.pop())
        if self.sums is not None:
            self.sums.elsewhere()
        if any(group["differentiable"] for group, *_ in members):
            raise ValueError("differentiable=True cannot be: the step changes the weights in place")
        for group, lists, has_complex in members:
            _as_torch(self, group, lists, has_complex)
        return None

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in super().__getstate__().items() if key not in ("sums", "_plan")}


class BlockAdam(_ByBlocks):
    """`torch.optim.Adam` by blocks."""


class BlockAdamW(_ByBlocks, torch.optim.AdamW):
    """`torch.optim.AdamW` by blocks."""


def _plain(group: dict[str, Any]) -> bool:
    """Return whether a group has settings for which a step by blocks is written."""
    numbers = (group["lr"], group["eps"], group["weight_decay"], *group["betas"])
    other = ("amsgrad", "maximize", "capturable", "differentiable", "foreach")
    return (
        not any([group[key] for key in other]) and not any([isinstance(x, Tensor) for x in numbers]) and numbers[1] > 0
    )


def _possible(group: dict[str, Any], lists: Lists) -> bool:
    """Return whether a group's step can go by blocks."""
    return (
        _plain(group)
        and all(p.numel() and p.dtype is torch.float32 and p.device.type == "cpu" and _is_dense(p) for p in lists[0])
        and all(g.dtype is torch.float32 and g.layout is torch.strided for g in lists[1])
    )


def _is_dense(tensor: Tensor) -> bool:
    return tensor.layout is torch.strided and (tensor.is_contiguous() or _in_memory(tensor).is_contiguous())


def _in_memory(tensor: Tensor) -> Tensor:
    """Return a tensor with its axes in the order of its memory."""
    return tensor.permute(sorted(range(tensor.ndim), key=tensor.stride, reverse=True))


def _flat(tensor: Tensor) -> Tensor:
    """Return all numbers of a dense tensor in the order of its memory, [n]."""
    tensor = tensor.detach()
    return (tensor if tensor.is_contiguous() else _in_memory(tensor)).view(-1)


def _as_torch(optimizer: torch.optim.Optimizer, group: dict[str, Any], lists: Lists, has_complex: bool) -> None:
    """Make the step of a group as torch's Adam would."""
    same = ("amsgrad", "weight_decay", "eps", "maximize", "foreach", "capturable", "differentiable", "fused")
    adam(
        *lists,
        has_complex=has_complex,
        lr=group["lr"],
        beta1=group["betas"][0],
        beta2=group["betas"][1],
        grad_scale=getattr(optimizer, "grad_scale", None),
        found_inf=getattr(optimizer, "found_inf", None),
        decoupled_weight_decay=group["decoupled_weight_decay"],
        **{key: group[key] for key in same},
    )


@dataclass(frozen=True)
class _Rates:
    """What the step of a group multiplies with."""

    decay: float  # decoupled
    kept: float  # of a weight, by it
    coupled: float
    beta1: float
    beta2: float
    eps: float
    root: float
    size: float
    lr: float
    fused: Tensor | None  # number of the step, for torch's fused kernel

    @classmethod
    def of(cls, group: dict[str, Any], step: Tensor) -> _Rates:
        """Return the rates of step number `step`, from 1."""
        lr, decay, (beta1, beta2) = float(group["lr"]), group["weight_decay"], group["betas"]
        decoupled = group["decoupled_weight_decay"]
        count = float(step)
        return cls(
            decay=decay if decoupled else 0.0,
            kept=1 - lr * decay if decoupled else 1.0,
            coupled=0.0 if decoupled else decay,
            beta1=beta1,
            beta2=beta2,
            eps=group["eps"],
            root=(1 - beta2**count) ** 0.5,
            size=lr / (1 - beta1**count),
            lr=lr,
            fused=step if group["fused"] else None,
        )

    def update(self, w: Tensor, g: Tensor, m: Tensor, v: Tensor, d: Tensor) -> None:
        """Make the step of a piece, all [n], with `d` to write to."""
        if self.fused is not None:
            self._fused(w, g, m, v)
            return
        if self.coupled != 0:
            g = torch.add(g, w, alpha=self.coupled, out=d)
        if self.kept != 1:
            w.mul_(self.kept)
        m.lerp_(g, 1 - self.beta1)
        v.mul_(self.beta2).addcmul_(g, g, value=1 - self.beta2)
        w.addcdiv_(m, self.denominator(v, d), value=-self.size)

    def denominator(self, v: Tensor, d: Tensor) -> Tensor:
        """Return what the average gradient is divided by, written to `d`."""
        return torch.sqrt(v, out=d).div_(self.root).add_(self.eps)

    def _fused(self, w: Tensor, g: Tensor, m: Tensor, v: Tensor) -> None:
        tensors: Any = ([w], [g], [m], [v], [], [self.fused])
        kernel = torch._fused_adam_ if self.coupled else torch._fused_adamw_
        kernel(
            *tensors,
            lr=self.lr,
            beta1=self.beta1,
            beta2=self.beta2,
            weight_decay=self.coupled or self.decay,
            eps=self.eps,
            amsgrad=False,
            maximize=False,
        )


class _Piece:
    """Numbers that are updated at once: arrays w, m, v [n], and of what rows they are.

    Args:
        group: number of the group they belong to.
        arrays: w, m, v; without padding a block of a tensor.
        row: numbers in a row of sums.
        first: number of the first row.
        scratch: two arrays to write to, at least [n].
        used: whether any number has had a gradient.
    """

    def __init__(self, group: int, arrays: tuple[Tensor, ...], row: int, first: int, scratch: Tensor, *, used: bool):
        self.group, self.arrays, self.used = group, arrays, used
        size = len(arrays[0])
        self.d, self.old = scratch[0, :size], scratch[1, :size]
        whole = size // row
        shapes = [(whole, row)] * (whole > 0) + [(1, size % row)] * (size % row > 0)
        self._cuts: list[tuple[int, int, tuple[int, int], int, int]] = []  # numbers, their shape, rows
        start = 0
        for count, length in shapes:
            self._cuts.append((start, start + count * length, (count, length), first, first + count))
            start, first = self._cuts[-1][1], first + count
        self.rows = (self._cuts[0][3], first)
        self._shaped = {id(x): self._shape(x) for x in (arrays[0], self.d, self.old)}
        self._outs: dict[int, tuple[Tensor, list[list[Tensor]]]] = {}

    def _shape(self, x: Tensor) -> list[Tensor]:
        return [x[start:stop].view(shape) for start, stop, shape, _, _ in self._cuts]

    def _out(self, rows: Tensor) -> list[list[Tensor]]:
        """Return where the rows of this piece are in each of the sums."""
        kept = self._outs.get(len(rows))
        if kept is None or kept[0] is not rows:
            kept = self._outs[len(rows)] = (rows, [[out[a:b] for *_, a, b in self._cuts] for out in rows])
        return kept[1]

    def length(self, x: Tensor, out: list[Tensor], dtype: torch.dtype = torch.float32) -> None:
        """Write the length of each row of x [n], summed in `dtype`."""
        for part, there in zip(self._shaped.get(id(x)) or self._shape(x), out, strict=True):
            if there.dtype is dtype:
                torch.linalg.vector_norm(part, dim=1, dtype=dtype, out=there)
            else:
                there.copy_(torch.linalg.vector_norm(part, dim=1, dtype=dtype))

    def product(self, x: Tensor, y: Tensor, out: list[Tensor]) -> None:
        """Write the inner product of each row of x and y [n]; x is overwritten."""
        for part, there in zip(self._shape(x.mul_(y)), out, strict=True):
            there.copy_(part.sum(1))

    def step(self, rates: _Rates, g: Tensor, rows: Tensor | None) -> None:
        """Make the step, and write its sums to `rows` [sums, rows]."""
        if not self.used:
            low, high = g.aminmax()
            self.used = bool(rates.coupled) or not (low == 0 == high)  # True for NaN
        if rows is None:
            self._update(rates, g)
            return
        w, out = self.arrays[0], self._out(rows)
        self.length(g, out[0])
        self.old.copy_(w)
        self._update(rates, g)
        if len(rows) == WHOLE:
            self._sums_along(rates, g, out)
        self.length(w, out[1])
        torch.sub(w, self.old, out=self.d)
        self.length(self.d, out[2])
        if len(rows) == WHOLE:
            self.product(self.d, self.old, out[5])

    def _update(self, rates: _Rates, g: Tensor) -> None:
        w, m, v = self.arrays
        if self.used:
            rates.update(w, g, m, v, self.d)
        elif rates.kept != 1:
            w.mul_(rates.kept)

    def _sums_along(self, rates: _Rates, g: Tensor, out: list[list[Tensor]]) -> None:
        """Write the sums that only a whole step has, but the product of the weight with its change."""
        old, d = self.old, self.d
        self.length(old, out[3])
        if self.used:
            torch.div(g, rates.denominator(self.arrays[2], d), out=d)
            self.length(d, out[4])
            self.product(d, old, out[6])
            self.product(d.copy_(g), old, out[7])
            torch.gt(self.arrays[2], 0, out=d)
            self.product(d, d, out[8])
        else:
            for there in (*out[4], *out[6], *out[7], *out[8]):
                there.zero_()


class _Packed(_Piece):
    """Many small tensors side by side.

    Their averages are kept so for good, as parts of one array; weights are copied in and back in each step.

    Args:
        group: number of the group they belong to.
        parameters: the tensors.
        states: of each, what the optimizer keeps; its averages become parts of the arrays.
        first: number of the first row.
        scratch: see `_Piece`.
    """

    def __init__(
        self, group: int, parameters: list[Tensor], states: list[dict[str, Tensor]], first: int, scratch: Tensor
    ):
        starts = np.cumsum([0, *(-(-p.numel() // ALIGN) * ALIGN for p in parameters)])
        self._measured = torch.zeros(3, int(starts[-1]))  # g, w, and what is taken last: the change of w
        self.g, w, change = self._measured
        m, v = torch.zeros(2, int(starts[-1]))
        arrays = (w, m, v, self.g)
        views = [
            [
                x.as_strided(p.shape, p.stride(), x.storage_offset() + int(a))
                for a, p in zip(starts, parameters, strict=False)
            ]
            for x in arrays
        ]
        self.parameters, (self.weights, _, _, self.gradients) = [p.detach() for p in parameters], views
        for name, parts in zip(AVERAGES, views[1:3], strict=True):
            for state, part in zip(states, parts, strict=True):
                state[name] = part.copy_(state[name])
        self.starts = first + starts[:-1] // ALIGN
        super().__init__(group, (w, m, v), ALIGN, first, scratch, used=True)
        self.d = change
        self._in_rows = self._measured.view(3, -1, ALIGN)

    def run(self, rates: _Rates, gradients: list[Tensor], rows: Tensor | None) -> None:
        """Make the step of these tensors."""
        torch._foreach_copy_(self.weights, self.parameters)
        torch._foreach_copy_(self.gradients, gradients)
        if rows is None:
            self._update(rates, self.g)
        else:
            self._measured_step(rates, rows)
        torch._foreach_copy_(self.parameters, self.weights)

    def _measured_step(self, rates: _Rates, rows: Tensor) -> None:
        w, whole = self.arrays[0], len(rows) == WHOLE
        self.old.copy_(w)
        self._update(rates, self.g)
        if whole:
            self._sums_along(rates, self.g, self._out(rows))
        torch.sub(w, self.old, out=self.d)
        rows[:EACH_STEP, slice(*self.rows)] = torch.linalg.vector_norm(self._in_rows, dim=2)
        if whole:  # what may nearly cancel
            change, old = (x.double().view(-1, ALIGN) for x in (self.d, self.old))
            for k, product in ((2, change.square()), (3, old.square()), (5, change.mul_(old))):
                rows[k, slice(*self.rows)] = product.sum(1).sqrt_() if k < len(NORMS) else product.sum(1)


class _Large:
    """One large tensor, block by block.

    Args:
        group: number of the group it belongs to.
        parameter: the tensor.
        state: what the optimizer keeps of it; averages are put into the order of its memory.
        first: number of the first row.
        scratch: see `_Piece`; its width is that of the blocks.
        fresh: nothing has had a gradient yet.
    """

    def __init__(
        self, group: int, parameter: Tensor, state: dict[str, Tensor], first: int, scratch: Tensor, *, fresh: bool
    ):
        self.group, self.stride, self.size = group, parameter.stride(), scratch.shape[1]
        for name in AVERAGES:
            if state[name].stride() != self.stride:  # as a checkpoint may have it
                state[name] = torch.empty_like(parameter).copy_(state[name])
        tensors = (parameter, *(state[name] for name in AVERAGES))
        self.pieces: list[_Piece] = []
        for arrays in zip(*(_flat(t).split(self.size) for t in tensors), strict=True):
            used = not fresh and bool(arrays[1].any() or arrays[2].any())
            self.pieces.append(_Piece(group, arrays, ROW, first, scratch, used=used))
            first = self.pieces[-1].rows[1]

    def run(self, rates: _Rates, gradient: Tensor, rows: Tensor | None) -> None:
        """Make the step of this tensor."""
        if gradient.stride() != self.stride:
            gradient = torch.empty_strided(gradient.shape, self.stride).copy_(gradient)
        for piece, g in zip(self.pieces, _flat(gradient).split(self.size), strict=True):
            piece.step(rates, g, rows)


class _Plan:
    """Which pieces a step has, as long as all tensors stay where they are.

    Args:
        optimizer: whose steps they are; its state is arranged for them.
        groups: of each group the parameters that have a gradient, at least one altogether.
        count: steps made so far.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, groups: list[list[Tensor]], count: float):
        self._threads = torch.get_num_threads()
        self._state = optimizer.state
        self._sizes = [len(group["params"]) for group in optimizer.param_groups]
        self.parameters = [p for group in groups for p in group]
        without = {p for group in optimizer.param_groups for p in group["params"]} - set(self.parameters)
        self._without: list[Tensor] = list(without)
        states: dict[Tensor, dict[str, Tensor]] = {p: optimizer.state[p] for p in self.parameters}
        self._steps = torch.full((len(states),), count, dtype=next(iter(states.values()))["step"].dtype)
        for state, step in zip(states.values(), self._steps.unbind(), strict=True):
            state["step"] = step
        scratch = torch.empty(2, BLOCK * self._threads)
        self._packs: list[tuple[_Packed, list[int]]] = []
        self._large: list[tuple[_Large, int]] = []
        number = {p: k for k, p in enumerate(self.parameters)}
        order: list[Tensor] = []
        first: list[int] = []
        row = 0
        for group, parameters in enumerate(groups):
            small = [p for p in parameters if p.numel() < SMALL]
            for some in _portions(small, scratch.shape[1]):
                pack = _Packed(group, some, [states[p] for p in some], row, scratch)
                self._packs.append((pack, [number[p] for p in some]))
                order += some
                first += pack.starts.tolist()
                row = pack.rows[1]
            for p in parameters:
                if p.numel() >= SMALL:
                    large = _Large(group, p, states[p], row, scratch, fresh=count == 0)
                    self._large.append((large, number[p]))
                    order.append(p)
                    first.append(row)
                    row = large.pieces[-1].rows[1]
        self._rows, self._first = row, np.array(first)
        self._found = {p: k for k, p in enumerate(order)}
        self._places = [p.data_ptr() for p in self.parameters]
        self._kept: list[tuple[Any, ...]] = [
            (state, *(state[name] for name in ("step", *AVERAGES))) for state in states.values()
        ]

    def holds(self, optimizer: torch.optim.Optimizer) -> bool:
        """Return whether the coming step has these pieces."""
        gradients = [p.grad for p in self.parameters]
        return (
            optimizer.state is self._state
            and self._threads == torch.get_num_threads()
            and self._sizes == [len(group["params"]) for group in optimizer.param_groups]
            and all([g is not None and g.layout is torch.strided for g in gradients])
            and not any([p.grad is not None for p in self._without])
            and self._places == [p.data_ptr() for p in self.parameters]
            and all([s["step"] is t and s["exp_avg"] is m and s["exp_avg_sq"] is v for s, t, m, v in self._kept])
            and all(map(_plain, optimizer.param_groups))
        )

    def run(self, groups: list[dict[str, Any]], sums: StepSums | None) -> None:
        """Make a step.

        Args:
            groups: of the optimizer, with the settings of the step.
            sums: what to measure with, if at all.
        """
        self._steps += 1
        gradients: Any = [p.grad for p in self.parameters]
        rates = [_Rates.of(group, self._steps[0]) for group in groups]
        rows = None if sums is None else sums.begin(self._rows)
        for pack, members in self._packs:
            pack.run(rates[pack.group], [gradients[k] for k in members], rows)
        for large, k in self._large:
            large.run(rates[large.group], gradients[k], rows)
        if sums is not None:
            sums.end(self._found, self._first)


def _portions(tensors: list[Tensor], most: int) -> list[list[Tensor]]:
    """Divide small tensors into portions of at most `most` numbers each, padding included."""
    portions: list[list[Tensor]] = []
    room = 0
    for tensor in tensors:
        padded = -(-tensor.numel() // ALIGN) * ALIGN
        if padded > room:
            portions.append([])
            room = most
        portions[-1].append(tensor)
        room -= padded
    return portions
