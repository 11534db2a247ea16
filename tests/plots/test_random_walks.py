"""The figure of random walks shows what was measured, what was predicted, and the schedule."""

import numpy as np
import pytest

from clipedu.norms import sandbox
from clipedu.plots.random_walks import plot_walk
from clipedu.utils.errors import ClipeduError
from tests.helpers.figures import curves, drawn, legend

QUICK = {"steps": 60, "chains": 20, "shape": 16, "alpha": 0.2, "schedule": "cosine"}


def test_one_walk_with_its_band_and_its_balance():
    walk = sandbox(start=None, **QUICK)
    figure = plot_walk(walk)
    drawn(figure)
    above, below = figure.axes
    (theory,), (balance,) = curves(above, "--"), curves(above, ":")
    np.testing.assert_allclose(theory.get_ydata(), walk.predicted)
    np.testing.assert_allclose(balance.get_ydata(), walk.balance)
    (dots,) = above.containers
    shown = dots.lines[0].get_xdata()
    assert shown[0] == 1 and shown[-1] == 60 and len(shown) == 33
    np.testing.assert_allclose(dots.lines[0].get_ydata(), walk.measured[np.searchsorted(walk.step, shown)])
    bars = dots.lines[2][0].get_segments()
    np.testing.assert_allclose(bars[-1][:, 1], walk.measured[-1] + np.array([-2, 2]) * walk.error[-1])
    band = above.collections[0].get_paths()[0].vertices
    assert band[:, 1].max() == pytest.approx((walk.measured + walk.spread).max())
    assert band[:, 1].min() == pytest.approx((walk.measured - walk.spread).min())
    assert "Monte-Carlo" in legend(above) and "theory" in legend(above) and above.get_yscale() == "linear"
    lr, shrink = below.lines
    np.testing.assert_allclose(lr.get_ydata(), walk.lr / 0.01, rtol=1e-3)
    np.testing.assert_allclose(shrink.get_ydata(), walk.lr / walk.lr.max())


def test_several_walks_are_named_by_what_differs():
    walks = [sandbox(law=law, start=None, **QUICK) for law in ("constant", "corrected")]
    figure = plot_walk(walks)
    drawn(figure)
    above, below = figure.axes
    assert legend(above) == ["law constant", "law corrected"] and len(below.get_legend().get_texts()) == 2
    for line, walk in zip(curves(above, "--"), walks, strict=True):
        np.testing.assert_allclose(line.get_ydata(), walk.predicted)
    assert not curves(above, ":")  # bands and balances would hide each other
    assert legend(plot_walk({"a": walks[0], "b": walks[1]}).axes[0]) == ["a", "b"]
    assert legend(plot_walk([walks[0], walks[0]]).axes[0]) == [" (1)", " (2)"]


def test_cosine_of_a_walk():
    walk = sandbox(start=None, **QUICK)
    figure = plot_walk(walk, "cosine")
    drawn(figure)
    np.testing.assert_allclose(curves(figure.axes[0], "--")[0].get_ydata(), walk.predicted_cosine)


def test_the_axis_is_logarithmic_where_a_walk_falls_far_and_not_where_it_rises_from_nothing():
    rising = sandbox(start=0.0, **QUICK | {"schedule": "constant"})
    assert plot_walk(rising).axes[0].get_ylim()[0] == 0
    falling = sandbox(start=100 * rising.measured[-1], **QUICK | {"schedule": "constant", "weight_decay": 8.0})
    figure = plot_walk(falling)
    drawn(figure)
    assert figure.axes[0].get_yscale() == "log" and figure.axes[0].get_ylim()[0] < falling.measured[-1]


def test_a_walk_without_decay():
    figure = plot_walk(sandbox(weight_decay=0.0, start=0.0, **QUICK))
    drawn(figure)
    assert not curves(figure.axes[0], ":") and figure.axes[1].lines[1].get_ydata().max() == 0


@pytest.mark.parametrize(
    "draw, word",
    [(lambda: plot_walk([]), "at least one"), (lambda: plot_walk(sandbox(**QUICK), "angle"), "cosine")],
)
def test_what_cannot_be_drawn_is_refused(draw, word):
    with pytest.raises(ClipeduError, match=word):
        draw()


def test_a_dollar_in_a_name_is_no_formula():
    drawn(plot_walk({"_$": sandbox(**QUICK), "$x$": sandbox(**QUICK)}))
