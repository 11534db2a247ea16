"""The registry, the options, and what a geometry learns: starts, ranges, names, checkpoints."""

import math

import pytest
import torch
from matplotlib.mathtext import MathTextParser

import clipedu
from clipedu.geometry import GEOMETRIES, Geometry, build_geometry
from clipedu.utils.errors import ClipeduError
from tests.helpers.processes import assert_light

from .oracle import LORENTZ, NAMES, ROOTED, draw


def test_names():
    assert NAMES == [
        "cosine",
        "elliptic",
        "euclidean",
        "euclidean-squared",
        "euclidean-inner",
        "lorentz",
        "lorentz-squared",
        "lorentz-inner",
    ]
    assert NAMES[2:] == ROOTED
    assert clipedu.GEOMETRIES is GEOMETRIES and clipedu.build_geometry is build_geometry


@pytest.mark.parametrize("name", NAMES)
def test_each_entry_tells_a_person_what_it_is_and_builds_with_its_defaults(name):
    entry = GEOMETRIES[name]
    assert entry.description and "\n" not in entry.description and len(entry.description) < 100
    assert entry.paper.startswith("arXiv:")
    MathTextParser("path").parse(f"${entry.formula}$")
    spelled, short = build_geometry(name, 5, **entry.defaults), build_geometry(name, 5)
    assert isinstance(short, Geometry) and short.name == name and short.has_cones == (name in ROOTED)
    x, y = draw(0).float(), draw(1).float()
    assert torch.equal(spelled.similarity(x, y), short.similarity(x, y))


def test_defaults():
    assert all(GEOMETRIES[name].defaults == {"learn_alpha": False} for name in NAMES[2:5])
    for name in LORENTZ:
        assert GEOMETRIES[name].defaults == {"curvature": 1.0, "learn_curvature": True, "learn_alpha": True}
    assert GEOMETRIES["cosine"].defaults == GEOMETRIES["elliptic"].defaults == {}


def test_where_the_temperature_starts():
    wide, usual = (-3.0, math.log(100)), (0.0, math.log(100))
    for name in NAMES:
        geometry = build_geometry(name, 5)
        squared = name.endswith("squared")
        assert geometry.temperature == (1.0 if squared else 0.05 if name == "cosine" else 0.07)
        assert geometry.logit_scale_range == (wide if squared else usual)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("lorenz", {}, "unknown geometry 'lorenz'. Did you mean 'lorentz'"),
        ("cosine", {"curvature": 1.0}, "cosine has no option 'curvature'. Allowed: none"),
        ("euclidean", {"curvature": 1.0}, "euclidean has no option 'curvature'. Allowed: learn_alpha"),
        ("lorentz", {"c": 1.0}, "Allowed: curvature, learn_curvature, learn_alpha"),
        ("lorentz", {"curvature": 0.05}, "curvature must be a number >= 0.1 and <= 10, got 0.05"),
        ("lorentz", {"curvature": -1}, "curvature must be a number >= 0.1 and <= 10, got -1"),
        ("lorentz", {"curvature": float("nan")}, "curvature must be a number"),
        ("lorentz", {"curvature": "one"}, "curvature must be a number >= 0.1 and <= 10, got 'one'"),
        ("lorentz", {"learn_curvature": "no"}, "learn_curvature must be true or false, got 'no'"),
        ("euclidean", {"learn_alpha": 1}, "learn_alpha must be true or false, got 1"),
    ],
)
def test_wrong_names_and_options(name, options, message):
    with pytest.raises(ClipeduError) as error:
        build_geometry(name, 5, **options)
    assert message in str(error.value)


@pytest.mark.parametrize("dim", [0, -3, 2.5, "5", True])
@pytest.mark.parametrize("name", NAMES)
def test_wrong_width(name, dim):
    with pytest.raises(ClipeduError, match="dim must be a whole number >= 1"):
        build_geometry(name, dim)


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


@pytest.mark.parametrize("min_radius", [-0.1, float("inf"), "wide", True])
@pytest.mark.parametrize("name", ["euclidean", "lorentz"])
def test_wrong_min_radius(name, min_radius):
    with pytest.raises(ClipeduError, match="min_radius must be a number >= 0"):
        build_geometry(name, 3).entailment(torch.ones(2, 3), torch.ones(2, 3), min_radius)


def test_wrong_side():
    with pytest.raises(ClipeduError, match="unknown side 'images'. Did you mean 'image'"):
        build_geometry("lorentz", 3).tangent(torch.ones(2, 3), "images")


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


def test_each_side_has_its_own_alpha():
    geometry = build_geometry("lorentz", 4)
    with torch.no_grad():
        geometry.log_alpha_text.fill_(math.log(0.25))
    ones = torch.ones(1, 4)
    assert geometry.tangent(ones, "image")[0].tolist() == pytest.approx([0.5] * 4)
    assert geometry.tangent(ones, "text")[0].tolist() == pytest.approx([0.25] * 4)
    assert torch.equal(build_geometry("cosine", 4).tangent(ones, "text"), ones)


@pytest.mark.parametrize(("step", "end"), [(5.0, 10.0), (-5.0, 0.1)])
def test_a_curvature_that_overshoots_comes_back(step, end):
    """It is clamped itself, so the next step the other way moves it; a clamp of the value alone would have no gradient."""
    geometry = build_geometry("lorentz", 3)
    x, y = draw(0, dim=3).float(), draw(1, dim=3).float()
    with torch.no_grad():
        geometry.log_curvature.add_(step)
    assert geometry.curvature.item() == pytest.approx(end, rel=1e-6)
    assert geometry.log_curvature.item() == pytest.approx(math.log(end), rel=1e-6)
    geometry.distance(x, y).sum().backward()
    assert geometry.log_curvature.grad.abs() > 1e-3
    with torch.no_grad():
        geometry.log_curvature.sub_(math.copysign(0.1, step))
    assert geometry.curvature.item() == pytest.approx(end * math.exp(-math.copysign(0.1, step)), rel=1e-5)


def test_alpha_is_at_most_1_and_as_small_as_it_likes():
    geometry = build_geometry("lorentz", 4)
    with torch.no_grad():
        geometry.log_alpha_image.fill_(3.0)
        geometry.log_alpha_text.fill_(-20.0)
    ones = torch.ones(1, 4)
    assert geometry.tangent(ones, "image").tolist() == [[1.0] * 4]
    assert geometry.log_alpha_image.item() == 0
    assert geometry.tangent(ones, "text")[0, 0].item() == pytest.approx(math.exp(-20), rel=1e-6)
    geometry.tangent(ones, "image").sum().backward()
    assert geometry.log_alpha_image.grad.item() == pytest.approx(4.0)


@pytest.mark.parametrize("name", ROOTED)
def test_a_checkpoint_holds_the_geometry(name):
    geometry = build_geometry(name, 4, learn_alpha=True)
    with torch.no_grad():
        for value in geometry.parameters():
            value.sub_(0.3)
    fresh = build_geometry(name, 4)  # whether learned or not, the names are the same
    fresh.load_state_dict(geometry.state_dict())
    features = draw(0, dim=4).float()
    assert torch.equal(fresh.tangent(features, "text"), geometry.tangent(features, "text"))
    x = fresh.tangent(features, "image")
    assert torch.equal(fresh.similarity(x, x), geometry.similarity(x, x))


def test_reading_twice_in_one_graph_is_allowed():
    """Clamping in place must not spoil a backward that is still to come."""
    geometry = build_geometry("lorentz", 3)
    x = draw(0, dim=3).float().requires_grad_()
    first = geometry.distance(geometry.tangent(x, "image"), geometry.tangent(x, "text")).sum()
    second = geometry.distance(geometry.tangent(x, "text"), geometry.tangent(x, "image")).sum()
    (first + second).backward()
    assert geometry.log_curvature.grad.isfinite() and geometry.log_alpha_text.grad.isfinite()


def test_the_room_is_light():
    assert_light("clipedu.geometry", ("timm", "transformers", "matplotlib", "sklearn", "pandas", "torchvision"))
