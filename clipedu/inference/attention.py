"""Attention maps and token norms of a vision transformer.

In a block the output of every token is a weighted mean over all tokens (itself too), with weights

    A = softmax(Q K^T / sqrt(d) + mask)        a row a query, a column a key; rows sum to 1       one A a block and head

(Vaswani et al. 2017, arXiv:1706.03762, eq. 1; d is the width of a head). A row, laid out on the patch grid, is a
picture of what its token attends to; what is missing from 100 % there goes to the extra tokens: class, registers,
summary tokens.

All of the computing is timm's. Its fused attention never holds A as a whole, so it is switched off during a call. Released
models (`clipedu.adopt`) of other libraries read their own tokens (`token_reader.py`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from clipedu.inference.token_reader import IMAGES, check_pixels, no_maps, read_blocks, reader_of, token_count
from clipedu.models.dual_encoder import DualEncoder
from clipedu.models.fractal_mask import tokens as windows_of
from clipedu.utils.errors import ClipeduError


@dataclass(frozen=True, eq=False)
class Tokens:
    """What each token of a sequence is.

    Attributes:
        names: one a token, in the order of the sequence; all counts start at 0: "class", "register 3", "summary 1x1",
            "summary 2x2 (0, 1)", "patch (2, 5)", the last two with (row, column).
        extra: how many come before the patches.
        grid: (rows, columns) of patches.
        windows: of models with summary tokens int64 [L, 3], each token's window (size, top, left), in patches; else None.
    """

    names: tuple[str, ...]
    extra: int
    grid: tuple[int, int]
    windows: Tensor | None = None

    def index(self, name: str) -> int:
        """Return a token's place in the sequence.

        Raises:
            ClipeduError: no token of that name.
        """
        if name not in self.names:
            ends: dict[str, list[str]] = {}
            for known in self.names:
                ends.setdefault(re.sub(r" (\d+|\(.*\))$", "", known), []).append(known)
            spans = [kind[0] if len(kind) == 1 else f"{kind[0]} to {kind[-1]}" for kind in ends.values()]
            raise ClipeduError(f"no token {name!r}. This model has: {', '.join(spans)}")
        return self.names.index(name)


def name_tokens(model: nn.Module) -> Tokens:
    """Name the tokens of a model.

    Raises:
        ClipeduError: no vision transformer.
    """
    reader = reader_of(model)
    encoder: Any = _vision_transformer(model) if reader is None else reader
    rows, columns = encoder.patch_embed.grid_size if reader is None else reader.grid_size()
    sides = getattr(encoder, "sides", [])
    names = [name for name, kind in (("class", "cls_token"), ("distillation", "dist_token")) if _has(encoder, kind)]
    for side in sides:
        places = [f" ({row}, {column})" for row in range(side) for column in range(side)] if side > 1 else [""]
        names += [f"summary {side}x{side}{place}" for place in places]
    if reader is not None:
        before = token_count(model, reader) - rows * columns
        names += ["class"][:before]
    else:
        before = encoder.num_prefix_tokens
    names += [f"register {number}" for number in range(before - len(names))]
    patches = [f"patch ({row}, {column})" for row in range(rows) for column in range(columns)]
    windows = windows_of([*sides, rows]) if sides else None
    return Tokens((*names, *patches), len(names), (rows, columns), windows)


def reads_attention(model: nn.Module, image_size: int | None = None) -> bool:
    """Return whether `attention_maps` and `token_norms` can read this model.

    They read a vision transformer of timm with its usual blocks, one of a released model, and pictures of the size that it is made
    for.

    Args:
        model: any.
        image_size: height and width of the pictures; None asks for the model alone. (A model with `dynamic_img_size`
            takes other sizes too, but there its tokens have no names.)
    """
    try:
        reader = reader_of(model)
        size = _vision_transformer(model).patch_embed.img_size if reader is None else (model.image_size,) * 2
    except ClipeduError:
        return False
    return image_size is None or tuple(size) == (image_size, image_size)


def attention_maps(model: nn.Module, pixels: Tensor) -> Tensor:
    """Compute the attention weights of every block and head.

    They are those of evaluation (no dropout); the model is left as it was.

    Args:
        model: a `DualEncoder` (`run.model()`, `clipedu.adopt(...)`), or a timm `VisionTransformer` or `Eva`.
        pixels: [B, 3, H, W]: uint8 or float in 0..255 for a `DualEncoder`, which normalises them; for a bare timm model
            floats, already normalised.
    Returns:
        [blocks, B, heads, L, L], 0..1, on the CPU: a row a query, a column a key, tokens as in `name_tokens`; rows sum
        to 1, and weights that a mask forbids are exactly 0. A ViT-S/16 at 256 px with 17 extra tokens makes 21 MB an
        image.
    Raises:
        ClipeduError: no vision transformer, or pixels that do not fit it.
    """
    if (reader := reader_of(model)) is not None:
        return read_blocks(model, pixels, reader.attention_weights, lambda weights: weights)
    return _watch(model, pixels, "blocks.{}.attn.attn_drop", lambda weights: weights)


def token_norms(model: nn.Module, pixels: Tensor) -> Tensor:
    """Compute the L2 norm of every token after each block.

    The norm layer at the end is not applied. Arguments and errors are those of `attention_maps`.

    Returns:
        [blocks, B, L], on the CPU.
    """
    if (reader := reader_of(model)) is not None:
        return read_blocks(model, pixels, reader.token_states, lambda x: x.norm(dim=-1))
    return _watch(model, pixels, "blocks.{}", lambda x: x.norm(dim=-1))


@torch.no_grad()
def _watch(model: nn.Module, pixels: Tensor, modules: str, keep: Callable[[Tensor], Tensor]) -> Tensor:
    """Apply `keep` to the output of one module of each block.

    `modules` is its name, with "{}" for the number of the block. The result is [blocks, B, ...].
    """
    from timm.utils import AttentionExtract

    encoder = _vision_transformer(model)
    forward = model.image_features if isinstance(model, DualEncoder) else encoder
    check_pixels(model, encoder.patch_embed.img_size, pixels)
    device = next(encoder.parameters()).device
    names = [modules.format(number) for number in range(len(encoder.blocks))]
    with _without_fused_attention(encoder):
        hooks: Any = AttentionExtract(encoder, names, mode="eval", method="hook").hooks
        try:
            parts = []
            for part in pixels.split(IMAGES):
                forward(part.to(device))
                parts.append(torch.stack([keep(out).cpu() for out in hooks.get_output(device).values()]))
        finally:
            for handle in hooks._handles:  # timm has no method that removes them
                handle.remove()
    return torch.cat(parts, 1)


@contextmanager
def _without_fused_attention(encoder: Any) -> Iterator[None]:
    """Switch fused attention off, and restore it and all modes afterwards."""
    modes = {module: module.training for module in encoder.modules()}
    fused = {block.attn: block.attn.fused_attn for block in encoder.blocks}
    try:
        for attention in fused:
            attention.fused_attn = False
        yield
    finally:
        for attention, flag in fused.items():
            attention.fused_attn = flag
        for module, mode in modes.items():
            module.training = mode


def _vision_transformer(model: nn.Module) -> Any:  # timm's VisionTransformer | Eva, which are imported inside
    """Return the image encoder, if it is a vision transformer of timm.

    Its attention is a softmax that `attn_drop` gets.
    """
    from timm.layers import Attention, AttentionRope
    from timm.models import VisionTransformer
    from timm.models.eva import Eva, EvaAttention

    encoder = model.image_encoder if isinstance(model, DualEncoder) else model
    known = isinstance(encoder, (VisionTransformer, Eva)) and all(
        isinstance(getattr(block, "attn", None), (Attention, AttentionRope, EvaAttention)) for block in encoder.blocks
    )
    if not known:
        raise no_maps(encoder)
    return encoder


def _has(encoder: nn.Module, token: str) -> bool:
    return getattr(encoder, token, None) is not None
