"""Sums over a step, on the way for CPUs and on that for GPUs, against naive ones in float64."""

from __future__ import annotations

import pytest
import torch

from clipedu.norms import snapshot
from clipedu.norms.snapshot import Snapshot, squares

CPU = torch.device("cpu")


@pytest.fixture(params=["mixed", "blocks", "small blocks", "foreach", "foreach in float32"])
def way(request, monkeypatch):
    """Each way through memory, whatever the device: the result may not depend on it."""
    if request.param == "mixed":
        monkeypatch.setattr(snapshot, "_SMALL", 20)
    else:
        monkeypatch.setattr(snapshot, "_by_blocks", lambda tensor: "blocks" in request.param)
    if request.param == "small blocks":
        monkeypatch.setattr(snapshot, "_BLOCK", 7)
        monkeypatch.setattr(snapshot, "_ROW", 3)
    if request.param == "foreach in float32":
        monkeypatch.setattr(snapshot, "wide", lambda device: torch.float32)
    return request.param


def tensors(dtype: torch.dtype = torch.float64) -> list[torch.Tensor]:
    """Sizes around a row and a block; a transposed, a channels-last, a strided and an expanded one."""
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)

    return [
        *(draw(size) for size in (1, 6, 7, 8, 15, 1023, 1025)),
        draw(5, 9),
        draw(5, 9).T,
        draw(2, 3, 4, 5).to(memory_format=torch.channels_last),
        draw(4, 10)[:, ::2],
        draw(1, 6).expand(3, 6).clone(),
    ]


def naive(before: torch.Tensor, after: torch.Tensor) -> list[float]:
    w, v = before.double().flatten(), after.double().flatten()
    d = v - w
    return [float(v @ v), float(d @ d), float(w @ w), float(w @ d)]


def test_the_four_sums_of_a_step(way):
    weights = tensors(torch.float32 if "32" in way else torch.float64)
    one = Snapshot(weights)
    for seed in range(2):  # a second step must not remember the first
        before = [w.clone() for w in weights]
        one.take()
        generator = torch.Generator().manual_seed(seed)
        for w in weights:
            w.mul_(0.9).add_(0.1 * torch.randn(w.shape, generator=generator).to(w))
        sums = torch.stack(one.compare(whole=seed == 0))
        expected = torch.tensor([naive(w, v) for w, v in zip(before, weights, strict=True)], dtype=torch.float64).T
        assert sums.shape == (4 if seed == 0 else 2, len(weights))
        torch.testing.assert_close(
            sums.double(), expected[: len(sums)], rtol=3e-6 if "32" in way else 1e-12, atol=1e-12
        )


def test_it_reads_and_never_writes(way):
    weights = tensors(torch.float32 if "32" in way else torch.float64)
    kept = [w.clone() for w in weights]
    one = Snapshot(weights)
    one.take()
    after, change, before, along = one.compare()
    assert all(torch.equal(w, b) for w, b in zip(weights, kept, strict=True))
    assert change.tolist() == [0] * len(weights)
    torch.testing.assert_close(before, after, rtol=1e-6, atol=0)
    torch.testing.assert_close(along, torch.zeros_like(along), rtol=0, atol=1e-12)


def test_a_dense_tensor_is_read_in_the_order_of_its_memory_without_a_copy():
    for tensor in tensors()[:10]:
        flat = snapshot._flat(tensor)
        assert flat.stride() == (1,) and flat.data_ptr() == tensor.data_ptr() and len(flat) == tensor.numel()


def test_squares_of_gradients_some_of_them_missing(way):
    given = [*tensors(torch.float32 if "32" in way else torch.float64), None]
    expected = [0.0 if g is None else g.double().square().sum().item() for g in given]
    assert squares(given, CPU).tolist() == pytest.approx(expected, rel=1e-6 if "32" in way else 1e-12)
    assert squares([None, None], CPU).tolist() == [0, 0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_other_dtypes(dtype):
    weights = tensors(dtype)
    before = [w.clone() for w in weights]
    one = Snapshot(weights)
    one.take()
    for w in weights:
        w.mul_(0.75)
    expected = torch.tensor([naive(w, v) for w, v in zip(before, weights, strict=True)], dtype=torch.float64).T
    torch.testing.assert_close(torch.stack(one.compare()), expected, rtol=1e-6, atol=1e-6)


def test_large_float32_layers_are_good_to_1e_6():
    """Two million positive numbers, as after a ReLU: a plain float32 norm is off by 2e-5."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.rand(2**21 + 17, generator=generator)
    one = Snapshot([weight])
    one.take()
    before = weight.clone()
    weight.mul_(1 - 2**-12).add_(torch.rand(len(weight), generator=generator), alpha=1e-3)
    after, d, a, b = torch.stack(one.compare())[:, 0].tolist()
    assert [after, d, a, b] == pytest.approx(naive(before, weight), rel=1e-6)
    assert after - a == pytest.approx(2 * b + d, rel=1e-3)
    assert squares([weight], CPU)[0].item() == pytest.approx(after, rel=1e-12)
