"""The registry, the options, and what a geometry learns: starts, ranges, names, checkpoints."""

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
    assert all(GEOMETRIES[name].defaults == {"learn_alpha": False, "start_length": 1.0} for name in NAMES[2:5])
    for name in LORENTZ:
        assert GEOMETRIES[name].defaults == {
            "curvature": 1.0,
            "learn_curvature": True,
            "learn_alpha": True,
            "start_length": 1.0,
        }
    assert GEOMETRIES["cosine"].defaults == GEOMETRIES["elliptic"].defaults == {}


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("lorenz", {}, "unknown geometry 'lorenz'. Did you mean 'lorentz'"),
        ("cosine", {"curvature": 1.0}, "cosine has no option 'curvature'. Allowed: none"),
        ("euclidean", {"curvature": 1.0}, "euclidean has no option 'curvature'. Allowed: learn_alpha, start_length"),
        ("lorentz", {"c": 1.0}, "Allowed: curvature, learn_curvature, learn_alpha, start_length"),
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


def test_importing_it_is_light():
    assert_light("clipedu.geometry", ("timm", "transformers", "matplotlib", "sklearn", "pandas", "torchvision"))
