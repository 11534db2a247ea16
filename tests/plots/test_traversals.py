"""The figure of traversals names its stops, where they are."""

from itertools import pairwise

import numpy as np
import pytest
import torch

from clipedu.evaluation.traversals import ROOT, Stop
from clipedu.plots import traversals
from tests.helpers.figures import drawn


def test_traversal_names_its_stops_where_they_are():
    stops = [
        Stop(0.0, "all $5 of it", 2.0),
        Stop(0.5, "a star", 1.0),
        Stop(0.52, "a shape", 0.96),
        Stop(1.0, ROOT, 0.0),
    ]
    figure = traversals.plot_traversal({"one": stops, "other": stops[:1]}, torch.zeros(3, 8, 8, dtype=torch.uint8))
    drawn(figure)
    assert [ax.get_title() for ax in figure.axes] == ["", "one", "other"]
    texts = figure.axes[1].texts
    assert [text.get_text() for text in texts] == [
        r"2.00  all \$5 of it",
        "1.00  a star",
        "0.96  a shape",
        f"0.00  {ROOT}",
    ]
    heights = [text.get_position()[1] for text in texts]
    assert all(b - a > 0.05 for a, b in pairwise(heights))
    np.testing.assert_allclose(figure.axes[1].collections[0].get_offsets()[:, 1], [0, 0.5, 0.52, 1])
    drawn(traversals.plot_traversal({"no picture": stops}))


def test_labels_are_spread_without_leaving_the_panel():
    for heights in ([0.0, 0.01, 0.02], [0.0, 0.97, 0.98, 1.0], [0.5], [0.0, 0.3, 0.6], list(np.linspace(0.9, 1, 6))):
        sizes = [0.06 + 0.04 * (k % 2) for k in range(len(heights))]
        spread = traversals._spread(heights, sizes)
        gaps = zip(pairwise(spread), pairwise(sizes), strict=True)
        assert all(b - a >= (p + q) / 2 - 1e-9 for (a, b), (p, q) in gaps) and max(spread) <= 1
    assert traversals._spread([0.0, 0.3, 0.6], [0.1] * 3) == [0.0, 0.3, 0.6]
    assert traversals._spread([0.0, 0.05, 0.5], [0.1] * 3) == pytest.approx([0.0, 0.1, 0.5])
