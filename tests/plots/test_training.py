"""Figures of runs: curves, norms and the grid show what the runs recorded."""

import math

import numpy as np
import pandas as pd
import pytest

from clipedu import plots
from clipedu.config.course import course_table
from clipedu.utils.errors import ClipeduError
from tests.helpers.fake_run import fake_run
from tests.helpers.figures import drawn, words
from tests.helpers.processes import assert_light


def lines(ax):
    """label -> y values of the lines that have a label."""
    return {line.get_label(): np.asarray(line.get_ydata()) for line in ax.lines if line.get_label()[0] != "_"}


def test_importing_is_light():
    assert_light("clipedu.plots.training")
    assert_light("clipedu.report.writer")


def test_loss_of_one_run_shows_the_median_the_terms_and_the_schedule():
    run = fake_run(loss="cyclip", batch_size=64)
    run.history.loc[40, "loss"] = 1e6  # one spike does not move the strong line
    figure = plots.plot_loss([run])
    drawn(figure)
    loss, terms, lr = figure.axes
    assert lines(loss)["total loss"].max() < 10
    np.testing.assert_allclose(np.asarray(loss.lines[0].get_ydata())[40], 1e6)
    blind = lines(loss)["log(batch size) = 4.16: all similarities equal"]
    np.testing.assert_allclose(blind, math.log(64))
    assert set(lines(terms)) == {"contrastive", "cyclic"}
    np.testing.assert_allclose(lr.lines[0].get_ydata(), run.history["lr"])


def test_a_short_curve_is_not_smoothed():
    run = fake_run(steps=50)
    np.testing.assert_allclose(lines(plots.plot_loss(run).axes[0])["total loss"], run.history["loss"])


def test_only_losses_with_a_blind_level_show_one_and_one_term_needs_no_panel():
    run = fake_run(loss="vicreg")
    run.history = run.history.drop(columns="loss/cyclic")
    figure = plots.plot_loss(run)
    assert len(figure.axes) == 2
    assert "log(batch" not in words(figure)


def test_curves_of_losses_have_a_panel_a_loss_and_a_line_an_optimizer():
    runs = [fake_run(f"{o}-{k}", loss=k, optimizer=o) for k in ("clip", "sogclr") for o in ("adam", "adamw", "sgd")]
    figure = plots.plot_loss(runs)
    drawn(figure)
    assert [ax.get_title() for ax in figure.axes] == ["SogCLR", "CLIP"]
    assert [set(lines(ax)) for ax in figure.axes] == [{"adamw", "sgd", "adam"}] * 2
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["AdamW", "SGD", "Adam"]
    colours = [
        {line.get_label(): line.get_color() for line in ax.lines if line.get_label()[0] != "_"} for ax in figure.axes
    ]
    assert colours[0] == colours[1] and len(set(colours[0].values())) == 3


def test_curves_of_other_columns_have_a_panel_an_optimizer_and_one_scale():
    runs = [fake_run(f"{o}-{k}", loss=k, optimizer=o) for k in ("clip", "sogclr") for o in ("adam", "adamw")]
    runs[0].history["pairs_per_second"] = 5000.0
    figure = plots.plot_curves(runs, "pairs_per_second")
    assert [ax.get_title() for ax in figure.axes] == ["AdamW", "Adam"]
    assert figure.axes[0].get_ylim() == figure.axes[1].get_ylim()


def test_seeds_share_a_colour_but_other_settings_get_the_runs_name():
    seeds = [fake_run("a"), fake_run("b", seed=1)]
    assert set(lines(plots.plot_curves(seeds).axes[0])) == {"adamw"}
    rates = [fake_run("a"), fake_run("b", lr=1.0)]
    assert set(lines(plots.plot_curves(rates).axes[0])) == {"a", "b"}


def test_panels_by_any_field():
    runs = [fake_run("a", temperature=0.1), fake_run("b", temperature=0.2)]
    assert [ax.get_title() for ax in plots.plot_curves(runs, "loss", panel="temperature").axes] == ["0.1", "0.2"]
    with pytest.raises(ClipeduError, match="unknown panel 'temprature'. Did you mean 'temperature'"):
        plots.plot_curves(runs, "loss", panel="temprature")


def test_runs_without_values_are_named_and_a_curve_that_breaks_off_ends_in_a_cross():
    broken = fake_run("broken", optimizer="sgd")
    broken.history.loc[50:, "loss"] = [math.nan, *[math.inf] * 29]
    empty = fake_run("never_started", steps=0, optimizer="adam")
    figure = plots.plot_curves([fake_run(), broken, empty])
    drawn(figure)
    assert "(no values: never_started)" in words(figure)
    (cross,) = [line for line in figure.axes[0].lines if line.get_marker() == "x"]
    assert cross.get_xdata()[0] == 49
    assert np.nanmax(lines(figure.axes[0])["sgd"]) < 10


def test_norms_of_all_parts_and_the_relative_update():
    run = fake_run()
    run.norms["gradient"] = 1.0
    figure = plots.plot_norms(run)
    drawn(figure)
    assert all(set(lines(ax)) == {"all", "image", "text"} for ax in figure.axes)
    assert [ax.get_yscale() for ax in figure.axes] == ["log", "linear", "log", "log"]
    rows = run.norms[run.norms["part"] == "image"]
    expected = (rows["update"] / rows["weight"]).rolling(3, center=True, min_periods=1).median()
    np.testing.assert_allclose(lines(figure.axes[3])["image"], expected)


def test_the_grid_writes_every_average_and_frames_the_best():
    table = pd.concat([course_table(), pd.DataFrame([{"loss": "siglip", "optimizer": "adamw", "average": math.nan}])])
    figure = plots.plot_grid(table)
    drawn(figure)
    ax = figure.axes[0]
    rows = [label.get_text() for label in ax.get_yticklabels()]
    columns = [label.get_text() for label in ax.get_xticklabels()]
    assert rows == ["SogCLR", "CLIP", "CyCLIP", "VICReg", "OnlineCLR", "siglip"] and columns == ["AdamW", "SGD", "Adam"]
    cells = {(rows[int(t.get_position()[1])], columns[int(t.get_position()[0])]): t.get_text() for t in ax.texts}
    assert len(cells) == 18
    assert (
        cells["SogCLR", "AdamW"] == "16.01" and cells["OnlineCLR", "SGD"] == "0.93" and cells["siglip", "Adam"] == "–"
    )
    (frame,) = [patch for patch in ax.patches if patch.get_linewidth() == 2.5]
    centre = np.add(frame.get_xy(), (frame.get_width() / 2, frame.get_height() / 2))
    np.testing.assert_allclose(centre, (columns.index("AdamW"), rows.index("CyCLIP")), atol=1e-9)


def test_the_grid_averages_the_runs_of_a_cell_and_survives_no_scores():
    table = pd.DataFrame({"loss": ["clip"] * 3, "optimizer": ["sgd"] * 3, "average": [1.0, 3.0, math.nan]})
    assert [text.get_text() for text in plots.plot_grid(table).axes[0].texts] == ["2.00\n± 12.71"]
    drawn(plots.plot_grid(table.assign(average=math.nan)))


def test_what_is_missing_is_said_in_one_line():
    empty = fake_run("gone", steps=0, status="failed")
    for draw, match in (
        (lambda: plots.plot_loss(empty), "run 'gone' has no history"),
        (lambda: plots.plot_norms(empty), "run 'gone' has no norms"),
        (lambda: plots.plot_curves([empty], "loss"), "none of the 1 runs has values of 'loss'"),
        (lambda: plots.plot_curves([fake_run()], "speed"), "none of the 1 runs has values of 'speed'"),
        (lambda: plots.plot_loss([]), "give at least one"),
        (lambda: plots.plot_grid(course_table().iloc[:0]), "give at least one run"),
    ):
        with pytest.raises(ClipeduError, match=match) as error:
            draw()
        assert "\n" not in str(error.value)


def test_any_name_can_stand_in_a_legend():
    figure = plots.plot_curves([fake_run("_a $x_1$"), fake_run("b^2 $y", lr=1.0)])
    drawn(figure)
    assert len(figure.legends[0].get_texts()) == 2
