"""The figure of a line between two models."""

import pandas as pd
import pytest

from clipedu.plots.blending import plot_blend
from clipedu.workflow.blending import Line
from tests.helpers.errors import message_of
from tests.helpers.figures import drawn, legend, words


def line(values, statistics="none", ends=None):
    rows = [
        {
            "t": k / (len(values) - 1),
            "statistics": statistics,
            "metric": metric,
            "value": value - 5 * (metric == "tr@1"),
        }
        for metric in ("tr@1", "average")
        for k, value in enumerate(values)
    ]
    rows += [
        {"t": float(t), "statistics": "own", "metric": m, "value": v}
        for m in ("tr@1", "average")
        for t, v in enumerate(ends or [])
    ]
    return Line(("runs/$a_1", "runs/" + 60 * "b"), statistics, pd.DataFrame(rows), {"average": 1.0})


def test_a_barrier_is_drawn_and_named():
    figure = plot_blend(line([40, 10, 60]))
    drawn(figure)
    (ax,) = figure.axes
    assert ax.get_title() == "Between the two models the average falls up to 40.0 below the straight line"
    assert legend(ax) == ["TR@1", "average", "straight line of the ends"] and "barrier 40.0" in words(figure)
    assert "A (t = 0): runs/\\$a_1" in ax.get_xlabel() and "…" in ax.get_xlabel()


def test_ends_as_they_are_beside_recomputed_ones():
    figure = plot_blend(line([40, 50, 60], "recomputed", ends=[20, 58]))
    drawn(figure)
    (ax,) = figure.axes
    assert ax.get_title().endswith("nowhere below the straight line") and legend(ax)[-1] == "the ends as they are"
    squares = [one for one in ax.lines if one.get_marker() == "s" and len(one.get_xdata())]
    assert [list(one.get_ydata()) for one in squares] == [[20, 58], [20, 58]]


@pytest.mark.parametrize("points", [2])
def test_two_points_are_a_line_without_a_barrier(points):
    figure = plot_blend(line([40, 60]))
    drawn(figure)
    assert figure.axes[0].get_title() == "Scores between two models"


def test_nothing_to_draw():
    empty = Line(
        ("a", "b"), "none", pd.DataFrame({"t": [0.0], "statistics": "none", "metric": "alignment", "value": 1.0}), {}
    )
    assert "no score is on this line" in message_of(plot_blend, empty)
