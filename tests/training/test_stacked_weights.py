"""What runs train is in one array, and stays theirs."""

import torch
from torch import nn

from clipedu.optim import build_optimizer
from clipedu.training.stacked_weights import StackedWeights, projected


def models(count: int = 3) -> list[nn.Module]:
    made = []
    for seed in range(count):
        torch.manual_seed(seed)
        made.append(nn.ModuleDict({"image_projection": nn.Linear(4, 2), "text_projection": nn.Linear(3, 2)}))
    return made


def stacked_of(made: list[nn.Module], name: str = "adamw") -> tuple[StackedWeights, list[torch.optim.Optimizer]]:
    optimizers = [build_optimizer(model, name, lr=0.1, weight_decay=0.1) for model in made]
    return StackedWeights(optimizers), optimizers


def test_parameters_and_gradients_are_views_of_a_row():
    made = models()
    before = [model["text_projection"].weight.clone() for model in made]
    stacked, _ = stacked_of(made)
    assert all(torch.equal(model["text_projection"].weight, w) for model, w in zip(made, before, strict=True))
    assert [one.name for one in stacked.slices][:2] == ["image_projection.weight", "text_projection.weight"]
    assert stacked.weights.shape == (3, sum(p.numel() for p in made[0].parameters()))
    stacked.weights[1] += 1
    assert torch.equal(made[1]["text_projection"].weight, before[1] + 1)
    assert torch.equal(made[0]["text_projection"].weight, before[0])
    assert torch.equal(stacked.leaves["text_projection.weight"][1], before[1] + 1)


def test_projections_are_those_of_each_model():
    made = models()
    stacked, _ = stacked_of(made)
    shared, own = torch.randn(5, 4), torch.randn(3, 5, 4)
    for run, model in enumerate(made):
        for features, seen in ((shared, shared), (own, own[run])):
            found = projected(stacked.leaves, "image", features)[run]
            torch.testing.assert_close(found, model["image_projection"](seen))


def test_each_run_gets_the_gradient_of_its_own_loss():
    made = models()
    stacked, _ = stacked_of(made)
    features = torch.randn(5, 4), torch.randn(5, 3)
    sides = [projected(stacked.leaves, side, x) for side, x in zip(("image", "text"), features, strict=True)]
    stacked.backward((sides[0] * sides[1]).sum((1, 2)))
    for run, model in enumerate(made):
        found = [p.grad.clone() for p in model.parameters()]
        copy = models()[run]
        (copy["image_projection"](features[0]) * copy["text_projection"](features[1])).sum().backward()
        for gradient, p in zip(found, copy.parameters(), strict=True):
            torch.testing.assert_close(gradient, p.grad)


def test_clipping_is_that_of_torch():
    made = models()
    stacked, _ = stacked_of(made)
    stacked.gradients.normal_()
    copies = [[p.grad.clone() for p in model.parameters()] for model in made]
    stacked.clip([0.5, None, 1e6])
    for model, largest, kept in zip(made, (0.5, None, 1e6), copies, strict=True):
        expected = models(1)[0]
        for p, gradient in zip(expected.parameters(), kept, strict=True):
            p.grad = gradient
        if largest is not None:
            torch.nn.utils.clip_grad_norm_(expected.parameters(), largest)
        for p, q in zip(model.parameters(), expected.parameters(), strict=True):
            torch.testing.assert_close(p.grad, q.grad)


def test_runs_part_with_weights_and_state_of_their_own():
    made = models()
    stacked, optimizers = stacked_of(made)
    stacked.gradients.normal_()
    stacked.step("adamw")
    stacked.part_ways()
    stacked.part_ways()  # again changes nothing
    for model, optimizer in zip(made, optimizers, strict=True):
        for p in model.parameters():
            assert p.untyped_storage().nbytes() == 4 * p.numel() and p.grad is None
            state = optimizer.state[p]
            assert state["step"] == 1 and state["exp_avg"].shape == p.shape
            assert state["exp_avg"].untyped_storage().nbytes() == 4 * p.numel()
            assert state["exp_avg"].abs().min() > 0
