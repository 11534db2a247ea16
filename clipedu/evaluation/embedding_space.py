"""`Space`: embeddings of a set of pairs in the geometry of their model."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from clipedu.data.graded_pairs import GradedPairs
from clipedu.data.pairs import Pairs
from clipedu.geometry import Geometry
from clipedu.inference.embed import PairEmbeddings, embed_pairs, embed_phrases
from clipedu.models.dual_encoder import DualEncoder
from clipedu.models.remembered import found_once
from clipedu.utils.errors import ClipeduError


class KeepsEmbeddings(Protocol):
    """What `kept_space` reads of a `clipedu.Run`."""

    @property
    def name(self) -> str: ...
    def embeddings(self) -> dict[str, Any] | None: ...
    def geometry(self) -> Geometry: ...


@dataclass(frozen=True)
class Space:
    """Embeddings of a set of pairs in the geometry of their model.

    All are tangent vectors, float64 on the CPU.

    Attributes:
        geometry: of the model, with its learned curvature and scales.
        image, text: [N, D], each image and its first caption.
        captions: the N first captions.
        phrases: P distinct captions that a traversal may pass: those of all chains, or else the first captions.
        phrase: [P, D], their embeddings.
        chain: int64 [R, 6], the chains of the first R rows as indices into `phrases`, generic to specific; None without
            chains.
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
        """The root [D]: zero; on a sphere the mean of images and first captions."""
        return root_distances(self.geometry, self.image, self.text)[2]

    def radius(self, x: Tensor) -> Tensor:
        """Return the distance to the root of each x [..., D]: [...]."""
        return _to_root(self.geometry, x.flatten(0, -2), self.root).reshape(x.shape[:-1])


def embed_space(model: DualEncoder, pairs: Pairs, embeddings: PairEmbeddings | None = None) -> Space:
    """Embed a set with captions.

    Args:
        model: with its tokenizer and geometry (`run.model()`).
        pairs: N rows, each with at least one caption.
        embeddings: `embed_pairs(model, pairs)`, where a caller has it already.
    Raises:
        ClipeduError: a row has no caption, or the model has no tokenizer.
    """
    embeddings = embeddings or embed_pairs(model, pairs)
    image, text = embeddings.image.double(), embeddings.first_text.double()
    captions = found_once(model, ("captions", pairs), lambda: [pairs.captions(row)[0] for row in range(len(pairs))])
    if not isinstance(pairs, GradedPairs):
        return _space_of_captions(model.geometry, image, text, captions)
    graded: GradedPairs = pairs
    phrases, chain = found_once(model, ("chains", pairs), lambda: chains_of(graded, range(len(graded))))
    return Space(model.geometry, image, text, captions, phrases, embed_phrases(model, phrases).double(), chain)


def chains_of(pairs: GradedPairs, rows: Iterable[int]) -> tuple[list[str], Tensor]:
    """Number the distinct captions in the chains of R rows.

    Returns:
        the captions in order of appearance, and each chain as indices into them, int64 [R, 6].
    """
    chains = [pairs.chain(row) for row in rows]
    number = {caption: k for k, caption in enumerate(dict.fromkeys(caption for chain in chains for caption in chain))}
    return list(number), torch.tensor([[number[caption] for caption in chain] for chain in chains])


def kept_space(run: KeepsEmbeddings) -> Space:
    """Read the space of a run from the embeddings in its folder.

    Those are of its first 1,000 pairs. No model is loaded.

    Args:
        run: a finished `clipedu.Run`.
    Raises:
        ClipeduError: the run has no embeddings, or they are not finite.
    """
    kept = run.embeddings()
    if kept is None or not all(kept[side].isfinite().all() for side in ("image", "text")):
        raise ClipeduError(
            f"run {run.name!r} has no embeddings that could be used: finish it, and check whether it diverged"
        )
    image, text, captions = kept["image"].double(), kept["text"].double(), kept["captions"]
    if "chain" in kept:
        return Space(run.geometry(), image, text, captions, kept["phrases"], kept["phrase"].double(), kept["chain"])
    return _space_of_captions(run.geometry(), image, text, captions)


def _space_of_captions(geometry: Geometry, image: Tensor, text: Tensor, captions: list[str]) -> Space:
    """Make a space without chains.

    A traversal may pass the first captions, each of them once.
    """
    number = {caption: row for row, caption in reversed(list(enumerate(captions)))}
    return Space(geometry, image, text, captions, list(number), text[list(number.values())])


@torch.no_grad()
def root_distances(geometry: Geometry, image: Tensor, text: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Compute distances to the root of a space, and the root itself.

    In Euclidean and hyperbolic space the distance is the length of the tangent vector, for any curvature.

    Args:
        geometry: of the embeddings.
        image: [N, D].
        text: [T, D].
    Returns:
        distances of images [N] and of texts [T], and the root [D].
    """
    root = geometry.root(torch.cat([image, text]))
    return _to_root(geometry, image, root), _to_root(geometry, text, root), root


@torch.no_grad()
def _to_root(geometry: Geometry, x: Tensor, root: Tensor) -> Tensor:
    return geometry.distance(x, root[None])[:, 0]


def norm_summary(geometry: Geometry, image: Tensor, text: Tensor) -> dict[str, float]:
    """Summarise the distances to the root of N matched pairs.

    Args:
        geometry: of the embeddings.
        image, text: [N, D] each.
    Returns:
        "root_distance_image", "root_distance_text": the medians, with "_q25" and "_q75" for the quartiles;
        "text_nearer_root": share (0 to 1) of pairs whose text is nearer to the root than its image; a tie counts half,
        and 0.5 is no order; "root_gap": mean of image's distance minus text's.
    """
    image_radius, text_radius, _ = root_distances(geometry, image.double(), text.double())
    radii = {"image": image_radius, "text": text_radius}
    summary: dict[str, float] = {}
    for side, radius in radii.items():
        low, middle, high = radius.quantile(torch.tensor([0.25, 0.5, 0.75], dtype=radius.dtype)).tolist()
        summary |= {f"root_distance_{side}": middle} | {
            f"root_distance_{side}_q{q}": v for q, v in ((25, low), (75, high))
        }
    gap = radii["image"] - radii["text"]
    nearer = ((gap > 0).double() + 0.5 * (gap == 0).double()).mean().item()
    return summary | {"text_nearer_root": nearer, "root_gap": gap.mean().item()}
