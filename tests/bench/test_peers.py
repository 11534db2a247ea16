"""The peers compute what our losses compute."""

import sys

import pytest
import torch

from clipedu.bench.losses import AGAINST
from clipedu.bench.peers import GAMMA, TEMPERATURE, contender
from clipedu.losses import build_loss
from clipedu.utils.errors import ClipeduError

SIZE = 7


def batch(seed: int):
    generator = torch.Generator().manual_seed(seed)
    x, y = (torch.randn(SIZE, 5, generator=generator).requires_grad_() for _ in range(2))
    return x, y, torch.randperm(SIZE, generator=generator)


@pytest.mark.parametrize("loss, source", AGAINST)
def test_a_peer_has_the_same_values_and_gradients_over_three_steps(loss, source):
    if source == "open_clip":
        pytest.importorskip("open_clip")
    theirs = contender(source, loss, SIZE)
    options = {"form": "course"} if loss in ("sogclr", "onlineclr") else {}
    ours = build_loss(loss, temperature=TEMPERATURE, num_samples=SIZE, **options)
    assert getattr(ours, "gamma", GAMMA) == GAMMA
    for seed in range(3):
        x, y, index = batch(seed)
        total = theirs(x, y, index)
        expected = ours(x, y, index).total
        assert total.item() == pytest.approx(expected.item(), rel=1e-4, abs=1e-6)
        for one, other in zip(torch.autograd.grad(total, (x, y)), torch.autograd.grad(expected, (x, y)), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5)


def test_our_contender_is_our_loss():
    x, y, index = batch(0)
    expected = build_loss("clip", temperature=TEMPERATURE)(x, y, index).total
    assert torch.equal(contender("clipedu", "clip", SIZE)(x, y, index), expected)


def test_a_missing_open_clip_is_one_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "open_clip", None)
    monkeypatch.setitem(sys.modules, "open_clip.loss", None)
    with pytest.raises(ClipeduError, match="not installed: pip install open_clip_torch"):
        contender("open_clip", "clip", SIZE)
