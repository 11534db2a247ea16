"""Traversals: the captions nearest to the path from an image to the root.

Where generic captions are near the root, the first captions of a traversal say all that is in the image, the later ones
less and less, and the last is the root itself (as in Desai et al. 2023, arXiv:2304.09172). The path is the geodesic, at
constant speed: with a root at zero, the tangent vector shrinks in proportion; on a sphere it is an arc of a great
circle.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from clipedu.geometry import Geometry
from clipedu.models.dual_encoder import DualEncoder

ROOT = "[ROOT]"


class Stop(NamedTuple):
    """A caption on the path to the root.

    Attributes:
        share: of the path, where it became the nearest: 0 at the image and 1 at the root.
        caption: the caption; `ROOT` at the end.
        distance: of that point of the path to the root.
    """

    share: float
    caption: str
    distance: float


def traversal(
    model: DualEncoder,
    image: Tensor,
    texts: Sequence[str] | tuple[Tensor, Sequence[str]],
    root: Tensor,
    steps: int = 50,
    min_radius: float | None = None,
) -> list[Stop]:
    """Find the captions on the path from an image to the root, by a model.

    Args:
        model: with its geometry, and its tokenizer if it embeds the texts.
        image: [D], one image embedding.
        texts: captions, which the model embeds, or (their embeddings [T, D], captions).
        root, steps, min_radius: as those of `walk_to_root`.
    Raises:
        ClipeduError: `min_radius` in a geometry without cones, or a model without a tokenizer.
    """
    phrase, captions = texts if isinstance(texts, tuple) else (model.embed_texts(list(texts)), texts)
    return walk_to_root(model.geometry, image, phrase, captions, root, steps, min_radius)


@torch.no_grad()
def walk_to_root(
    geometry: Geometry,
    image: Tensor,
    text: Tensor,
    captions: Sequence[str],
    root: Tensor,
    steps: int = 50,
    min_radius: float | None = None,
) -> list[Stop]:
    """Find the captions nearest to the path from an image to the root.

    At each point of the geodesic the most similar caption is taken, and listed once, where it first appears. The root
    itself is among the captions as `ROOT`, and always allowed. It is taken in a tie, and at the end of the path.

    Args:
        geometry: of the embeddings.
        image: [D], where the path begins.
        text: [T, D], embeddings of the captions.
        captions: the T captions.
        root: [D], where the path ends.
        steps: points of the path, at equal distances, both ends included; at least 2.
        min_radius: K: only captions whose cone holds the point are allowed; None allows all.
    Raises:
        ClipeduError: `min_radius` in a geometry without cones.
    """
    image, text, root = image.double(), text.double(), root.double()
    shares = torch.linspace(0, 1, steps, dtype=image.dtype)
    stops: dict[str, Stop] = {}
    for share, point in zip(shares.tolist(), geometry.geodesic(image, root, shares[:, None]), strict=True):
        similarity = geometry.similarity(point[None], torch.cat([text, root[None]]))[0]
        if min_radius is not None:
            outside = geometry.entailment(text, point.expand_as(text), min_radius) > 0
            similarity[:-1] = similarity[:-1].masked_fill(outside, -torch.inf)
        best = int(similarity[:-1].argmax())
        caption = ROOT if share == 1 or similarity[-1] >= similarity[best] else captions[best]
        stops.setdefault(caption, Stop(share, caption, geometry.distance(point[None], root[None]).item()))
    return list(stops.values())
