"""Losses: one file each, formula beside code. Read `base.py` first.

>>> import torch
>>> loss = build_loss("sogclr", temperature=0.05, num_samples=100)
>>> image, text = torch.randn(2, 8, 16).requires_grad_()  # raw projections [B, D] each
>>> output = loss(image, text, index=torch.arange(8))  # index: row numbers in the data set, [B]
>>> list(output.terms)
['image_to_text', 'text_to_image']
>>> output.total.backward()

`LOSSES` lists them: `LOSSES["clip"].description`, `.paper`, `.formula` (LaTeX), `.defaults` (all options).
"""

from __future__ import annotations

import inspect
from typing import Any

from clipedu.geometry import Geometry
from clipedu.losses.base import Loss, LossOutput, SimilarityLoss
from clipedu.losses.clip import CLIP
from clipedu.losses.cyclip import CyCLIP
from clipedu.losses.dcl import DCL
from clipedu.losses.entailment import Entailed
from clipedu.losses.foils import Foiled
from clipedu.losses.infoloob import InfoLOOB
from clipedu.losses.isogclr import ISogCLR
from clipedu.losses.onlineclr import OnlineCLR
from clipedu.losses.siglip import SigLIP
from clipedu.losses.sogclr import SogCLR
from clipedu.losses.vicreg import VICReg
from clipedu.utils.errors import ClipeduError
from clipedu.utils.registry import Registry

__all__ = ["LOSSES", "Entailed", "Foiled", "Loss", "LossOutput", "SimilarityLoss", "build_loss"]

_ALL: dict[str, type[Loss]] = {
    "clip": CLIP,
    "sogclr": SogCLR,
    "cyclip": CyCLIP,
    "vicreg": VICReg,
    "onlineclr": OnlineCLR,
    "isogclr": ISogCLR,
    "siglip": SigLIP,
    "dcl": DCL,
    "infoloob": InfoLOOB,
}

LOSSES = Registry("loss")
"""All losses by name: `LOSSES["clip"].description`, `.paper`, `.formula` (LaTeX), `.defaults`."""

for _name, _loss in _ALL.items():
    _defaults = {key: option.default for key, option in inspect.signature(_loss).parameters.items()}
    LOSSES.add(_name, _loss, _loss.description, paper=_loss.paper, formula=_loss.formula, defaults=_defaults)


def build_loss(
    name: str,
    *,
    temperature: float | None = None,
    num_samples: int | None = None,
    geometry: Geometry | None = None,
    learn_temperature: bool = False,
    **options: Any,
) -> Loss:
    """Build the loss called `name`, an `nn.Module`.

    The named arguments suit a loop that treats all losses alike: each loss takes those that its formula has, and
    the others are ignored (VICReg has no temperature).

    >>> build_loss("cyclip", temperature=0.1, cross=0.5).cross
    0.5

    Args:
        name: one of `LOSSES`.
        temperature: > 0; None is the loss's own default.
        num_samples: rows of the data set, needed by losses that keep an average for every row.
        geometry: computes the similarity; None is cosine.
        learn_temperature: make the temperature a parameter of the loss, `logit_scale` (SigLIP's always is).
        **options: the loss's own; `LOSSES[name].defaults` lists them.

    Raises:
        ClipeduError: unknown name or option, missing `num_samples`, or a value out of range.
    """
    entry = LOSSES[name]
    assert entry.build is not None
    if learn_temperature and name == "isogclr":
        raise ClipeduError(
            "isogclr already learns a temperature for every anchor (options eta, rho, temperature_range): leave "
            "learn_temperature off"
        )
    shared = {
        "temperature": temperature,
        "num_samples": num_samples,
        "geometry": geometry,
        "learn_temperature": learn_temperature or None,
    }
    own = [key for key in entry.defaults if key not in shared]
    for key in options:
        if key not in own:
            raise ClipeduError(f"{name} has no option {key!r}. Allowed: {', '.join(own) or 'none'}")
    given = {key: value for key, value in shared.items() if value is not None and key in entry.defaults}
    return entry.build(**given, **options)
