"""`StepSums`: what a step does to each tensor, summed while it is made.

The steps are those of `blockwise.py`.

With w and w' the weights before and after, d = w' - w, g the gradient, and q the contribution of the minibatch (for Adam
g / (sqrt(v) + eps), `clipedu.norms.minibatch`):

    each step           ||g||^2   ||w'||^2   ||d||^2
    if `whole`, also    ||w||^2   <w, d>   ||q||^2   <w, q>   <w, g>   and how many numbers of v are not 0

A piece is summed in rows while it is in the cache: in float32, but the small tensors of a whole step in float64. Sums of
rows are in float64. (<w, d> and ||d||^2 nearly cancel where a step is nothing but decay.)
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

ROW = 2**10  # numbers of a sum in float32, in a large tensor
NORMS = ("gradient", "after", "change", "before", "contribution")  # kept as lengths of rows, squared at the end
PRODUCTS = ("along", "along contribution", "along gradient", "active")
EACH_STEP, WHOLE = 3, len(NORMS) + len(PRODUCTS)  # how many of these sums


class StepSums:
    """The sums of steps, for whoever sets it as an optimizer's `sums`.

    Args:
        elsewhere: called before a step that is not made by blocks, and so is not summed here.

    Attributes:
        whole: take all sums in the next step, not only the first three.
        found: of the last step, parameter -> column of `values`.
        values: of the last step, float64 [3 or 9, parameters], in the order of `NORMS` and `PRODUCTS`.
    """

    def __init__(self, elsewhere: Callable[[], None] = lambda: None):
        self.whole, self.elsewhere = True, elsewhere
        self.found: dict[Tensor, int] = {}
        self.values = np.empty((EACH_STEP, 0))
        self._each = self._all = self._rows = torch.empty(0, 0)

    def begin(self, rows: int) -> Tensor:
        """Return room for the sums of this many rows.

        It is float32 [3, rows], or, if `whole`, float64 [9, rows].
        """
        if self._each.shape[1] != rows:
            self._each, self._all = torch.empty(EACH_STEP, rows), torch.empty(WHOLE, rows, dtype=torch.float64)
        self._rows = self._all if self.whole else self._each
        return self._rows

    def end(self, found: dict[Tensor, int], first: np.ndarray) -> None:
        """Add up the rows of each parameter.

        Args:
            found: the parameters of the step, by number.
            first: the first row of each, [parameters].
        """
        rows = self._rows.double().numpy()
        np.square(rows[: len(NORMS)], out=rows[: len(NORMS)])
        self.values = np.add.reduceat(rows, first, axis=1)
        self.found = found
