from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from clipedu.norms import sandbox
from clipedu.plots import norms as norm_plots
from clipedu.utils.errors import ClipeduError
from tests.helpers.figures import drawn
from tests.helpers.processes import assert_light

QUICK = {"steps": 60, "chains": 20, "shape": 16, "alpha": 0.2, "schedule": "cosine"}


def legend(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


def curves(ax, dashes="-"):
    return [line for line in ax.lines if line.get_linestyle() == dashes]


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


def test_one_walk_with_its_band_and_its_balance():
    walk = sandbox(start=None, **QUICK)
    figure = norm_plots.plot_walk(walk)
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
    figure = norm_plots.plot_walk(walks)
    drawn(figure)
    above, below = figure.axes
    assert legend(above) == ["law constant", "law corrected"] and len(below.get_legend().get_texts()) == 2
    for line, walk in zip(curves(above, "--"), walks, strict=True):
        np.testing.assert_allclose(line.get_ydata(), walk.predicted)
    assert not curves(above, ":")  # bands and balances would hide each other
    assert legend(norm_plots.plot_walk({"a": walks[0], "b": walks[1]}).axes[0]) == ["a", "b"]
    assert legend(norm_plots.plot_walk([walks[0], walks[0]]).axes[0]) == [" (1)", " (2)"]


def test_cosine_of_a_walk():
    walk = sandbox(start=None, **QUICK)
    figure = norm_plots.plot_walk(walk, "cosine")
    drawn(figure)
    np.testing.assert_allclose(curves(figure.axes[0], "--")[0].get_ydata(), walk.predicted_cosine)


def test_the_axis_is_logarithmic_where_a_walk_falls_far_and_not_where_it_rises_from_nothing():
    rising = sandbox(start=0.0, **QUICK | {"schedule": "constant"})
    assert norm_plots.plot_walk(rising).axes[0].get_ylim()[0] == 0
    falling = sandbox(start=100 * rising.measured[-1], **QUICK | {"schedule": "constant", "weight_decay": 8.0})
    figure = norm_plots.plot_walk(falling)
    drawn(figure)
    assert figure.axes[0].get_yscale() == "log" and figure.axes[0].get_ylim()[0] < falling.measured[-1]


def test_a_walk_without_decay():
    figure = norm_plots.plot_walk(sandbox(weight_decay=0.0, start=0.0, **QUICK))
    drawn(figure)
    assert not curves(figure.axes[0], ":") and figure.axes[1].lines[1].get_ydata().max() == 0


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
        (lambda: norm_plots.plot_walk([]), "at least one"),
        (lambda: norm_plots.plot_walk(sandbox(**QUICK), "angle"), "cosine"),
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
    drawn(norm_plots.plot_walk({"_$": sandbox(**QUICK), "$x$": sandbox(**QUICK)}))
