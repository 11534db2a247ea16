"""Flat space: its three similarities, near pairs, and what its losses do not depend on."""

import math

import numpy as np
import pytest
import torch

from clipedu.geometry import build_geometry

from .oracle import close, contrastive, draw, fixed

WIDE = 512


def test_inner_product_and_distance_rank_differently():
    query, candidates = torch.tensor([[1.0, 0.0]]), torch.tensor([[1.0, 0.0], [3.0, 3.0]])
    assert fixed("euclidean-inner", 2).similarity(query, candidates).argmax() == 1
    assert fixed("euclidean", 2).similarity(query, candidates).argmax() == 0


def test_unit_vectors_squared_distance_is_cosine_at_twice_the_scale():
    x, y = (draw(seed) / draw(seed).norm(dim=1, keepdim=True) for seed in (0, 1))
    squared, cosine = fixed("euclidean-squared", 5).similarity(x, y), fixed("cosine", 5).similarity(x, y)
    assert contrastive(squared, 3.0) == pytest.approx(contrastive(cosine, 6.0), rel=1e-9)


@pytest.mark.parametrize("name", ["euclidean", "euclidean-squared"])
def test_a_common_shift_is_not_seen(name):
    x, y = draw(0), draw(1)
    geometry, shift = fixed(name, 5), draw(2, rows=1, size=2.0)
    close(geometry.similarity(x + shift, y + shift), geometry.similarity(x, y), rel=1e-9)


def test_how_flat_space_pulls():
    x, y = draw(0, rows=1).requires_grad_(), draw(1, rows=1)
    step = (x - y).detach()
    for name, pull in (("euclidean", -step / step.norm()), ("euclidean-squared", -2 * step)):
        (gradient,) = torch.autograd.grad(fixed(name, 5).similarity(x, y).sum(), x)
        close(gradient, pull, rel=1e-12)


@pytest.mark.parametrize("size", [1e-3, 1.0, 30.0, 1000.0])
def test_near_pairs_keep_their_digits_in_flat_space(size):
    """|x|^2 - 2 x.y + |y|^2 in float32 is wrong by 1e-7 |x|^2, here a hundred times the squared distance."""
    x = draw(0, 20, WIDE, size).float()
    y = x + (draw(1, 20, WIDE, size) * 3e-5).float()
    truth = (x.double()[:, None] - y.double()).norm(dim=-1)
    close(build_geometry("euclidean", WIDE).distance(x, y), truth, rel=1e-5)
    close(build_geometry("euclidean-squared", WIDE).similarity(x, y), -truth.square(), rel=2e-5)
    close(build_geometry("euclidean", WIDE).distance(x, y).diagonal(), truth.diagonal(), rel=1e-6)


def test_a_tight_cluster_far_from_the_root_keeps_its_digits(monkeypatch):
    """Centred first, it is no cluster of near pairs: the matrix product does."""
    monkeypatch.delattr(torch, "cdist")
    x = (100 + 1e-3 * draw(0, 20, WIDE)).float()
    truth = (x.double()[:, None] - x.double()).norm(dim=-1)
    close(build_geometry("euclidean", WIDE).distance(x, x), truth, rel=1e-5)


def test_geodesic_in_flat_space_is_the_straight_line():
    x, y = draw(0), draw(1)
    geometry = fixed("euclidean", 5)
    close(geometry.geodesic(x, y, 0.3), 0.7 * x + 0.3 * y, rel=1e-12)
    close(geometry.expmap0(x), x)
    close(geometry.logmap0(x), x)


@pytest.mark.parametrize("name", ["euclidean", "euclidean-squared", "euclidean-inner"])
def test_all_pairs_by_numpy(name):
    x, y = draw(0, rows=4), draw(1, rows=3)
    distances = [[np.linalg.norm(a - b) for b in y.numpy()] for a in x.numpy()]
    products = [[np.dot(a, b) for b in y.numpy()] for a in x.numpy()]
    expected = {
        "euclidean": -np.array(distances),
        "euclidean-squared": -np.square(distances),
        "euclidean-inner": np.array(products),
    }[name]
    close(fixed(name, 5).similarity(x, y), expected, rel=1e-12)
    close(fixed(name, 5).distance(x, y), distances, rel=1e-12)


def test_sides_of_the_cone():
    """The sine of the half-aperture is K / |x|."""
    part, whole = fixed("euclidean", 2).saturation(torch.tensor([[3.0, 4.0]], dtype=torch.float64), 0.1)
    assert (part, whole.tolist()) == (0.1, [5.0])
    assert fixed("euclidean", 2).half_aperture(torch.tensor([[0.2, 0.0]], dtype=torch.float64))[0] == pytest.approx(
        math.pi / 6, rel=1e-12
    )
