"""A run goes on in the groups that it was saved with."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from clipedu.optim.regroup import regroup
from clipedu.utils.errors import ClipeduError


def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))


def optimizer(net: nn.Module, groups: dict[str, list[str]], **options) -> torch.optim.Optimizer:
    named = dict(net.named_parameters())
    made = [{"params": [named[n] for n in names], "param_names": names, "name": key} for key, names in groups.items()]
    return torch.optim.AdamW(made, lr=0.1, **options)


def train(net: nn.Module, own: torch.optim.Optimizer, steps: int) -> None:
    for step in range(steps):
        generator = torch.Generator().manual_seed(step)
        for p in net.parameters():
            p.grad = torch.randn(p.shape, generator=generator)
        own.step()


OLD = {"weights": ["1.weight", "0.weight"], "rest": ["0.bias", "1.bias"]}
NEW = {"first": ["0.bias", "0.weight"], "second": ["1.weight"], "third": ["1.bias"]}


def test_a_state_of_other_groups_goes_on_as_it_was():
    one = model()
    whole = optimizer(one, OLD, weight_decay=0.3)
    train(one, whole, 4)
    two = copy.deepcopy(one)
    other = optimizer(two, NEW, weight_decay=0.1)
    saved = copy.deepcopy(whole.state_dict())
    regroup(other, saved["param_groups"])
    other.load_state_dict(saved)
    assert [group["param_names"] for group in other.param_groups] == list(OLD.values())
    for net, own in ((one, whole), (two, other)):
        train(net, own, 3)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))


def test_the_same_groups_and_groups_without_names_are_left_alone():
    own = optimizer(model(), OLD)
    before = list(own.param_groups)
    regroup(own, own.state_dict()["param_groups"])
    regroup(own, [{"params": [0, 1]}])
    assert all(a is b for a, b in zip(own.param_groups, before, strict=True))


def test_a_state_of_other_parameters_is_refused():
    saved = optimizer(model(), OLD).state_dict()["param_groups"]
    with pytest.raises(ClipeduError, match=r"AdamW is of other parameters: 1.bias \(4 there, 3 here\)"):
        regroup(optimizer(model(), {"all": ["0.weight", "0.bias", "1.weight"]}), saved)
