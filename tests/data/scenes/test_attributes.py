"""`Attributes`: indexing takes every field along, and the second object is there or not."""

from dataclasses import fields

import pytest
import torch

from clipedu.data.scenes.attributes import Attributes
from clipedu.data.scenes.sampling import sample


@pytest.fixture(scope="module")
def scenes() -> Attributes:
    return sample(0, "train", torch.arange(40))


@pytest.mark.parametrize("rows", [slice(3, 9), torch.tensor([5, 0, 5]), torch.arange(40) % 3 == 0])
def test_indexing_takes_the_rows_of_every_field(scenes, rows):
    some = scenes[rows]
    assert len(some) == len(torch.arange(40)[rows])
    for field in fields(Attributes):
        assert torch.equal(getattr(some, field.name), getattr(scenes, field.name)[rows])


def test_to_moves_every_field(scenes):
    moved = scenes.to("meta")
    assert {getattr(moved, field.name).device.type for field in fields(Attributes)} == {"meta"}


def test_which_objects_exist(scenes):
    assert scenes.exists().tolist() == [[True, count == 2] for count in scenes.count.tolist()]
    assert set(scenes.count.tolist()) == {1, 2} and ((scenes.relation == -1) == (scenes.count == 1)).all()
