"""Outlier tokens of a vision transformer, which registers should remove.

Darcet et al. ("Vision Transformers Need Registers", ICLR 2024, arXiv:2309.16588) found bright spots on plain background in
attention maps of large models. The patches there have about ten times the norm of all others, are about 2 % of them, and
hold something of the whole image in place of their own content: the model stores global information where no content is
lost. *Registers*, extra tokens that all patches can attend to, take that over, and the spots are gone. They saw this in
large models and late in training only; `artifacts` finds whether a model of yours has any.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from clipedu.inference.attention import Tokens
from clipedu.utils.errors import ClipeduError
from clipedu.utils.statistics import rank_correlation

if TYPE_CHECKING:
    import pandas

FACTOR = 3.0  # an outlier's norm, in medians


def artifacts(norms: Tensor, tokens: Tokens, pixels: Tensor | None = None, factor: float = FACTOR) -> pandas.DataFrame:
    """Find patches that are outliers by their norm, in each block.

    An outlier is a patch whose norm is above `factor` medians of all patches of its block and of all images given.
    Darcet et al. cut DINOv2-g's at a norm of 150, between two well separated modes; elsewhere that number means
    nothing, since norms grow with width, depth and training. A median grows with them, and up to half of the patches
    may be outliers without moving it. A multiple of the *spread* would not do: where norms are all but equal, any patch
    would be far out. Three is between one, an ordinary patch, and the ten or so of the paper.

    Args:
        norms: [blocks, B, L] of `token_norms`.
        tokens: of the same model.
        pixels: [B, 3, H, W] of the same images, to see whether outliers are on plain background.
        factor: an outlier's norm, in medians.
    Returns:
        a row a block, with columns block, median (norm of a patch), outliers (their share of the patches, 0..1) and
        largest (norm / median); with pixels also detail_correlation (rank correlation of a patch's norm with its
        detail, -1..1), detail_outliers and detail_others (mean detail of either). NaN where there is nothing to
        average. A patch's *detail* is the standard deviation of its pixels, in their unit. Darcet et al. saw outliers
        with less detail than others.
    Raises:
        ClipeduError: norms of another number of tokens, or images of another number.
    """
    import pandas

    if norms.shape[-1] != len(tokens.names):
        raise ClipeduError(f"norms of {norms.shape[-1]} tokens don't go with the names of {len(tokens.names)}")
    if pixels is not None and len(pixels) != norms.shape[1]:
        raise ClipeduError(f"norms of {norms.shape[1]} images don't go with the pixels of {len(pixels)}")
    patches = norms[..., tokens.extra :].flatten(1).double()
    median = patches.median(1).values
    outlier = patches > factor * median[:, None]
    table = {
        "block": range(len(norms)),
        "median": median.tolist(),
        "outliers": outlier.double().mean(1).tolist(),
        "largest": (patches.amax(1) / median).tolist(),
    }
    if pixels is not None:
        detail = patch_detail(pixels, tokens).flatten()
        correlation = torch.from_numpy(rank_correlation(patches, detail))
        ordered = (patches.amax(1) > patches.amin(1)) & (detail.max() > detail.min())
        table["detail_correlation"] = correlation.where(ordered, torch.nan).tolist()
        table["detail_outliers"] = [detail[mark].mean().item() for mark in outlier]
        table["detail_others"] = [detail[~mark].mean().item() for mark in outlier]
    return pandas.DataFrame(table)


def patch_detail(pixels: Tensor, tokens: Tokens) -> Tensor:
    """Compute the standard deviation of the pixels of each patch.

    It is taken over the places of a patch, and as root mean square over channels: [B, patches].
    """
    rows, columns = tokens.grid
    cut = pixels.double().unflatten(2, (rows, -1)).unflatten(4, (columns, -1))  # [B, 3, rows, P, columns, P]
    return cut.var((3, 5), correction=0).mean(1).sqrt().flatten(1)
