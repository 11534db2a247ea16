"""`Space`: the embeddings of a set of pairs, in the geometry of their model."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from clipedu.geometry import Geometry
from clipedu.inference.embed import embed_phrases
from clipedu.utils.errors import ClipeduError


@dataclass(frozen=True)
class Space:
    """What a model makes of a set of pairs: tangent vectors (float64, on the CPU) and the geometry they live in.

    Attributes:
        geometry: of the model, with what it has learned.
        image, text: [N, D], each image and its first caption.
        captions: the N first captions.
        phrases: P distinct captions that a traversal may pass: those of all chains, or else the first captions.
        phrase: [P, D], their embeddings.
        chain: int64 [R, 6], the chains of the first R rows as numbers of phrases, generic to specific; None without chains.
    """

    geometry: Geometry
    image: Tensor
    text: Tensor
    captions: list[str]
    phrases: list[str]
    phrase: Tensor
    chain: Tensor | None = None

    @functools.cached_property
    def root(self) -> Tensor:
        """[D]: zero, or on a sphere the mean of images and first captions."""
        return root_distances(self.geometry, self.image, self.text)[2]

    def radius(self, x: Tensor) -> Tensor:
        """Distance to the root of each x [..., D]: [...]."""
        return _to_root(self.geometry, x.flatten(0, -2), self.root).reshape(x.shape[:-1])


def embed_space(model, pairs, embeddings: tuple[Tensor, Tensor, Tensor] | None = None) -> Space:
    """The space of a model (`run.model()`, with tokenizer and geometry) on a set with captions.

    Args:
        embeddings: what `embed_pairs(model, pairs)` returned, where a caller has it already.
    """
    from clipedu.inference.embed import embed_pairs

    image, text, owner = embeddings or embed_pairs(model, pairs)
    first = torch.searchsorted(owner, torch.arange(len(image)))
    text = text[first].double()
    captions = [pairs.captions(row)[0] for row in range(len(pairs))]
    if not hasattr(pairs, "chain"):
        number = {caption: row for row, caption in reversed(list(enumerate(captions)))}
        return Space(model.geometry, image.double(), text, captions, list(number), text[list(number.values())])
    phrases, chain = chains_of(pairs, range(len(pairs)))
    return Space(model.geometry, image.double(), text, captions, phrases, embed_phrases(model, phrases).double(), chain)


def chains_of(pairs, rows: Iterable[int]) -> tuple[list[str], Tensor]:
    """The distinct captions in the chains of these rows, and each chain as numbers of them, int64 [R, 6]."""
    chains = [pairs.chain(row) for row in rows]
    number = {caption: k for k, caption in enumerate(dict.fromkeys(caption for chain in chains for caption in chain))}
    return list(number), torch.tensor([[number[caption] for caption in chain] for chain in chains])


def kept_space(run) -> Space:
    """The space of a run from what it kept: the embeddings of its first 1,000 pairs; no model is loaded.

    Raises ClipeduError: the run has no embeddings, or they are not finite.
    """
    kept = run.embeddings()
    if kept is None or not all(kept[side].isfinite().all() for side in ("image", "text")):
        raise ClipeduError(
            f"run {run.name!r} has no embeddings that could be used: finish it, and look whether it diverged"
        )
    image, text, captions = kept["image"].double(), kept["text"].double(), kept["captions"]
    if "chain" in kept:
        return Space(run.geometry(), image, text, captions, kept["phrases"], kept["phrase"].double(), kept["chain"])
    number = {caption: row for row, caption in reversed(list(enumerate(captions)))}
    return Space(run.geometry(), image, text, captions, list(number), text[list(number.values())])


@torch.no_grad()
def root_distances(geometry: Geometry, image: Tensor, text: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Distance to the root of images [N, D] and texts [T, D], and the root itself: [N], [T], [D].

    In Euclidean and hyperbolic space the distance is the length of the tangent vector, for any curvature.
    """
    root = geometry.root(torch.cat([image, text]))
    return _to_root(geometry, image, root), _to_root(geometry, text, root), root


@torch.no_grad()
def _to_root(geometry: Geometry, x: Tensor, root: Tensor) -> Tensor:
    return geometry.distance(x, root[None])[:, 0]


def norm_summary(geometry: Geometry, image: Tensor, text: Tensor) -> dict[str, float]:
    """How far from the root the two modalities are, over N matched pairs, image and text [N, D].

    Returns:
        "root_distance_image", "root_distance_text": the medians, with "_q25" and "_q75" for the quartiles;
        "text_nearer_root": share (0 to 1) of pairs whose text is nearer to the root than its image, a tie counting half;
        0.5 is no order; "root_gap": mean of image's distance minus text's.
    """
    radii = dict(zip(("image", "text"), root_distances(geometry, image.double(), text.double()), strict=False))
    summary = {}
    for side, radius in radii.items():
        low, middle, high = radius.quantile(torch.tensor([0.25, 0.5, 0.75], dtype=radius.dtype)).tolist()
        summary |= {f"root_distance_{side}": middle} | {
            f"root_distance_{side}_q{q}": v for q, v in ((25, low), (75, high))
        }
    gap = radii["image"] - radii["text"]
    nearer = ((gap > 0).double() + 0.5 * (gap == 0).double()).mean().item()
    return summary | {"text_nearer_root": nearer, "root_gap": gap.mean().item()}
