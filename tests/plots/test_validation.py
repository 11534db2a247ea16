"""The figure of scores during training shows each score, both sets of weights, and the best step."""

import numpy as np
import pandas as pd

from clipedu import plots
from tests.helpers.errors import message_of
from tests.helpers.fake_run import fake_run
from tests.helpers.figures import drawn


def test_each_score_has_a_line_and_the_best_step_a_mark():
    run = fake_run()
    rows = [
        {"step": step, "epoch": step / 4, "weights": weights, "tr@1": value, "ir@1": value + 1, "average": value}
        for step, own in ((4, 5.0), (8, 9.0), (12, 7.0))
        for weights, value in (("model", own), ("averaged", own + 0.5))
    ]
    run.validation = pd.DataFrame(rows).assign(top1=np.nan)
    figure = plots.plot_validation(run)
    drawn(figure)
    lines = {line.get_label(): line for line in figure.axes[0].lines}
    assert set(lines) == {
        *("TR@1", "IR@1", "average", "best average: 9.00"),
        *("TR@1, averaged weights", "IR@1, averaged weights", "average, averaged weights"),
    }
    assert list(lines["IR@1"].get_ydata()) == [6, 10, 8] and list(lines["TR@1, averaged weights"].get_ydata())[1] == 9.5
    assert list(lines["best average: 9.00"].get_xdata()) == [8, 8]


def test_a_run_that_was_not_scored_on_the_way_says_so():
    run = fake_run("plain")
    assert "'plain' was not scored during training: set evaluate_every" in message_of(plots.plot_validation, run)
    run.validation = pd.DataFrame()
    assert "was not scored" in message_of(plots.plot_validation, run)
