"""Relative representations: cosines to anchors, in place of a vector.

Two runs that differ in their seed put the same pictures and captions into the same arrangement, but turned: their coordinates mean
nothing to each other. Cosines to the embeddings of a few fixed items, the *anchors*, stay when a space is turned, mirrored or scaled. So
the image tower of one run can be compared with the text tower of another, without training (Moschella et al. 2022, arXiv:2209.15430). Here
the anchors of the pictures are pictures and those of the captions are captions of the same pairs (as in ASIF, Norelli et al. 2022,
arXiv:2210.01738), so each tower reads what it is made for.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize

from clipedu.evaluation.recall import retrieval
from clipedu.geometry import build_geometry
from clipedu.utils.errors import ClipeduError
from clipedu.utils.finite import NotFinite, first_non_finite


@torch.no_grad()
def relative(embeddings: Tensor, anchors: Tensor, *, centred: bool = False) -> Tensor:
    """Compute cosines to anchors: relative representations.

    Args:
        embeddings: [N, D], of any length.
        anchors: [K, D], of items embedded by the same tower, of any length.
        centred: take the mean direction of the anchors from both first, so that what all have in common (the modality gap) does
            not count; needs two anchors.
    Returns:
        float64 [N, K], -1..1. They stay the same when both inputs are turned or mirrored together, and when any vector becomes longer.
    Raises:
        ClipeduError: shapes that do not fit, or too few anchors.
        NotFinite: an embedding is not finite.
    """
    if embeddings.ndim != 2 or anchors.ndim != 2 or embeddings.shape[1] != anchors.shape[1]:
        raise ClipeduError(
            f"embeddings {list(embeddings.shape)} and anchors {list(anchors.shape)} do not fit: they must be [N, D] and [K, D], of "
            "one tower"
        )
    if len(anchors) < 1 + centred:
        raise ClipeduError(f"{len(anchors)} anchors are too few: at least {1 + centred}{', to be centred' * centred}")
    if fault := first_non_finite([("embeddings", embeddings), ("anchors", anchors)]):
        raise NotFinite(f"the tensor {fault} is not finite: relative representations need a model that works")
    x, y = (normalize(side.double(), dim=1) for side in (embeddings, anchors))
    if centred:
        middle = y.mean(0)
        x, y = normalize(x - middle, dim=1), normalize(y - middle, dim=1)
    return x @ y.T


def stitched_retrieval(
    image: Tensor,
    text: Tensor,
    owner: Tensor,
    *,
    image_anchors: Tensor,
    text_anchors: Tensor,
    centred: bool = True,
    ks: tuple[int, ...] = (1, 5, 10),
) -> dict[str, float]:
    """Compute recall of towers that never saw each other, through anchors.

    Args:
        image: [N, D], by one image tower.
        text: [T, E], by any text tower; caption t belongs to image `owner[t]`.
        owner: int64 [T].
        image_anchors: [K, D], pictures of K other pairs, by the same image tower.
        text_anchors: [K, E], a caption of each of these pairs, by the same text tower.
        centred: as of `relative`, each side by its own anchors.
        ks: how many of the most similar count.
    Returns:
        as `clipedu.evaluation.recall.retrieval`, in percent.
    Raises:
        ClipeduError: as many pictures as captions are needed as anchors; shapes that do not fit.
        NotFinite: an embedding is not finite.
    """
    if len(image_anchors) != len(text_anchors):
        raise ClipeduError(
            f"{len(image_anchors)} pictures and {len(text_anchors)} captions are no anchors: a caption for each picture is needed, in "
            "the same order"
        )
    one = relative(image, image_anchors, centred=centred)
    other = relative(text, text_anchors, centred=centred)
    return retrieval(one, other, owner, build_geometry("cosine", len(image_anchors)), ks)
