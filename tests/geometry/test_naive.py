"""Every formula against the one that the papers print (`oracle.py`), in float64, over seeds, lengths and curvatures."""

import pytest
import torch

from .oracle import (
    LORENTZ,
    NAMES,
    ROOTED,
    close,
    draw,
    fixed,
    naive_aperture,
    naive_distance,
    naive_exterior,
    naive_similarity,
)

CASES = [(name, c) for name in NAMES for c in ((0.1, 1.0, 10.0) if name in LORENTZ else (1.0,))]
CONES = [(name, c) for name, c in CASES if name in ROOTED]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("name", "curvature"), CASES)
def test_similarity_and_distance_of_all_pairs(name, curvature, seed):
    x, y = draw(seed, rows=6, size=0.7), draw(seed + 100, rows=4, size=1.2)
    geometry = fixed(name, 5, curvature)
    similarity, distance = geometry.similarity(x, y), geometry.distance(x, y)
    assert similarity.shape == distance.shape == (6, 4)
    close(similarity, naive_similarity(name, x[:, None], y[None], curvature), rel=1e-9, tolerance=1e-14)
    close(distance, naive_distance(name, x[:, None], y[None], curvature), rel=1e-9)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("name", "curvature"), CONES)
def test_cones(name, curvature, seed):
    x, y = draw(seed, rows=6, size=0.6), draw(seed + 100, rows=6, size=1.0)
    geometry = fixed(name, 5, curvature)
    exterior = naive_exterior(name, x, y, curvature)
    close(geometry.exterior_angle(x, y), exterior, rel=1e-9)
    for min_radius in (0.02, 0.1, 0.3):
        aperture = naive_aperture(name, x, min_radius, curvature)
        close(geometry.half_aperture(x, min_radius), aperture, rel=1e-9)
        close(geometry.entailment(x, y, min_radius), (exterior - aperture).clamp(min=0), rel=1e-9, tolerance=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_mean_and_root(name):
    x = draw(0)
    geometry = fixed(name, 5)
    if name in ROOTED:
        close(geometry.mean(x), x.sum(0) / 6, rel=1e-12)
        close(geometry.root(x), torch.zeros(5), tolerance=0)
    else:
        direction = (x / x.norm(dim=1, keepdim=True)).sum(0)
        close(geometry.mean(x), direction / direction.norm(), rel=1e-12)
        close(geometry.root(x), geometry.mean(x))
    assert geometry.mean(x).shape == geometry.root(x).shape == (5,)
