"""What holds for every loss, whatever its formula."""

import copy
import math
from contextlib import nullcontext

import pytest
import torch
from torch.nn.functional import normalize

from clipedu.losses import LOSSES, build_loss
from clipedu.utils.errors import ClipeduError

from .oracle import Dot, assert_close, gradients, random_pairs

ALL = sorted(LOSSES)
WITH_MEMORY = ["isogclr", "onlineclr", "sogclr"]
STATELESS = [name for name in ALL if name not in WITH_MEMORY]
ON_PAIRS = [name for name in ALL if name != "vicreg"]
SIZE = 6


def batch(seed: int = 0, dtype=torch.float64):
    x, y = random_pairs(seed, size=SIZE, dim=4)
    return x.to(dtype), y.to(dtype), torch.tensor([7, 2, 0, 9, 4, 5])


def build(name: str, **options):
    """A loss in float64 that has seen a batch, so that its memory is not at its start."""
    loss = build_loss(name, temperature=0.04, num_samples=10, **options).double()
    loss(*batch(100))
    return loss


@pytest.mark.parametrize("name", ALL)
def test_terms_add_up_and_are_detached(name):
    output = build(name)(*[t.requires_grad_() if t.is_floating_point() else t for t in batch()])
    assert output.total.ndim == 0 and output.total.requires_grad
    assert len(output.terms) >= 2
    assert all(term.ndim == 0 and not term.requires_grad for term in output.terms.values())
    assert_close(sum(output.terms.values()), output.total.detach(), rtol=1e-12)


@pytest.mark.parametrize("name", ALL)
def test_permuting_the_batch_permutes_the_gradients(name):
    x, y, index = batch()
    order = torch.tensor([3, 5, 0, 1, 4, 2])
    total, gx, gy = gradients(build(name), x, y, index)
    permuted, px, py = gradients(build(name), x[order], y[order], index[order])
    assert_close(permuted, total, rtol=1e-11)
    assert_close(px, gx[order], rtol=1e-9, atol=1e-12)
    assert_close(py, gy[order], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", ALL)
def test_swapping_images_and_texts_swaps_the_gradients(name):
    x, y, index = batch()
    straight, swapped = (build_loss(name, temperature=0.04, num_samples=10).double() for _ in range(2))
    a, b, i = batch(100)
    straight(a, b, i)
    swapped(b, a, i)
    total, gx, gy = gradients(straight, x, y, index)
    same, sx, sy = gradients(swapped, y, x, index)
    assert_close(same, total, rtol=1e-11)
    assert_close(sx, gy, rtol=1e-9, atol=1e-12)
    assert_close(sy, gx, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", ON_PAIRS)
def test_length_of_a_row_does_not_matter_in_cosine(name):
    x, y, index = batch()
    lengths = torch.tensor([0.1, 2.0, 30.0, 1.0, 5.0, 0.5], dtype=torch.float64)[:, None]
    assert_close(build(name)(x * lengths, 3 * y, index).total, build(name)(x, y, index).total, rtol=1e-11)


@pytest.mark.parametrize("name", [name for name in ON_PAIRS if name != "cyclip"])
def test_pair_weights_are_the_gradient_through_the_similarity(name):
    """dL/dX = W Y and dL/dY = W^T X, at rows that are free variables."""
    x, y, index = batch()
    x, y = normalize(x), normalize(y)
    loss = build(name, geometry=Dot())
    weights = loss.pair_weights(x, y, index)
    _, gx, gy = gradients(loss, x, y, index)
    assert_close(weights @ y, gx, rtol=1e-9, atol=1e-12)
    assert_close(weights.T @ x, gy, rtol=1e-9, atol=1e-12)


def test_pair_weights_of_cyclip_are_those_of_its_part_that_sees_pairs():
    x, y, index = batch()
    x, y = normalize(x), normalize(y)
    weights = build("cyclip", geometry=Dot()).pair_weights(x, y, index)
    _, gx, _ = gradients(build("cyclip", geometry=Dot(), in_modal=0.0), x, y, index)
    assert_close(weights @ y, gx, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", ["clip", "dcl", "infoloob", "sogclr", "isogclr", "cyclip"])
def test_pull_and_push_balance(name):
    assert build(name).pair_weights(*batch()).sum().abs() < 1e-10


def test_pull_and_push_of_onlineclr_balance_once_its_averages_are_steady():
    loss = build_loss("onlineclr", temperature=0.04).double()
    for _ in range(40):
        loss(*batch())
    assert loss.pair_weights(*batch()).sum().abs() < 1e-12


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", STATELESS)
def test_gradient_is_the_derivative_of_the_value(name, seed):
    loss = build_loss(name, temperature=0.5).double()
    x, y = random_pairs(seed, size=4, dim=3)
    inputs = (x.requires_grad_(), y.requires_grad_())
    assert torch.autograd.gradcheck(lambda a, b: loss(a, b, torch.arange(4)).total, inputs)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
@pytest.mark.parametrize("seed", range(3))
def test_autocast_and_half_precision_change_nothing_inside(name, dtype, seed):
    x, y, index = batch(seed, dtype=dtype)
    half, full = (build_loss(name, temperature=0.04, num_samples=10) for _ in range(2))
    x, y = x.requires_grad_(), y.requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = half(x, y, index)
        weights = None if name == "vicreg" else half.eval().pair_weights(x, y, index)
    full_batch = (x.detach().float(), y.detach().float(), index)
    expected = full(*full_batch)
    assert output.total.dtype == torch.float32
    assert torch.equal(output.total, expected.total)
    assert weights is None or torch.equal(weights, full.pair_weights(*full_batch))
    output.total.backward()
    assert x.grad.dtype == dtype and x.grad.isfinite().all()


@pytest.mark.parametrize("name", ALL)
def test_float64_stays_float64(name):
    assert build(name)(*batch()).total.dtype == torch.float64


@pytest.mark.parametrize("name", WITH_MEMORY)
def test_float64_embeddings_with_a_float32_memory(name):
    loss = build_loss(name, temperature=0.04, num_samples=10)
    for seed in range(2):
        output = loss(*batch(seed))
    assert output.total.dtype == torch.float64
    assert all(buffer.dtype == torch.float32 for buffer in loss.buffers())


@pytest.mark.parametrize("name", WITH_MEMORY)
def test_memory_changes_in_training_only(name):
    loss = build(name)
    before = copy.deepcopy(loss.state_dict())
    weights = loss.pair_weights(*batch())
    loss.eval()
    first, second = loss(*batch()).total, loss(*batch()).total
    assert torch.equal(first, second)
    assert all(torch.equal(before[key], value) for key, value in loss.state_dict().items())
    loss.train()
    assert torch.equal(loss(*batch()).total, first)  # evaluation says what the training step will
    assert not all(torch.equal(before[key], value) for key, value in loss.state_dict().items())
    assert not torch.allclose(loss.pair_weights(*batch(1)), weights)


@pytest.mark.parametrize("name, options", [(name, {}) for name in WITH_MEMORY] + [("sogclr", {"form": "course"})])
def test_saved_and_loaded_the_next_steps_are_the_same(name, options, tmp_path):
    loss = build(name, **options)
    torch.save(loss.state_dict(), tmp_path / "loss.pt")
    resumed = build_loss(name, temperature=0.04, num_samples=10, **options).double()
    resumed.load_state_dict(torch.load(tmp_path / "loss.pt"))
    for seed in range(3):
        assert torch.equal(loss(*batch(seed)).total, resumed(*batch(seed)).total)
    for key, value in loss.state_dict().items():
        assert_close(value, resumed.state_dict()[key], rtol=0, atol=0)


@pytest.mark.parametrize("name", WITH_MEMORY)
def test_memory_moves_with_the_module(name):
    loss = build_loss(name, num_samples=10).to("meta")
    assert list(loss.buffers()) and all(buffer.is_meta for buffer in loss.buffers())


@pytest.mark.parametrize("name", ["isogclr", "sogclr"])
def test_only_rows_of_the_batch_change(name):
    loss = build_loss(name, temperature=0.04, num_samples=10)
    loss(*batch())
    seen = torch.zeros(10, dtype=torch.bool)
    seen[batch()[2]] = True
    assert (loss.log_u[:, ~seen] == -math.inf).all() and loss.log_u[:, seen].isfinite().all()


@pytest.mark.parametrize("name", [name for name in ON_PAIRS if name != "siglip"])  # its cells share no mass
def test_on_clips_scale_the_push_is_of_clips_size(name):
    """At the first batch, with every pair as wrong as can be, CLIP pushes with 1 / temperature."""
    x, _ = random_pairs(3, size=SIZE, dim=4)
    loss = build_loss(name, temperature=0.01, num_samples=SIZE, scale="clip").double()
    assert loss.pair_weights(x, -x, torch.arange(SIZE)).clamp(min=0).sum().item() == pytest.approx(100, rel=1e-5)


@pytest.mark.parametrize("name", ALL)
def test_a_batch_that_does_not_fit_is_refused(name):
    loss = build_loss(name, temperature=0.04, num_samples=10)
    x, y, index = batch()
    for bad in [(x, y[:-1], index), (x, y[:, :-1], index), (x, y, index[:-1]), (x[0], y[0], index)]:
        with pytest.raises(ClipeduError, match=r"image \[B, D\], text \[B, D\] and index \[B\]"):
            loss(*bad)
    with pytest.raises(ClipeduError, match="batch of 1.*at least 2"):
        loss(x[:1], y[:1], index[:1])
    with pytest.raises(ClipeduError, match="int64"):
        loss(x, y, index.float())


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("learned", [False, True])
def test_nothing_is_asked_of_the_device(name, learned, monkeypatch):
    """A step that looks at a number waits for a GPU. Tensors without numbers show it: a look at one is an error."""
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())  # which knows no such device
    options = {"learn_temperature": True} if learned and name not in ("vicreg", "isogclr") else {}
    loss = build_loss(name, temperature=0.04, num_samples=10, **options).to("meta")
    loss.progress = 0.5
    x, y = (t.to("meta").requires_grad_() for t in batch()[:2])
    output = loss(x, y, batch()[2])
    output.total.backward()
    assert x.grad is not None and y.grad is not None
    with pytest.raises(RuntimeError):
        output.total.item()
