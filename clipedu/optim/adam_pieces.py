"""Pieces of tensors that Adam updates while they are in the cache.

A `Large` tensor is cut into blocks, each a `Piece`; many small tensors side by side are one `Packed` piece. Each makes its step by
`AdamRates`, and measures it where it is given rows of sums to fill (`step_sums.py`).
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from clipedu.optim.adam_rates import AdamRates
from clipedu.optim.step_sums import EACH_STEP, NORMS, ROW, WHOLE

AVERAGES = ("exp_avg", "exp_avg_sq")
ALIGN = 64  # numbers: a small tensor begins at a multiple of it


def in_memory(tensor: Tensor) -> Tensor:
    """Return a tensor with its axes in the order of its memory."""
    return tensor.permute(sorted(range(tensor.ndim), key=tensor.stride, reverse=True))


def flat(tensor: Tensor) -> Tensor:
    """Return all numbers of a dense tensor in the order of its memory, [n]."""
    tensor = tensor.detach()
    return (tensor if tensor.is_contiguous() else in_memory(tensor)).view(-1)


class Piece:
    """Numbers that are updated at once: arrays w, m, v [n], and their rows.

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

    def step(self, rates: AdamRates, g: Tensor, rows: Tensor | None) -> None:
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

    def _update(self, rates: AdamRates, g: Tensor) -> None:
        w, m, v = self.arrays
        if self.used:
            rates.update(w, g, m, v, self.d)
        elif rates.kept != 1:
            w.mul_(rates.kept)

    def _sums_along(self, rates: AdamRates, g: Tensor, out: list[list[Tensor]]) -> None:
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


class Packed(Piece):
    """Many small tensors side by side.

    Their averages are kept so for good, as parts of one array; weights are copied in and back in each step.

    Args:
        group: number of the group they belong to.
        parameters: the tensors.
        states: of each, what the optimizer keeps; its averages become parts of the arrays.
        first: number of the first row.
        scratch: see `Piece`.
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

    def run(self, rates: AdamRates, gradients: list[Tensor], rows: Tensor | None) -> None:
        """Make the step of these tensors."""
        torch._foreach_copy_(self.weights, self.parameters)
        torch._foreach_copy_(self.gradients, gradients)
        if rows is None:
            self._update(rates, self.g)
        else:
            self._measured_step(rates, rows)
        torch._foreach_copy_(self.parameters, self.weights)

    def _measured_step(self, rates: AdamRates, rows: Tensor) -> None:
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


class Large:
    """One large tensor, block by block.

    Args:
        group: number of the group it belongs to.
        parameter: the tensor.
        state: what the optimizer keeps of it; averages are put into the order of its memory.
        first: number of the first row.
        scratch: see `Piece`; its width is that of the blocks.
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
        self.pieces: list[Piece] = []
        for arrays in zip(*(flat(t).split(self.size) for t in tensors), strict=True):
            used = not fresh and bool(arrays[1].any() or arrays[2].any())
            self.pieces.append(Piece(group, arrays, ROW, first, scratch, used=used))
            first = self.pieces[-1].rows[1]

    def run(self, rates: AdamRates, gradient: Tensor, rows: Tensor | None) -> None:
        """Make the step of this tensor."""
        if gradient.stride() != self.stride:
            gradient = torch.empty_strided(gradient.shape, self.stride).copy_(gradient)
        for piece, g in zip(self.pieces, flat(gradient).split(self.size), strict=True):
            piece.step(rates, g, rows)
