"""A learning rate for each tower and layer: groups, and steps as a loop with a factor a parameter would make them."""

import copy

import pytest
import torch
from torch import nn

from clipedu import ClipeduError, build_optimizer
from clipedu.optim import OPTIMIZERS, describe_groups
from clipedu.optim.lr_scales import scaled_groups, set_lr, tower_scales


def towers() -> nn.ModuleDict:
    torch.manual_seed(0)
    block = lambda: nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0)  # noqa: E731
    parts = {
        "image_encoder": nn.Sequential(nn.Linear(6, 8), nn.ModuleList([block(), block()]), nn.LayerNorm(8)),
        "text_encoder": nn.Sequential(nn.Embedding(9, 8), nn.ModuleList([block(), block(), block()])),
        "image_projection": nn.Linear(8, 4, bias=False),
        "text_projection": nn.Linear(8, 4, bias=False),
    }
    return nn.ModuleDict(parts)


def test_each_layer_has_a_share_of_the_one_above_it():
    scales = tower_scales(towers(), image=0.1, layer_decay=0.5)
    assert scales["image_projection.weight"] == pytest.approx(0.1) and "text_projection.weight" not in scales
    assert scales["image_encoder.1.1.linear1.weight"] == pytest.approx(0.05)
    assert scales["image_encoder.2.weight"] == pytest.approx(0.05)  # the norm after the blocks
    assert scales["image_encoder.1.0.linear1.weight"] == pytest.approx(0.025)
    assert scales["image_encoder.0.weight"] == pytest.approx(0.0125)
    assert scales["text_encoder.0.weight"] == pytest.approx(0.5**4)
    assert tower_scales(towers()) == {}


def test_nothing_trained_needs_no_layers():
    model = towers()
    model["image_encoder"] = nn.Linear(3, 8)
    with pytest.raises(ClipeduError, match="layer_decay does not fit this image encoder, a Linear"):
        tower_scales(model, layer_decay=0.5)
    model["image_encoder"].requires_grad_(False)
    assert "text_encoder.0.weight" in tower_scales(model, layer_decay=0.5)


def test_groups_without_a_factor_stay_as_they_are():
    groups = [{"name": "decayed", "params": [1, 2], "param_names": ["a", "b"], "weight_decay": 0.1}]
    assert scaled_groups(groups, {}, lr=1.0) == groups
    one, other = scaled_groups(groups, {"b": 0.5}, lr=2.0, lr_max=4.0)
    assert one == groups[0] | {"params": [1], "param_names": ["a"]}
    assert other["lr"] == 1.0 and other["lr_max"] == 2.0 and other["params"] == [2]


def steps(models: list[nn.Module], optimizers: list[list[torch.optim.Optimizer]], rates: list[list[float]]) -> None:
    """Make the steps of a schedule; each model has one optimizer, or one a factor."""
    names = [name for name, _ in models[0].named_parameters()]
    for number, of_step in enumerate(zip(*rates, strict=True)):
        torch.manual_seed(number)
        gradients = {name: torch.randn_like(p) for name, p in models[0].named_parameters()}
        for model, own in zip(models, optimizers, strict=True):
            for name, p in model.named_parameters():
                p.grad = gradients[name].clone()
            for optimizer, lr in zip(own, of_step if len(own) > 1 else [of_step[-1]], strict=True):
                for group in optimizer.param_groups:
                    set_lr(group, lr)
                optimizer.step()
    assert names


@pytest.mark.parametrize("name", [name for name in OPTIMIZERS if name != "adamw-renormalized"])
def test_every_optimizer_steps_as_if_each_factor_had_its_own(name):
    """Against a naive way: for each factor a whole optimizer with its lr, of which only its own parameters are kept."""
    peak, factors = 1e-2, {"image_encoder": 0.3, "image_projection": 0.3}
    model, plain = towers(), towers()
    scales = tower_scales(model, image=0.3)
    schedule = [peak * x for x in (0.25, 0.5, 1.0, 0.7, 0.2)]
    optimizer = build_optimizer(model, name, lr=peak, weight_decay=0.1, lr_scales=scales)
    steps([model], [[optimizer]], [schedule])
    for factor, wanted in ((0.3, True), (1.0, False)):
        other = copy.deepcopy(plain)
        alone = build_optimizer(other, name, lr=peak * factor, weight_decay=0.1)
        steps([other], [[alone]], [[lr * factor for lr in schedule]])
        for (key, mine), theirs in zip(model.named_parameters(), other.parameters(), strict=True):
            if (key.partition(".")[0] in factors) == wanted:
                torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-7, msg=f"{name}: {key}")


def test_the_table_says_the_rate_of_each_group():
    model = towers()
    table = describe_groups(
        build_optimizer(model, "adamc", lr=1e-3, weight_decay=0.1, lr_scales=tower_scales(model, image=0.1))
    )
    rows = {line.split("  ")[0]: line.split() for line in table.splitlines()}
    assert "lr" in rows["group"] and "0.0001" in rows["head, lr x 0.1"] and "0.001" in rows["head"]
    assert "output layer" in " ".join(rows["head, lr x 0.1"])
    plain = describe_groups(build_optimizer(model, "adamc", lr=1e-3, weight_decay=0.1))
    assert " lr  " not in plain.splitlines()[0].replace("lr * decay", "")
