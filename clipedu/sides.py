"""Left or right? Whether a model tells a caption from that of the mirror image.

A scene's most specific caption is said twice: as it is true, and as it would be true of the mirror image ("on the left" for
"on the right"). The model gets the picture and both captions; chance is 50 %. A model that was trained on flipped pictures
with unflipped captions has seen both captions equally often with each of the two pictures: it can't know.
"""

from __future__ import annotations

import torch

from clipedu.data.language import Dice, say
from clipedu.data.scenes import Scenes, meanings
from clipedu.data.survey import mirrored
from clipedu.evaluation import embed_images
from clipedu.foils import prefers


def side_scores(model, scenes: Scenes) -> dict[str, float]:
    """For how many scenes the true caption beats the mirror image's, in percent of those whose captions differ.

    Args:
        model: a trained `DualEncoder`.
        scenes: a "train" or "val" split, at the model's image size.
    Returns:
        "one object" (place in the picture) and "two objects" (one beside the other).
    """
    claims, others = meanings(scenes.attributes), meanings(mirrored(scenes.attributes))
    rows = [row for row, (claim, other) in enumerate(zip(claims, others, strict=True)) if claim != other]
    image = embed_images(model, scenes)[rows]
    true, false = (model.embed_texts([say(told[row], Dice(0)) for row in rows]) for told in (claims, others))
    ahead = prefers(model.geometry, image, true, false)
    two = torch.tensor([claims[row].relation is not None for row in rows])
    return {
        "one object": 100 * ahead[~two].double().mean().item(),
        "two objects": 100 * ahead[two].double().mean().item(),
    }
