"""The figure of a caption: a column a token, padding in grey."""

from __future__ import annotations

import pytest
import torch

from clipedu.inference.texts import TextReading
from clipedu.plots.texts import PADDING, plot_reading


def test_columns():
    from matplotlib.colors import to_hex

    nan = torch.nan
    reading = TextReading(
        ("[CLS]", "red", "[SEP]", "[PAD]"), 3, torch.tensor([0.25] * 4), torch.tensor([nan, 0.5, nan, nan]), "mean", 0.8
    )
    above, below = plot_reading(reading).axes
    assert [bar.get_height() for bar in above.patches] == [25.0] * 4
    assert [to_hex(bar.get_facecolor()).upper() == PADDING for bar in above.patches] == [False, False, False, True]
    assert [bar.get_height() for bar in below.patches] == pytest.approx([0, 0.5, 0, 0])
    assert [label.get_text() for label in below.get_xticklabels()] == list(reading.tokens)
    assert above.get_title() == "In the feature (mean)"


def test_a_tower_that_pools_by_itself_has_one_panel():
    nan = torch.nan
    reading = TextReading(("<s>", "red", "</s>"), 3, torch.full((3,), nan), torch.tensor([nan, 0.5, nan]), "own", 1.0)
    (only,) = plot_reading(reading).axes
    assert [bar.get_height() for bar in only.patches] == pytest.approx([0, 0.5, 0])
    assert [label.get_text() for label in only.get_xticklabels()] == list(reading.tokens)
