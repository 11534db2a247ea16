"""LoRA: low-rank adapters beside the weights of the encoders, by peft.

    W x  becomes  W x + (alpha / r) B A x        A [r, in] drawn at random, B [out, r] zero: at the start nothing changes

The encoders' own weights stay as they are; A, B, and the two projections are trained. Adapted are all linear layers of both encoders
(arXiv:2106.09685 took two of the attention's four; all of them do better), and the fused matrix of query, key and value in
attention layers of torch (`nn.MultiheadAttention`). Such a layer reads the weight of its output layer without calling it, and so do
others: what they read here is the adapted weight (`_Read`). peft would merge and unmerge in each step, which moves the frozen weights
by rounding errors; here they stay what they are to the last bit.

Afterwards the adapters are merged: W + (alpha / r) B A. A merged model is its library's own again, and costs nothing more.
"""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from clipedu.models.dual_encoder import DualEncoder, evaluating
from clipedu.utils.errors import ClipeduError, shorten, without_trace

log = logging.getLogger("clipedu")

ALPHA = 2  # times the rank, where lora_alpha is not given
TOKENS = 4  # of a text that is tried
_OWN = ("r", "inference_mode", "task_type", "modules_to_save", "bias")  # set here, or of no use here


def add_adapters(
    model: DualEncoder,
    rank: int,
    options: Mapping[str, Any] | None = None,
    *,
    image_size: int,
    seed: int = 0,
    tell: bool = True,
) -> None:
    """Add LoRA adapters to the encoders that are not frozen.

    All their own weights are frozen; projections and geometry are trained as before. Convolutions and tables of tokens or positions
    have no adapters, nor have layers that neither an image nor a text passes through: a log line names the weights that stay as they are.

    Args:
        model: changed in place; frozen encoders and locked parts get no adapters.
        rank: r, at least 1.
        options: further arguments of `peft.LoraConfig`; lora_alpha is 2 * rank, target_modules are all linear layers where not given.
        image_size: height and width of the images.
        seed: of what is drawn.
        tell: write that log line; False for a model that is loaded, not trained.
    Raises:
        ClipeduError: peft is not installed, an option that it does not take, no layer that can be adapted, or a rank above all their
            sides.
    """
    check_rank(model, rank)
    try:
        import peft
    except ImportError:
        raise ClipeduError(
            f"lora_rank={rank} needs peft, which is not installed: pip install 'clipedu[finetune]'"
        ) from None
    given = dict(options or {})
    check_options(given)
    trained = [p for name, p in model.named_parameters() if p.requires_grad and not _in_encoder(name)]
    weights = [name for name, p in model.named_parameters() if p.requires_grad and _in_encoder(name) and p.ndim > 1]
    linear, fused, read = _adaptable(model, image_size)
    targets = {} if "target_modules" in given or "target_parameters" in given else _targets(model, linear, fused)
    settings = {"lora_alpha": ALPHA * rank, "exclude_modules": _not_adapted(model), **targets, **given}
    words = "".join(f", {key}={value!r}" for key, value in given.items())
    try:
        with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of target_parameters beside other layers
            torch.default_generator.manual_seed(seed)
            peft.inject_adapter_in_model(peft.LoraConfig(r=rank, **settings), model)
    except Exception as error:  # noqa: BLE001  peft refuses options in many ways
        raise ClipeduError(
            f"LoRA with lora_rank={rank}{words} cannot be used: {shorten(without_trace(error), 300)}"
        ) from None
    for parameter in trained:
        parameter.requires_grad_(True)
    for layer in [module for module in model.modules() if _is_adapter(module)]:
        if cast(Any, layer).get_base_layer() in read:
            _let_be_read(layer, words)
    if tell:
        _tell_left_out(model, weights)
    for wrapper in [module for module in model.modules() if hasattr(module, "parameter_name") and _is_adapter(module)]:
        own = cast(Any, wrapper).get_base_layer()._parameters  # a forward pass takes it out and puts it at the end:
        own[wrapper.parameter_name] = own.pop(
            wrapper.parameter_name
        )  # there it is from now on, so that the order stays
    model.train(model.training)


def check_rank(model: DualEncoder, rank: int) -> None:
    """Check that a rank of LoRA is not above those of the layers.

    Args:
        model: its encoders frozen and locked as they are to be.
        rank: r.
    Raises:
        ClipeduError: it is above the smaller side of every matrix that may be adapted, or there is none.
    """
    matrices = [p for name, p in model.named_parameters() if _in_encoder(name) and p.requires_grad and p.ndim > 1]
    if not matrices:
        raise ClipeduError(
            f"lora_rank={rank} has nothing to adapt: both encoders are frozen or locked. Leave it out, or name less in lock"
        )
    largest = max(min(p.shape[0], p[0].numel()) for p in matrices)
    if rank > largest:
        raise ClipeduError(
            f"lora_rank={rank} is above the rank of every matrix in the encoders, at most {largest}: take {largest} or less, 4 to 32 as a "
            "rule, or leave it out to train the weights themselves"
        )


def merge_adapters(model: DualEncoder) -> DualEncoder:
    """Merge the adapters into the weights; the model is as it was without.

    Args:
        model: changed in place; one without adapters stays as it is.
    """
    if not has_adapters(model):
        return model
    for name in reversed([n for n, module in model.named_modules() if _is_adapter(module)]):  # the inner ones first
        above, _, last = name.rpartition(".")
        parent = model.get_submodule(above)
        layer: Any = getattr(parent, last)
        layer.merge(safe_merge=True)
        setattr(parent, last, layer.get_base_layer())
    for name in ("peft_config", "_hf_peft_config_loaded"):
        if name in vars(model):
            delattr(model, name)
    return model


def has_adapters(model: nn.Module) -> bool:
    """Return whether a model has LoRA adapters that are not merged."""
    return any(_is_adapter(module) for module in model.modules())


def check_options(options: Mapping[str, Any]) -> None:
    """Check the names of further options of LoRA, without peft.

    Raises:
        ClipeduError: one that is set here.
    """
    for key in options:
        if key in _OWN:
            instead = "lora_rank" if key == "r" else "lock, image_frozen and text_frozen"
            raise ClipeduError(f"lora_options has no {key!r}: what is trained beside the adapters is set by {instead}")


def _is_adapter(module: nn.Module) -> bool:
    return hasattr(module, "base_layer") and hasattr(module, "lora_A")


def _in_encoder(name: str) -> bool:
    return name.startswith(("image_encoder.", "text_encoder."))


def _adaptable(model: DualEncoder, image_size: int) -> tuple[list[str], list[str], set[nn.Module]]:
    """Return what can be adapted in the encoders that are trained.

    Returns:
        the names of linear layers and of fused matrices [3 d, d]; and those of the layers whose weights are read without calling them.
    """
    linear, fused = list[str](), list[str]()
    closed = (*(f"{side}_encoder" for side in model.frozen), *model.locked)
    for name, module in model.named_modules():
        if not _in_encoder(name) or any(name == one or name.startswith(f"{one}.") for one in closed):
            continue
        if isinstance(module, nn.Linear) and module.weight.requires_grad:
            linear.append(name)
        weight = getattr(module, "in_proj_weight", None)
        around = any(one.startswith(f"{name}.") for one in closed)
        if isinstance(weight, nn.Parameter) and weight.ndim == 2 and weight.requires_grad and not around:
            fused.append(f"{name}.in_proj_weight")
    called, read = _used(model, image_size, linear, fused)
    layers = {model.get_submodule(name) for name in linear if name in read and name not in called}
    used = called | read
    return [name for name in linear if name in used], [name for name in fused if name in used], layers


@torch.enable_grad()
def _used(
    model: DualEncoder, image_size: int, linear: Sequence[str], fused: Sequence[str]
) -> tuple[set[str], set[str]]:
    """Encode a black image and a text of a few tokens.

    Returns:
        which linear layers are called, and which of the other weights have a part in the result.
    """
    called: set[str] = set()
    handles = [
        model.get_submodule(name).register_forward_pre_hook(lambda *_, name=name: called.add(name)) for name in linear
    ]
    try:
        with evaluating(model):
            ids = torch.ones(1, TOKENS, dtype=torch.long, device=model.device)
            total = model.text_features(ids, ids.bool()).sum()
            total = total + model.image_features(torch.zeros(1, 3, image_size, image_size, device=model.device)).sum()
    finally:
        for handle in handles:
            handle.remove()
    rest = {name: model.get_parameter(f"{name}.weight") for name in linear if name not in called}
    rest |= {name: model.get_parameter(name) for name in fused}
    gradients = torch.autograd.grad(total, list(rest.values()), allow_unused=True) if rest else ()
    return called, {name for name, gradient in zip(rest, gradients, strict=True) if gradient is not None}


class _Read:
    """Mixin before peft's adapter of a linear layer: its weight, where it is read, is W + (alpha / r) B A."""

    @property
    def weight(self) -> Tensor:
        layer = cast(Any, self)
        own = layer.get_base_layer().weight
        return own if layer.merged else own + sum(layer.get_delta_weight(name) for name in layer.active_adapters)


def _let_be_read(adapter: Any, words: str) -> None:
    """Let an adapter's weight be read with its change in it.

    Args:
        adapter: changed in place.
        words: the options it was made with, for messages.
    Raises:
        ClipeduError: one that changes more than the weight.
    """
    if adapter.lora_variant or any(not isinstance(one, nn.Identity) for one in adapter.lora_dropout.values()):
        raise ClipeduError(
            f"LoRA with {words.removeprefix(', ')} cannot be used in layers whose weight is read without calling them, as in attention "
            "of torch: leave that option out, or choose other layers with target_modules"
        )
    kind = type(adapter)
    adapter.__class__ = type(f"Read{kind.__name__}", (_Read, kind), {})


def _tell_left_out(model: DualEncoder, weights: Sequence[str]) -> None:
    """Say which weights of the encoders have no adapter.

    Args:
        model: with adapters.
        weights: names of all matrices that would be trained without them, before they were added.
    """
    adapted = set()
    for name, module in model.named_modules():
        if _is_adapter(module):
            adapted.add(f"{name.replace('.base_layer', '')}.{getattr(module, 'parameter_name', 'weight')}")
    if left := [name for name in weights if name not in adapted]:
        log.info(
            "LoRA leaves %d of %d matrices of the encoders without an adapter, so they stay as they are: %s%s",
            *(len(left), len(weights), ", ".join(left[:4]), " ..." if len(left) > 4 else ""),
        )


@torch.no_grad()
def _called(model: DualEncoder, image_size: int, names: Sequence[str]) -> set[str]:
    """Return which modules are called when a black image and a text of a few tokens are encoded."""
    called: set[str] = set()
    handles = [
        model.get_submodule(name).register_forward_pre_hook(lambda *_, name=name: called.add(name)) for name in names
    ]
    try:
        with evaluating(model):
            model.image_features(torch.zeros(1, 3, image_size, image_size, device=model.device))
            ids = torch.ones(1, TOKENS, dtype=torch.long, device=model.device)
            model.text_features(ids, ids.bool())
    finally:
        for handle in handles:
            handle.remove()
    return called


def _targets(model: DualEncoder, linear: list[str], fused: list[str]) -> dict[str, Any]:
    if not linear and not fused:
        sides = [side for side in ("image", "text") if side not in model.frozen]
        what = " and ".join(f"the {side} encoder" for side in sides)
        why = f"{what} has none that can be adapted" if sides else "both encoders are frozen"
        raise ClipeduError(
            f"LoRA adapts linear layers of the encoders that are trained, and {why}: leave lora_rank out"
        )
    settings: dict[str, Any] = {"target_modules": "|".join(map(re.escape, linear)) or "none"}
    return settings | ({"target_parameters": fused} if fused else {})


def _not_adapted(model: DualEncoder) -> str:
    """Return a pattern of all that adapters may not be in."""
    closed = ("image_projection", "text_projection", "geometry", *(f"{s}_encoder" for s in model.frozen), *model.locked)
    return "|".join(rf"{re.escape(name)}(\..*)?" for name in closed)
