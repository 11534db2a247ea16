"""The largest singular value, against the whole decomposition."""

from __future__ import annotations

import pytest
import torch

from clipedu.norms.spectral import SpectralNorms

SHAPES = [(30, 20), (20, 30), (8, 3, 3, 3), (2, 5, 4), (40, 40), (6,), (1, 9)]


def exact(parameter: torch.Tensor) -> float:
    matrix = parameter.reshape(parameter.shape[0] if parameter.ndim > 1 else 1, -1)
    return torch.linalg.svdvals(matrix.double())[0].item()


def draw(dtype=torch.float64) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    return [torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype) for shape in SHAPES]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_a_first_look_is_close_and_never_above(dtype):
    weights = draw(dtype)
    measured = SpectralNorms(weights).measure().double()
    truth = torch.tensor([exact(w) for w in weights], dtype=torch.float64)
    assert (measured <= truth * (1 + 1e-6)).all() and (measured > 0.99 * truth).all()
    assert measured[-2:].tolist() == pytest.approx(truth[-2:].tolist(), rel=1e-6)  # one singular value: exact


def test_the_vector_is_kept_from_time_to_time():
    weights = draw()
    norms = SpectralNorms(weights)
    for _ in range(400):
        measured = norms.measure()
    assert measured.tolist() == pytest.approx([exact(w) for w in weights], rel=1e-8)


def test_one_iteration_follows_a_weight_that_moves():
    weights = draw()
    norms, generator = SpectralNorms(weights), torch.Generator().manual_seed(0)
    for _ in range(100):
        for w in weights:
            w.mul_(0.995).add_(0.03 * torch.randn(w.shape, generator=generator, dtype=torch.float64))
        measured = norms.measure()
    assert measured.tolist() == pytest.approx([exact(w) for w in weights], rel=0.01)


def test_a_zero_weight_has_the_value_0_and_recovers():
    weight = torch.zeros(4, 3)
    norms = SpectralNorms([weight])
    assert norms.measure().tolist() == [0]
    weight += torch.eye(4, 3)
    for _ in range(3):
        measured = norms.measure()
    assert measured.tolist() == pytest.approx([1], rel=1e-5)
