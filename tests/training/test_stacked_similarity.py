"""Similarities of a stack and their gradients are those of each run."""

import pytest
import torch
from torch.func import vmap

from clipedu.geometry import build_geometry
from clipedu.training.stacked_similarity import MAPS, AllPairs, similarity_by_stacks


@pytest.mark.parametrize("name", MAPS)
def test_the_gradient_is_that_of_a_single_run(name):
    geometry = build_geometry(name, 8)
    x, y, weight = torch.randn(3, 3, 5, 8).unbind()
    weight = torch.randn(3, 5, 5)
    stacks = x.clone().requires_grad_(), y.clone().requires_grad_()
    with similarity_by_stacks(geometry):
        found = vmap(geometry.similarity)(*stacks)
    (found * weight).sum().backward()
    assert "similarity" not in vars(geometry)
    for run in range(3):
        one, other = x[run].clone().requires_grad_(), y[run].clone().requires_grad_()
        single = geometry.similarity(one, other)
        (single * weight[run]).sum().backward()
        torch.testing.assert_close(found[run], single)
        torch.testing.assert_close(stacks[0].grad[run], one.grad)
        torch.testing.assert_close(stacks[1].grad[run], other.grad)


def test_one_side_may_be_shared():
    x, y = torch.randn(3, 4, 2), torch.randn(5, 2)
    torch.testing.assert_close(vmap(AllPairs.apply, in_dims=(0, None))(x, y), x @ y.T)
    torch.testing.assert_close(vmap(AllPairs.apply, in_dims=(None, 0))(y, x), y @ x.mT)


def test_its_gradient_is_right_by_differences():
    x, y = (torch.randn(n, 2, dtype=torch.float64, requires_grad=True) for n in (3, 4))
    assert torch.autograd.gradcheck(AllPairs.apply, (x, y))


def test_a_geometry_is_left_as_it_was_after_an_error():
    geometry = build_geometry("cosine", 2)
    with pytest.raises(ZeroDivisionError), similarity_by_stacks(geometry):
        raise ZeroDivisionError
    assert "similarity" not in vars(geometry)
