"""Settings of each weight are those of its group."""

from __future__ import annotations

import pytest
import torch

from clipedu.norms.settings import GroupSettings
from clipedu.optim import build_optimizer
from clipedu.optim.shrinkage import same_in_group


@pytest.mark.parametrize("name", ["adamw", "sgd", "muon", "scion", "lion"])
def test_each_weight_has_those_of_its_group(name):
    model = torch.nn.Sequential(*(torch.nn.Linear(4, 4) for _ in range(4)))
    optimizer = build_optimizer(model, name, lr=0.1, weight_decay=0.5)
    outside = torch.nn.Parameter(torch.ones(2))
    parameters = [*model.parameters(), outside]
    settings = GroupSettings(optimizer, parameters)
    for _ in range(2):
        for p in model.parameters():
            p.grad = torch.ones_like(p)
        settings.before(True)
        optimizer.step()
        found = settings.read()
        group_of = {p: group for group in optimizer.param_groups for p in group["params"]}
        for k, p in enumerate(parameters[:-1]):
            assert found.groups[k] == group_of[p]["name"]
            assert found.rates[0, k] == group_of[p]["lr"] and found.rates[1, k] == group_of[p]["weight_decay"]
        assert (found.groups[-1], found.laws[-1], found.shares[-1]) == ("not in the optimizer", "none", 0.0)
        assert found.shares.shape == (len(parameters),) and found.rates.shape == (3, len(parameters))
    assert same_in_group(optimizer) == (name in ("adamw", "sgd"))


def test_a_group_that_is_added_later():
    w = [torch.nn.Parameter(torch.ones(3)) for _ in range(5)]
    optimizer = torch.optim.SGD([{"params": w[:3], "name": "a"}], lr=0.1, weight_decay=0.5)
    settings = GroupSettings(optimizer, w)
    assert settings.read().groups == ["a", "a", "a", "not in the optimizer", "not in the optimizer"]
    optimizer.add_param_group({"params": w[3:], "name": "b", "weight_decay": 0.0})
    found = settings.read()
    assert found.groups == ["a", "a", "a", "b", "b"] and found.laws == ["coupled"] * 3 + ["none"] * 2
