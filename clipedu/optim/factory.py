"""`build_optimizer`: optimizers of torch, timm and clipedu by name.

    sgd    w <- w - lr * v,              v <- momentum * v + g + weight_decay * w        (Nesterov, momentum 0.9)
    adam   w <- w - lr * m / (sqrt(v) + eps),     m, v averages of g + weight_decay * w  and its square: coupled L2
    adamw  w <- w - lr * m / (sqrt(v) + eps) - lr * weight_decay * w,   m, v of g alone: decoupled decay

In "adam" the decay passes through the division by sqrt(v): where |weight_decay * w| exceeds |g|, the step is about
lr * sign(w), whatever the weight decay. The "Adam" column of the course's table was trained like this.

What is decayed: `param_groups.py`. How lambda follows the learning rate: `decay_laws.py`.
Sources: Kingma and Ba 2015 (arXiv:1412.6980); Loshchilov and Hutter 2019 (arXiv:1711.05101).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from clipedu.optim.blockwise import BlockAdam, BlockAdamW
from clipedu.optim.decay_laws import DECAY_LAWS, follow
from clipedu.optim.lr_scales import scaled_groups
from clipedu.optim.muon_groups import muon_groups
from clipedu.optim.option_checks import check_heads, check_ranges, refused
from clipedu.optim.param_groups import HEADS, head_apart, parameter_groups
from clipedu.optim.renormalized import renormalize
from clipedu.optim.scion import Scion, ScionC, scion_groups
from clipedu.utils.checks import is_finite_number
from clipedu.utils.errors import ClipeduError
from clipedu.utils.registry import Registry
from clipedu.utils.wrappers import unwrap

_ADAM = {"betas": (0.9, 0.999), "eps": 1e-8}
_SGD = {"momentum": 0.9, "nesterov": True}
_CONSTANT, _CORRECTED = {"decay_law": "constant"}, {"decay_law": "corrected"}


def _of_timm(name: str) -> Callable[..., torch.optim.Optimizer]:
    """Return a builder of the optimizer that timm calls `name`.

    timm is imported when it is called.
    """

    def build(groups: list[dict[str, Any]], **options: Any) -> torch.optim.Optimizer:
        from timm.optim import get_optimizer_class

        return get_optimizer_class(name)(groups, **options)

    return build


def _adamw_renormalized(groups: list[dict[str, Any]], **options: Any) -> torch.optim.Optimizer:
    optimizer = torch.optim.AdamW(groups, **options)
    renormalize(optimizer)
    return optimizer


OPTIMIZERS = Registry("optimizer")
"""All optimizers by name: `OPTIMIZERS["adamw"].description`, `.paper`, `.defaults`."""

_SGDW, _LION, _MUON = _of_timm("sgdw"), _of_timm("lion"), _of_timm("muon")
_MUON_OPTIONS = {"momentum": 0.95, "nesterov": True, "orthogonalise": "hidden"}
_ENTRIES: list[tuple[str, Callable[..., torch.optim.Optimizer], str, str, dict[str, Any]]] = [
    ("sgd", torch.optim.SGD, "SGD with Nesterov momentum 0.9; L2 in the gradient", "", _SGD),
    ("adam", BlockAdam, "Adam with L2 coupled into the gradient, as the course ran it", "1412.6980", _ADAM),
    ("adamw", BlockAdamW, "Adam with decoupled weight decay", "1711.05101", _ADAM | _CONSTANT),
    ("sgdw", _SGDW, "SGD with Nesterov momentum 0.9 and decoupled weight decay", "1711.05101", _SGD | _CONSTANT),
    ("lion", _LION, "sign of an average of gradients; wants a tenth of AdamW's lr", "2302.06675", _CONSTANT),
    (
        "muon",
        _MUON,
        "orthogonalised momentum for hidden matrices; NAdamW for tables, input, heads, 1-D",
        "2502.16982",
        _MUON_OPTIONS | _CONSTANT,
    ),
    (
        "adamp",
        _of_timm("adamp"),
        "AdamW without the steps along scale-free weights, whose decay is 1/100 (timm; 1/10 in the paper)",
        "2006.08217",
        _CONSTANT,
    ),
    ("novograd", _of_timm("novograd"), "one second moment a tensor; decay in the momentum", "1905.11286", {}),
    ("radam", torch.optim.RAdam, "Adam that rectifies its first steps; coupled L2", "1908.03265", _ADAM),
    (
        "radamw",
        torch.optim.RAdam,
        "RAdam with decoupled weight decay",
        "1908.03265",
        _ADAM | {"decoupled_weight_decay": True} | _CONSTANT,
    ),
    (
        "nadamw",
        torch.optim.NAdam,
        "AdamW with Nesterov momentum",
        "1711.05101",
        _ADAM | {"decoupled_weight_decay": True} | _CONSTANT,
    ),
    ("adagrad", torch.optim.Adagrad, "divides by the root of the sum of all squared gradients; coupled L2", "", {}),
    ("rmsprop", torch.optim.RMSprop, "divides by the root of a running mean square; coupled L2", "1308.0850", {}),
    ("adamax", torch.optim.Adamax, "Adam with the largest recent gradient for a scale; coupled L2", "1412.6980", {}),
    ("lamb", _of_timm("lamb"), "Adam steps as long as each layer's weights, for large batches", "1904.00962", {}),
    ("adabelief", _of_timm("adabelief"), "AdamW with the variance about the mean gradient", "2010.07468", _CONSTANT),
    ("laprop", _of_timm("laprop"), "divides before it averages, where Adam averages first", "2002.04839", _CONSTANT),
    ("adan", _of_timm("adanw"), "Nesterov by differences of gradients; decoupled decay", "2208.06677", _CONSTANT),
    ("adopt", _of_timm("adoptw"), "converges for any beta2; its first step moves nothing", "2411.02853", _CONSTANT),
    ("sgdc", _SGDW, "sgdw with corrected weight decay", "2512.08217", _SGD | _CORRECTED),
    ("adamc", BlockAdamW, "adamw with corrected weight decay", "2506.02285", _ADAM | _CORRECTED),
    ("lionc", _LION, "lion with corrected weight decay", "2512.08217", _CORRECTED),
    ("muonc", _MUON, "muon with corrected weight decay", "2512.08217", _MUON_OPTIONS | _CORRECTED),
    ("scion", Scion, "steps of a chosen size in each layer's own norm; its lr is its own", "2502.07529", _CONSTANT),
    ("scionc", ScionC, "scion with corrected decay: the norm settles where weight_decay says", "2512.08217", {}),
    (
        "adamw-renormalized",
        _adamw_renormalized,
        "AdamW without the norm's growth by sideways steps: a control experiment",
        "2512.08217",
        _ADAM | _CONSTANT,
    ),
]
for _name, _build, _description, _paper, _defaults in _ENTRIES:
    OPTIMIZERS.add(_name, _build, _description, paper=_paper and f"arXiv:{_paper}", defaults=_defaults)


def build_optimizer(
    model: nn.Module,
    name: str,
    *,
    lr: float,
    weight_decay: float = 0.0,
    decay_law: str | None = None,
    lr_max: float | None = None,
    heads: Sequence[str] | None = None,
    lr_scales: Mapping[str, float] | None = None,
    **options: Any,
) -> torch.optim.Optimizer:
    """Build an optimizer over the trainable parameters of a model.

    Biases and norms are not decayed (`parameter_groups`).

    Under a law other than "constant", and for "scionc", the weights of `heads` are a group "head" of their own, whose
    lambda stays constant. "muon" and "muonc" orthogonalise neither heads nor tables nor what reads pixels (`muon_groups.py`);
    orthogonalise="all" does. Of a CLIP model these are the two projections. (Where embeddings are normalised afterwards,
    as in the cosine geometry, a projection's scale is free and heads=() would be as well founded.) A "c" at the end of
    a name says corrected: "adamc" is "adamw" with decay_law="corrected".

    Args:
        model: its parameters that require a gradient are trained.
        name: one of `OPTIMIZERS`.
        lr: learning rate, >= 0: the peak, or a warm-up's start where `lr_max` is given.
        weight_decay: >= 0, of the decayed group; at the peak where a law changes it.
        decay_law: one of `DECAY_LAWS`, over the default of the entry; only for names that have such a default.
        lr_max: learning rate of the peak, > 0; None is the largest of `lr` and of what a schedule sets up to now.
            Only under a law other than "constant".
        heads: names of modules, as in "image_projection" or "classifier.last"; () for none, None for `HEADS`. Only
            where something is corrected, and for Muon.
        lr_scales: what lr is multiplied with, by parameter name, > 0; 1 for those that are missing (`tower_scales`). Each factor makes groups
            of its own, with their own peak; a schedule sets lr with `set_lr`.
        options: further arguments of the optimizer, over the defaults of its entry.
    Raises:
        ClipeduError: unknown name, an option the optimizer does not take, a value it refuses, nothing to train, a law for
            a decay that is coupled, a head that is not in the model, a peak or heads where lambda is constant anyway.
    """
    entry = OPTIMIZERS[name]
    defaults = dict(entry.defaults)
    law = _law(name, defaults.pop("decay_law", None), decay_law)
    if lr_max is not None and not (is_finite_number(lr_max) and lr_max > 0):
        raise ClipeduError(f"lr_max={lr_max!r} must be a number above 0")
    check_heads(heads)
    muon = name in ("muon", "muonc")
    orthogonalise = {**defaults, **options}["orthogonalise"] if muon else None
    if muon:
        defaults.pop("orthogonalise")
        options = {key: value for key, value in options.items() if key != "orthogonalise"}
    _refuse_without_effect(name, law, lr_max, heads, orthogonalise)
    heads = HEADS if heads is None else heads
    if name in ("scion", "scionc"):
        groups = scion_groups(model, weight_decay, heads)
        if set_by_groups := sorted({"norm", "corrected"} & set(options)):
            raise ClipeduError(
                f"{set_by_groups[0]}={options[set_by_groups[0]]!r} cannot be given to {name!r} here: each layer has its own, by its "
                "kind. clipedu.optim.scion.Scion takes groups of your own"
            )
    elif orthogonalise is not None:
        groups = muon_groups(model, weight_decay, heads, orthogonalise)
    else:
        groups = parameter_groups(model, weight_decay)
    if not groups:
        raise ClipeduError(f"nothing to train: no parameter of this {type(unwrap(model)).__name__} requires a gradient")
    if law != "constant":
        groups = head_apart(model, groups, heads, decay_law="constant")
    groups = scaled_groups(groups, lr_scales or {}, lr=lr, lr_max=None if law == "constant" else lr_max)
    try:
        if not (0 <= lr < math.inf and 0 <= weight_decay < math.inf):
            raise ValueError("lr and weight_decay must be finite and at least 0")
        check_ranges(options)
        optimizer = entry.build(groups, lr=lr, weight_decay=weight_decay, **{**defaults, **options})
    except Exception as error:  # noqa: BLE001  each optimizer refuses options in its own way
        raise refused(name, {"lr": lr, "weight_decay": weight_decay, **options}, error) from None
    if law != "constant":
        follow(optimizer, law, lr_max=lr_max)
    return optimizer


def _law(name: str, default: str | None, given: str | None) -> str:
    """Return the decay law of an optimizer.

    Raises ClipeduError if one is given where decay is coupled, or an unknown one.
    """
    if given is None:
        return default or "constant"
    if default is None:
        decoupled = ", ".join(key for key, entry in OPTIMIZERS.items() if "decay_law" in entry.defaults)
        raise ClipeduError(f"decay_law={given!r}: {name!r} has no decoupled weight decay. Those that have: {decoupled}")
    return DECAY_LAWS[given].name


def _refuse_without_effect(
    name: str, law: str, lr_max: float | None, heads: Sequence[str] | None, orthogonalise: str | None
) -> None:
    """Raise ClipeduError for a peak or heads that would be ignored.

    They are ignored where lambda is constant everywhere.
    """
    if law != "constant":
        return
    laws = "; ".join(f"decay_law={key!r}" for key in DECAY_LAWS if key != "constant")
    if lr_max is not None:
        raise ClipeduError(f"lr_max={lr_max!r} has no effect on {name!r} here: only a decay law uses it ({laws})")
    if heads is not None and name != "scionc" and orthogonalise != "hidden":
        raise ClipeduError(
            f"heads={list(heads)!r} has no effect on {name!r} here: lambda is constant everywhere. Under a decay law "
            f"heads keep theirs constant ({laws})"
        )
