r"""Hierarchy: is the generic near the root, and the specific far from it?

"A shape" is true of every scene, "a small red star above a blue ring" of few. Three ways to measure whether an
embedding space reflects that, each in any geometry (`clipedu.geometry`; all embeddings are tangent vectors):

    radius      distance to the root of the space. Text says less than its image, so it should be nearer to it;
                and a generic caption nearer than a specific one.
    cone        a caption spans a cone that opens away from the root, the wider the nearer to the root it is. What it is
                true of should be inside (Ganea et al. 2018, arXiv:1804.01882). Not on a sphere.
    traversal   follow the path from an image to the root, and read the nearest captions along it
                (`clipedu.evaluation.traversals`): they should become more generic.

The root is the zero vector in Euclidean and in hyperbolic space. A sphere has none: the mean of the images and their
first captions replaces it, as many of the one as of the other, so that neither side is nearer to it by its number.

Known generality comes from chains: six captions of one scene, from level 0, "a shape", to level 5, which says all
(`Scenes.chain`). Nothing here was trained for, unless a run has the entailment term: a score is a finding, not a goal.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from clipedu.data.graded_pairs import GradedPairs
from clipedu.data.pairs import Pairs
from clipedu.data.scenes.captions import holds
from clipedu.evaluation.embedding_space import Space
from clipedu.geometry import Geometry
from clipedu.utils.errors import ClipeduError
from clipedu.utils.statistics import rank_correlation


def hierarchy_scores(space: Space, pairs: Pairs, min_radius: float | None = None) -> dict[str, float]:
    """Score the hierarchy of a model on a set with chains (scenes, val).

    These are `generality_scores` and, where the geometry has cones, `cone_scores`.

    Args:
        space: `embed_space(model, pairs)`.
        pairs: the set; N rows with chains.
        min_radius: K of the cones; None takes the K at which they saturate at the median radius of the captions they
            are tried on, so that half of them are half-spaces in every model, and models can be compared.
    Raises:
        ClipeduError: a set without chains, or with one row only.
    """
    if not isinstance(pairs, GradedPairs) or space.chain is None or len(pairs) < 2:
        raise ClipeduError(
            f"{pairs.name}/{pairs.split} with {len(pairs)} rows cannot be scored for hierarchy: "
            "it takes a set with chains of captions (scenes) and at least two rows"
        )
    scores = generality_scores(space)
    geometry = space.geometry
    if geometry.has_cones:
        chain = space.phrase[space.chain]
        if min_radius is None:
            min_radius = matched_min_radius(geometry, space.radius(chain[:, 1:]).median().item())
        scores |= cone_scores(geometry, space.image, chain, *mismatched(pairs), min_radius)
    return scores


def generality_scores(space: Space) -> dict[str, float]:
    """Correlate captions' distance to the root with their level.

    It is Spearman's rank correlation; 1: the more generic, the nearer.

    Returns:
        "generality_within": the mean over rows of the correlation within the six captions of its chain; chance is
        0 +- 0.45 a row. "generality_pooled": one correlation over all captions of all chains together (equal captions
        count as often as they occur, so each level weighs the same); a space can order each chain and yet have no
        common shells. As a level is one rank and its radii differ, perfect shells reach sqrt(1 - 1 / 36) = 0.986.
    """
    radius = space.radius(space.phrase)[space.chain].numpy()
    level = np.broadcast_to(np.arange(radius.shape[1]), radius.shape)
    return {
        "generality_within": float(rank_correlation(radius, level).mean()),
        "generality_pooled": float(rank_correlation(radius.ravel(), level.ravel())),
    }


def mismatched(pairs: GradedPairs) -> tuple[Tensor, Tensor]:
    """Pair each row with another, and find its claims that are false there.

    Returns:
        the other row, int64 [N], and which claims of a row's own chain are false of the other row's scene, bool [N, 6].
    """
    rows = torch.arange(len(pairs))
    other = (rows + len(pairs) // 2) % len(pairs)
    chains = [pairs.chain_meanings(int(row)) for row in rows]
    truth = {claim: holds(claim, pairs.attributes) for claim in {claim for chain in chains for claim in chain}}
    true = [[bool(truth[claim][partner]) for claim in chain] for chain, partner in zip(chains, other, strict=True)]
    return other, ~torch.tensor(true)


@torch.no_grad()
def cone_scores(
    geometry: Geometry, image: Tensor, chain: Tensor, other: Tensor, false: Tensor, min_radius: float = 0.1
) -> dict[str, float]:
    """Measure how often a caption's cone contains what the caption is true of.

    The apex is the generic one. Level 0 is left out: it is true of all scenes, so there is nothing to compare it with.

    Args:
        geometry: of the embeddings.
        image: [N, D].
        chain: [N, 6, D], generic to specific.
        other: int64 [N], another row for each.
        false: bool [N, 6]: the claim of this row and level is false of that other row's scene.
        min_radius: K. It sets how wide cones are, and means another width in another geometry or at another curvature:
            two models are comparable only where their cones saturate at the same share of their radii
            (`matched_min_radius`).
    Returns:
        shares from 0 to 1:
        "cone_captions": of (generic, specific) pairs of a chain, those with the specific in the generic's cone;
        "cone_images": of (caption of the chain, its image), those with the image in the cone;
        either with "_chance": the same apexes against the other row, where the claim is false of it. A finding is what
        exceeds that, not the share: cones as wide as the half-space hold much;
        "cone_saturated": of apexes, those whose cone is that wide.
    Raises:
        ClipeduError: a geometry without cones.
    """
    levels = range(1, chain.shape[1])

    def share(apex: int, points: Tensor, rows: Tensor) -> Tensor:
        return (geometry.entailment(chain[rows, apex], points[rows], min_radius) <= 0).double().mean()

    def both(cases: list[tuple[int, Tensor]]) -> tuple[float, float]:
        """Average over cases (level of the apex, points [N, D]).

        Returns:
            the share of own points inside, and that of the points of the other row.
        """
        everywhere = torch.ones(len(image), dtype=torch.bool)
        own = torch.stack([share(apex, points, everywhere) for apex, points in cases])
        others = torch.stack([share(apex, points[other], false[:, apex]) for apex, points in cases])
        return own.mean().item(), others.nanmean().item()

    captions, captions_chance = both([(a, chain[:, b]) for a in levels for b in levels if a < b])
    images, images_chance = both([(a, image) for a in levels])
    saturated = geometry.half_aperture(chain[:, 1:], min_radius) > math.pi / 2 - 1e-6
    return {
        "cone_captions": captions,
        "cone_captions_chance": captions_chance,
        "cone_images": images,
        "cone_images_chance": images_chance,
        "cone_saturated": saturated.double().mean().item(),
    }


@torch.no_grad()
def matched_min_radius(geometry: Geometry, radius: float) -> float:
    """Compute the K at which cones saturate at a given radius.

    Up to this distance from the root they are as wide as the half-space, beyond it narrower. Cones of different
    geometries can be compared if each has the K of, say, its own median radius. (The sine of the half-aperture is K
    over this K, as long as K is the smaller.)
    """
    radius = max(radius, 1e-9)  # a collapsed model: all captions at the root
    apex = torch.tensor([radius], dtype=torch.float64)
    small = 1e-3 * radius
    return small / geometry.half_aperture(apex, small).sin().item()
