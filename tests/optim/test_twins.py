"""A twin steps as the real optimizer does, and leaves it alone."""

from __future__ import annotations

import copy
import random

import numpy as np
import torch
from torch import nn

from clipedu.optim.twins import random_numbers_kept, step_alone, twin_of


def weights() -> list[nn.Parameter]:
    torch.manual_seed(0)
    parameters = [nn.Parameter(torch.randn(shape)) for shape in ((6, 5), (7,), (2, 3, 4))]
    for p in parameters:
        p.grad = torch.randn(p.shape)
    return parameters


def test_a_twin_of_some_weights_has_their_options_and_state():
    parameters = weights()
    groups = [
        {"params": parameters[:2], "param_names": ["a", "b"]},
        {"params": parameters[2:], "param_names": ["c"], "lr": 0.3},
    ]
    optimizer = torch.optim.AdamW(groups, lr=0.1, weight_decay=0.5)
    optimizer.step()
    twin, copies = twin_of(optimizer, parameters[1:])
    assert [group["lr"] for group in twin.param_groups] == [0.1, 0.3]
    assert twin.param_groups[0]["param_names"] == ["b"] and twin.param_groups[0]["params"] == [copies[parameters[1]]]
    assert set(map(id, twin.state)) == {id(copies[p]) for p in parameters[1:]}
    before = copy.deepcopy([p.tolist() for p in parameters])
    step_alone(twin)
    optimizer.step()
    assert [p.tolist() for p in parameters] != before
    for p in parameters[1:]:
        assert torch.equal(p, copies[p]) and torch.equal(
            optimizer.state[p]["exp_avg"], twin.state[copies[p]]["exp_avg"]
        )


def test_hooks_and_a_schedulers_wrapper_are_left_out():
    parameters, seen = weights(), []
    optimizer = torch.optim.SGD(parameters, lr=0.1)
    torch.optim.lr_scheduler.StepLR(optimizer, 1)
    optimizer.register_step_pre_hook(lambda *_: seen.append("hook"))
    twin, copies = twin_of(optimizer)
    step_alone(twin)
    assert seen == [] and "step" not in vars(twin)
    torch.testing.assert_close(copies[parameters[0]].detach(), (parameters[0] - 0.1 * parameters[0].grad).detach())


def test_random_numbers_are_kept():
    optimizer = torch.optim.SGD(weights(), lr=0.1)

    def draw() -> tuple[float, float, float]:
        return torch.rand(()).item(), random.random(), np.random.rand()

    with random_numbers_kept(optimizer):
        first = draw()
    assert draw() == first
