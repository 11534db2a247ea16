"""The reliability diagram shows accuracy, confidence and share of each bin, before and after."""

import pytest
import torch

from clipedu.evaluation.calibration import calibrate
from clipedu.plots.reliability import plot_reliability
from tests.helpers.figures import drawn, legend, words


@pytest.fixture(scope="module")
def found():
    generator = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(400, 4, generator=generator)
    labels = torch.multinomial(logits.softmax(1), 1, generator=generator)[:, 0]
    return calibrate(logits, labels, 0.25)


def test_bars_are_accuracies_and_shares(found):
    figure = plot_reliability(found)
    drawn(figure)
    before, after, *shares = figure.axes
    for ax, below, name in ((before, shares[0], "before"), (after, shares[1], "after")):
        bins = found.reliability[found.reliability["probabilities"] == name]
        filled = bins[bins["count"] > 0]
        accuracy, gap = ax.containers
        assert [bar.get_height() for bar in accuracy] == pytest.approx(filled["accuracy"].tolist())
        gaps = (filled["accuracy"] - filled["confidence"]).abs()
        assert [bar.get_height() for bar in gap] == pytest.approx(gaps.tolist())
        assert [bar.get_x() for bar in accuracy] == pytest.approx(filled["low"].tolist())
        assert sum(bar.get_height() for bar in below.containers[0]) == pytest.approx(1)


def test_it_says_temperature_and_error(found):
    figure = plot_reliability(found, title="of a run with $")
    drawn(figure)
    said = words(figure)
    for row in found.table.to_dict("records"):
        assert f"{row['probabilities']}: T = {row['temperature']:.4g}, ECE = {row['ece']:.1f} %" in said
    assert set(legend(figure.axes[0])) == {"accuracy", "gap", "mean confidence", "calibrated"}


def test_confidence_of_one_in_a_single_bin_can_be_drawn():
    drawn(plot_reliability(calibrate(torch.eye(4) * 1000, torch.arange(4), 1.0)))
