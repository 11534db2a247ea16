"""Every loss that rests on a similarity, in every geometry: finite forward and backward, also at the worst embeddings."""

import inspect

import pytest
import torch

from clipedu.geometry import build_geometry
from clipedu.losses import LOSSES, build_loss

from .oracle import NAMES, draw

WITH_GEOMETRY = [name for name, entry in LOSSES.items() if "geometry" in inspect.signature(entry.build).parameters]
BATCHES = {
    "random": lambda: (draw(0), draw(1)),
    "matched": lambda: (draw(0), draw(0)),
    "collapsed": lambda: (draw(0, rows=1).expand(6, 5), draw(0, rows=1).expand(6, 5)),
    "zero": lambda: (torch.zeros(6, 5), torch.zeros(6, 5)),
    "some zero": lambda: (draw(0) * (torch.arange(6) % 2)[:, None], draw(1)),
}


def test_what_rests_on_a_similarity():
    assert {"clip", "sogclr", "cyclip", "onlineclr", "isogclr", "siglip", "dcl", "infoloob"} <= set(WITH_GEOMETRY)


@pytest.mark.parametrize("batch", list(BATCHES))
@pytest.mark.parametrize("geometry", NAMES)
@pytest.mark.parametrize("loss", WITH_GEOMETRY)
def test_finite_forward_and_backward(loss, geometry, batch):
    space = build_geometry(geometry, 5)
    temperature = None if loss == "isogclr" else space.temperature  # isogclr has temperatures of its own, a range
    objective = build_loss(loss, temperature=temperature, num_samples=6, geometry=space)
    image, text = (side.float().clone().requires_grad_() for side in BATCHES[batch]())
    for _ in range(2):  # the second time with memory
        output = objective(space.tangent(image, "image"), space.tangent(text, "text"), torch.arange(6))
        assert output.total.isfinite()
        output.total.backward()
    learned = [parameter.grad for parameter in objective.parameters() if parameter.grad is not None]
    for gradient in (image.grad, text.grad, *learned):
        assert gradient.isfinite().all()
        assert gradient.abs().max() < 1e4
