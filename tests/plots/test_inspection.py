"""The figure of a model's layers."""

import numpy as np
import pandas as pd
import pytest

from clipedu.plots.inspection import KINDS, kind_of_layer, plot_layer_norms
from tests.helpers.errors import message_of
from tests.helpers.figures import drawn, words


def layers(alpha=np.nan):
    """A table as `Inspection.layers` has it, with a layer of each kind."""
    rows = [
        ("image_encoder.$conv_1.weight", "matrix", True, True),
        ("image_encoder.blocks.0.a_very_long_name.of_a_layer.somewhere_inside.weight", "matrix", True, False),
        ("image_projection.weight", "head", True, False),
        ("image_encoder.stem.weight", "matrix", False, None),
        ("image_encoder.new.weight", "matrix", True, None),
        ("image_encoder.norm.weight", "1-D", True, False),
    ]
    table = pd.DataFrame(rows, columns=["layer", "kind", "trained", "normalised"]).assign(part="image", size=100)
    table["norm"] = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
    expected = [1.1, 1.1, 1.1, np.nan, 1.1, np.nan]
    table = table.assign(rms=table["norm"] / 10, spectral=table["norm"] / 2, stable_rank=4.0, alpha=alpha, why="")
    table = table.assign(
        shape="10x10", balance=expected, end=expected, left=0.5, turns=0.7, rotation=0.1, expected=expected
    )
    return table.assign(ratio=table["norm"] / table["expected"])


def test_each_layer_is_a_row_with_what_the_recipe_says():
    figure = plot_layer_norms(layers(), "image")
    drawn(figure)
    names = [text.get_text() for text in figure.axes[0].get_yticklabels()]
    assert names[0] == r"\$conv_1" and len(names) == 5 and names[1].startswith("…") and names[2] == "image_projection"
    assert [ax.get_title() for ax in figure.axes] == [
        "root mean square of the weights",
        "largest singular value",
        "stable rank",
    ]
    (bars,) = [line for line in figure.axes[0].lines if line.get_marker() == "|"]
    assert bars.get_xdata().tolist() == pytest.approx([0.11] * 4) and bars.get_ydata().tolist() == [0, 1, 2, 4]
    legend = " ".join(text.get_text() for text in figure.legends[0].get_texts())
    assert all(label in legend for _, _, label in KINDS.values()) and "the recipe: at its end" in legend
    assert "balance at the peak lr" in legend


def test_alpha_has_a_panel_where_it_was_measured():
    figure = plot_layer_norms(layers(alpha=3.0).assign(end=np.nan), "image")
    drawn(figure)
    assert "alpha of the spectrum" in words(figure) and "the recipe: at its peak lr" in words(figure)


def test_without_a_recipe_only_what_is_there_is_drawn():
    nothing = dict.fromkeys(("expected", "balance", "end", "ratio"), np.nan)
    figure = plot_layer_norms(layers().assign(**nothing), "image")
    drawn(figure)
    assert "the recipe" not in words(figure)


def test_kinds_of_layers():
    looks = [kind_of_layer(row) for _, row in layers().iterrows()]
    assert looks == ["normalised", "other", "head", "frozen", "not measured", "other"]


def test_a_part_without_matrices():
    assert "no matrix in the part 'text'" in message_of(plot_layer_norms, layers(), "text")
