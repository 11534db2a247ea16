"""The unit sphere: cosine and angle."""

import math

import pytest
import torch

import clipedu
from clipedu.geometry import GEOMETRIES, Cosine, build_geometry
from clipedu.utils.errors import ClipeduError

from .oracle import ROOTED, draw, fixed
from .oracle import close as within

TEXTS = torch.tensor([[0.3, 0.4, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 0.8]], dtype=torch.float64)
IMAGES = torch.tensor([[0.6, 0.9, 0.1], [1.5, -0.2, 0.3], [0.1, -0.3, 1.4]], dtype=torch.float64)


def close(actual, expected, tolerance=1e-8):
    torch.testing.assert_close(actual, torch.tensor(expected, dtype=actual.dtype), rtol=0, atol=tolerance)


def test_cosine_similarity_of_three_pairs():
    answer = [
        [0.99422059, 0.55234477, 0.09205746],
        [0.47967076, 0.97230559, 0.19446112],
        [-0.12541194, 0.06967330, 0.97542622],
    ]
    close(Cosine().similarity(IMAGES, TEXTS), answer)


def test_angles_of_three_pairs():
    answer = [
        [0.10756382, 0.98562193, 1.47860834],
        [1.07051688, 0.23589488, 1.37508828],
        [1.69653937, 1.50106653, 0.22214900],
    ]
    close(Cosine().distance(IMAGES, TEXTS), answer)


def test_prototype_normalises_before_it_averages():
    close(Cosine().mean(TEXTS[:2]), [0.8944271910, 0.4472135955, 0.0], 1e-10)


def test_all_pairs_and_any_length():
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(4, 7, generator=generator), torch.randn(3, 7, generator=generator)
    for compare in (Cosine().similarity, Cosine().distance):
        assert compare(x, y).shape == (4, 3)
        torch.testing.assert_close(compare(5 * x, 0.1 * y), compare(x, y))
        torch.testing.assert_close(compare(y, x), compare(x, y).T)
        for i in range(4):
            for j in range(3):
                torch.testing.assert_close(compare(x[i : i + 1], y[j : j + 1])[0, 0], compare(x, y)[i, j])


@pytest.mark.parametrize("angle", [0.0, 1e-7, 1e-3, 1.0, math.pi / 2, 3.0, math.pi - 1e-6, math.pi])
def test_angle_is_exact_where_arccos_is_not(angle):
    x = torch.tensor([[2.0, 0.0]], dtype=torch.float64)
    y = torch.tensor([[3 * math.cos(angle), 3 * math.sin(angle)]], dtype=torch.float64)
    assert Cosine().distance(x, y).item() == pytest.approx(angle, rel=1e-8, abs=1e-15)
    assert Cosine().distance(x.float(), y.float()).item() == pytest.approx(angle, rel=1e-5, abs=1e-15)


def test_similarity_is_the_cosine_of_the_distance():
    x = torch.randn(6, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    torch.testing.assert_close(Cosine().distance(x, -x).cos(), Cosine().similarity(x, -x))


def test_a_zero_vector_is_similar_to_nothing():
    zero = torch.zeros(1, 3, requires_grad=True)
    similarity = Cosine().similarity(zero, torch.ones(2, 3))
    assert similarity.tolist() == [[0.0, 0.0]]
    similarity.sum().backward()
    assert zero.grad.isfinite().all()


def test_gradients():
    x = IMAGES.clone().requires_grad_()
    y = TEXTS.clone().requires_grad_()
    assert torch.autograd.gradcheck(Cosine().similarity, (x, y))
    assert torch.autograd.gradcheck(Cosine().distance, (x, y))
    assert torch.autograd.gradcheck(Cosine().mean, (x,))
    same = IMAGES.clone().requires_grad_()
    Cosine().distance(same, same.detach()).sum().backward()
    assert same.grad.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_full_precision_whatever_autocast_says(dtype):
    x, y = IMAGES.to(dtype), TEXTS.to(dtype)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        similarity, distance, mean = Cosine().similarity(x, y), Cosine().distance(x, y), Cosine().mean(x)
    assert torch.equal(similarity, Cosine().similarity(x.float(), y.float()))
    assert torch.equal(distance, Cosine().distance(x.float(), y.float()))
    assert torch.equal(mean, Cosine().mean(x.float()))
    assert similarity.dtype == distance.dtype == mean.dtype == torch.float32


def test_registry():
    assert isinstance(build_geometry("cosine", 256), Cosine)
    assert clipedu.GEOMETRIES is GEOMETRIES and clipedu.build_geometry is build_geometry
    assert all(entry.description and entry.formula for entry in GEOMETRIES.values())
    with pytest.raises(ClipeduError, match="unknown geometry 'cosin'. Did you mean 'cosine'"):
        build_geometry("cosin", 256)


@pytest.mark.parametrize("name", ["cosine", "elliptic"])
def test_the_sphere_has_no_cones_and_says_who_has(name):
    x = torch.ones(2, 3)
    geometry = build_geometry(name, 3)
    for call in (
        lambda: geometry.half_aperture(x),
        lambda: geometry.exterior_angle(x, x),
        lambda: geometry.entailment(x, x, 0.1),
    ):
        with pytest.raises(ClipeduError) as error:
            call()
        assert str(error.value).startswith(name) and str(error.value).endswith(": " + ", ".join(ROOTED))


@pytest.mark.parametrize("name", ["cosine", "elliptic"])
def test_geodesic_on_the_sphere(name):
    x, y = (draw(seed) / draw(seed).norm(dim=1, keepdim=True) for seed in (0, 1))
    theta = torch.arccos((x * y).sum(1, keepdim=True))
    slerp = (torch.sin(0.7 * theta) * x + torch.sin(0.3 * theta) * y) / torch.sin(theta)
    within(fixed(name).geodesic(3 * x, 0.5 * y, 0.3), slerp, rel=1e-9, tolerance=1e-14)
    within(fixed(name).expmap0(7 * x), x, rel=1e-12)
    within(fixed(name).logmap0(x), x)
