"""What is not trained: frozen encoders, and parts locked by name.

    freeze(model, ["image"])                     LiT: the image encoder stays; its features are computed once
    lock(model, ["image_encoder.visual.conv1"])  a part; its features are computed in each step
    lock(model, ["batch_norms"])                 all batch norms, with the statistics that they have

"Locked-image tuning" (Zhai et al. 2022, arXiv:2111.07991) trains the text tower against a locked image tower. Both leave a module in
evaluation mode: no dropout, and fixed batch-norm statistics. Small batches of another set estimate statistics badly, so whoever
fine-tunes a trained convolutional network often keeps those it has.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence

from torch.nn.modules.batchnorm import _BatchNorm as BatchNorm

from clipedu.models.dual_encoder import DualEncoder
from clipedu.utils.errors import ClipeduError, quoted

BATCH_NORMS = "batch_norms"  # a name for all of them


def freeze(model: DualEncoder, sides: Sequence[str]) -> None:
    """Freeze the encoders of a model that has none frozen.

    Args:
        model: changed in place.
        sides: "image", "text", both or none.
    """
    model.frozen = tuple(sides)
    for side in sides:
        model.encoder(side).requires_grad_(False)
    model.train(model.training)


def lock(model: DualEncoder, names: Sequence[str]) -> None:
    """Lock parts of a model by their names.

    Args:
        model: changed in place.
        names: of modules or parameters, as "image_encoder", "text_encoder.transformer.layer.0" or "image_projection": all that is in
            them is locked. "batch_norms" are all batch norms, weights and statistics.
    Raises:
        ClipeduError: a name that is not in the model, with near ones; "batch_norms" of a model without any.
    """
    modules, parameters = dict(model.named_modules()), dict(model.named_parameters())
    locked = []
    for name in _parts(model, names):
        if name in modules and name:
            modules[name].requires_grad_(False)
            locked.append(name)
        elif name in parameters:
            parameters[name].requires_grad_(False)
        else:
            raise ClipeduError(_unknown(name, [*filter(None, modules), *parameters]))
    model.locked = tuple(locked)
    model.train(model.training)


def _parts(model: DualEncoder, names: Sequence[str]) -> Iterator[str]:
    """Yield the names, with those of all batch norms in place of "batch_norms"."""
    for name in names:
        if name != BATCH_NORMS:
            yield name
            continue
        norms = [part for part, module in model.named_modules() if isinstance(module, BatchNorm)]
        if not norms:
            raise ClipeduError(f"lock={name!r}: the model has no batch norms. Leave it out")
        yield from norms


def _unknown(name: str, known: Sequence[str]) -> str:
    above = name.rpartition(".")[0]
    while above and above not in known:
        above = above.rpartition(".")[0]
    inside = [other for other in known if other.rpartition(".")[0] == above]
    near = [
        f"{above}.{x}".lstrip(".") for x in difflib.get_close_matches(name.removeprefix(f"{above}."), _last(inside), 3)
    ]
    hint = f"Did you mean {' or '.join(map(repr, near))}? " if near else ""
    return f"lock={quoted(name)} is no part of the model. {hint}In {above or 'it'} there are: {_listed(inside)}"


def _last(names: Sequence[str]) -> list[str]:
    return [name.rpartition(".")[2] for name in names]


def _listed(names: Sequence[str], most: int = 8) -> str:
    words = _last(names)
    return ", ".join(words[:most]) + (f" and {len(words) - most} more" if len(words) > most else "") or "none"
