"""Vision transformers with extra tokens, on timm's models.

Registers, summary tokens and the fractal mask:

    timm.create_model("fractal_vit_small_patch16_256")                    # after `import clipedu.models.vit`
    clipedu train --image-encoder fractal_vit_nano_patch4_32 --image-options extra=registers pos_embed=alibi

Four things can be chosen of every name here, by options of the same names:

    extra      which tokens there are besides the patches (`EXTRA`); the mean over *patches* is the image's feature
    pos_embed  the position encoding (`POSITIONS`)
    summary    what summary tokens hold at first (`SUMMARY`); by default what goes with the position encoding
    base       windows of base x base; how many summary tokens that makes

The computing is timm's: `VisionTransformer`, and `Eva` for RoPE. What is added is a mask, kept in a buffer that no checkpoint
holds, and initial values. All are drawn alike, as in the paper's code (Xavier for each of Q, K and V, LeCun for the patches),
so that two models that differ in one option differ in nothing else.

The paper has no RoPE and no ALiBi with registers: these are ours. There registers carry neither rotation nor bias.
"""

from __future__ import annotations

import inspect
import math
from typing import Any

import torch
from timm.data import IMAGENET_INCEPTION_MEAN, IMAGENET_INCEPTION_STD
from timm.layers import get_norm_layer
from timm.models import VisionTransformer, build_model_with_cfg, generate_default_cfgs, named_apply, register_model
from timm.models.eva import Eva
from timm.models.vision_transformer import init_weights_vit_jax
from torch import Tensor, nn

from clipedu.models.cost import matched_mlp_ratio
from clipedu.models.fractal_mask import bases_of, fractal_mask, grids_of, summary_sides
from clipedu.models.position_codes import alibi_bias, sincos2d
from clipedu.models.registry import ENCODERS, VISION_TRANSFORMERS
from clipedu.utils.checks import checked_number
from clipedu.utils.errors import ClipeduError, unknown_name
from clipedu.utils.registry import Entry

EXTRA = {
    "none": "patches alone",
    "wide": "patches alone, and a wider MLP that costs what the summary tokens would",
    "registers": "learned tokens that all see, thrown away at the end; as many as there would be summary tokens",
    "summary": "a token for each window, all tokens see all",
    "fractal": "a token for each window, under the fractal mask",
}
POSITIONS = {
    "none": "no position encoding (NoPE)",
    "sincos2d": "fixed sines and cosines of row and column, added to the patches",
    "learned": "a learned vector for each place, added to the patches",
    "alibi": "attention scores are lowered by the distance of two patches",
    "rope": "queries and keys are rotated by row and column (axial RoPE)",
}
SUMMARY = {
    "zero": "zeros, all alike, not learned",
    "sincos2d": "the codes of their own grid, not learned",
    "learned": "a learned vector each",
}
# As in the paper's code; for RoPE, which it lacks, learned ones: zeros without a mask would always stay alike.
SUMMARY_OF = {"none": "zero", "sincos2d": "sincos2d", "learned": "learned", "alibi": "zero", "rope": "learned"}


# Options of timm's classes that are set here, with the value that each has and the reason.
_POOLED = "the mean over patches is the image's feature"
_COUNTED = "extra tokens are chosen by extra, and their number by registers or base"
_DRAWN = "initial weights are drawn alike for all of these models"
FIXED: dict[str, tuple[Any, str]] = {
    "global_pool": ("avg", _POOLED),
    "pool_include_prefix": (False, _POOLED),
    "fc_norm": (False, "the last norm comes before the mean over patches"),
    "use_fc_norm": (False, "the last norm comes before the mean over patches"),
    "class_token": (False, _COUNTED),
    "reg_tokens": (0, _COUNTED),
    "num_reg_tokens": (0, _COUNTED),
    "no_embed_class": (True, "extra tokens have no position code of the patches"),
    "weight_init": ("", _DRAWN),
    "fix_init": (False, _DRAWN),
}
RATES = ("patch_drop_rate", "drop_rate", "pos_drop_rate", "proj_drop_rate", "attn_drop_rate", "drop_path_rate")


class Masked:
    """Mixin before a timm class: a mask of the model's own.

    It is used wherever none is passed.

    Attributes:
        attn_mask: bool (True = may attend) or float, added to the scores; None for no mask.
        grid: patches a side.
        sides: tokens a side of each level of summary tokens, coarsest first; empty without them.
    """

    attn_mask: Tensor | None
    grid: int
    sides: list[int]

    def forward_features(self, x: Tensor, attn_mask: Tensor | None = None, **kwargs: Any) -> Tensor:
        """Compute timm's features under the model's own mask."""
        timm_class: Any = super()
        return timm_class.forward_features(x, attn_mask=self.attn_mask if attn_mask is None else attn_mask, **kwargs)

    def forward_intermediates(self, x: Tensor, *args: Any, attn_mask: Tensor | None = None, **kwargs: Any) -> Any:
        """Compute timm's intermediates under the model's own mask."""
        timm_class: Any = super()
        mask = self.attn_mask if attn_mask is None else attn_mask
        return timm_class.forward_intermediates(x, *args, attn_mask=mask, **kwargs)

    def no_weight_decay(self) -> set[str]:
        """Return names that are not decayed: codes and tokens, as in the paper.

        Older versions of timm leave out the registers.
        """
        return {"pos_embed", "reg_token"}

    def set_input_size(self, *args: Any, **kwargs: Any) -> None:
        """Raise ClipeduError: tokens and mask are made for one grid."""
        raise ClipeduError("the size of this image encoder cannot be changed: build it again with another img_size")


# Both classes of timm take the mask and further arguments by keyword; their signatures differ in those.
class MaskedViT(Masked, VisionTransformer):  # type: ignore[misc]
    """timm's VisionTransformer with a mask of its own."""

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Switch checkpointing on or off; with a mask raise ClipeduError.

        With a mask timm would silently leave it out.
        """
        if enable and self.attn_mask is not None:
            raise ClipeduError(
                "gradient checkpointing does not go with an attention mask; accumulate=4 saves memory too"
            )
        super().set_grad_checkpointing(enable)


class MaskedEva(Masked, Eva):  # type: ignore[misc]
    """timm's Eva, which can do RoPE, with a mask of its own."""


def build_vit(
    *,
    img_size: int,
    patch_size: int,
    embed_dim: int,
    depth: int,
    num_heads: int,
    mlp_ratio: float = 4.0,
    extra: str = "none",
    base: int | None = None,
    registers: int | None = None,
    summary: str | None = None,
    pos_embed: str = "sincos2d",
    **options: Any,
) -> MaskedViT | MaskedEva:
    """Build a vision transformer.

    Pixels [B, 3, H, W] -> mean over patches [B, embed_dim], then timm's head if there are classes.

    The arguments are options of `timm.create_model`, one name each, so there is no settings object.

    Args:
        img_size: H = W, pixels; a multiple of `patch_size`.
        patch_size: pixels.
        embed_dim, depth, num_heads: width of the tokens, blocks, and heads of each.
        mlp_ratio: hidden width of the MLP over `embed_dim`. extra="wide" takes more (`matched_mlp_ratio`).
        extra, pos_embed, summary: see `EXTRA`, `POSITIONS`, `SUMMARY`.
        base: of the windows; the grid, img_size / patch_size, must be a power of it.
        registers: how many; None takes as many as there would be summary tokens.
        options: further arguments of timm's class, e.g. num_classes, drop_path_rate.
    Returns:
        the model, with attributes `grid` (patches a side), `sides` (of the levels of summary tokens, coarsest first;
        empty without them), timm's `num_prefix_tokens`, and `attn_mask` (None, bool [L, L], or float [1, heads, L, L]).
    Raises:
        ClipeduError: an unknown choice, an option that would be ignored, or a grid that cannot carry the windows.
    """
    _check(extra, pos_embed, summary, registers, options)
    seed = int(
        torch.randint(2**62, (), device="cpu")
    )  # drawn first: initial weights do not depend on how many tokens there are
    grid = img_size // patch_size
    sides = [] if registers is not None or extra == "none" else _sides(img_size, patch_size, base)
    tokens = registers if registers is not None else sum(side * side for side in sides)
    if extra == "wide":
        mlp_ratio, tokens = matched_mlp_ratio(grid**2, tokens, embed_dim, mlp_ratio), 0
    sides = sides if extra in ("summary", "fractal") else []

    options = {name: value for name, value in options.items() if name not in FIXED}
    if pos_embed == "rope" and isinstance(options.get("norm_layer"), str):
        options["norm_layer"] = get_norm_layer(options["norm_layer"])  # Eva takes no name
    shape: dict[str, Any] = {"img_size": img_size, "patch_size": patch_size, "embed_dim": embed_dim, "depth": depth}
    shape |= {"num_heads": num_heads, "mlp_ratio": mlp_ratio, "class_token": False, "global_pool": "avg"}
    if pos_embed == "rope":
        rotary: dict[str, Any] = {"use_rot_pos_emb": True, "use_abs_pos_emb": False, "attn_type": "rope"}
        model: MaskedViT | MaskedEva = MaskedEva(**shape, **rotary, num_reg_tokens=tokens, use_fc_norm=False, **options)
    else:
        added = "learn" if pos_embed in ("sincos2d", "learned") else "none"
        model = MaskedViT(**shape, pos_embed=added, reg_tokens=tokens, no_embed_class=True, fc_norm=False, **options)
    model.grid, model.sides = grid, sides
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        _draw(model)
        _fill(model, pos_embed, (summary or SUMMARY_OF[pos_embed]) if sides else "learned")
    mask = fractal_mask(grid, base) if extra == "fractal" and base is not None else None
    if pos_embed == "alibi":
        bias = alibi_bias([*sides, grid], num_heads, 0 if sides else tokens).float()
        mask = (bias if mask is None else bias.masked_fill(~mask, -torch.inf))[None]
    model.register_buffer("attn_mask", mask, persistent=False)
    return model


def _check(extra: str, pos_embed: str, summary: str | None, registers: int | None, options: dict[str, Any]) -> None:
    for kind, given, allowed in (("extra", extra, EXTRA), ("pos_embed", pos_embed, POSITIONS)):
        if given not in allowed:
            raise unknown_name(kind, given, allowed)
    if summary is not None and summary not in SUMMARY:
        raise unknown_name("summary", summary, SUMMARY)
    if summary is not None and extra not in ("summary", "fractal"):
        raise ClipeduError(f"summary={summary!r} needs summary tokens: extra='summary' or 'fractal', not {extra!r}")
    if registers is not None and (extra != "registers" or registers < 1):
        raise ClipeduError(f"registers={registers} needs extra='registers', not {extra!r}, and at least 1")
    timm_class, what = (Eva, "with pos_embed='rope'") if pos_embed == "rope" else (VisionTransformer, "of this kind")
    known = set(inspect.signature(build_vit).parameters) | set(inspect.signature(timm_class).parameters)
    for name in options:
        if name not in known | set(FIXED):
            raise unknown_name(
                f"option of a vision transformer {what}:", name, sorted(known - set(FIXED) - {"options"})
            )
    for name, (value, reason) in FIXED.items():
        if name in options and options[name] != value:
            raise ClipeduError(f"{name}={options[name]!r} cannot be given to this image encoder: {reason}")
    for name in RATES:
        if name in options:
            checked_number(name, options[name], at_least=0, below=1)
    what = "the fractal mask is" if extra == "fractal" else "ALiBi's bias is" if pos_embed == "alibi" else ""
    if options.get("patch_drop_rate") and what:
        raise ClipeduError(
            f"patch_drop_rate={options['patch_drop_rate']!r} cannot be used here: {what} made for all patches in their order. "
            "Without patches: extra='none', 'wide', 'registers' or 'summary', and another pos_embed than 'alibi'"
        )
    what = what or ("summary tokens are" if extra == "summary" else "")
    if options.get("dynamic_img_size") and what:
        raise ClipeduError(f"dynamic_img_size=True cannot be used here: {what} made for one grid")
    if options.get("pos_drop_rate") and pos_embed in ("none", "alibi"):
        raise ClipeduError(
            f"pos_drop_rate={options['pos_drop_rate']!r} has no effect with pos_embed={pos_embed!r}: timm applies it where a "
            "position code is added. drop_rate, proj_drop_rate and attn_drop_rate work"
        )


def _sides(img_size: int, patch_size: int, base: int | None) -> list[int]:
    """Return `summary_sides` of an image.

    The error suggests sizes of images and patches that fit.
    """
    grid = img_size // patch_size
    try:
        if base is None:
            raise ClipeduError(
                f"windows need a base. Bases that fit a grid of {grid} x {grid}: {', '.join(map(str, bases_of(grid))) or 'none'}"
            )
        return summary_sides(grid, base)
    except ClipeduError as error:
        if base is None or base < 2:  # no size of image or patch would help
            raise
        sizes = ", ".join(str(patch_size * n) for n in grids_of(base, 64))
        patches = ", ".join(str(img_size // n) for n in grids_of(base, img_size) if img_size % n == 0)
        raise ClipeduError(
            f"img_size={img_size} with patch_size={patch_size}: {error}. So with this patch_size and base take img_size "
            f"{sizes}; with this img_size and base patch_size {patches or '(none)'}"
        ) from None


@torch.no_grad()
def _draw(model: Any) -> None:
    """Draw initial weights, the same for both of timm's classes.

    They are drawn as in big_vision's ViT, each of Q, K and V separately.
    """
    named_apply(init_weights_vit_jax, model)
    for block in model.blocks:
        bound, attention = math.sqrt(3 / model.embed_dim), block.attn
        joint = [attention.qkv] if attention.qkv is not None else [attention.q_proj, attention.k_proj, attention.v_proj]
        for projection in joint:
            nn.init.uniform_(projection.weight, -bound, bound)


@torch.no_grad()
def _fill(model: Any, pos_embed: str, content: str) -> None:
    """Set initial position codes and extra tokens.

    The fixed ones require no gradient.
    """
    std = model.embed_dim**-0.5
    if pos_embed == "learned":
        nn.init.normal_(model.pos_embed, std=std)
    elif pos_embed == "sincos2d":
        model.pos_embed.copy_(sincos2d(model.grid, model.embed_dim)[None])
        model.pos_embed.requires_grad_(False)
    if model.reg_token is None:
        return
    if content == "learned":
        nn.init.normal_(model.reg_token, std=std)
    elif content == "zero":
        model.reg_token.zero_()
    else:
        model.reg_token.copy_(torch.cat([sincos2d(side, model.embed_dim) for side in model.sides])[None])
    model.reg_token.requires_grad_(content == "learned")


def _register(entry: Entry) -> None:
    """Register an entry of `ENCODERS` with timm.

    `timm.create_model` can then build it.
    """
    settings = {name: value for name, value in entry.defaults.items() if name != "timm"}

    def make(pretrained: bool = False, **changes: Any) -> nn.Module:
        return build_model_with_cfg(build_vit, entry.name, pretrained, **{**settings, **changes})

    make.__name__, make.__doc__ = entry.name, entry.description
    default_cfgs[entry.name] = generate_default_cfgs({entry.name: PIXELS})[entry.name]
    register_model(make)


PIXELS = {
    "mean": IMAGENET_INCEPTION_MEAN,
    "std": IMAGENET_INCEPTION_STD,
    "fixed_input_size": True,
    "classifier": "head",
}
default_cfgs: dict[str, Any] = {}  # timm reads the records of a module's models under this name
for _name in VISION_TRANSFORMERS:
    _register(ENCODERS[_name])
