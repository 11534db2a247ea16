"""Options of optimizers: ranges, kinds, and two steps before any data is read."""

from __future__ import annotations

import pytest
import torch

from clipedu import Experiment, build_optimizer
from clipedu.optim import OPTIMIZERS
from clipedu.optim.trial import try_optimizer
from clipedu.training.objective import check_names
from tests.helpers.errors import message_of


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("adamw", {"betas": [0.9]}, "betas=[0.9] must be a list of 2 numbers, as [0.9, 0.999], its default"),
        ("adamw", {"betas": [0.9, 0.99, 0.999]}, "must be a list of 2 numbers"),  # torch ignores the third
        ("adan", {"betas": [0.9, 0.9]}, "must be a list of 3 numbers"),
        ("adamw", {"betas": 0.9}, "betas=0.9 must be a list of 2 numbers"),
        ("adamw", {"betas": [0.9, 1.0]}, "each of betas must be a number >= 0 and < 1, got 1.0"),
        ("lion", {"betas": {}}, "betas={} must be a list"),
        ("adamw", {"foreach": True, "fused": True}, "`fused` and `foreach` cannot be `True` together"),
        ("adamw", {"differentiable": True}, "the step changes the weights in place"),
        ("sgd", {"momentum": 2}, "momentum must be a number >= 0 and < 1, got 2"),
        ("sgdw", {"momentum": 1}, "momentum must be a number >= 0 and < 1, got 1"),
        ("muon", {"momentum": -0.1}, "momentum must be a number >= 0 and < 1, got -0.1"),
        ("muon", {"ns_steps": "x"}, "ns_steps='x' must be a number, as 5, its default"),
        ("adamw", {"eps": -1}, "eps must be a number >= 0, got -1"),
        ("adamw", {"amsgrad": "yes"}, "amsgrad='yes' must be true or false, as false, its default"),
        ("lamb", {"max_grad_norm": "x"}, "max_grad_norm='x' must be a number"),
        ("adamw", {"no_such": 1}, "unexpected keyword argument 'no_such'"),
        ("adamc", {"heads": 3}, "heads=3 must be a list of names of modules"),
        ("adamc", {"lr_max": -1}, "lr_max=-1 must be a number above 0"),
        ("adamw", {"decay_law": ["x"]}, "unknown decay law ['x']"),
    ],
)
def test_options_that_cannot_work_are_refused_before_any_data_is_read(name, options, words):
    message = message_of(check_names, Experiment(optimizer=name, optimizer_options=options))
    assert words in message and len(message) < 500


def test_capturable_is_refused_where_it_does_not_work():
    assert "capturable" in message_of(try_optimizer, "adamw", lr=1e-3, weight_decay=0.0, capturable=True)


@pytest.mark.parametrize("lr", [3e38, 1e38])
def test_a_learning_rate_beyond_float32_is_refused(lr):
    message = message_of(check_names, Experiment(lr=lr))
    assert message.startswith(f"optimizer 'adamw' does not take lr={lr}") and "overflow" in message


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_makes_its_two_steps_and_leaves_the_random_state(name):
    before = torch.get_rng_state()
    try_optimizer(name, lr=1e-3, weight_decay=0.1)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_learning_rate_and_decay_have_an_effect_on_every_optimizer(name):
    """What would be ignored silently would be seen here."""

    def after(**changes) -> torch.Tensor:
        torch.manual_seed(0)
        model = torch.nn.Linear(6, 5)
        optimizer = build_optimizer(model, name, **{"lr": 1e-2, "weight_decay": 0.1, **changes})
        for step in range(3):
            noise = torch.Generator().manual_seed(step)
            for parameter in model.parameters():
                parameter.grad = torch.randn(parameter.shape, generator=noise)
            optimizer.step()
        return model.weight.detach().clone()

    plain = after()
    assert not torch.equal(plain, after(lr=2e-2)) and not torch.equal(plain, after(weight_decay=0.4))


def test_what_is_allowed():
    for name, options in (
        ("adamw", {"eps": 0, "betas": [0.0, 0.5], "amsgrad": True, "foreach": None}),
        ("lamb", {"max_grad_norm": None}),
        ("sgd", {"momentum": 0, "nesterov": False}),
        ("adamc", {"heads": ["image_projection"]}),
        ("adamc", {"heads": []}),
    ):
        check_names(Experiment(optimizer=name, optimizer_options=options))
