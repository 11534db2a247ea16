"""The part of a set that is held out: fixed, whole images, equal pictures on one side."""

import numpy as np
import pytest
import torch

from clipedu.data.pairs import Pairs
from clipedu.data.scenes.dataset import Scenes
from clipedu.data.subset import HELD_OUT, Subset, hold_out
from tests.helpers.errors import message_of


class Pictures(Pairs):
    """Rows of one-pixel pictures; equal numbers are equal pictures."""

    name, image_size = "pictures", 1

    def __init__(self, numbers):
        self.numbers = torch.tensor(numbers, dtype=torch.uint8)
        self.labels = torch.arange(len(numbers))

    def __len__(self):
        return len(self.numbers)

    def pixels(self, index):
        return self.numbers[index][:, None, None, None].expand(-1, 3, 1, 1)

    def captions(self, row):
        return [f"picture {row}", f"number {int(self.numbers[row])}"]


def test_the_parts_are_the_set_and_always_the_same():
    pairs = Pictures(list(range(100)))
    train, held = hold_out(pairs, 0.1)
    assert len(held) == 10 and (train.split, held.split) == ("train", HELD_OUT)
    assert sorted([*train.rows.tolist(), *held.rows.tolist()]) == list(range(100))
    again = hold_out(Pictures(list(range(100))), 0.1)[1]
    assert torch.equal(again.rows, held.rows) and again.identity() == held.identity()
    assert again.fingerprint() == held.fingerprint() != train.fingerprint()


def test_a_row_keeps_its_picture_captions_and_label():
    _, held = hold_out(Pictures(list(range(50))), 0.2)
    for row, whole in enumerate(held.rows.tolist()):
        assert held.captions(row) == held.whole.captions(whole) and held.labels[row] == whole
        assert held.pixels(torch.tensor([row]))[0, 0, 0, 0] == held.whole.numbers[whole]
    assert np.array_equal(held.picture_digests(), held.whole.picture_digests()[held.rows.numpy()])


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_equal_pictures_are_on_the_same_side(share):
    numbers = [row % 20 for row in range(100)]
    train, held = hold_out(Pictures(numbers), share)
    assert not {numbers[row] for row in train.rows} & {numbers[row] for row in held.rows}
    assert share * 100 <= len(held) < share * 100 + 5


@pytest.mark.parametrize(("numbers", "share"), [([1, 2, 3], 0.1), ([1, 2, 3, 4], 0.9), ([7] * 10, 0.5)])
def test_at_least_two_rows_of_each(numbers, share):
    message = message_of(hold_out, Pictures(numbers), share)
    assert (
        f"holdout={share:g} of {len(numbers)} pairs of pictures/train leaves" in message
        and "at least 2 are needed" in message
    )


def test_scenes_too():
    train, held = hold_out(Scenes("train", 40), 0.25)
    assert (len(train), len(held)) == (30, 10) and isinstance(held, Subset)
    assert train.captions(3) == train.whole.captions(int(train.rows[3]))
    assert (
        train.foil(3, 0, ["shape"], 5) == train.whole.foil(int(train.rows[3]), 0, ["shape"], 5) != train.captions(3)[0]
    )
