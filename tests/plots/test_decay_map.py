"""Maps over lr and decay: one scale, the best, the outline; and intervals."""

import numpy as np
import pandas as pd

from clipedu.plots.decay_map import DecayMap, plot_intervals, plot_maps
from tests.helpers.figures import drawn, words


def test_maps_share_their_scale_and_outline_what_is_good():
    first = np.array([[10.0, 9.5, 1.0], [2.0, 3.0, np.nan]])
    maps = [
        DecayMap("Adam", [0.1, 0.2, 0.4], [0.01, 0.1], first, "L2"),
        DecayMap("AdamW", [0.1, 0.2, 0.4], [0.01, 0.1], 2 * first, "share"),
    ]
    figure = plot_maps(maps, "average (%)", 0.9)
    one, other = figure.axes[:2]
    assert one.collections[0].get_clim() == other.collections[0].get_clim() == (0.0, 20.0)
    assert len(one.lines) == 2 * 6  # two cells side by side have six outer edges, each with its border
    assert [label.get_text() for label in one.get_yticklabels()] == ["0.1", "0.01"]  # small decay below
    text = words(figure)
    assert "10.0 *" in text and "20.0 *" in text and "nan" not in text and "within 90 % of the best" in text
    assert all(item.get_fontsize() >= 9 for ax in (one, other) for item in ax.texts) and drawn(figure)


def test_outline_is_drawn_at_the_cells_that_are_good():
    scores = np.array([[1.0, 1.0], [1.0, 10.0]])  # the best has the largest decay and lr: at the top on the right
    ax = plot_maps([DecayMap("Adam", [1, 2], [1, 2], scores, "L2")], "average (%)", 0.9).axes[0]
    xs, ys = (
        {round(float(v)) for line in ax.lines for v in get(line)}
        for get in (lambda x: x.get_xdata(), lambda x: x.get_ydata())
    )
    assert xs == {1, 2} and ys == {0, 1}


def test_intervals_have_a_panel_a_measure_and_a_place_an_optimizer():
    frame = pd.DataFrame({"optimizer": ["adam", "adam", "sgd", "sgd"], "seed": [0, 1, 0, 1], "value": [1.0, 2, -3, 4]})
    figure = plot_intervals({"tilt": frame, "share": frame.assign(value=1.0)}, ["sgd", "adam", "lion"], str.upper)
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == ["SGD", "ADAM"]
    assert "95 % interval" in words(figure) and drawn(figure)
    assert "One seed" in words(plot_intervals({"tilt": frame[frame["seed"] == 0]}, ["sgd", "adam"]))
