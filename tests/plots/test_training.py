import math
import sys

import numpy as np
import pandas as pd
import pytest
import torch

from clipedu import plots
from clipedu.config.course import course_table
from clipedu.plots.style import plain, shorten
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


def test_a_figure_shows_itself_without_pyplot(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)  # importing it would fail
    figure = plots.plot_grid(course_table())
    assert figure._repr_png_() == drawn(plots.plot_grid(course_table()))  # what Jupyter asks of a cell's last value


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


def test_similarity_shows_cosines_the_best_caption_and_how_often_a_match_wins():
    run = fake_run(rows=20)
    figure = plots.plot_similarity(run, pairs=12)
    drawn(figure)
    kept = run.embeddings()
    x, y = (side / side.norm(dim=1, keepdim=True) for side in (kept["image"], kept["text"]))
    cosine = (x @ y.T).numpy()
    matrix = figure.axes[0]
    np.testing.assert_allclose(matrix.images[0].get_array(), cosine[:12, :12], atol=1e-6)
    rings = matrix.collections[0].get_offsets()
    np.testing.assert_array_equal(rings, [(np.argmax(cosine[row, :12]), row) for row in range(12)])
    right = sum(np.argmax(cosine[row, :12]) == row for row in range(12))
    assert f"{right} of 12 right" in matrix.get_title()
    assert len(matrix.get_yticklabels()) == 12 and r"\$5 <b>" in matrix.get_yticklabels()[0].get_text()
    couples = [cosine[i, i] > cosine[j, k] for i in range(20) for j in range(20) for k in range(20) if j != k]
    assert f"wins in {100 * np.mean(couples):.1f} %" in figure.axes[1].get_title()


def test_a_collapsed_model_wins_half_the_time_and_can_still_be_drawn():
    run = fake_run()
    same = torch.ones(30, 8)
    run.embeddings = lambda: {"image": same, "text": same, "captions": ["same"] * 30}
    figure = plots.plot_similarity(run)
    drawn(figure)
    assert "wins in 50.0 %" in figure.axes[1].get_title()
    drawn(plots.plot_embedding_map(run))


def test_the_map_is_the_pca_of_both_modalities():
    run = fake_run(rows=25)
    figure = plots.plot_embedding_map(run, lines=7)
    drawn(figure)
    kept = run.embeddings()
    unit = torch.cat([side / side.norm(dim=1, keepdim=True) for side in (kept["image"], kept["text"])]).double().numpy()
    centred = unit - unit.mean(axis=0)
    variances, axes = np.linalg.eigh(centred.T @ centred)  # ascending
    ax = figure.axes[0]
    clouds = [np.asarray(points.get_offsets()) for points in ax.collections]
    ours = np.concatenate([clouds[0], clouds[2]])
    np.testing.assert_allclose(np.abs(ours), np.abs(centred @ axes[:, [-1, -2]]), atol=1e-6)
    first, second = 100 * variances[[-1, -2]] / variances.sum()
    assert f"first axis ({first:.0f} %" in ax.get_xlabel() and f"({second:.0f} %)" in ax.get_ylabel()
    assert f"{first + second:.0f} % of the variance" in ax.get_title() and "modality gap 0.25" in ax.get_title()
    pairs = [line for line in ax.lines if line.get_color() == "#999999" and len(line.get_xdata())]
    assert len(pairs) == 7
    np.testing.assert_allclose(pairs[3].get_xydata(), [clouds[0][3], clouds[2][3]])
    np.testing.assert_allclose([clouds[1][0], clouds[3][0]], [clouds[0].mean(0), clouds[2].mean(0)], atol=1e-12)


def test_the_map_keeps_lengths_in_other_geometries():
    run = fake_run(geometry="euclidean")
    kept = run.embeddings()
    figure = plots.plot_embedding_map(run)
    clouds = [np.asarray(points.get_offsets()) for points in figure.axes[0].collections]
    centred = torch.cat([kept["image"], kept["text"]]).double()
    centred = centred - centred.mean(0)
    variance = np.square(np.concatenate([clouds[0], clouds[2]])).sum() / centred.square().sum().item()
    shares = torch.linalg.svdvals(centred).square()
    assert variance == pytest.approx((shares[:2].sum() / shares.sum()).item())
    assert "modality gap 0." not in figure.axes[0].get_title()


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
    assert [text.get_text() for text in plots.plot_grid(table).axes[0].texts] == ["2.00"]
    drawn(plots.plot_grid(table.assign(average=math.nan)))


def test_what_is_missing_is_said_in_one_line():
    empty = fake_run("gone", steps=0, status="failed")
    nan = fake_run("nan")
    nan.embeddings = lambda: {"image": torch.full((3, 2), math.nan), "text": torch.ones(3, 2), "captions": ["a"] * 3}
    for draw, match in (
        (lambda: plots.plot_loss(empty), "run 'gone' has no history"),
        (lambda: plots.plot_norms(empty), "run 'gone' has no norms"),
        (lambda: plots.plot_similarity(empty), "run 'gone' has no embeddings"),
        (lambda: plots.plot_embedding_map(nan), "run 'nan' are not finite"),
        (lambda: plots.plot_curves([empty], "loss"), "none of the 1 runs has values of 'loss'"),
        (lambda: plots.plot_curves([nan], "speed"), "none of the 1 runs has values of 'speed'"),
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
    assert plain("$a$") == r"\$a\$" and plain("_b").strip() == "_b" and not plain("_b").startswith("_")
    assert shorten("abcdef", 4) == "abc…" and shorten("abcd", 4) == "abcd"


def test_the_same_run_gives_the_same_picture():
    assert drawn(plots.plot_similarity(fake_run())) == drawn(plots.plot_similarity(fake_run()))
