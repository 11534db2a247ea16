"""Generators from keys: equal for equal keys, unrelated for neighbouring ones."""

import torch

from clipedu.utils.seeding import seeded


def draw(*key: int) -> torch.Tensor:
    return torch.rand(1000, generator=seeded(*key))


def test_equal_keys_give_equal_numbers_whatever_else_is_drawn():
    first = draw(0, 1, 2)
    torch.manual_seed(9)
    state = torch.get_rng_state()
    assert torch.equal(draw(0, 1, 2), first) and torch.equal(torch.get_rng_state(), state)


def test_neighbouring_keys_are_unrelated():
    keys = [(0, 1, 2), (1, 1, 2), (0, 2, 2), (0, 1, 3), (2, 1, 0), (2**40, 1, 2)]
    drawn = torch.stack([draw(*key) for key in keys])
    correlation = torch.corrcoef(drawn) - torch.eye(len(keys))
    assert correlation.abs().max() < 5 / 1000**0.5


def test_seeds_stay_what_they_were():
    """A change would give other batches and augmentations to every experiment."""
    assert seeded(0, 0).initial_seed() == 15793235383387715774
    assert seeded(3, 1, 2).initial_seed() == 11679836372483601169
