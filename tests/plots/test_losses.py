"""Figures of losses: shares, memory, counts and sizes are those that were given."""

import numpy as np
import pytest
import torch

from clipedu import LOSSES
from clipedu.plots import losses as loss_plots
from clipedu.toys.similarity_batch import examine, lead, remembered, scene_batch, with_rivals
from tests.helpers.figures import drawn
from tests.helpers.processes import assert_light

BATCH = scene_batch(32)
S = BATCH.similarity


def test_importing_is_light():
    assert_light("clipedu.plots.losses")


def test_the_table_has_every_loss_with_its_formula():
    table = loss_plots.loss_table()
    lines = table.splitlines()
    assert len(lines) == 2 + len(LOSSES)
    for line, entry in zip(lines[2:], LOSSES.values(), strict=True):
        assert f"`{entry.name}`" in line and entry.description in line and f"${entry.formula}$" in line
        assert line.count("|") == 3  # a bar in a formula would break the table


def test_who_prints_percent_of_a_row():
    pulls = {"clip at 0.01": examine("clip", S, temperature=0.01).pull, "even": torch.ones(8).double()}
    figure = loss_plots.plot_who(pulls, BATCH)
    drawn(figure)
    (ax, _) = figure.axes
    numbers = [float(text.get_text()) for text in ax.texts]
    assert sum(numbers[:8]) == pytest.approx(100, abs=0.3) and numbers[8:] == [12.5] * 8
    assert "-0.0" not in [text.get_text() for text in ax.texts]
    np.testing.assert_allclose(
        np.asarray(ax.images[0].get_array())[0] ** 2,
        100 * (pulls["clip at 0.01"] / pulls["clip at 0.01"].sum()).clamp(min=0),
    )
    assert "12.5" in ax.get_title()


def test_shares_are_cumulative_from_the_easiest():
    pull = torch.tensor([4.0, 1.0, 3.0, 2.0]).double()
    figure = loss_plots.plot_shares({"even": torch.ones(4).double(), "odd": pull}, torch.tensor([-1.0, 3.0, 0.5, 2.0]))
    drawn(figure)
    equal, even, odd = figure.axes[0].lines
    np.testing.assert_allclose(even.get_ydata(), equal.get_ydata())
    np.testing.assert_allclose(odd.get_ydata(), [0, 10, 30, 60, 100])
    np.testing.assert_allclose(odd.get_xdata(), [0, 25, 50, 75, 100])
    (border,) = figure.axes[0].collections
    assert border.get_segments()[0][0][0] == 75  # three of four pairs are ahead
    drawn(loss_plots.plot_shares({"clip": examine("clip", S, temperature=0.05).pull}, lead(S)))


def test_memory_shows_g_u_and_the_weight():
    visits = [S] * 2 + [with_rivals(S, 0.45)] + [S] * 3
    histories = {form: remembered(visits, 0.01, form) for form in ("log", "course")}
    figure = loss_plots.plot_memory(histories, 6)
    drawn(figure)
    above, below = figure.axes
    g, log, course = above.lines
    np.testing.assert_allclose(g.get_ydata(), histories["log"]["g"][:, 6])
    np.testing.assert_allclose(course.get_ydata(), histories["course"]["u"][:, 6])
    np.testing.assert_allclose(below.lines[0].get_ydata(), np.exp(g.get_ydata() - log.get_ydata()))


def test_silenced_counts_over_temperature():
    figure = loss_plots.plot_silenced({"none": [0, 0], "bad": [8, 3]}, (0.01, 0.05), 8)
    drawn(figure)
    (ax,) = figure.axes
    assert list(ax.lines[1].get_ydata()) == [8, 3] and ax.get_xscale() == "log"
    assert [label.get_text() for label in ax.get_xticklabels()] == ["0.01", "0.05"] and "of 8" in ax.get_ylabel()


def test_sizes_have_a_mark_for_each_loss_and_scale():
    sizes = {"paper": {"a": 1.0, "b": 20.0}, "clip": {"a": 1.0, "b": 2.0}}
    figure = loss_plots.plot_sizes(sizes)
    drawn(figure)
    (ax,) = figure.axes
    assert [list(line.get_xdata()) for line in ax.lines] == [[1.0, 20.0], [1.0, 2.0]]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["a", "b"] and ax.yaxis_inverted()
