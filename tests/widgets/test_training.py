"""The widgets, without a browser: what a click does, what the plain functions behind it say."""

import dataclasses
import html
import re
import threading

import pytest

import clipedu
from clipedu.config.experiment import Experiment

pytest.importorskip("ipywidgets", reason="widgets need: pip install ipywidgets")

from clipedu.plots.style import to_png
from clipedu.widgets import training as widgets
from clipedu.widgets.controls import slider_check
from clipedu.widgets.live_training import LabRun, choose, live_figure, recipe, score_lines
from clipedu.widgets.training import TrainingLab

PATIENCE = 300  # s, for a run of a few steps on busy cores
SMALL = Experiment(train_size=64, batch_size=16, epochs=1, embedding_dim=16, text_encoder="distilbert-nano")


def a_lab(base=SMALL, images=40) -> TrainingLab:
    """A lab whose data is there already, with fewer images to score than usual."""
    from clipedu.data.scenes.dataset import Scenes
    from clipedu.training.datasets import Data, build_tokenizer, load_train

    lab = TrainingLab(base)
    train = load_train(base)
    lab._data = Data(train, build_tokenizer(base, train), [Scenes("val", images), Scenes("zeroshot", images)])
    return lab


def slow_down(monkeypatch) -> threading.Event:
    """From the second step on, training waits for the event that is returned."""
    gate, original = threading.Event(), widgets.follow

    def slowly(run, data, stop):
        for number, state in enumerate(original(run, data, stop)):
            yield state
            if number == 1:
                assert gate.wait(PATIENCE)

    monkeypatch.setattr(widgets, "follow", slowly)
    return gate


def png_size(data: bytes) -> tuple[int, int]:
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    return int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")


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


def test_lab_and_train_are_one_loop():
    lab = a_lab()
    lab.train()
    lab.wait(PATIENCE)
    records = list(clipedu.train(SMALL))
    assert [row["loss"] for row in lab.runs[0].rows] == [record.loss for record in records]
    for row, record in zip(lab.runs[0].rows, records, strict=True):
        norms = record.norms["all"]
        assert row["gradient"] == norms["gradient"]
        assert row["relative"] == norms["update"] / norms["weight"]


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


def test_divergence_is_told_and_drawn():
    lab = a_lab(SMALL.replace(optimizer="sgd", epochs=3, lr=1e25))
    lab.train()
    lab.wait(PATIENCE)
    assert lab.runs[0].status == "failed" and "not finite at step" in lab.status.value


def test_an_unexpected_error_keeps_its_name(monkeypatch):
    lab = a_lab()

    def broken(*_):
        raise KeyError("oh")
        yield

    monkeypatch.setattr(widgets, "follow", broken)
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


def test_options_of_another_loss_or_optimizer_are_dropped():
    base = SMALL.replace(
        loss="sogclr", loss_options={"gamma": 0.5}, optimizer="sgd", optimizer_options={"momentum": 0.5}
    )
    same = choose(base, loss="sogclr", optimizer="sgd", lr=0.1, temperature=0.1)
    assert (same.loss_options, same.optimizer_options) == ({"gamma": 0.5}, {"momentum": 0.5})
    other = choose(base, loss="clip", optimizer="adamw", lr=0.1, temperature=0.1)
    assert (other.loss_options, other.optimizer_options) == ({}, {})


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


def test_no_output_widget_is_used():
    import ipywidgets

    lab = TrainingLab(SMALL)
    parts = [lab]
    while parts:
        part = parts.pop()
        assert not isinstance(part, ipywidgets.Output)
        parts += getattr(part, "children", ())


def test_figure_and_table_of_no_runs_and_of_a_run_without_steps():
    assert png_size(to_png(live_figure([])))[0] > 800
    run = LabRun(1, SMALL)
    live_figure([run])
    assert score_lines([]) == "" and "0/0" in score_lines([run]) and "–" in score_lines([run])


def test_wait_gives_up(monkeypatch):
    lab = a_lab()
    gate = slow_down(monkeypatch)
    lab.train()
    with pytest.raises(TimeoutError, match="not ended"):
        lab.wait(0.01)
    gate.set()
    lab.wait(PATIENCE)


def test_slider_check_echoes():
    slider, heard = slider_check().children
    slider.value = 7
    assert heard.value == "Python heard: 7"
