"""Weights of a model for images of another size.

A model is built anew for that size, and takes the weights of the old one. Tables of positions are resampled, as the library of the
image encoder does it; codes that are computed, as sines and cosines, are those of the new grid.
"""

from __future__ import annotations

import copy
from types import SimpleNamespace
from typing import Any

from torch import Tensor

from clipedu.interop.image_settings import check_patches
from clipedu.interop.image_towers import OpenClipImage
from clipedu.models.dual_encoder import DualEncoder
from clipedu.utils.errors import ClipeduError, without_trace


def resized_state(model: DualEncoder, empty: DualEncoder, image_size: int) -> dict[str, Tensor]:
    """Return the weights of a model as one for another image size takes them.

    Args:
        model: with its weights; it stays as it is.
        empty: of the same kind, built for the other size.
        image_size: height and width of the images that `empty` reads.
    Raises:
        ClipeduError: the size is no multiple of the patches', or something else in the image encoder depends on it.
    """
    encoder: Any = model.image_encoder
    inner = getattr(encoder, "visual", getattr(getattr(encoder, "vision_model", encoder), "config", encoder))
    check_patches("the image encoder", image_size, getattr(getattr(inner, "patch_embed", inner), "patch_size", None))
    before, fixed = _of_library(model, image_size), {n for n, p in empty.named_parameters() if not p.requires_grad}
    state, wanted = before.state_dict(), empty.state_dict()
    if isinstance(encoder, OpenClipImage):
        _resample_open_clip(state, empty)
    for name, value in wanted.items():
        if name not in state or state[name].shape != value.shape:
            if name.endswith("pos_embed") and name not in fixed and name in state and value.ndim == 3:
                state[name] = _resampled(state[name], value, before)
            elif name in fixed and name in state:
                state[name] = value
            else:
                raise ClipeduError(f"{name} of its image encoder is made for images of one size: leave image_size out")
    return {name: state[name] for name in wanted}


def _of_library(model: DualEncoder, image_size: int) -> DualEncoder:
    """Return a model, or a copy whose image encoder timm has made ready for another size, where it can."""
    from clipedu.models.vit import Masked

    encoder: Any = model.image_encoder
    if isinstance(encoder, Masked) or not hasattr(encoder, "set_input_size"):
        return model
    model = copy.deepcopy(model)
    try:
        model.image_encoder.set_input_size(img_size=(image_size, image_size))  # type: ignore[union-attr,operator]
    except Exception as error:  # noqa: BLE001  each of timm's models refuses a size in its own way
        raise ClipeduError(f"its image encoder cannot read it ({without_trace(error)}): leave image_size out") from None
    return model


def _resample_open_clip(state: dict[str, Tensor], empty: DualEncoder) -> None:
    from open_clip.model import resize_pos_embed

    place = "visual.positional_embedding"
    part = {place: state[f"image_encoder.{place}"]}
    resize_pos_embed(part, SimpleNamespace(visual=empty.get_submodule("image_encoder.visual")))
    state[f"image_encoder.{place}"] = part[place]


def _resampled(table: Tensor, wanted: Tensor, model: DualEncoder) -> Tensor:
    """Resample a table of positions [1, L, C] of timm."""
    from timm.layers import resample_abs_pos_embed

    encoder: Any = model.image_encoder
    prefix = 0 if getattr(encoder, "no_embed_class", False) else getattr(encoder, "num_prefix_tokens", 0)
    sides = [round((x.shape[1] - prefix) ** 0.5) for x in (wanted, table)]
    new, old = ([side, side] for side in sides)
    return resample_abs_pos_embed(table, new, old, num_prefix_tokens=prefix)
