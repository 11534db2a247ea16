"""The streamed form of a loss is the plain form, for any size of a tile."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from clipedu.geometry import Geometry
from clipedu.losses import build_loss
from clipedu.losses import streaming as streamed

from .oracle import random_pairs

STREAMED = ["clip", "sogclr", "cyclip", "siglip", "dcl", "infoloob"]
SIZE = 9


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


@pytest.fixture(params=[1, 4, 100])
def side(request, monkeypatch):
    """Of a tile: single cells, tiles that do not divide the batch, one tile for all."""
    monkeypatch.setitem(streamed.SIDE, "cpu", request.param)


@pytest.mark.parametrize("name", STREAMED)
@pytest.mark.parametrize("options", [{}, {"learn_temperature": True, "scale": "clip"}], ids=["fixed", "learned"])
def test_values_gradients_and_memory_are_those_of_the_plain_form(name, options, side):
    plain, by_tiles = steps(name, False, **options), steps(name, True, **options)
    assert plain.keys() == by_tiles.keys()
    assert name == "siglip" or any("logit_scale" in key for key in plain) == bool(options)
    for key, value in plain.items():
        torch.testing.assert_close(by_tiles[key], value, rtol=1e-10, atol=1e-13, msg=f"{key}")


@pytest.mark.parametrize("name", STREAMED)
def test_a_geometry_s_own_parameters_get_the_same_gradient(name, side):
    plain, by_tiles = steps(name, False, Bent()), steps(name, True, Bent())
    assert "0.geometry.bend" in plain
    for key, value in plain.items():
        torch.testing.assert_close(by_tiles[key], value, rtol=1e-10, atol=1e-13, msg=f"{key}")


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", STREAMED)
def test_in_float32_it_differs_by_rounding_only(name, seed, monkeypatch):
    monkeypatch.setitem(streamed.SIDE, "cpu", 64)
    x, y = (z.float() for z in random_pairs(seed, size=300, dim=16))
    seen = []
    for limit in (300, 299):
        loss = build_loss(name, temperature=0.07, num_samples=300)
        loss.stream_above = limit
        a, b = x.clone().requires_grad_(), y.clone().requires_grad_()
        total = loss(a, b, torch.arange(300)).total
        total.backward()
        seen.append((total.detach(), a.grad, b.grad))
    for plain, by_tiles in zip(*seen, strict=True):
        assert (by_tiles - plain).norm() <= 1e-6 * plain.norm()


class LargestTensor(TorchDispatchMode):
    """Remembers the most cells that any tensor had which an operation returned."""

    cells = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for value in result if isinstance(result, (tuple, list)) else (result,):
            if isinstance(value, torch.Tensor):
                self.cells = max(self.cells, value.numel())
        return result


@pytest.mark.parametrize("name", STREAMED)
def test_nothing_as_large_as_the_matrix_is_ever_made(name, monkeypatch):
    monkeypatch.setitem(streamed.SIDE, "cpu", 8)
    most = {}
    for limit in (31, 32):
        loss = build_loss(name, temperature=0.07, num_samples=32)
        loss.stream_above = limit
        x, y = (z.float().requires_grad_() for z in random_pairs(0, size=32, dim=4))
        with LargestTensor() as largest:
            loss(x, y, torch.arange(32)).total.backward()
        most[limit] = largest.cells
    assert most[31] == 32 * 4  # the embeddings
    assert most[32] >= 32 * 32


@pytest.mark.parametrize("name", [name for name in STREAMED if name != "sogclr"])  # its value is a stand-in
def test_gradient_is_the_derivative_of_the_value(name, side):
    loss = build_loss(name, temperature=0.5, learn_temperature=True).double()
    loss.stream_above = 1
    inputs = tuple(z.requires_grad_() for z in random_pairs(1, size=5, dim=3))
    assert torch.autograd.gradcheck(lambda a, b: loss(a, b, torch.arange(5)).total, inputs)


@pytest.mark.parametrize("name", STREAMED)
def test_a_frozen_side_and_a_second_backward_pass(name, side):
    """A frozen text encoder's embeddings want no gradient; and a graph that is kept gives the same gradient twice."""
    x, y = random_pairs(0, size=SIZE, dim=4)
    found = []
    for limit in (SIZE, 1):
        loss = build_loss(name, temperature=0.05, num_samples=SIZE).double()
        loss.stream_above = limit
        a = x.clone().requires_grad_()
        total = loss(a, y, torch.arange(SIZE)).total
        found += [torch.autograd.grad(total, a, retain_graph=True)[0] for _ in range(2)]
    for gradient in found[1:]:
        torch.testing.assert_close(gradient, found[0], rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("name", STREAMED)
def test_autocast_and_half_precision_change_nothing_inside(name, side):
    x, y = (z.bfloat16().requires_grad_() for z in random_pairs(0, size=SIZE, dim=4))
    half, full = (build_loss(name, temperature=0.05, num_samples=SIZE) for _ in range(2))
    half.stream_above = full.stream_above = 1
    with torch.autocast("cpu", dtype=torch.bfloat16):
        total = half(x, y, torch.arange(SIZE)).total
        total.backward()
    a, b = (z.detach().float().requires_grad_() for z in (x, y))
    expected = full(a, b, torch.arange(SIZE)).total
    expected.backward()
    assert torch.equal(total, expected)
    assert torch.equal(x.grad, a.grad.bfloat16()) and torch.equal(y.grad, b.grad.bfloat16())


def test_memory_changes_in_training_only():
    loss = build_loss("sogclr", temperature=0.05, num_samples=SIZE).double()
    loss.stream_above = 1
    batch = (*random_pairs(0, size=SIZE, dim=4), torch.arange(SIZE))
    first = loss.eval()(*batch).total
    assert loss.log_u.isinf().all()
    assert torch.equal(loss.train()(*batch).total, first)
    assert loss.log_u.isfinite().all()


def test_it_is_chosen_by_the_size_of_the_batch(monkeypatch):
    for name in STREAMED:
        loss = build_loss(name, num_samples=SIZE)
        assert loss.stream_above == streamed.STREAM_ABOVE
        called = []
        monkeypatch.setattr(loss, "streamed", lambda *batch, called=called: called.append(1) or {"all": batch[0].sum()})
        batch = (*random_pairs(0, size=SIZE), torch.arange(SIZE))
        for limit in (SIZE, SIZE - 1):
            loss.stream_above = limit
            loss(*batch)
            assert len(called) == (limit < SIZE)
    for name, options in (("isogclr", {}), ("onlineclr", {}), ("sogclr", {"form": "course"})):
        assert build_loss(name, num_samples=SIZE, **options).stream_above == float("inf")
