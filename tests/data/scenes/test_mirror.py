"""Mirrored scenes: against the flipped drawing, by laws, and against the words that name a side."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from clipedu.data import survey
from clipedu.data.scenes import captions as language
from clipedu.data.scenes.dataset import Scenes
from clipedu.data.scenes.drawing import SHAPES, draw
from clipedu.data.scenes.mirror import falsified, mirrored
from clipedu.data.survey import (
    all_captions,
    names_a_side,
    swap_sides,
)


@pytest.fixture(scope="module")
def scenes():
    return Scenes("train", 200, 32)


HOLLOW = [list(SHAPES).index(name) for name in ("ring", "crescent")]  # whose middle is not painted


def test_what_is_said_of_the_mirror_is_true_of_the_mirrored_drawing(scenes):
    """Two objects side by side: in the flipped picture the colours stand where the mirrored attributes say."""
    other = mirrored(scenes.attributes)
    noiseless = replace(scenes.attributes, noise=torch.zeros(200))
    flipped = draw(noiseless, 64).flip(3)
    for row in range(60):
        for k in range(int(other.count[row])):
            x, y = (other.centre[row, k] * 64).long().tolist()
            if other.shape[row, k].item() not in HOLLOW:
                distance = (flipped[row, :, y, x].float() - other.rgb[row, k]).abs().max()
                assert distance < 40, row


def test_mirroring_twice_is_nothing(scenes):
    twice = mirrored(mirrored(scenes.attributes))
    for name in ("relation", "place", "count"):
        assert torch.equal(getattr(twice, name), getattr(scenes.attributes, name))
    torch.testing.assert_close(twice.centre, scenes.attributes.centre)
    assert not torch.equal(mirrored(scenes.attributes).place, scenes.attributes.place)


def test_places_change_columns_and_keep_rows():
    scenes = Scenes("train", 50).attributes
    before, after = scenes.place, mirrored(scenes).place
    names = language.PLACES
    for old, new in zip(before.flatten().tolist(), after.flatten().tolist(), strict=True):
        assert names[new] == swap_sides(names[old])


def test_captions_that_name_a_side_are_those_that_a_mirror_makes_false(scenes):
    false = falsified(scenes, range(200))
    assert false == [names_a_side(caption) for caption in all_captions(scenes)]
    assert falsified(scenes, [7, 3]) == [*false[35:40], *false[15:20]]
    assert 0.3 < sum(false) / len(false) < 0.5


def test_a_swapped_caption_is_true_of_the_mirror():
    """The words and the attributes agree: a caption whose sides are swapped says what is in the mirror image."""
    from clipedu.data.scenes.captions import Dice, meanings, say

    scenes = Scenes("val", 100)
    for claim, other in zip(meanings(scenes.attributes), meanings(mirrored(scenes.attributes)), strict=True):
        assert swap_sides(say(claim, Dice(0))) == " ".join(survey.words(say(other, Dice(0))))
