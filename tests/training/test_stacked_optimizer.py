"""One step of arrays is the step of each optimizer, in float64 to its last digits."""

import pytest
import torch
from torch import nn

from clipedu.optim import OPTIMIZERS, build_optimizer
from clipedu.training.stacked_optimizer import STEPS, Block, Settings

RUNS, SIZE, COUNT = 3, 7, 5
VARIANTS = {
    "plain": [{}] * RUNS,
    "own numbers": [{}, {"lr": 0.02, "weight_decay": 0.3}, {"lr": 0.3, "weight_decay": 0.0}],
}


def own_options(name: str) -> list[dict]:
    taken = OPTIMIZERS[name].defaults
    if "momentum" in taken:
        return [{}, {"momentum": 0.5}, {"momentum": 0.8}]
    return [{}, {"betas": (0.7, 0.9)}, {"betas": (0.8, 0.95), **({"eps": 1e-3} if "eps" in taken else {})}]


@pytest.mark.parametrize("kind", VARIANTS)
@pytest.mark.parametrize("name", STEPS)
def test_each_row_is_stepped_as_by_its_own_optimizer(name, kind):
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(RUNS, SIZE, generator=generator, dtype=torch.float64)
    options = own_options(name) if kind == "own numbers" else [{}] * RUNS
    models = []
    for row in start:
        model = nn.Linear(SIZE, 1, bias=False, dtype=torch.float64)
        model.weight.data = row.clone()[None]
        models.append(model)
    optimizers = [
        build_optimizer(model, name, **{"lr": 0.1, "weight_decay": 0.2, **own, **more})
        for model, own, more in zip(models, VARIANTS[kind], options, strict=True)
    ]
    gradients = torch.zeros_like(start)
    block = Block(start.clone(), gradients)
    for step in range(COUNT):
        gradients.copy_(torch.randn(RUNS, SIZE, generator=generator, dtype=torch.float64))
        for model, optimizer, g in zip(models, optimizers, gradients, strict=True):
            for group in optimizer.param_groups:
                group["lr"] *= 0.9
            model.weight.grad = g.clone()[None]
            optimizer.step()
        block.step(name, [optimizer.param_groups[0] for optimizer in optimizers])
        ours = torch.cat([model.weight.data for model in models])
        torch.testing.assert_close(block.weights, ours, rtol=1e-10, atol=1e-12, msg=f"{name} after step {step}")
    for number, (model, optimizer) in enumerate(zip(models, optimizers, strict=True)):
        state = optimizer.state[model.weight]
        for key, average in block.averages.items():
            torch.testing.assert_close(average[number], state[key][0], rtol=1e-10, atol=1e-12)


def test_equal_settings_are_one_number():
    like = torch.zeros(2, 3)
    settings = Settings([{"lr": 0.1, "betas": (0.9, 0.99)}, {"lr": 0.2, "betas": (0.9, 0.999)}], like)
    assert settings.column(settings.betas()[0]) == 0.9
    assert settings.column(settings["lr"]).tolist() == [[pytest.approx(0.1)], [pytest.approx(0.2)]]
    assert not settings.flag("nesterov")
