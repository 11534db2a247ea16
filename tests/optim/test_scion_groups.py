"""Scion and ScionC on a model: its groups, a resumed run, training, and the errors."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from clipedu.optim.param_groups import parameter_groups
from clipedu.optim.scion import Scion, ScionC, scion_groups
from clipedu.utils.errors import ClipeduError

START = (1.0, -2.0, 0.5, 3.0)


def weight(values=START, dtype=torch.float64) -> nn.Parameter:
    return nn.Parameter(torch.as_tensor(values, dtype=dtype).clone())


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.patches = nn.Conv2d(3, 6, 4, stride=4)
        self.conv = nn.Conv2d(6, 6, 3, padding=1)
        self.depthwise = nn.Conv2d(6, 6, 3, padding=1, groups=6, bias=False)
        self.pointwise = nn.Conv2d(6, 6, 1, bias=False)
        self.position = nn.Parameter(torch.zeros(1, 4, 6))
        self.qkv_w = nn.Parameter(torch.eye(6).repeat(3, 1, 1))
        self.words = nn.Embedding(10, 6)
        self.norm = nn.LayerNorm(6)
        self.image_projection = nn.Linear(6, 5, bias=False)
        self.scale = nn.Parameter(torch.tensor(2.0))

    def forward(self, pixels: Tensor, words: Tensor) -> Tensor:
        x = self.pointwise(self.depthwise(self.conv(self.patches(pixels)))).flatten(2).mT + self.position
        x = x @ self.qkv_w.sum(0)
        return self.scale * self.image_projection(self.norm(x.mean(1) + self.words(words).mean(1))).pow(2).mean()


def train(model: Model, optimizer: torch.optim.Optimizer, steps: range, dtype=torch.float32) -> list[Tensor]:
    for i in steps:
        g = torch.Generator().manual_seed(i)
        pixels = torch.randn(2, 3, 8, 8, generator=g).to(dtype)
        words = torch.randint(10, (2, 5), generator=g)
        for group in optimizer.param_groups:
            group["lr"] = 0.02 * (1 - i / 8)
        optimizer.zero_grad()
        model(pixels, words).backward()
        optimizer.step()
    return [p.detach().clone() for p in model.parameters()]


def model(dtype=torch.float32) -> Model:
    torch.manual_seed(0)
    return Model().to(dtype)


def test_groups_say_what_shapes_cannot():
    groups = {group["name"]: group for group in scion_groups(model(), 0.2)}
    names = {name: group["param_names"] for name, group in groups.items()}
    assert names == {
        "auto, not decayed": ["scale", "patches.bias", "conv.bias", "norm.weight", "norm.bias"],
        "auto, decayed": ["position"],
        "spectral, decayed": ["qkv_w"],
        "spectral-conv, decayed": ["conv.weight", "pointwise.weight"],
        "patchifier, decayed": ["patches.weight"],
        "row-norm, decayed": ["depthwise.weight"],
        "embedding, decayed": ["words.weight"],
        "head auto, decayed": ["image_projection.weight"],
    }
    assert all(group["weight_decay"] == (0 if "not decayed" in name else 0.2) for name, group in groups.items())
    assert [name for name, group in groups.items() if not group["corrected"]] == ["head auto, decayed"]
    assert groups["embedding, decayed"]["norm"] == "embedding"
    frozen = model()
    frozen.words.requires_grad_(False)
    assert not any("words" in name for group in scion_groups(frozen, 0.2) for name in group["param_names"])


@pytest.mark.parametrize("kind", [Scion, ScionC])
@pytest.mark.parametrize("make_groups", [scion_groups, parameter_groups])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_resumed_run_goes_on_as_if_nothing_had_been(kind, make_groups, dtype, tmp_path):
    whole = model(dtype)
    expected = train(whole, kind(make_groups(whole, 0.5), lr=0.02), range(8), dtype)

    first = model(dtype)
    optimizer = kind(make_groups(first, 0.5), lr=0.02)
    train(first, optimizer, range(3), dtype)
    torch.save({"model": first.state_dict(), "optimizer": optimizer.state_dict()}, tmp_path / "state.pt")

    state = torch.load(tmp_path / "state.pt", weights_only=True)
    second = model(dtype)
    second.load_state_dict(state["model"])
    resumed = kind(make_groups(second, 0.1), lr=7.0)  # built otherwise: what is loaded counts
    resumed.load_state_dict(state["optimizer"])
    for got, want in zip(train(second, resumed, range(3, 8), dtype), expected, strict=True):
        assert torch.equal(got, want) and got.isfinite().all()


def test_it_trains():
    small = model()
    g = torch.Generator().manual_seed(1)
    pixels, words = torch.randn(4, 3, 8, 8, generator=g), torch.randint(10, (4, 5), generator=g)
    optimizer = ScionC(scion_groups(small, 0.1), lr=0.02)
    losses = []

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = small(pixels, words)
        loss.backward()
        return loss

    for _ in range(20):
        losses.append(float(optimizer.step(closure).detach()))
    assert losses[-1] < 0.5 * losses[0]


def test_without_gradient_a_parameter_is_left_alone():
    p, q = weight(), weight()
    optimizer = Scion([p, q], lr=0.1, weight_decay=1)
    q.grad = torch.ones_like(q)
    optimizer.step()
    assert torch.equal(p.detach(), torch.tensor(START, dtype=p.dtype)) and p not in optimizer.state


def test_a_group_can_be_added_later():
    optimizer = ScionC([weight()], lr=0.1, weight_decay=0.5)
    scale = weight(4.0)
    optimizer.add_param_group({"params": [scale], "weight_decay": 0.0})
    assert optimizer.param_groups[1]["target"] is None
    scale.grad = torch.tensor(-2.0, dtype=scale.dtype)
    optimizer.step()
    assert float(scale.detach()) == pytest.approx(4.1)


@pytest.mark.parametrize("kind", [Scion, ScionC])
@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"lr": -1.0}, "lr -1.0 must be at least 0"),
        ({"lr": math.nan}, "lr nan"),
        ({"weight_decay": -0.1}, "weight_decay -0.1"),
        ({"alpha": 0.0}, "alpha 0.0 must be above 0 and at most 1"),
        ({"alpha": 1.5}, "alpha 1.5"),
        ({"radius": 0.0}, "radius 0.0 must be above 0"),
        ({"norm": "spektral"}, "unknown norm 'spektral'. Did you mean 'spectral'"),
        ({"norm": "spectral"}, r"'spectral' needs a tensor of 2 or more axes, .* \[4\]"),
        ({"polar": "qr"}, "unknown polar method 'qr'"),
    ],
)
def test_wrong_values_are_named(kind, wrong, message):
    with pytest.raises(ClipeduError, match=message):
        kind([weight()], **wrong)
    optimizer = kind([weight()])
    with pytest.raises(ClipeduError, match=message):
        optimizer.add_param_group({"params": [weight()], **wrong})
    assert len(optimizer.param_groups) == 1


def test_wrong_values_of_scionc():
    with pytest.raises(ClipeduError, match="target 0 must be above 0"):
        ScionC([weight()], target=0)
    with pytest.raises(ClipeduError, match="build ScionC with the peak lr"):
        ScionC([weight()], lr=0.0, weight_decay=0.1)
    for kind in (Scion, ScionC):
        with pytest.raises(TypeError, match="beta"):
            kind([weight()], beta=3)
