"""Figures of norms: layers and their predictions are drawn as they were measured."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from clipedu.plots import norms as norm_plots
from clipedu.utils.errors import ClipeduError
from tests.helpers.figures import curves, drawn, legend
from tests.helpers.processes import assert_light


def layers_frame(layers, steps=50):
    """Rows as `NormMonitor.frame()` gives them; layer k has the norm k + 1, growing by a tenth."""
    rows = []
    for k, (layer, kind) in enumerate(layers):
        for step in range(0, steps, 5):
            weight = (k + 1) * (1 + 0.1 * step / steps)
            rows.append(
                {"step": step, "layer": layer, "part": layer.split("_")[0], "kind": kind, "weight": weight}
                | {"angle": 0.01 * (k + 1), "cosine": -0.1, "lr": 1e-3}
                | {"injection": 4e-4 * weight**2, "alignment": 1e-4 * weight**2, "decay": -2e-4 * weight**2}
            )
    return pd.DataFrame(rows)


FEW = layers_frame(
    [("image_encoder.0.weight", "matrix"), ("image_encoder.1.weight", "matrix"), ("text_encoder.0.bias", "1-D")]
)
MANY = layers_frame([(f"image_encoder.blocks.{k}.attention.weight", "matrix") for k in range(60)])


def test_importing_is_light():
    assert_light("clipedu.plots.norms")


def test_layers_have_panels_by_part_and_kind():
    figure = norm_plots.plot_layers(FEW)
    drawn(figure)
    image, text = figure.axes
    assert image.get_title() == "image, matrix: 2 layers" and text.get_title() == "text, 1-D: 1 layer"
    assert legend(image) == ["1", "0"] and legend(text) == ["0.bias"]  # the largest first
    named = [line for line in curves(image) if line.get_linewidth() > 1]
    assert [line.get_ydata()[0] for line in named] == [2.0, 1.0]


def test_a_prediction_is_a_band_or_a_curve():
    names = list(dict.fromkeys(FEW["layer"]))
    states = {names[0]: SimpleNamespace(norm=1.2, rotation=0.02), names[1]: 2.5, names[2]: np.inf}
    image, text = norm_plots.plot_layers(FEW, predicted=states).axes
    heights = sorted(sorted(patch.get_corners()[:, 1])[::3] for patch in image.patches)
    np.testing.assert_allclose(heights, [[1.2 * 0.95, 1.2 * 1.05], [2.5 * 0.95, 2.5 * 1.05]])
    assert not text.patches
    curve = np.linspace(1, 2, 10)
    figure = norm_plots.plot_layers(FEW, predicted={names[0]: curve}, layers=names[:1])
    drawn(figure)
    (ax,) = figure.axes
    np.testing.assert_allclose(curves(ax, "--")[0].get_ydata(), curve)
    same = norm_plots.plot_layers(FEW, predicted={names[0]: 2.0, names[1]: 2.0}).axes[0]
    assert len(same.patches) == 1


def test_sixty_layers_name_six():
    figure = norm_plots.plot_layers(MANY, predicted=dict.fromkeys(MANY["layer"], 3.0))
    drawn(figure)
    (ax,) = figure.axes
    assert len(legend(ax)) == 6 and "60 layers" in ax.get_title()
    assert legend(ax)[0] == "blocks.59.attention" and legend(ax)[-1] == "blocks.0.attention"
    pale = [line for line in ax.lines if line.get_color() == norm_plots.PALE]
    assert len(pale) == 54 and len(ax.patches) == 1


def test_rotation_takes_the_angle_and_its_prediction():
    names = list(dict.fromkeys(FEW["layer"]))
    figure = norm_plots.plot_rotation(FEW, {names[0]: SimpleNamespace(norm=9.0, rotation=0.0123)}, names[:1])
    drawn(figure)
    (ax,) = figure.axes
    assert sorted({*ax.patches[0].get_corners()[:, 1]}) == pytest.approx([0.0123 * 0.95, 0.0123 * 1.05])
    assert curves(ax)[0].get_ydata()[0] == 0.01 and "radians" in ax.get_ylabel()


def test_prediction_draws_ratios_and_their_median():
    names = list(dict.fromkeys(FEW["layer"]))
    figure = norm_plots.plot_prediction(FEW, {names[0]: 1.0, names[1]: SimpleNamespace(norm=4.0), names[2]: np.inf})
    drawn(figure)
    (ax,) = figure.axes
    _, first, second, median = ax.lines
    grown = 1 + 0.1 * np.arange(0, 50, 5) / 50
    np.testing.assert_allclose(first.get_ydata(), grown)
    np.testing.assert_allclose(second.get_ydata(), 2 * grown / 4)
    np.testing.assert_allclose(median.get_ydata(), 0.75 * grown)
    assert "2 layers" in ax.get_title()
    with pytest.raises(ClipeduError, match="finite"):
        norm_plots.plot_prediction(FEW, {})


def test_balance_is_in_shares_of_the_squared_norm():
    figure = norm_plots.plot_balance(FEW, "image_encoder.1.weight")
    drawn(figure)
    (ax,) = figure.axes
    last = {
        line.get_label().split(":")[0]: line.get_ydata()[-1]
        for line in ax.lines
        if ":" in line.get_label() or "sum" in line.get_label()
    }
    assert last == pytest.approx({"injection": 4e-4, "alignment": 1e-4, "decay": -2e-4, "their sum": 3e-4})


@pytest.mark.parametrize(
    "draw, word",
    [
        (lambda: norm_plots.plot_layers(FEW, "wieght"), "weight"),
        (lambda: norm_plots.plot_layers(FEW, "spectral"), "spectral=True"),
        (lambda: norm_plots.plot_layers(FEW, layers=["image_encoder.0.wieght"]), "Did you mean"),
        (lambda: norm_plots.plot_balance(FEW, "none"), "unknown layer"),
        (lambda: norm_plots.plot_layers(FEW[:0]), "empty"),
    ],
)
def test_what_cannot_be_drawn_is_refused(draw, word):
    with pytest.raises(ClipeduError, match=word):
        draw()


def test_a_dollar_in_a_name_is_no_formula():
    drawn(norm_plots.plot_layers(FEW.assign(layer=FEW["layer"] + "$x$")))
