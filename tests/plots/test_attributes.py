"""The figure of attributes: a row a variant, a panel a measure, a curve an attribute."""

import pandas as pd

from clipedu.plots.attributes import PANELS, plot_attributes
from tests.helpers.figures import drawn, words


def frame(variants, seeds):
    return pd.DataFrame(
        [
            {"variant": variant, "seed": seed, "step": step, "measure": measure, "attribute": name, "value": 50 + seed + step / 3}
            for variant in variants
            for seed in seeds
            for step in (20, 40, 60)
            for measure in PANELS
            for name in ("shape", "relation", *(["binding"] if measure == "foil" else []))
        ]
    )  # fmt: skip


def test_each_variant_has_a_row_and_each_attribute_a_curve():
    figure = plot_attributes(frame(("clip", "sogclr"), (0, 1)), 75)
    drawn(figure)
    assert len(figure.axes) == 6 and figure.axes[3].get_title().startswith("sogclr: ")
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["shape", "relation", "binding"]
    assert "interval over 2 seeds" in words(figure)
    assert [ax.get_xlabel() for ax in figure.axes] == [""] * 3 + ["step"] * 3


def test_one_variant_and_one_seed():
    figure = plot_attributes(frame(("clip",), (0,)), 75)
    drawn(figure)
    assert figure.axes[0].get_title() == PANELS["foil"][0] and "one seed: no bands" in words(figure)
