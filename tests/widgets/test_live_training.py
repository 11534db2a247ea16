"""The functions of the training lab: one run step by step, its line of Python, the figure and the table."""

import threading

import pytest

import clipedu

pytest.importorskip("ipywidgets", reason="widgets need: pip install ipywidgets")

from clipedu.plots.style import to_png
from clipedu.widgets.live_training import (
    LabRun,
    choose,
    follow,
    live_figure,
    recipe,
    score_lines,
    takes_temperature,
)
from tests.helpers.labs import SMALL, png_size, small_data


def test_follow_and_train_are_one_loop():
    run = LabRun(1, SMALL)
    states = [(state.status, len(state.rows)) for state in follow(run, small_data(), threading.Event())]
    assert states == [("training", 1), ("training", 2), ("training", 3), ("training", 4), ("scoring", 4)]
    assert run.status == "finished" and {"tr@1", "ir@1", "top1", "average"} <= set(run.metrics)
    records = list(clipedu.train(SMALL))
    assert [row["loss"] for row in run.rows] == [record.loss for record in records]
    for row, record in zip(run.rows, records, strict=True):
        norms = record.norms["all"]
        assert row["gradient"] == norms["gradient"]
        assert row["relative"] == norms["update"] / norms["weight"]


def test_follow_stops_after_its_step():
    run, stop = LabRun(1, SMALL), threading.Event()
    for state in follow(run, small_data(), stop):
        if len(state.rows) == 2:
            stop.set()
    assert run.status == "stopped" and len(run.rows) == 2 and run.metrics == {}


def test_options_of_another_loss_or_optimizer_are_dropped():
    base = SMALL.replace(
        loss="sogclr", loss_options={"gamma": 0.5}, optimizer="sgd", optimizer_options={"momentum": 0.5}
    )
    same = choose(base, loss="sogclr", optimizer="sgd", lr=0.1, temperature=0.1)
    assert (same.loss_options, same.optimizer_options) == ({"gamma": 0.5}, {"momentum": 0.5})
    other = choose(base, loss="clip", optimizer="adamw", lr=0.1, temperature=0.1)
    assert (other.loss_options, other.optimizer_options) == ({}, {})


def test_temperature_belongs_to_losses_that_have_one():
    assert takes_temperature("clip") and not takes_temperature("vicreg")
    assert LabRun(3, SMALL.replace(loss="vicreg")).name == f"3: vicreg, {SMALL.optimizer}, lr {SMALL.lr:g}"
    assert LabRun(1, SMALL.replace(temperature=0.07)).name.endswith(", temperature 0.07")


def test_recipe_holds_what_differs_from_the_preset():
    line = recipe(choose(SMALL, loss="siglip", optimizer="lion", lr=0.02, temperature=0.1))
    assert line.startswith("run = clipedu.fit(clipedu.Experiment(") and "loss='siglip'" in line
    assert eval(line.removeprefix("run = clipedu.fit(")[:-1], {"clipedu": clipedu}).lr == 0.02


def test_figure_and_table_of_no_runs_and_of_a_run_without_steps():
    assert png_size(to_png(live_figure([])))[0] > 800
    run = LabRun(1, SMALL)
    live_figure([run])
    assert score_lines([]) == "" and "0/0" in score_lines([run]) and "–" in score_lines([run])


def test_figure_and_table_hold_each_run():
    runs = [LabRun(number, SMALL, "finished", 2) for number in (1, 2)]
    for run in runs:
        run.rows = [{"step": step, "loss": 1.0, "gradient": 2.0, "relative": 0.1} for step in range(2)]
        run.metrics = {"tr@1": 12.34}
    figure = live_figure(runs)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [run.name for run in runs]
    assert all(len(axes.lines) >= 2 for axes in figure.axes)
    assert score_lines(runs).count("2/2") == 2 and "12.3" in score_lines(runs)
