"""`regroup`: parameters back in the groups of a saved state.

A later version may group otherwise than the one that saved a run; the run goes on in its own groups, with its own settings.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from clipedu.utils.errors import ClipeduError


def regroup(optimizer: torch.optim.Optimizer, saved: Sequence[dict[str, Any]]) -> None:
    """Give an optimizer the groups of a state, before it is loaded.

    Nothing is done where they are the same, or where the groups have no names of parameters.

    Args:
        optimizer: over the same parameters; it has not stepped yet.
        saved: "param_groups" of the `state_dict`.
    Raises:
        ClipeduError: the state is of other parameters.
    """
    if not all("param_names" in group for group in (*optimizer.param_groups, *saved)):
        return
    mine, theirs = ([group["param_names"] for group in groups] for groups in (optimizer.param_groups, saved))
    if mine == theirs:
        return
    parameters = {
        name: p
        for group in optimizer.param_groups
        for name, p in zip(group["param_names"], group["params"], strict=True)
    }
    names = [name for group in theirs for name in group]
    if sorted(names) != sorted(parameters):
        other = sorted(set(names) ^ set(parameters))
        raise ClipeduError(
            f"the saved state of {type(optimizer).__name__} is of other parameters: {other[0] if other else 'some twice'} "
            f"({len(names)} there, {len(parameters)} here)"
        )
    optimizer.param_groups[:] = [
        group | {"params": [parameters[name] for name in group["param_names"]]} for group in saved
    ]
