"""The figure of SogCLR's memory: a curve a variant, and those of one batch."""

from __future__ import annotations

import pandas as pd

from clipedu.plots.memory import plot_memory


def test_each_variant_has_a_curve_and_a_name():
    rows = pd.DataFrame(
        [
            {
                "variant": name,
                "seed": seed,
                "step": step,
                "estimate": estimate,
                "difference": step / 9,
                "rank correlation": 0.1,
            }
            for name in ("gamma-1", "gamma-0.1")
            for seed in (0, 1)
            for step in (8, 16)
            for estimate in ("memory", "fresh batch", "in training")
        ]
    )
    figure = plot_memory(rows)
    left, right = figure.axes
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == [
        "gamma-1", "gamma-0.1", "one fresh batch", "one batch in training mode",
    ]  # fmt: skip
    assert list(left.lines[0].get_xdata()) == [0.5, 1.0]
    assert left.get_legend() is None and right.get_ylabel() == "Spearman's rank correlation"
