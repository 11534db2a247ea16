"""The losses of a stack are those of its runs, memory included."""

import pytest
import torch

from clipedu.geometry import build_geometry
from clipedu.losses import LOSSES, build_loss
from clipedu.training.stackable import constants
from clipedu.training.stacked_loss import StackedLoss
from tests.helpers.stacks import CONSTANTS

ROWS, WIDTH, RUNS = 6, 4, 3


@pytest.mark.parametrize("shared", [True, False], ids=["one batch", "own batches"])
@pytest.mark.parametrize("name", LOSSES)
def test_values_gradients_and_memory(name, shared):
    torch.manual_seed(0)
    temperatures = (0.03, 0.02, 0.04) if name == "isogclr" else (0.1, 0.2, 0.3)

    def losses():
        geometries = [build_geometry("cosine", WIDTH) for _ in range(RUNS)]
        options = zip(temperatures, geometries, CONSTANTS.get(name, [{}] * RUNS), strict=True)
        return geometries, [
            build_loss(name, temperature=t, geometry=g, num_samples=20, **o).train() for t, g, o in options
        ]

    geometries, stacked_losses = losses()
    _, single_losses = losses()
    stack = StackedLoss(geometries, stacked_losses)
    before = [constants(loss) for loss in stacked_losses]
    for step in range(3):
        image, text = torch.randn(2, RUNS, ROWS, WIDTH)
        index = torch.randperm(20)[:ROWS] if shared else torch.stack([torch.randperm(20)[:ROWS] for _ in range(RUNS)])
        learned = {
            f"loss.{key}": torch.stack([p.detach() for p in values]).requires_grad_()
            for key, values in {
                k: [dict(loss.named_parameters())[k] for loss in single_losses]
                for k, _ in single_losses[0].named_parameters()
            }.items()
        }
        x, y = image.clone().requires_grad_(), text.clone().requires_grad_()
        output = stack(learned, x, y, index, progress=0.1 * step)
        output.total.sum().backward()
        for run, loss in enumerate(single_losses):
            one, other = image[run].clone().requires_grad_(), text[run].clone().requires_grad_()
            loss.progress = 0.1 * step
            loss.zero_grad()
            single = loss(one, other, index if shared else index[run])
            single.total.backward()
            torch.testing.assert_close(output.total[run], single.total)
            assert output.terms.keys() == single.terms.keys()
            for key, value in (single.terms | single.watch).items():
                torch.testing.assert_close((output.terms | output.watch)[key][run], value)
            torch.testing.assert_close(x.grad[run], one.grad)
            torch.testing.assert_close(y.grad[run], other.grad)
            for key, parameter in loss.named_parameters():
                torch.testing.assert_close(learned[f"loss.{key}"].grad[run], parameter.grad)
            torch.testing.assert_close(output.watch["image_norm"][run], image[run].norm(dim=1).median())
    stack.give_back()
    for mine, its in zip(stacked_losses, single_losses, strict=True):
        for (key, value), other in zip(mine.named_buffers(), its.buffers(), strict=True):
            torch.testing.assert_close(value, other, rtol=1e-5, atol=1e-4, msg=key)
    assert [constants(loss) for loss in stacked_losses] == before


def test_what_is_watched_stays_when_what_is_learned_moves_on():
    """A bias is watched as it was before the step."""
    losses = [build_loss("siglip", geometry=build_geometry("cosine", WIDTH)).train() for _ in range(2)]
    learned = {
        "loss.logit_scale": torch.full((2,), 2.3).requires_grad_(),
        "loss.bias": torch.full((2,), -10.0).requires_grad_(),
    }
    stack = StackedLoss([loss.geometry for loss in losses], losses)
    output = stack(learned, *torch.randn(2, 2, ROWS, WIDTH), torch.arange(ROWS), progress=0.0)
    with torch.no_grad():
        learned["loss.bias"].add_(1)
    assert output.watch["bias"].tolist() == [-10, -10]


def test_a_learned_geometry_is_found_in_its_loss():
    """It is a module of the model and of the loss; what it learns is left a plain tensor."""
    geometries = [build_geometry("euclidean-inner", WIDTH, learn_alpha=True) for _ in range(2)]
    losses = [build_loss("clip", geometry=geometry, temperature=1.0).train() for geometry in geometries]
    learned = {f"geometry.log_alpha_{side}": torch.zeros(2).requires_grad_() for side in ("image", "text")}
    output = StackedLoss(geometries, losses)(learned, *torch.randn(2, 2, ROWS, WIDTH), torch.arange(ROWS), progress=0.0)
    output.total.sum().backward()
    assert all(value.grad.abs().min() > 0 for value in learned.values())
    assert output.watch["alpha_image"].tolist() == [1, 1]
    assert all(value.shape == () for value in geometries[0].state_dict().values())
