"""What is decayed goes by shape."""

from __future__ import annotations

import torch
from torch import nn

from clipedu.optim import describe_groups, parameter_groups


class Mixed(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 2)
        self.norm = nn.BatchNorm2d(4)
        self.line = nn.Linear(4, 5)
        self.embed = nn.Embedding(7, 5)
        self.temperature = nn.Parameter(torch.tensor(1.0))
        self.vector = nn.Parameter(torch.zeros(6))


def names(groups) -> dict[str, list[str]]:
    return {group["name"]: group["param_names"] for group in groups}


def test_two_or_more_dimensions_are_decayed():
    groups = parameter_groups(Mixed(), 0.3)
    assert names(groups) == {
        "not decayed": ["temperature", "vector", "conv.bias", "norm.weight", "norm.bias", "line.bias"],
        "decayed": ["conv.weight", "line.weight", "embed.weight"],
    }
    assert {group["name"]: group["weight_decay"] for group in groups} == {"not decayed": 0.0, "decayed": 0.3}


def test_the_names_belong_to_the_parameters():
    model = Mixed()
    mine = dict(model.named_parameters())
    for group in parameter_groups(model, 0.1):
        assert all(mine[name] is p for name, p in zip(group["param_names"], group["params"], strict=True))


def test_frozen_parameters_are_left_out():
    model = Mixed()
    model.conv.requires_grad_(False)
    model.norm.requires_grad_(False)
    assert names(parameter_groups(model, 0.1)) == {
        "not decayed": ["temperature", "vector", "line.bias"],
        "decayed": ["line.weight", "embed.weight"],
    }
    model.requires_grad_(False)
    assert parameter_groups(model, 0.1) == []


def test_an_empty_group_is_left_out():
    assert names(parameter_groups(nn.Linear(2, 3, bias=False), 0.1)) == {"decayed": ["weight"]}


def test_tied_weights_are_taken_once():
    model = nn.ModuleDict({"a": nn.Linear(4, 4), "b": nn.Linear(4, 4)})
    model["b"].weight = model["a"].weight
    groups = parameter_groups(model, 0.1)
    assert names(groups) == {"decayed": ["a.weight"], "not decayed": ["a.bias", "b.bias"]}
    torch.optim.SGD(groups, lr=1.0)  # which refuses a parameter that appears twice


def test_the_table():
    lines = describe_groups(parameter_groups(Mixed(), 0.02)).splitlines()
    assert lines[0].split() == ["group", "weight", "decay", "tensors", "parameters"]
    assert lines[1].split() == ["not", "decayed", "0", "6", str(1 + 6 + 4 + 4 + 4 + 5)]
    assert lines[2].split() == ["decayed", "0.02", "3", str(48 + 20 + 35)]
    assert len({len(line) for line in lines}) == 1
