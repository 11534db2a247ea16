"""Weights between models: in float64 as typed out, exact at the ends, and refused where they do not fit."""

import pytest
import torch
from torch import nn

from clipedu.geometry import build_geometry
from clipedu.models.dual_encoder import DualEncoder, Tower
from clipedu.models.interpolation import check_mixable, interpolate, mean_weights, weighted_mean
from tests.helpers.errors import message_of


def state(seed, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    return {
        "a.weight": torch.randn(5, 3, generator=generator).to(dtype),
        "bn.running_var": torch.rand(5, generator=generator).to(dtype),
        "bn.num_batches_tracked": torch.tensor(seed),
        "mask": torch.tensor([True, seed == 1]),
        "causal": torch.tensor([0.0, -torch.inf], dtype=dtype),
    }


FLOATS = ("a.weight", "bn.running_var")


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("t", [0.1, 0.3, 0.5, 0.9])
def test_a_point_between_is_as_typed_out(t, dtype):
    a, b = state(1, dtype), state(2, dtype)
    found = interpolate(a, b, t)
    for name in FLOATS:
        typed = ((1 - t) * a[name].double() + t * b[name].double()).to(dtype)
        assert torch.equal(found[name], typed) and found[name].dtype == dtype
    assert found["bn.num_batches_tracked"] == 1 and found["mask"].tolist() == [True, True]  # those of A
    assert torch.equal(found["causal"], a["causal"])  # -inf in both, no nan


def test_the_ends_are_a_and_b_bit_for_bit():
    a, b = state(1), state(2)
    for t, end in ((0, a), (1, b)):
        found = interpolate(a, b, t)
        assert all(torch.equal(found[name], end[name]) for name in (*FLOATS, "causal"))
        assert found["a.weight"].data_ptr() != end["a.weight"].data_ptr()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_equal_models_stay_what_they_are(dtype):
    one = state(3, dtype)
    for found in (interpolate(one, one, 0.3), mean_weights([one] * 3), mean_weights([one])):
        assert all(torch.equal(found[name], tensor) for name, tensor in one.items())


def test_a_mean_of_many():
    states = [state(seed) for seed in range(4)]
    found = mean_weights(states)["a.weight"]
    typed = sum(0.25 * one["a.weight"].double() for one in states).float()
    assert torch.equal(found, typed)
    uneven = weighted_mean(states, [0.5, 0.25, 0.25, 0.0])["a.weight"]
    x, y, z = (one["a.weight"].double() for one in states[:3])
    assert torch.equal(uneven, (0.5 * x + 0.25 * y + 0.25 * z).float())


def test_weights_of_another_form():
    a, b = state(1), state(2)
    assert "the tensor 'a.weight' is [5, 3], expected [4, 3]" in message_of(
        interpolate, {**a, "a.weight": a["a.weight"][:4]}, b, 0.5
    )
    assert "the tensor 'more' is not expected" in message_of(interpolate, a, {**b, "more": torch.ones(1)}, 0.5)


def dual(geometry="cosine", pooling="mean", width=4, mean=0.5, padding=None):
    return DualEncoder(
        Tower(nn.Linear(3, width), width), Tower(nn.Linear(3, 4), 4), embedding_dim=4, geometry=build_geometry(geometry, 4),
        pixel_stats=((mean,) * 3, (0.5,) * 3), text_pooling=pooling, text_padding=padding,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("other", "what"),
    [
        ({"width": 5}, "'image_encoder.weight' is [5, 3], expected [4, 3], as in runs/a"),
        ({"pooling": "cls"}, "their text poolings differ ('cls' and 'mean')"),
        ({"padding": (8, 0)}, "their paddings of texts differ"),
        ({"mean": 0.4}, "the means by which they normalise pixels differ"),
        ({"geometry": "elliptic"}, "their geometries differ"),
    ],
)
def test_models_that_mean_different_things_by_their_weights(other, what):
    check_mixable({"runs/a": dual(), "runs/b": dual()})
    said = message_of(check_mixable, {"runs/a": dual(), "runs/b": dual(**other)})
    assert said.startswith("runs/b cannot be blended with runs/a: ") and what in said
