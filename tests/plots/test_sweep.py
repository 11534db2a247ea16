"""The figures of a sweep: heat maps of two settings, a curve with a band of one, points of more."""

import numpy as np
import pandas as pd
import pytest

from clipedu.plots.sweep import Scale, plot_sweep
from tests.helpers.errors import message_of
from tests.helpers.figures import drawn, legend


def trials(variants=("loss=clip", "loss=$x_1$"), seeds=3, **settings):
    """All combinations, with a score that falls with the distance of the first setting from its middle."""
    axes = np.meshgrid(*settings.values(), indexing="ij")
    points = np.stack([axis.ravel() for axis in axes], 1)
    rows = []
    for variant in variants:
        for number, point in enumerate(points):
            for seed in range(seeds):
                score = 40 - 5 * abs(np.log10(point[0] / 1e-3)) + seed
                named = dict(zip(settings, point, strict=True))
                rows.append({"variant": variant, "trial": number, "seed": seed, **named, "average": score})
    return pd.DataFrame(rows)


def test_two_settings_make_a_heat_map_a_variant():
    table = trials(lr=[1e-4, 1e-3, 1e-2], weight_decay=[0.0, 0.1])
    figure = plot_sweep(table, {"lr": Scale(log=True), "weight_decay": Scale()}, "average", "average")
    drawn(figure)
    maps = [ax for ax in figure.axes if ax.get_xlabel() == "lr"]
    assert [ax.get_title() for ax in maps] == ["loss=clip", r"loss=\$x_1\$"]
    assert [text.get_text() for text in maps[0].texts] == ["36.0", "41.0", "36.0"] * 2
    assert [text.get_text() for text in maps[0].get_xticklabels()] == ["0.0001", "0.001", "0.01"]
    assert [text.get_text() for text in maps[0].get_yticklabels()] == ["0.1", "0"]


def test_settings_drawn_from_ranges_are_counted_in_bins_and_a_cell_has_its_best_trial():
    table = pd.DataFrame(
        {
            "variant": "all",
            "trial": [0, 1, 2],
            "seed": 0,
            "lr": [1e-4, 1.1e-4, 1e-2],
            "warmup": [0.0, 0.01, 0.6],
            "average": [3.0, 7.0, 5.0],
        }
    )
    figure = plot_sweep(table, {"lr": Scale(True, True), "warmup": Scale(False, True)}, "average", "average")
    drawn(figure)
    assert sorted(text.get_text() for text in figure.axes[0].texts if text.get_text()) == ["5.0", "7.0"]
    assert figure.axes[0].get_xticklabels()[0].get_text() == "0.0001 to 0.00022"


def test_one_setting_makes_a_curve_a_variant_with_a_band():
    figure = plot_sweep(trials(lr=[1e-4, 1e-3, 1e-2]), {"lr": Scale(log=True)}, "average", "average")
    drawn(figure)
    (ax,) = figure.axes
    assert (
        ax.get_xscale() == "log" and ax.get_ylabel() == "average (%)" and legend(ax) == ["loss=clip", r"loss=\$x_1\$"]
    )
    assert list(ax.lines[0].get_ydata()) == [36.0, 41.0, 36.0] and len(ax.collections) == 2
    low, high = (end(ax.collections[0].get_paths()[0].vertices[:, 1]) for end in (min, max))
    assert (low, high) == pytest.approx((36 - 2.484, 41 + 2.484), abs=1e-3)  # 4.303 sd / sqrt(3)


def test_one_seed_has_no_band_and_one_variant_no_legend():
    figure = plot_sweep(trials(("all",), 1, lr=[1e-4, 1e-3]), {"lr": Scale()}, "average", "average")
    drawn(figure)
    assert figure.axes[0].get_legend() is None


def test_more_settings_make_a_panel_each():
    table = trials(lr=[1e-4, 1e-3], weight_decay=[0.0, 0.1], epochs=[1, 2])
    figure = plot_sweep(table, {"lr": Scale(True), "weight_decay": Scale(), "epochs": Scale()}, "average", "average")
    drawn(figure)
    assert [ax.get_xlabel() for ax in figure.axes] == ["lr", "weight_decay", "epochs"]


def test_nothing_to_draw_is_said():
    table = trials(lr=[1e-4, 1e-3])
    assert "no setting that was varied is a number" in message_of(plot_sweep, table, {}, "average", "average")
    empty = table.assign(average=np.nan)
    assert "no trial has a score yet" in message_of(plot_sweep, empty, {"lr": Scale()}, "average", "average")
