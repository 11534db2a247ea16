"""Mirrored scenes: their attributes, and which captions become false."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from clipedu.data.scenes import captions as language
from clipedu.data.scenes.attributes import Attributes
from clipedu.data.scenes.dataset import Scenes


def mirrored(scenes: Attributes) -> Attributes:
    """Return the attributes of the mirror images.

    Only attributes that captions name change: relations, places and centres.
    """
    sideways = (scenes.relation == 0) | (scenes.relation == 1)
    centre = scenes.centre.clone()
    centre[..., 0] = 1 - centre[..., 0]
    return replace(
        scenes,
        relation=torch.where(sideways, scenes.relation ^ 1, scenes.relation),
        place=scenes.place // 3 * 3 + 2 - scenes.place % 3,
        centre=centre,
    )


def falsified(scenes: Scenes, rows: Sequence[int]) -> list[bool]:
    """Check which captions of these rows are false of the mirror image."""
    other = mirrored(scenes.attributes[torch.as_tensor(rows)])
    return [
        not bool(language.holds(meaning, other[place : place + 1]))
        for place, row in enumerate(rows)
        for meaning, _ in scenes.claims(row)
    ]
