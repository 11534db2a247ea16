"""From a step's raw sums to the rows of `NormMonitor.frame()`.

All the arithmetic, in float64, on the host.

With A = ||w||^2, B = <w, d>, D = ||d||^2, d = w' - w and the shrink s, the update is lr u = -(s w + d), and so

    <w, lr u> = -(s A + B)          ||lr u||^2 = s^2 A + 2 s B + D
    alignment = 2 (1 - s) (s A + B)          injection = ||lr u||^2          decay = -s (2 - s) A          their sum = 2 B + D
    angle = atan2(length of d across w, <w, w'> / ||w||) = atan2(sqrt(A D - B^2), A + B)

An arccos of the cosine would lose all angles below 1e-8 (with float32 sums below 3e-4), for there the cosine is 1; this way they
are that small a share of the relative update.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from clipedu.norms.layers import Layer

if TYPE_CHECKING:
    import pandas

QUANTITIES = ("weight", "gradient", "update")
COLUMNS = (
    *("step", "layer", "part", "kind", "group", "law", "size"),
    *("weight", "gradient", "update", "cosine", "angle", "relative_update"),
    *("alignment", "injection", "decay"),
    *("shrink", "lr", "weight_decay", "effective_lr", "Lambda"),
)
CONTRIBUTIONS = ("contribution", "drift", "radial", "active")


@np.errstate(all="ignore")  # of weights that overflowed, the last step is kept too
def layer_table(
    layers: Sequence[Layer],
    steps: Sequence[int],
    sums: np.ndarray,
    groups: Sequence[Sequence[str]],
    laws: Sequence[Sequence[str]],
    settings: Sequence[np.ndarray],
) -> pandas.DataFrame:
    """Return a frame with columns `COLUMNS`, one row a step and layer.

    Args:
        layers: what is watched.
        steps: numbers of the recorded steps, T of them.
        sums: [T, 7 or 8, layers]: A, B, D, ||w'||^2, ||g||^2, shrink, Lambda, and the largest singular value, if any.
        groups: names of the layers' groups in each step.
        laws: what decay does to each layer in each step, of `clipedu.optim.shrinkage.LAWS`.
        settings: of each step, [3, layers]: lr, weight_decay, effective_lr.
    """
    import pandas as pd

    a, b, d, after, gradient, s, total_shrink, *spectral = np.moveaxis(sums, 1, 0)
    lr, weight_decay, effective_lr = np.moveaxis(np.reshape(settings, (len(steps), 3, len(layers))), 1, 0)
    inner = -(s * a + b)  # <w, lr u>
    injection = s * s * a + 2 * s * b + d
    length, update = np.sqrt(a), np.sqrt(injection.clip(min=0))
    values = {
        "weight": np.sqrt(after),
        "gradient": np.sqrt(gradient),
        "update": np.sqrt(d),
        "cosine": _ratio(inner, length * update).clip(-1, 1),
        "angle": np.arctan2(np.sqrt((a * d - b * b).clip(min=0)), a + b),
        "relative_update": _ratio(update, length),
        "alignment": -2 * (1 - s) * inner,
        "injection": injection,
        "decay": 0.0 - s * (2 - s) * a,  # 0, not -0, where nothing decays
        "shrink": s,
        "lr": lr,
        "weight_decay": weight_decay,
        "effective_lr": effective_lr,
        "Lambda": total_shrink,
    }
    if spectral:
        values["spectral"] = spectral[0]
    words = {
        "step": np.repeat(np.asarray(steps, dtype=int), len(layers)),
        "layer": [layer.name for layer in layers] * len(steps),
        "part": [layer.part for layer in layers] * len(steps),
        "kind": [layer.kind for layer in layers] * len(steps),
        "group": [name for names in groups for name in names],
        "law": [law for of_step in laws for law in of_step],
        "size": [layer.parameter.numel() for layer in layers] * len(steps),
    }
    return pd.DataFrame(words | {name: value.reshape(-1) for name, value in values.items()})


@np.errstate(all="ignore")
def add_contributions(frame: pandas.DataFrame, sums: np.ndarray, a: np.ndarray) -> None:
    """Add what minibatches contribute to a `layer_table`.

    The columns are `CONTRIBUTIONS`.

    Args:
        frame: the `layer_table`, changed in place.
        sums: [T, 5, layers]: ||q||^2, <w, q>, <w, g>, ||g||^2 and the active numbers (`minibatch.py`).
        a: [T, layers]: A = ||w||^2 before the step.
    """
    size, along, radial, gradient, active = np.moveaxis(sums, 1, 0)
    values = {
        "contribution": np.sqrt(size),
        "drift": _ratio(along, np.sqrt(a * size)),
        "radial": _ratio(radial, np.sqrt(a * gradient)),
        "active": active,
    }
    for name, value in values.items():
        frame[name] = value.reshape(-1)


def _ratio(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return x / y, and 0 where y is 0: it has no direction."""
    return np.divide(x, y, out=np.zeros_like(x), where=y != 0)
