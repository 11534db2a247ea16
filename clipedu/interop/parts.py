"""`Parts` of a library's model, and the `DualEncoder` made of them.

A library's model is taken apart where its features end and its projections begin. That they fit is tried with one black image
and one short text, so that what cannot be scored is refused when the model is loaded.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from clipedu.geometry import build_geometry
from clipedu.models.dual_encoder import DualEncoder, Tower, evaluating
from clipedu.utils.errors import ClipeduError, quoted, without_trace
from clipedu.utils.finite import NotFinite, model_fault

NORM_PARTS = {"image": "image", "text": "text"}  # of a `NormMonitor`; the rest is "other"
_TRIED = "a photo"


@dataclass(frozen=True)
class Parts:
    """A released model, taken apart.

    Attributes:
        name: as it was asked for, for messages.
        image_encoder: pixels [B, 3, H, W], normalised -> features [B, F].
        text_encoder: `(input_ids, attention_mask)` -> features [B, G].
        image_projection, text_projection: features -> embeddings [B, D].
        tokenizer: with `encode` as `clipedu.data.tokenizer.Tokenizer` has it.
        text_padding: of `DualEncoder`.
        image_size: height and width of its images.
        mean, std: of the pixels in 0..1, a number a channel.
        resize: how its images are made square, "crop" or "squash".
        logit_scale, logit_bias: a pair's logit is exp(logit_scale) * cosine + logit_bias; the bias is None of a model without one,
            which was trained with a softmax.
        own_size: what `image_size` was before another one was asked for; 0 where it was not square.
    """

    name: str
    image_encoder: nn.Module
    text_encoder: nn.Module
    image_projection: nn.Module
    text_projection: nn.Module
    tokenizer: Any
    text_padding: tuple[int, int] | None
    image_size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    resize: str
    logit_scale: float
    logit_bias: float | None
    own_size: int | None = None


def assemble(parts: Parts, dtype: torch.dtype) -> DualEncoder:
    """Put the parts of a model together.

    Args:
        parts: of the model, in float32.
        dtype: of the weights afterwards; mean and std stay in float32.
    Returns:
        the model in evaluation mode, on the CPU, in the cosine geometry.
    Raises:
        ClipeduError: a tower that gives more than a vector an input, widths that differ, or one that cannot be run.
        NotFinite: a weight is not finite.
    """
    pixels = torch.zeros(1, 3, parts.image_size, parts.image_size)
    ids, lengths = parts.tokenizer.encode([_TRIED])
    tokens = torch.from_numpy(ids[:, : lengths.max()].astype("int64"))
    if parts.text_padding is not None:
        length, pad = parts.text_padding
        tokens = nn.functional.pad(tokens, (0, length - tokens.shape[1]), value=pad)
    mask = torch.arange(tokens.shape[1])[None] < int(lengths[0])
    size, own = parts.image_size, parts.own_size
    cannot = "cannot be run"
    if own not in (None, size):
        its_own = f" (its own have {own} x {own})" if own else ""
        cannot = f"cannot read images of {size} x {size} pixels{its_own}"
    image = _width(parts.name, "image", parts.image_encoder, lambda: parts.image_encoder(pixels), cannot)
    text = _width(parts.name, "text", parts.text_encoder, lambda: parts.text_encoder(tokens, mask.long()))
    widths = [
        _width(parts.name, side, head, lambda head=head, width=width: head(torch.zeros(1, width)))  # type: ignore[misc]
        for side, head, width in (("image", parts.image_projection, image), ("text", parts.text_projection, text))
    ]
    if widths[0] != widths[1]:
        raise ClipeduError(
            f"{parts.name}: its image embeddings have {widths[0]} numbers and its text embeddings {widths[1]}, so they cannot be "
            "compared: the two towers are not of one model"
        )
    model = DualEncoder(
        Tower(parts.image_encoder, image, projection=parts.image_projection),
        Tower(parts.text_encoder, text, projection=parts.text_projection),
        embedding_dim=widths[0],
        pixel_stats=(parts.mean, parts.std),
        geometry=build_geometry("cosine", widths[0]),
        text_pooling="own",
        text_padding=parts.text_padding,
    )
    for module in model.children():
        module.to(dtype)
    if fault := model_fault(model):
        other = "" if dtype == torch.float32 else ", or dtype=torch.float32"
        raise NotFinite(f"{parts.name}: {fault} is not finite: take a model that works{other}")
    model.tokenizer, model.image_size, model.resize = parts.tokenizer, parts.image_size, parts.resize
    model.logit_scale, model.logit_bias, model.parts = parts.logit_scale, parts.logit_bias or 0.0, NORM_PARTS
    model.released_loss = "clip" if parts.logit_bias is None else "siglip"
    return model.eval()


@torch.no_grad()
def _width(name: str, side: str, module: nn.Module, run: Callable[[], Any], cannot: str = "cannot be run") -> int:
    """Return how many numbers a vector of a module has."""
    with evaluating(module):
        try:
            vector = run()
        except ClipeduError as error:
            raise ClipeduError(f"{name}: {error}") from None
        except Exception as error:  # noqa: BLE001  each model fails in its own way
            raise ClipeduError(f"{name}: its {side} tower {cannot}: {without_trace(error)}") from None
    if not isinstance(vector, Tensor) or vector.ndim != 2:
        shape = list(vector.shape) if isinstance(vector, Tensor) else quoted(type(vector).__name__)
        raise ClipeduError(
            f"{name}: its {side} tower has no pooling, it gives {shape} for one {side} instead of one vector: take a model "
            f"whose {side} tower pools"
        )
    return vector.shape[1]
