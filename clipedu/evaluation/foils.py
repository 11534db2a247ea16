"""Foils: a true caption against one that is wrong in a single attribute.

    a small red star above a large blue ring on a striped background        true
    a small red star below a large blue ring on a striped background        wrong in its relation

The true caption should be more similar to the picture than its foil. Chance is 50 %. Retrieval can be high where this
is not: among a thousand captions few have the same objects, so an image can be found without encoding which of them is
above.

    shape, colour, size   another one for the object that is named first
    background            another one
    place                 another of the nine places of a 3 x 3 grid (scenes of one object)
    relation              reversed: "above" for "below", "left of" for "right of" (two objects)
    binding               the two objects change colours: "a blue star above a red ring" (two objects)

Only scenes have foils, since their captions are made from known attributes. Shapes, colours and sizes are what patches
show one by one; place and relation depend on *where* a patch is, binding on which patches *belong together*.

Source of the idea: ARO (Yuksekgonul et al. 2023, arXiv:2210.01936), Winoground (Thrush et al. 2022, arXiv:2204.03162).
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from clipedu.data.graded_pairs import GradedPairs
from clipedu.data.scenes.captions import Dice, meanings, say
from clipedu.data.scenes.dataset import Scenes
from clipedu.data.scenes.foils import FOILS
from clipedu.data.scenes.mirror import mirrored
from clipedu.geometry import Geometry
from clipedu.geometry.base import matched_similarity
from clipedu.inference.embed import embed_images, embed_phrases
from clipedu.models.dual_encoder import DualEncoder
from clipedu.models.remembered import found_once

__all__ = ["FOILS", "foil_scores", "foils", "prefers", "side_scores"]


def foils(scenes: GradedPairs, name: str) -> list[tuple[int, str, str]]:
    """List the true caption and its foil of every scene that can have one.

    The same scenes always give the same foils.

    Args:
        scenes: a "train" or "val" split.
        name: a key of `FOILS`.
    Returns:
        (row, true caption, foil) of each.
    """
    made = []
    for row, (number, meaning) in enumerate(zip(scenes.rows.tolist(), meanings(scenes.attributes), strict=True)):
        foil = FOILS[name](meaning, Dice(number))
        if foil is not None:
            made.append((row, say(meaning, Dice(0)), say(foil, Dice(0))))
    return made


def foil_scores(model: DualEncoder, scenes: GradedPairs, image: Tensor, true: Tensor) -> dict[str, float]:
    """Score how often a true caption is more similar than its foil.

    Args:
        model: a trained `DualEncoder` with its tokenizer.
        scenes: a "train" or "val" split.
        image: [N, D], the model's embeddings of all images.
        true: [N, D], its embeddings of the most specific caption of each: the last of each chain.
    Returns:
        "foil_shape", "foil_colour", ...: percent of the scenes, one for each of `FOILS` that some scene can have.
    """
    scores = {}
    for name in FOILS:
        if made := found_once(model, ("foils", name, scenes), partial(foils, scenes, name)):
            rows = [row for row, _, _ in made]
            false = embed_phrases(model, [foil for _, _, foil in made])
            scores[f"foil_{name}"] = 100 * prefers(model.geometry, image[rows], true[rows], false).mean().item()
    return scores


@torch.no_grad()
def prefers(geometry: Geometry, image: Tensor, true: Tensor, false: Tensor) -> Tensor:
    """Compare the similarity of each image to two captions.

    Args:
        geometry: gives the similarity.
        image, true, false: embeddings, [N, D] each; row n of `true` and `false` are the two captions of image n.
    Returns:
        float64 [N]: 1 where `true` is the more similar, 0 where `false` is, and 1/2 for a tie or NaN, so that a collapsed
        model is at chance.
    """
    first, second = matched_similarity(geometry, image, true), matched_similarity(geometry, image, false)
    ahead, behind = first > second, first < second
    return ahead.double() + 0.5 * ~(ahead | behind)  # NaN is neither


def side_scores(model: DualEncoder, scenes: Scenes) -> dict[str, float]:
    """Score how often a true caption is more similar than its mirror image's.

    Only scenes whose two captions differ count.

    Args:
        model: a trained `DualEncoder`.
        scenes: a "train" or "val" split, at the model's image size.
    Returns:
        percent, for "one object" (place in the picture) and "two objects" (one beside the other).
    """
    claims, others = meanings(scenes.attributes), meanings(mirrored(scenes.attributes))
    rows = [row for row, (claim, other) in enumerate(zip(claims, others, strict=True)) if claim != other]
    image = embed_images(model, scenes)[rows]
    true, false = (model.embed_texts([say(of[row], Dice(0)) for row in rows]) for of in (claims, others))
    ahead = prefers(model.geometry, image, true, false)
    two = torch.tensor([claims[row].relation is not None for row in rows])
    return {
        "one object": 100 * ahead[~two].mean().item(),
        "two objects": 100 * ahead[two].mean().item(),
    }
