"""Letterboxes: found in pictures that have them, and not in scenes, photographs and white grounds."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from clipedu.data.letterboxes import has_letterbox, is_plain
from clipedu.data.scenes.dataset import Scenes
from clipedu.data.shards.images import decode
from tests.helpers.shard_maker import encode, photo


def bordered(seed, colour, inside, quality=90):
    """A JPEG of 256 x 256, as img2dataset makes it: a picture of size `inside` on a ground, in the middle."""
    ground = Image.new("RGB", (256, 256), colour)
    width, height = inside
    ground.paste(Image.fromarray(photo(seed, height, width)), ((256 - width) // 2, (256 - height) // 2))
    return encode(ground, "jpg", quality=quality)


@pytest.mark.parametrize("size", [32, 128, 224])
@pytest.mark.parametrize("colour", ["white", "black", (90, 100, 130)])
@pytest.mark.parametrize("inside", [(256, 171), (144, 256), (256, 236), (235, 256)])
def test_borders_are_found(size, colour, inside):
    found = [has_letterbox(decode(bordered(seed, colour, inside), size, "squash")) for seed in range(20)]
    assert sum(found) >= 19


@pytest.mark.parametrize("inside", [(256, 256), (256, 254)])
def test_none_is_found_where_there_is_none(inside):
    assert not any(has_letterbox(decode(bordered(seed, "white", inside), 128, "squash")) for seed in range(50))


def test_one_border_is_none():
    picture = photo(1, 128, 128).transpose(2, 0, 1).copy()
    picture[:, :30] = 255
    assert not has_letterbox(picture)
    picture[:, -10:] = 255  # another width
    assert not has_letterbox(picture)
    picture[:, -30:] = 0  # another colour
    assert not has_letterbox(picture)
    picture[:, -30:] = 255
    assert has_letterbox(picture)


def test_things_on_a_white_ground_have_none():
    place = np.linspace(-1, 1, 128)
    picture = np.full((3, 128, 128), 255, np.uint8)
    picture[:, place[:, None] ** 2 + place[None] ** 2 < 0.6] = 40  # a disc
    assert not has_letterbox(picture)
    picture[:, 20:-20, 50:-50] = 90  # and a column
    assert not has_letterbox(picture)


def test_stripes_have_none():
    picture = np.full((3, 96, 96), 60, np.uint8)
    picture[:, np.arange(96) // 6 % 2 == 1] = 200
    assert not has_letterbox(picture[:, :90])  # the first and the last have one colour


@pytest.mark.parametrize("split", ["train", "val", "zeroshot"])
def test_scenes_have_none(split):
    assert not any(map(has_letterbox, Scenes(split, 1000, 32).pixels(torch.arange(1000)).numpy()))


def test_plain_pictures():
    plain = np.zeros((3, 8, 8), np.uint8)
    plain[1] = 200
    assert is_plain(plain) and not has_letterbox(plain)
    plain[1, 4, 4] = 150
    assert not is_plain(plain)
