"""Figures of optimizers say what they were given."""

import numpy as np
import pytest
import torch

from clipedu.optim import DECAY_LAWS
from clipedu.plots import optimizers as plots
from clipedu.plots.style import line_style, to_png
from clipedu.toys.landscapes import MINIMUM, START, descend
from clipedu.utils.errors import ClipeduError
from tests.helpers.figures import drawn
from tests.helpers.processes import assert_light


def checked(figure):
    drawn(figure)
    return figure


def curves(ax):
    return {line.get_label(): line for line in ax.lines}


def test_importing_is_light():
    assert_light("clipedu.plots.optimizers")


def test_paths_start_end_and_minimum():
    paths = {name: descend(name, lr=0.1, steps=30) for name in ("sgd", "adamw")}
    figure = checked(
        plots.plot_descent({"one": paths, "two": {"adamw": paths["adamw"]}}, pulled_to={"two": (0.5, 0.25)})
    )
    one, two = figure.axes
    assert one.get_title() == "one" and two.get_title() == "two"
    for number, (name, path) in enumerate(paths.items()):
        line = curves(one)[name]
        assert np.array_equal(line.get_xydata(), path.points.numpy())
        assert (line.get_color(), line.get_linestyle()) == line_style(number)
        assert line.get_markevery() == [30]
    assert curves(two)["adamw"].get_color() == line_style(1)[0]  # the same name, the same colour
    for ax in (one, two):
        assert curves(ax)["start"].get_xydata().tolist() == [list(START)]
        assert curves(ax)["minimum"].get_xydata().tolist() == [list(MINIMUM)]
        assert curves(ax)["origin: decay pulls here"].get_xydata().tolist() == [[0, 0]]
    assert "minimum of loss + L2" not in curves(one)
    assert curves(two)["minimum of loss + L2"].get_xydata().tolist() == [[0.5, 0.25]]
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert sorted(legend) == sorted({*curves(one), *curves(two)})


def test_contours_are_those_of_the_landscape():
    path = descend("sgd", lr=0.05, steps=3, landscape="bend")
    bend = checked(plots.plot_descent({"x": {"sgd": path}}))
    valley = checked(plots.plot_descent({"x": {"sgd": descend("sgd", lr=0.05, steps=3)}}))
    assert to_png(bend) != to_png(valley)


def test_a_path_that_left_the_numbers_is_drawn_as_far_as_it_goes():
    wild = descend("sgd", lr=50.0, steps=400)
    figure = checked(plots.plot_descent({"wild": {"sgd": wild}}))
    assert np.isfinite(curves(figure.axes[0])["sgd"].get_xydata()).all()
    assert figure.axes[0].get_xlim() == plots.WIDTH


def test_steps_show_entries_and_singular_values():
    g = torch.diag(torch.tensor([4.0, -2.0, 1.0]))[:, :2]
    figure = checked(plots.plot_steps({"gradient": g, "sign": g.sign()}))
    heat = [ax for ax in figure.axes if ax.images]
    bars = [ax for ax in figure.axes if len(ax.patches) == 2]
    assert np.allclose(heat[0].images[0].get_array(), g / 4)
    assert [[bar.get_height() for bar in ax.patches] for ax in bars] == [[1, 0.5], [1, 1]]
    assert heat[1].get_title() == "sign"


def test_laws_are_drawn_as_they_are():
    figure = checked(plots.plot_decay_laws(lr_max=0.01, weight_decay=0.4, total=50, warmup=5))
    rate, coefficients, shrinks = figure.axes
    lrs = rate.lines[0].get_ydata()
    assert max(lrs) == lrs[4] == 0.01 and len(lrs) == 50
    assert list(curves(coefficients)) == list(DECAY_LAWS)
    assert curves(coefficients)["corrected"].get_ydata() == pytest.approx(0.4 * np.array(lrs) / 0.01)
    assert curves(shrinks)["corrected"].get_ydata() == pytest.approx(0.4 * np.array(lrs) ** 2 / 0.01)
    assert curves(shrinks)["constant"].get_ydata() == pytest.approx(0.4 * np.array(lrs))
    assert curves(shrinks)["independent"].get_ydata() == pytest.approx(np.full(50, 0.004))


def test_nothing_to_draw():
    for wrong in ({}, {"x": {}}):
        with pytest.raises(ClipeduError, match="no path to draw"):
            plots.plot_descent(wrong)
    with pytest.raises(ClipeduError, match="no step to draw"):
        plots.plot_steps({})
