"""The figure of norm ratios: a panel a group, a row a layer, the band, intervals where there are seeds."""

import numpy as np
import pandas as pd

from clipedu.plots.norm_ratios import GROUPS, plot_ratios
from tests.helpers.figures import drawn, words


def frame(seeds, groups=(True, False)):
    noise = np.random.default_rng(0)
    rows = [
        {"variant": variant, "run": f"{variant}-seed{seed}", "layer": f"layer{n}.{group}", "normalised": group, "ratio": noise.lognormal(0, 0.1)}
        for variant in ("adamw", "adamc")
        for seed in seeds
        for group in groups
        for n in range(3)
    ]  # fmt: skip
    return pd.DataFrame(rows)


def test_each_group_has_a_panel_and_each_layer_a_row():
    figure = plot_ratios(frame((0, 1, 2)), 0.05)
    drawn(figure)
    assert [ax.get_title() for ax in figure.axes] == list(GROUPS.values())
    assert [len(ax.get_yticklabels()) for ax in figure.axes] == [3, 3]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["adamw", "adamc"]
    assert "interval over 3 seeds" in words(figure) and "within 5 %" in words(figure)
    assert figure.axes[0].get_xscale() == "log"


def test_one_seed_has_no_intervals_and_a_group_can_be_missing():
    figure = plot_ratios(frame((0,), groups=(True,)), 0.1)
    drawn(figure)
    assert len(figure.axes) == 1 and "one seed: no intervals" in words(figure)
