"""What LibAUC's bimodal SogCLR does otherwise than ours and the paper; where libauc is installed.

pip install libauc, then: pytest tests/losses/test_libauc.py
"""

from __future__ import annotations

import contextlib
import io
import math

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from clipedu.losses import build_loss

losses = pytest.importorskip("libauc.losses")


def theirs(tau: float, gamma: float = 1.0):
    with contextlib.redirect_stdout(io.StringIO()):
        return losses.GCLoss("bimodal", N=100, tau=tau, gamma=gamma, device="cpu")


def ours(tau: float, gamma: float = 1.0):
    return build_loss("sogclr", temperature=tau, num_samples=100, gamma=gamma)


def pairs(size: int, spread: float = 1.0) -> tuple[Tensor, Tensor]:
    torch.manual_seed(0)
    image = torch.randn(size, 32)
    text = spread * torch.randn(size, 32) + (1 - spread) * image
    return tuple(normalize(x, dim=1).requires_grad_() for x in (image, text))


def gradient(loss, image: Tensor, text: Tensor, index: Tensor | None = None) -> Tensor:
    output = loss(image, text, torch.arange(len(image)) if index is None else index)
    total = output.total if hasattr(output, "total") else output[0]
    rows = torch.autograd.grad(total, (image, text))
    return torch.cat([row - (row * x).sum(1, keepdim=True) * x for row, x in zip(rows, (image, text), strict=True)])


@pytest.mark.parametrize("size", [4, 8, 32])
def test_its_gradient_is_b_minus_1_over_2_times_the_papers_and_ours(size):
    image, text = pairs(size)
    a, b = gradient(theirs(0.1), image, text), gradient(ours(0.1), image, text)
    torch.testing.assert_close(a, (size - 1) / 2 * b, rtol=1e-4, atol=1e-7)


def test_its_inputs_must_be_normalised():
    """Ours normalises; its similarity is the product of what it is given."""
    image, text = pairs(8)
    index = torch.arange(8)
    longer = (3 * image.detach(), 3 * text.detach(), index)
    plain = (image, text, index)
    assert float(ours(0.1)(*longer).total) == pytest.approx(float(ours(0.1)(*plain).total))
    assert float(theirs(0.1)(*longer)[0]) != pytest.approx(float(theirs(0.1)(*plain)[0]), rel=0.5)


def test_unseen_rows_of_a_mixed_batch_start_at_gamma_g():
    """Not at g: their gradient is 1 / gamma times as large. With constant gamma an epoch of 1.0 is meant to see all first."""
    image, text = pairs(8)
    gamma = 0.25
    loss = theirs(0.1, gamma)
    loss(image[:4], text[:4], torch.arange(4))  # rows 0 to 3 are seen now
    inner = loss.loss_fn if hasattr(loss, "loss_fn") else loss
    loss(image, text, torch.arange(8))
    mixed = (inner.u1 * inner.b1.exp())[4:8, 0].double()
    fresh = theirs(0.1, gamma)
    inner = fresh.loss_fn if hasattr(fresh, "loss_fn") else fresh
    fresh(image, text, torch.arange(8))
    alone = (inner.u1 * inner.b1.exp())[4:8, 0].double()
    torch.testing.assert_close(mixed, gamma * alone, rtol=1e-4, atol=0)
    own = ours(0.1, gamma)
    own(image[:4], text[:4], torch.arange(4)), own(image, text, torch.arange(8))
    torch.testing.assert_close(own.log_u[0, 4:8].exp().double(), alone, rtol=1e-4, atol=0)


def test_its_floor_takes_the_gradient_of_won_pairs_at_a_cold_temperature():
    """u is at least 1e-20, on a scale where a positive is 1: an anchor won by more than 46 tau loses its gradient."""
    image, text = pairs(8, spread=0.05)
    a, b = gradient(theirs(0.01), image, text), gradient(ours(0.01), image, text)
    similarity = image.detach() @ text.detach().T
    margin = (similarity - similarity.diagonal()[:, None]).fill_diagonal_(-math.inf).amax(1)
    assert (margin < -0.46).any()
    assert (a.norm(dim=1) / b.norm(dim=1)).min() < 0.5 * (8 - 1) / 2
    warm_a, warm_b = gradient(theirs(0.1), image, text), gradient(ours(0.1), image, text)
    torch.testing.assert_close(warm_a, 7 / 2 * warm_b, rtol=1e-4, atol=1e-7)
