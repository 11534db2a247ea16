"""The disk keeps the distance to the root."""

import math

import numpy as np
import pytest
import torch

from clipedu.evaluation.embedding_space import Space
from clipedu.geometry import GEOMETRIES
from clipedu.plots.disk_projection import Disk
from tests.helpers.fake_space import THREE, fake_space


@pytest.mark.parametrize("name", GEOMETRIES)
def test_disk_keeps_the_distance_to_the_root(name):
    space = fake_space(name)
    radius = space.radius(space.image).numpy()
    if name in ("cosine", "elliptic"):
        expected = np.tan(radius / 2)
    elif name.startswith("lorentz"):
        expected = np.tanh(math.sqrt(space.geometry.curvature.item()) * radius / 2)
    else:
        expected = radius
    placed = Disk(space).place(space.image)
    assert placed.shape == (20, 2) and not placed.requires_grad
    np.testing.assert_allclose(placed.norm(dim=1), expected, rtol=1e-6)


@pytest.mark.parametrize("name", THREE)
def test_disk_of_two_dimensions_loses_nothing(name):
    """With two dimensions around the root, a geodesic through the root is a straight line, and directions are kept."""
    space = fake_space(name)
    flat = torch.zeros(20, 6, dtype=torch.float64)
    if name == "cosine":  # a ring around the axis: the root is the axis
        angle = torch.arange(20) * 2 * math.pi / 20
        flat[:, 0], flat[:, 1], flat[:, 2] = 1, angle.cos(), angle.sin()
    else:
        flat[:, 1:3] = torch.randn(20, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        angle = torch.atan2(flat[:, 2], flat[:, 1])
    placed = Disk(Space(space.geometry, flat, flat, space.captions, space.captions, flat)).place(flat)
    directions = torch.atan2(placed[:, 1], placed[:, 0])
    between = (directions[:, None] - directions).cos()
    np.testing.assert_allclose(between, (angle[:, None] - angle).cos(), atol=1e-6)


def test_disk_is_the_same_a_second_time_and_for_any_order_of_points():
    space = fake_space()
    order = torch.randperm(20, generator=torch.Generator().manual_seed(3))
    mixed = Space(space.geometry, space.image[order], space.text[order], space.captions, space.phrases, space.phrase)
    torch.testing.assert_close(Disk(mixed).place(space.image), Disk(space).place(space.image))
