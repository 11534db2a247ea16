"""Alpha: the power law in the spectrum of weights, by WeightWatcher.

The large eigenvalues of W^T W of a trained layer often follow a power law, with a density that falls like lambda^-alpha. WeightWatcher
(its package is asked, none of it is written again here) fits the tail. Its authors read alpha from 2 to 6 as well trained, larger as
little trained, as that of random weights is; smaller ones as fitted too much (Martin and Mahoney 2018, arXiv:1810.01075; Martin, Peng
and Mahoney 2020, arXiv:2002.06716). It is a rule of thumb about large models: a tail of a few dozen values is no evidence.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec

from torch import nn

SMALLEST = 50  # eigenvalues, below which a fit means nothing; WeightWatcher's own limit

log = logging.getLogger("clipedu")


def power_law_exponents(model: nn.Module) -> dict[str, float] | None:
    """Return alpha of each weight matrix and kernel that is large enough.

    Args:
        model: any; its weights are read on the CPU and left as they are.
    Returns:
        alpha by the parameter's name; None where the package weightwatcher is not installed, or cannot read the model.
    """
    if find_spec("weightwatcher") is None:
        return None
    with _quiet():
        try:
            import weightwatcher

            found = weightwatcher.WeightWatcher(model=model).analyze(min_evals=SMALLEST, plot=False)
            return {
                f"{name}.weight": float(alpha) for name, alpha in zip(found["longname"], found["alpha"], strict=True)
            }
        except Exception as error:  # noqa: BLE001  models of any kind, in another library's hands
            why = next(iter(str(error).splitlines()), type(error).__name__)
    log.warning("weightwatcher cannot read this model, so there is no alpha: %s", why)
    return None


@contextmanager
def _quiet() -> Iterator[None]:
    """Leave the root logger as it was: weightwatcher gives it a handler and a level, writes there, and warns."""
    root, disabled = logging.getLogger(), logging.root.manager.disable
    handlers, level = list(root.handlers), root.level
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)
        root.handlers[:] = handlers
        root.setLevel(level)
