"""The streamed form of a loss is the plain form, for any size of a block."""

import pytest
import torch

from clipedu.geometry import Geometry, build_geometry
from clipedu.losses import build_loss, streamed

from .oracle import assert_close, random_pairs

STREAMED = ["clip", "sogclr", "cyclip", "siglip", "dcl", "infoloob"]
SIZE = 13


class Bent(Geometry):
    """A geometry with a parameter, and no inner product."""

    def __init__(self):
        super().__init__()
        self.bend = torch.nn.Parameter(torch.tensor(0.7, dtype=torch.float64))

    def similarity(self, x, y):
        return -self.bend * torch.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist").square() / 4


def steps(name: str, stream: bool, geometry: Geometry | None = None, **options):
    """Two steps at SIZE rows: values, terms, all gradients and the memory after each."""
    loss = build_loss(name, temperature=0.05, num_samples=20, geometry=geometry, **options).double()
    loss.stream_above = SIZE - 1 if stream else SIZE
    seen = {}
    for step in range(2):
        x, y = (z.requires_grad_() for z in random_pairs(step, size=SIZE, dim=4))
        index = torch.randperm(20, generator=torch.Generator().manual_seed(step))[:SIZE]
        loss.zero_grad()
        output = loss(x, y, index)
        output.total.backward()
        seen |= {f"{step}.total": output.total.detach(), f"{step}.x": x.grad, f"{step}.y": y.grad}
        seen |= {f"{step}.{key}": term for key, term in output.terms.items()}
        seen |= {f"{step}.{key}": p.grad.clone() for key, p in loss.named_parameters() if p.grad is not None}
        seen |= {f"{step}.{key}": buffer.clone() for key, buffer in loss.named_buffers()}
    return seen


@pytest.fixture(params=[1, 3, 4, 100])
def rows(request, monkeypatch):
    """Rows in a block: single rows, blocks that do and do not divide the batch (3 leaves one row over), one block."""
    monkeypatch.setitem(streamed.CELLS, "cpu", request.param * SIZE)


@pytest.mark.parametrize("name", STREAMED)
@pytest.mark.parametrize("options", [{}, {"learn_temperature": True, "scale": "clip"}], ids=["fixed", "learned"])
def test_values_gradients_and_memory_are_those_of_the_plain_form(name, options, rows):
    plain, by_blocks = steps(name, False, **options), steps(name, True, **options)
    assert plain.keys() == by_blocks.keys()
    assert name == "siglip" or any("logit_scale" in key for key in plain) == bool(options)
    for key, value in plain.items():
        torch.testing.assert_close(by_blocks[key], value, rtol=1e-10, atol=1e-13, msg=f"{key}")


@pytest.mark.parametrize("name", STREAMED)
def test_a_geometry_s_own_parameters_get_the_same_gradient(name, rows):
    plain, by_blocks = steps(name, False, Bent()), steps(name, True, Bent())
    assert "0.geometry.bend" in plain
    for key, value in plain.items():
        torch.testing.assert_close(by_blocks[key], value, rtol=1e-10, atol=1e-13, msg=f"{key}")
