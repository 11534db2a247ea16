"""The training lab, without a browser: what a click does."""

import dataclasses
import html
import re
import threading

import pytest

import clipedu
from clipedu.config.experiment import Experiment

pytest.importorskip("ipywidgets", reason="widgets need: pip install ipywidgets")

from clipedu.widgets import training as training_lab
from clipedu.widgets.live_training import LabRun, live_figure, recipe
from clipedu.widgets.training import TrainingLab
from tests.helpers.labs import SMALL, png_size, small_data

PATIENCE = 300  # s, for a run of a few steps on busy cores


def a_lab(base=SMALL) -> TrainingLab:
    """A lab whose data is there already."""
    lab = TrainingLab(base)
    lab._data = small_data(base)
    return lab


def slow_down(monkeypatch) -> threading.Event:
    """From the second step on, training waits for the event that is returned."""
    gate, original = threading.Event(), training_lab.follow

    def slowly(run, data, stop):
        for number, state in enumerate(original(run, data, stop)):
            yield state
            if number == 1:
                assert gate.wait(PATIENCE)

    monkeypatch.setattr(training_lab, "follow", slowly)
    return gate


def test_a_click_trains_scores_and_draws():
    lab = a_lab()
    empty = bytes(lab.picture.value)
    lab.loss.value, lab.optimizer.value = "cyclip", "sgd"
    lab.train_button.click()
    lab.wait(PATIENCE)
    (run,) = lab.runs
    assert lab.error is None and run.status == "finished"
    assert (run.experiment.loss, run.experiment.optimizer) == ("cyclip", "sgd")
    assert [row["step"] for row in run.rows] == [0, 1, 2, 3] and run.steps == 4
    assert {"tr@1", "ir@1", "top1", "average"} <= set(run.metrics)
    assert lab.picture.value != empty and png_size(lab.picture.value) == png_size(empty)
    assert "Run 1 finished: TR@1" in lab.status.value
    assert f"{run.metrics['tr@1']:.1f}" in lab.scores.value
    assert (lab.progress.value, lab.progress.max) == (4, 4)
    assert not lab.train_button.disabled and lab.stop_button.disabled


def test_two_clicks_start_one_run_and_a_second_run_is_compared(monkeypatch):
    lab = a_lab()
    gate = slow_down(monkeypatch)
    lab.train_button.click()
    assert lab.train_button.disabled and not lab.stop_button.disabled
    first = lab._thread
    lab.train_button.click()
    assert lab._thread is first
    gate.set()
    lab.wait(PATIENCE)
    assert len(lab.runs) == 1
    lab.loss.value = "vicreg"
    lab.train_button.click()
    lab.wait(PATIENCE)
    assert [run.number for run in lab.runs] == [1, 2]
    names = [text.get_text() for text in live_figure(lab.runs).legends[0].get_texts()]
    assert [name.strip() for name in names] == [run.name for run in lab.runs]
    assert lab.scores.value.count("finished") == 2


def test_stop_ends_after_the_step_and_does_not_score(monkeypatch):
    lab = a_lab()
    gate = slow_down(monkeypatch)
    lab.train_button.click()
    lab.stop_button.click()
    gate.set()
    lab.wait(PATIENCE)
    (run,) = lab.runs
    assert run.status == "stopped" and 1 <= len(run.rows) < run.steps and run.metrics == {}
    assert f"stopped after step {len(run.rows)} of 4" in lab.status.value
    lab.train_button.click()  # and a new run is not stopped by the old click
    lab.wait(PATIENCE)
    assert lab.runs[1].status == "finished"


def test_an_error_is_one_line_in_the_status():
    lab = TrainingLab(SMALL.replace(data="no-such-data"))
    lab.train_button.click()
    lab.wait(PATIENCE)
    assert isinstance(lab.error, clipedu.ClipeduError)
    assert "Run 1 failed: unknown data set" in lab.status.value and "\n" not in lab.status.value
    assert lab.runs[0].status == "failed" and not lab.train_button.disabled


def test_divergence_is_shown():
    lab = a_lab(SMALL.replace(optimizer="sgd", epochs=3, lr=1e25))
    lab.train()
    lab.wait(PATIENCE)
    assert lab.runs[0].status == "failed" and "is not finite after step 0" in lab.status.value


def test_an_unexpected_error_keeps_its_name(monkeypatch):
    lab = a_lab()

    def broken(*_):
        raise KeyError("oh")
        yield

    monkeypatch.setattr(training_lab, "follow", broken)
    lab.train()
    lab.wait(PATIENCE)
    assert "Run 1 failed: KeyError: &#x27;oh&#x27;" in lab.status.value and isinstance(lab.error, KeyError)


@pytest.mark.parametrize("base", [SMALL, Experiment.preset("tiny"), SMALL.replace(loss="sogclr", temperature=0.3)])
def test_recipe_is_python_for_the_same_experiment(base):
    lab = TrainingLab(base)
    lab.loss.value, lab.optimizer.value, lab.lr.value, lab.temperature.value = "siglip", "adam", 5e-4, 0.07
    line = re.sub(r"^run = clipedu.fit\((.*)\)$", r"\1", recipe(lab.experiment))
    repeated = eval(line, {"clipedu": clipedu})
    assert repeated == lab.experiment
    assert (repeated.lr, repeated.temperature) == (5e-4, 0.07)
    unchanged = {"loss", "optimizer", "lr", "temperature", "loss_options", "optimizer_options"}
    for spec in dataclasses.fields(Experiment):
        assert spec.name in unchanged or getattr(repeated, spec.name) == getattr(base, spec.name)


def test_controls_begin_at_the_base_to_the_last_digit():
    base = SMALL.replace(lr=0.00123456, temperature=0.0456789)
    assert TrainingLab(base).experiment == base
    labels = [label for label, _ in TrainingLab(base).lr.options]
    assert labels[:4] == ["1e-05", "2e-05", "5e-05", "0.0001"] and "0.00123456" in labels


def test_recipe_is_shown_and_follows_the_controls():
    lab = TrainingLab(SMALL)
    lab.loss.value = "infoloob"
    assert "loss=&#x27;infoloob&#x27;" in lab.line.value
    assert html.escape(clipedu.LOSSES["infoloob"].formula) in lab.about.value


def test_temperature_is_off_where_the_loss_has_none():
    lab = TrainingLab(SMALL)
    lab.loss.value = "vicreg"
    assert lab.temperature.disabled and "temperature" not in LabRun(1, lab.experiment).name
    lab.loss.value = "clip"
    assert not lab.temperature.disabled and "temperature 0.05" in LabRun(1, lab.experiment).name


def test_menus_hold_every_loss_and_optimizer():
    lab = TrainingLab(SMALL)
    assert list(lab.loss.options) == list(clipedu.LOSSES) and list(lab.optimizer.options) == list(clipedu.OPTIMIZERS)
    for name, entry in clipedu.LOSSES.items():
        lab.loss.value = name
        assert html.escape(entry.description) in lab.about.value


def test_wait_gives_up(monkeypatch):
    lab = a_lab()
    gate = slow_down(monkeypatch)
    lab.train()
    with pytest.raises(TimeoutError, match="not ended"):
        lab.wait(0.01)
    gate.set()
    lab.wait(PATIENCE)
