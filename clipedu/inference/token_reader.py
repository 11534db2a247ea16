"""Tokens of vision transformers of other libraries than timm.

Their modules in `clipedu.interop` read them themselves.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from clipedu.models.dual_encoder import DualEncoder, evaluating
from clipedu.utils.errors import ClipeduError

IMAGES = 64  # that go through a model at a time


@runtime_checkable
class ReadsTokens(Protocol):
    """An image encoder that reads its own tokens."""

    def grid_size(self) -> tuple[int, int]:
        """Return the rows and columns of patches, which come last."""

    def attention_weights(self, pixels: Tensor) -> list[Tensor]:
        """Return [B, heads, L, L] of each block, for normalised pixels."""

    def token_states(self, pixels: Tensor) -> list[Tensor]:
        """Return [B, L, width] of each block, for normalised pixels."""


def reader_of(model: nn.Module) -> ReadsTokens | None:
    """Return a model's image encoder, if it reads its own tokens.

    Args:
        model: any.
    Raises:
        ClipeduError: it would, but it has no patches, or no blocks that all see the same tokens.
    """
    encoder = model.image_encoder if isinstance(model, DualEncoder) else None
    if not isinstance(encoder, ReadsTokens):
        return None
    if not encoder.grid_size()[0] or token_count(model, encoder) < math.prod(encoder.grid_size()):
        raise no_maps(encoder)
    return encoder


@torch.no_grad()
def token_count(model: Any, reader: ReadsTokens) -> int:
    """Return how many tokens come out of each block.

    It is 0 where that differs from block to block.
    """
    black = torch.zeros(1, 3, model.image_size, model.image_size, device=model.device)
    with evaluating(model):
        states = reader.token_states(model.normalise(black))
    shapes = {tuple(state.shape) for state in states}
    return next(iter(shapes))[1] if len(shapes) == 1 and states[0].ndim == 3 else 0


@torch.no_grad()
def read_blocks(
    model: Any, pixels: Tensor, read: Callable[[Tensor], list[Tensor]], keep: Callable[[Tensor], Tensor]
) -> Tensor:
    """Read what each block gives, some images at a time.

    Args:
        model: whose image encoder it is.
        pixels: [B, 3, H, W], 0..255.
        read: a method of the encoder: normalised pixels -> a tensor [b, ...] a block.
        keep: applied to each of them.
    Returns:
        [blocks, B, ...] on the CPU, float32.
    Raises:
        ClipeduError: pixels that do not fit, or an encoder that gives nothing.
    """
    check_pixels(model, (model.image_size, model.image_size), pixels)
    with evaluating(model):
        parts = [read(model.normalise(part.to(model.device))) for part in pixels.split(IMAGES)]
    if not parts[0]:
        raise no_maps(model.image_encoder)
    return torch.cat([torch.stack([keep(block.float()).cpu() for block in part]) for part in parts], 1)


def no_maps(encoder: Any) -> ClipeduError:
    """Make the error for an encoder whose tokens cannot be read."""
    return ClipeduError(
        f"a {type(encoder).__name__} has no attention maps that can be read here. Works with timm's VisionTransformer and "
        "Eva and their usual blocks, e.g. image_encoder='fractal_vit_nano_patch4_32' or 'vit_small_patch16_224', and with vision "
        "transformers of open_clip and transformers (clipedu.adopt)"
    )


def check_pixels(model: nn.Module, image_size: tuple[int, int], pixels: Tensor) -> None:
    """Check that pixels are what a model takes.

    Args:
        model: a `DualEncoder` takes uint8 too, a bare encoder floats alone.
        image_size: height and width that it is made for.
        pixels: any.
    Raises:
        ClipeduError: they are not.
    """
    size = (3, *image_size)
    if pixels.ndim != 4 or tuple(pixels.shape[1:]) != size or not len(pixels):
        raise ClipeduError(
            f"pixels {list(pixels.shape)} do not fit this model, which takes [B, {', '.join(map(str, size))}]"
        )
    if not isinstance(model, DualEncoder) and not pixels.is_floating_point():
        raise ClipeduError(
            f"a bare image encoder takes normalised floats, not {pixels.dtype} pixels; a DualEncoder (run.model()) takes these"
        )
