"""What is decayed goes by shape."""

from __future__ import annotations

import re

import pytest
import torch
from torch import nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper

from clipedu.norms import NormMonitor
from clipedu.optim import build_optimizer, describe_groups, parameter_groups
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


def table(name: str, model: nn.Module | None = None, **options) -> dict[str, list[str]]:
    """Group -> the other cells of its row."""
    optimizer = build_optimizer(model or Attention(), name, lr=0.1, weight_decay=0.02, **options)
    rows = [re.split(r"  +", line) for line in describe_groups(optimizer).splitlines()]
    assert rows[0] == ["group", "tensors", "parameters", "weight decay", "law", "why"]
    return {row[0]: row[1:] for row in rows[1:]}


BODY, HEAD = "two or more axes", "output layer: its steps aren't independent of its weights"
REST = "fewer than two axes: biases, norms, scalars"


def test_the_table():
    rest = ["5", str(12 + 4 + 8 + 2), "0", "-", REST]
    total = ["10", str(168 + 26)]
    decayed = ["5", "168", "0.02"]
    assert table("adamw") == {"decayed": [*decayed, "constant", BODY], "not decayed": rest, "total": total}
    for name in ("adopt", "lamb", "adan", "nadamw"):  # as `shrink` sees them
        assert table(name)["decayed"][3] == ("coupled L2" if name == "lamb" else "constant"), name
    for name in ("adam", "sgd", "rmsprop", "novograd"):
        assert table(name) == {"decayed": [*decayed, "coupled L2", BODY], "not decayed": rest, "total": total}, name
    body, head = ["4", "160", "0.02"], ["1", "8", "0.02", "constant", HEAD]
    assert table("adamc") == {"decayed": [*body, "corrected", BODY], "head": head, "not decayed": rest, "total": total}
    assert table("adamw", decay_law="independent")["decayed"] == [*body, "independent", BODY]
    assert table("adamc", heads=())["decayed"] == [*decayed, "corrected", BODY]
    scionc = table("scionc")
    assert scionc["spectral, decayed"] == ["1", "48", "0.02", "corrected", BODY]
    assert scionc["head auto, decayed"] == head
    assert table("scion")["head auto, decayed"][3] == "constant"


def test_the_table_shows_lambda_at_the_peak_and_groups_added_later():
    model = Attention()
    optimizer = build_optimizer(model, "adamc", lr=0.1, weight_decay=0.02)
    late = [nn.Parameter(torch.tensor(1.0)), nn.Parameter(torch.zeros(3)), nn.Parameter(torch.zeros(1000, 2, 2))]
    loss = {"name": "loss", "params": late[:1], "param_names": ["a"], "weight_decay": 0.0}
    optimizer.add_param_group(loss)
    optimizer.add_param_group({"params": late[1:], "param_names": ["b", "c"]})
    for p in model.parameters():
        p.grad = torch.zeros_like(p)
    for group in optimizer.param_groups:
        group["lr"] = 0.05
    optimizer.step()
    assert optimizer.param_groups[0]["weight_decay"] == 0.01
    lines = describe_groups(optimizer).splitlines()
    assert lines[1].split()[:4] == ["decayed", "4", "160", "0.02"]
    assert lines[4].split()[:5] == ["loss", "1", "1", "0", "-"]
    assert lines[5].split() == ["group", "4", "2", "4,003", "0.02", "constant", "any", "shape"]
    assert lines[6].split() == ["total", "13", "4,198"]
    at_rest = build_optimizer(Attention(), "adamw", lr=0.0, weight_decay=0.02)
    assert " constant " in describe_groups(at_rest)
    without = build_optimizer(Attention(), "adamc", lr=0.1)
    assert "corrected" not in describe_groups(without) and "constant" not in describe_groups(without)


def test_the_table_is_aligned():
    lines = describe_groups(build_optimizer(Attention(), "adamc", lr=0.1, weight_decay=0.02)).splitlines()
    assert len({line.index(why) for line, why in zip(lines, ["why", BODY, HEAD, REST], strict=False)}) == 1
    ends = [line.index(count) + len(count) for line, count in zip(lines[1:], ["160", "8", "26", "194"], strict=True)]
    assert set(ends) == {lines[0].index("parameters") + len("parameters")}


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
