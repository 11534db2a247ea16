"""What is decayed goes by shape."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper

from clipedu.norms import NormMonitor
from clipedu.optim import build_optimizer, parameter_groups
from clipedu.optim.param_groups import head_apart
from clipedu.optim.scion import scion_groups


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


class Attention(nn.Module):
    """Weights whose names do not end in "weight", and gains whose names do."""

    def __init__(self):
        super().__init__()
        self.qkv_w = nn.Parameter(torch.zeros(12, 4))
        self.heads = nn.Parameter(torch.zeros(3, 4, 4))
        self.attention = nn.MultiheadAttention(4, 2)
        self.norm = nn.LayerNorm(4)
        self.image_projection = nn.Linear(4, 2)


def test_no_fused_weight_is_missed_and_no_gain_is_taken():
    everything = names(parameter_groups(Attention(), 0.1))
    fused = {"qkv_w", "heads", "attention.in_proj_weight", "attention.out_proj.weight", "image_projection.weight"}
    assert set(everything["decayed"]) == fused
    assert "norm.weight" in everything["not decayed"] and "attention.in_proj_bias" in everything["not decayed"]
    scion = [n for g in scion_groups(Attention(), 0.1) if g["weight_decay"] for n in g["param_names"]]
    assert set(scion) == fused
    shares = []
    for name in ("adamw", "adamc", "scion", "scionc", "sgd"):  # what is decayed is the same, whoever steps
        model = Attention()
        optimizer = build_optimizer(model, name, lr=0.1, weight_decay=0.5)
        shares.append(sum(p.numel() for g in optimizer.param_groups if g["weight_decay"] for p in g["params"]))
    assert set(shares) == {48 + 48 + 48 + 16 + 8}


def test_a_head_is_apart_but_for_its_bias():
    model = Attention()
    groups = head_apart(model, parameter_groups(model, 0.1), ("image_projection",), mark=7)
    assert names(groups)["head"] == ["image_projection.weight"]
    assert {group["name"] for group in groups} == {"decayed", "head", "not decayed"}
    assert [group["name"] for group in groups if "mark" in group] == ["head"]
    assert "image_projection.bias" in names(groups)["not decayed"]
    assert sum(len(group["params"]) for group in groups) == len(list(model.parameters()))
    for group in groups:
        mine = dict(model.named_parameters())
        assert all(mine[name] is p for name, p in zip(group["param_names"], group["params"], strict=True))
    inner = head_apart(model, parameter_groups(model, 0.1), ("attention.out_proj",))
    assert names(inner)["head"] == ["attention.out_proj.weight"]


class Codes(nn.Module):
    """Exempts its own table."""

    def __init__(self):
        super().__init__()
        self.positions = nn.Parameter(torch.zeros(1, 3, 4))
        self.mix = nn.Linear(4, 4)

    def no_weight_decay(self):
        return {"positions"}


@pytest.mark.parametrize("wrap", [nn.DataParallel, checkpoint_wrapper])
def test_a_wrapped_model_has_the_groups_of_the_bare_one(wrap):
    def two() -> nn.Module:
        return nn.ModuleDict({"codes": Codes(), "attention": Attention(), "image_projection": nn.Linear(4, 2)})

    def of(model, name, **options):
        optimizer = build_optimizer(model, name, lr=0.1, weight_decay=0.5, **options)
        return [(g["name"], g["param_names"], g["weight_decay"]) for g in optimizer.param_groups]

    inside = two()
    inside["codes"], inside["image_projection"] = wrap(inside["codes"]), wrap(inside["image_projection"])
    for name in ("adamw", "adamc", "scion", "scionc"):
        for model in (wrap(two()), wrap(wrap(two())), inside, wrap(inside)):
            assert of(model, name) == of(two(), name), name
    assert of(wrap(two()), "adamc", heads=["codes.mix"]) == of(two(), "adamc", heads=["codes.mix"])
    assert "codes.positions" in of(wrap(two()), "adamw")[0][1]  # exempt


@pytest.mark.parametrize("name", ["adamc", "scionc"])
def test_forty_steps_of_a_compiled_model_leave_the_norms_of_the_bare_one(name):
    """Of decay alone, past the peak: the heads keep their lambda."""

    def norms(compiled: bool) -> dict[str, float]:
        torch.manual_seed(0)
        model = nn.ModuleDict({"image_encoder": nn.Linear(40, 40), "image_projection": nn.Linear(40, 40)})
        used = torch.compile(model, backend="eager") if compiled else model
        optimizer = build_optimizer(used, name, lr=0.1, weight_decay=0.5)
        monitor = NormMonitor(used, optimizer)
        for group in optimizer.param_groups:
            group["lr"] = 0.05
        for p in model.parameters():
            p.grad = torch.zeros_like(p)
        for _ in range(40):
            optimizer.step()
        assert monitor.parts == ["all", "image"]
        last = monitor.frame().query("step == 39").set_index("layer")
        return last["weight"].to_dict() | {f"{n} {k}": k for n, k in last["kind"].items()}

    assert norms(True) == norms(False)
