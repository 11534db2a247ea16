"""What all figures share: colours, panels, curves and text."""

import math
import sys

import numpy as np
import pandas as pd
import pytest

from clipedu.plots import style
from tests.helpers.figures import drawn
from tests.helpers.processes import assert_light


def one_panel():
    figure = style.new_figure(4, 3)
    return figure, figure.subplots()


def test_importing_is_light():
    assert_light("clipedu.plots.style")


def test_a_figure_shows_itself_without_pyplot(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)  # importing it would fail
    figure, ax = one_panel()
    ax.plot([0, 1])
    again, ax = one_panel()
    ax.plot([0, 1])
    assert figure._repr_png_() == drawn(again)  # what Jupyter asks of a cell's last value
    assert figure.get_size_inches().tolist() == [4, 3] and figure.get_dpi() == 100


def test_a_figure_is_written_in_one_step(tmp_path):
    figure, ax = one_panel()
    ax.plot([0, 1])
    path = tmp_path / "line.png"
    style.save_figure(figure, path)
    figure.savefig(tmp_path / "plainly.png")
    assert path.read_bytes() == (tmp_path / "plainly.png").read_bytes()
    ax.set_title(r"$\frac$")  # cannot be drawn
    with pytest.raises(ValueError):
        style.save_figure(figure, path)
    assert path.read_bytes() == (tmp_path / "plainly.png").read_bytes()
    assert sorted(found.name for found in tmp_path.iterdir()) == ["line.png", "plainly.png"]


def test_28_lines_differ():
    assert len({style.line_style(number) for number in range(28)}) == 28
    assert style.line_style(28) == style.line_style(0)


@pytest.mark.parametrize("count, across, rows", [(1, 1, 1), (4, 3, 2), (6, 3, 2), (7, 3, 3)])
def test_panels_fill_row_by_row_and_leave_no_empty_one(count, across, rows):
    figure = style.new_figure(4, 3)
    panels = style.panels(figure, count, across, sharex=True)
    assert figure.axes == panels and len(panels) == count
    places = [ax.get_subplotspec() for ax in panels]
    assert [place.rowspan.start * across + place.colspan.start for place in places] == list(range(count))
    assert places[0].get_gridspec().get_geometry() == (rows, across)


def test_points_and_pairs():
    _, ax = one_panel()
    starts, ends = np.arange(6.0).reshape(3, 2), np.arange(6.0, 12).reshape(3, 2)
    points = style.draw_points(ax, starts, s=9)
    np.testing.assert_array_equal(points.get_offsets(), starts)
    style.draw_pairs(ax, starts, ends, linewidth=0.3)
    assert len(ax.lines) == 3 and ax.lines[0].get_linewidth() == 0.3
    np.testing.assert_array_equal(ax.lines[2].get_xydata(), [starts[2], ends[2]])


def test_a_bare_panel_has_neither_ticks_nor_frame():
    _, ax = one_panel()
    style.bare(ax)
    assert not len(ax.get_xticks()) and not len(ax.get_yticks())
    assert not any(spine.get_visible() for spine in ax.spines.values())


def test_a_dressed_panel_takes_its_words_literally():
    figure, ax = one_panel()
    style.dress(ax, "$a", "_x", "y$")
    assert (ax.get_title(), ax.get_xlabel(), ax.get_ylabel()) == (r"\$a", " _x", r"y\$")
    assert [ax.spines[side].get_visible() for side in ("top", "right", "left")] == [False, False, True]
    drawn(figure)


def test_a_curve_is_the_running_median_and_ends_in_a_cross_where_it_breaks_off():
    _, ax = one_panel()
    step, value = pd.Series(range(0, 240, 2)), pd.Series(np.random.default_rng(0).normal(size=120))
    line = style.draw_curve(ax, step, value, "black", "-", "_a")
    width = 3  # 120 // 40 is odd
    right = [np.median(value[max(0, k - width // 2) : k + width // 2 + 1]) for k in range(120)]
    np.testing.assert_allclose(line.get_ydata(), right)
    np.testing.assert_array_equal(ax.lines[0].get_ydata(), value)
    assert len(ax.lines) == 2 and line.get_label() == " _a"
    value[100:] = math.inf
    style.draw_curve(ax, step, value, "black", "-", "a")
    (cross,) = [line for line in ax.lines if line.get_marker() == "x"]
    assert cross.get_xdata()[0] == 198


def test_a_log_axis_where_values_span_more_than_ten():
    for values, scale in (([1.0, 10.0], "linear"), ([1.0, 10.1], "log"), ([-5.0, 0.0, math.nan], "linear")):
        _, ax = one_panel()
        style.log_where_it_helps(ax, pd.Series(values))
        assert ax.get_yscale() == scale, values


def test_a_log_axis_in_words():
    figure, ax = one_panel()
    ax.plot([0.09, 25], [0, 1])
    style.log_in_words(ax.xaxis)
    drawn(figure)
    low, high = ax.get_xlim()
    shown = [tick.get_text() for tick in ax.get_xticklabels()]
    assert [word for word in shown if low <= float(word) <= high] == ["0.1", "0.2", "0.5", "1", "2", "5", "10", "20"]
    assert not len(ax.get_xticks(minor=True))


def test_plain_text_and_short_text():
    assert (
        style.plain("$a$") == r"\$a\$" and style.plain("_b").strip() == "_b" and not style.plain("_b").startswith("_")
    )
    assert style.shorten("abcdef", 4) == "abc…" and style.shorten("abcd", 4) == "abcd"
