"""Scores against a step size: curves, bands and best values."""

import numpy as np
import pandas as pd

from clipedu.plots.transfer import Way, plot_transfer
from tests.helpers.figures import drawn, words


def frame(seeds):
    rows = [
        {"alpha": alpha, "lr": lr, "other": lr * alpha, "seed": seed, "score": 20 + seed - abs(np.log(lr))}
        for alpha in (1.0, 0.1)
        for seed in seeds
        for lr in (0.01, 0.1, 1.0)
    ]
    return pd.DataFrame(rows)


def test_a_panel_a_way_a_curve_and_a_best_value_a_momentum():
    ways = [Way("lr", "lr", {1.0: 0.1, 0.1: 0.2}), Way("other", "other", {1.0: 0.1, 0.1: float("nan")})]
    figure = plot_transfer(frame((0, 1, 2)), ways, "average (%)")
    assert [len(ax.lines) for ax in figure.axes] == [4, 3] and [len(ax.collections) for ax in figure.axes] == [2, 2]
    assert all(ax.get_xscale() == "log" for ax in figure.axes)
    text = words(figure)
    assert "α = 0.1" in text and "over 3 seeds" in text and drawn(figure)
    assert min(label.get_fontsize() for ax in figure.axes for label in ax.get_xticklabels()) >= 9


def test_one_seed_has_no_band():
    figure = plot_transfer(frame((0,)), [Way("lr", "lr", {})], "average (%)")
    assert "one seed: no bands" in words(figure) and drawn(figure)
