"""What all spaces share: precision, defaults, and what they log."""

import math

import pytest
import torch

from clipedu.geometry import Geometry, build_geometry, full_precision
from clipedu.geometry.base import matched_similarity

from .oracle import LORENTZ, NAMES, close, draw, fixed, naive_similarity


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize("name", NAMES)
def test_full_precision_whatever_autocast_says(name, dtype):
    geometry = build_geometry(name, 5)
    x, y = draw(0).to(dtype), draw(1).to(dtype)
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    calls = {
        "similarity": lambda x, y: geometry.similarity(x, y),
        "distance": lambda x, y: geometry.distance(x, y),
        "mean": lambda x, y: geometry.mean(x),
        "root": lambda x, y: geometry.root(x),
        "expmap0": lambda x, y: geometry.expmap0(x),
        "logmap0": lambda x, y: geometry.logmap0(x),
        "geodesic": lambda x, y: geometry.geodesic(x, y, 0.3),
    }
    if geometry.has_cones:
        calls["tangent"] = lambda x, y: geometry.tangent(x, side="image")
        calls["half_aperture"] = lambda x, y: geometry.half_aperture(x, min_radius=0.1)
        calls["exterior_angle"] = lambda x, y: geometry.exterior_angle(x, y=y)
        calls["entailment"] = lambda x, y: geometry.entailment(x, y, min_radius=0.2)
    if name in LORENTZ:
        calls |= {"poincare": lambda x, y: geometry.poincare(x), "klein": lambda x, y: geometry.klein(x)}
    for call in calls.values():
        with torch.autocast("cpu", dtype=torch.bfloat16):
            inside = call(x, y)
        assert inside.dtype == wide
        assert torch.equal(inside, call(x.to(wide), y.to(wide)))


def test_two_dtypes_meet_in_the_wider_one():
    x, y = draw(0), draw(1).bfloat16()
    for name in NAMES:
        close(
            fixed(name, 5).similarity(x, y),
            naive_similarity(name, x[:, None], y.double()[None]),
            rel=1e-9,
            tolerance=1e-14,
        )


def test_where_the_temperature_starts():
    wide, usual = (-3.0, math.log(100)), (0.0, math.log(100))
    for name in NAMES:
        geometry = build_geometry(name, 5)
        squared = name.endswith("squared")
        assert geometry.temperature == (1.0 if squared else 0.05 if name == "cosine" else 0.07)
        assert geometry.logit_scale_range == (wide if squared else usual)


def test_what_is_learned_and_watched():
    assert build_geometry("cosine", 4).watched() == build_geometry("euclidean", 4).watched() == {}
    learned = build_geometry("euclidean", 4, learn_alpha=True).watched()
    assert {name: value.item() for name, value in learned.items()} == pytest.approx(
        {"alpha_image": 0.5, "alpha_text": 0.5}
    )
    learned = build_geometry("lorentz", 4, curvature=0.3).watched()
    assert {name: value.item() for name, value in learned.items()} == pytest.approx(
        {"alpha_image": 0.5, "alpha_text": 0.5, "curvature": 0.3}
    )
    assert all(not value.requires_grad and value.shape == () for value in learned.values())
    assert list(build_geometry("lorentz", 4, learn_alpha=False).watched()) == ["curvature"]
    assert list(build_geometry("lorentz", 4, learn_curvature=False).watched()) == ["alpha_image", "alpha_text"]


def test_full_precision_widens_tensors_only():
    class Space(Geometry):
        @full_precision
        def mean(self, x, *, share, other=None):
            return x, share, other

    x, share, other = Space().mean(
        torch.ones(2, dtype=torch.float16), share=3, other=torch.ones(1, dtype=torch.float64)
    )
    assert x.dtype == other.dtype == torch.float64 and share == 3 and type(share) is int
    x, _, other = Space().mean(torch.ones(2, dtype=torch.bfloat16), share=0.5)
    assert x.dtype == torch.float32 and other is None


def test_a_space_implements_its_own_methods():
    space, x = Geometry(), torch.ones(1, 2)
    assert space.tangent(x, "image") is x and space.watched() == {}
    for call in (lambda: space.similarity(x, x), lambda: space.distance(x, x), lambda: space.root(x)):
        with pytest.raises(NotImplementedError):
            call()


@pytest.mark.parametrize("rows", [1, 64, 65, 150])
def test_matched_similarity_is_the_diagonal(rows):
    x, y = torch.randn(2, rows, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    geometry = build_geometry("lorentz", 4)
    torch.testing.assert_close(matched_similarity(geometry, x, y), geometry.similarity(x, y).diagonal())
