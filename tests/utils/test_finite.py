"""Finite numbers: the first tensor that is not is named, on what it is and where it is."""

import math

import pytest
import torch
from torch import nn

from clipedu.utils.finite import (
    NotFinite,
    check_model,
    finite_rows,
    first_non_finite,
    model_fault,
    optimizer_fault,
)


@pytest.fixture
def model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2))


@pytest.mark.parametrize("kind", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_the_first_tensor_is_named(kind):
    tensors = {"n": torch.arange(3), "empty": torch.ones(0), "a": torch.ones(2, 3, dtype=kind), "b": torch.ones(1)}
    assert first_non_finite(tensors.items()) is None
    for value, word in ((math.nan, "NaN"), (math.inf, "inf"), (-math.inf, "-inf")):
        tensors["a"][1, 2] = value
        assert first_non_finite(tensors.items()) == f"'a' ({word})"
    assert first_non_finite(tensors.items(), may_be_minus_infinite=True) is None
    tensors["b"][0] = math.nan
    assert first_non_finite(tensors.items()) == "'a' (-inf)"
    assert first_non_finite([("x", torch.tensor([1.0, -1e19]))], largest=1e18) == "'x' (-1e+19)"


def test_weights_and_buffers(model):
    assert model_fault(model.to(memory_format=torch.channels_last)) is None
    model[1].running_var[2] = math.nan
    assert model_fault(model) == "the buffer '1.running_var' (NaN)"
    with torch.no_grad():
        model[3].weight[0, 0] = 1e37  # finite, but its square is not
    assert model_fault(model) == "the weight '3.weight' (1e+37)"
    with pytest.raises(NotFinite, match=r"the weight '3.weight' \(1e\+37\) of the model is not finite"):
        check_model(model)


def test_a_mask_may_hold_minus_infinity(model):
    model.register_buffer("mask", torch.full((2, 2), -math.inf))
    assert model_fault(model) is None
    model.mask[0, 0] = math.inf
    assert model_fault(model) == "the buffer 'mask' (inf)"


def test_an_optimizers_state(model):
    optimizer = torch.optim.Adam(model.parameters())
    names = {parameter: name for name, parameter in model.named_parameters()}
    assert optimizer_fault(optimizer, names) is None
    model(torch.ones(2, 3, 3, 3)).sum().backward()
    optimizer.step()
    assert optimizer_fault(optimizer, names) is None
    optimizer.state[model[3].bias]["exp_avg_sq"][1] = math.inf
    assert optimizer_fault(optimizer, names) == "the optimizer's 'exp_avg_sq of 3.bias' (inf)"
    optimizer.state[model[0].weight]["more"] = {"a": [torch.ones(1), torch.tensor(math.nan)]}
    assert optimizer_fault(optimizer, names) == "the optimizer's 'more of 0.weight.a.1' (NaN)"


def test_rows(model):
    rows = torch.ones(5, 3)
    assert finite_rows(rows, "embeddings", model) is rows
    rows[2, 1], rows[4] = math.nan, 1e30  # the length of the last is not finite in float32
    with pytest.raises(
        NotFinite, match=r"^2 of 5 embeddings are not finite \(the first in row 2\): the model's weights"
    ):
        finite_rows(rows, "embeddings", model)
    model[1].running_mean[0] = math.inf
    with pytest.raises(NotFinite, match=r"the buffer '1.running_mean' \(inf\) of the model is not finite"):
        finite_rows(rows, "embeddings", model)
