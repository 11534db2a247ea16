"""The geometry lab, without a browser: what a choice shows, and what the plain functions behind it say."""

import html
import re

import pytest
import torch

pytest.importorskip("ipywidgets", reason="widgets need: pip install ipywidgets")

from clipedu.data.scenes.dataset import Scenes
from clipedu.evaluation.traversals import ROOT
from clipedu.utils.errors import ClipeduError
from clipedu.widgets import geometry as geometry_lab
from clipedu.widgets.geometry import GeometryLab, cone_line, lab_figure, recipe, walk
from tests.plots.test_geometry import THREE, fake_space


def a_lab() -> GeometryLab:
    return GeometryLab({name: fake_space(name) for name in THREE}, Scenes("val", 20))


def test_a_choice_shows_another_walk_and_another_picture():
    lab = a_lab()
    first = bytes(lab.picture.value)
    assert first.startswith(b"\x89PNG") and lab.stops == walk(lab.spaces["cosine"], 0)
    lab.row.value = 7
    assert lab.stops == walk(lab.spaces["cosine"], 7)
    lab.space.value = "lorentz"
    assert lab.stops == walk(lab.spaces["lorentz"], 7) and bytes(lab.picture.value) != first
    lab.min_radius.value = 0.3
    assert lab.stops == walk(lab.spaces["lorentz"], 7, 0.3) and lab.stops[-1].caption == ROOT


def test_the_line_repeats_the_walk():
    lab = a_lab()
    lab.space.value, lab.row.value, lab.min_radius.value = "euclidean-squared", 3, 0.2
    line = html.unescape(re.search("<code>(.*)</code>", lab.line.value)[1])
    assert line == recipe("euclidean-squared", 3, 0.2)
    assert eval(line, {"walk": geometry_lab.walk, "spaces": lab.spaces}) == lab.stops


def test_cones_are_off_on_a_sphere_and_their_width_is_shown():
    lab = a_lab()
    assert lab.min_radius.disabled and "no cones" in lab.about.value
    lab.space.value = "lorentz"
    assert not lab.min_radius.disabled and "Cones are off" in lab.about.value
    lab.min_radius.value = 2.0
    space = lab.spaces["lorentz"]
    wide = 100 * (space.geometry.half_aperture(space.phrase, 2.0) > 1.57).double().mean().item()
    assert f"{wide:.0f} % are half-spaces" in lab.about.value and wide > 0
    lab.space.value = "cosine"  # a K that was set does not disturb it
    assert lab.stops == walk(lab.spaces["cosine"], 0) and "no cones" in lab.about.value
    assert "K = 0.1" in cone_line(space, 0.1)


def test_a_figure_without_a_widget():
    space = fake_space(chains=False)
    figure = lab_figure(space, geometry_lab.Disk(space), torch.zeros(3, 8, 8, dtype=torch.uint8), 2, walk(space, 2))
    assert len(figure.axes) == 3 and figure._repr_png_()


def test_every_k_is_on_the_slider():
    assert dict(a_lab().min_radius.options) == geometry_lab.RADII


def test_no_spaces():
    with pytest.raises(ClipeduError, match="no spaces to show"):
        GeometryLab({}, Scenes("val", 2))
