"""The losses' lab, without a browser: what a click and a slider do, and the script that repeats the view."""

import html

import pytest
import torch

import clipedu

pytest.importorskip("ipywidgets", reason="widgets need: pip install ipywidgets")

from clipedu.toys.similarity_batch import examine, similarity_losses
from clipedu.widgets import losses as loss_lab
from clipedu.widgets.losses import LossLab


@pytest.fixture
def sketched(monkeypatch):
    """Pictures are only what they are of: drawing one takes a third of a second."""

    def sketch(batch, similarity, weights, chosen):
        return f"{similarity.tolist()} {weights.tolist()} {chosen}".encode()

    monkeypatch.setattr(loss_lab, "plot_edited", sketch)
    monkeypatch.setattr(loss_lab, "to_png", lambda figure: figure)


def repeat(lab):
    """What the lab's script makes: its names after it ran."""
    names = {}
    exec(lab.script, names)
    return names


def choose(lab, image, caption):
    lab.image.value, lab.caption.value = image, caption


def test_it_opens_on_clip_with_everything_shown():
    lab = LossLab()
    assert bytes(lab.picture.value).startswith(b"\x89PNG")
    right = examine("clip", lab.batch.similarity, temperature=0.05)
    assert torch.equal(lab.seen.weights, right.weights)
    assert f"loss {right.total:.3f} = image_to_text {right.terms['image_to_text']:.3f}" in lab.status.value
    assert html.escape(clipedu.LOSSES["clip"].formula) in lab.about.value
    before = bytes(lab.picture.value)
    lab.value.value = -1
    assert bytes(lab.picture.value).startswith(b"\x89PNG") and bytes(lab.picture.value) != before


def test_menu_holds_every_loss_that_has_weights(sketched):
    lab = LossLab()
    assert list(lab.loss.options) == similarity_losses() and "vicreg" not in lab.loss.options
    for name in similarity_losses():
        lab.loss.value = name
        assert torch.equal(lab.seen.weights, examine(name, lab.similarity, temperature=0.05).weights)
        assert html.escape(clipedu.LOSSES[name].description) in lab.about.value


def test_temperature_and_scale_redraw(sketched):
    lab = LossLab()
    lab.loss.value = "sogclr"
    before, size = bytes(lab.picture.value), lab.seen.size
    lab.scale.value = "clip"
    assert lab.seen.size == pytest.approx(size / (2 * 0.05)) and bytes(lab.picture.value) != before
    lab.temperature.value = 0.01
    assert lab.seen.size == pytest.approx(examine("sogclr", lab.similarity, temperature=0.01, scale="clip").size)


def test_the_slider_follows_the_chosen_cell_and_edits_it(sketched):
    lab = LossLab()
    original = lab.batch.similarity.clone()
    choose(lab, 0, 5)
    assert lab.value.value == pytest.approx(0.30) and torch.equal(lab.similarity, original)  # choosing is no edit
    before = bytes(lab.picture.value)
    lab.value.value = 0.9
    assert lab.similarity[0, 5] == 0.9 and (lab.similarity != original).sum() == 1
    assert bytes(lab.picture.value) != before
    assert torch.equal(lab.batch.similarity, original)
    choose(lab, 2, 2)
    assert lab.value.value == pytest.approx(0.60) and lab.similarity[0, 5] == 0.9


def test_buttons_edit_two_pairs(sketched):
    lab = LossLab()
    original = lab.batch.similarity
    choose(lab, 0, 1)
    lab.negative_button.click()
    assert lab.similarity[0, 1] == original[0, 0] and lab.value.value == pytest.approx(0.8)
    lab.reset_button.click()
    assert torch.equal(lab.similarity, original)
    lab.swap_button.click()
    assert torch.equal(lab.similarity[:, 0], original[:, 1])


def test_one_pair_alone_cannot_be_swapped(sketched):
    lab = LossLab()
    choose(lab, 3, 3)
    lab.swap_button.click()
    assert "another pair" in lab.status.value and torch.equal(lab.similarity, lab.batch.similarity)
    lab.swap_button.click()
    choose(lab, 3, 4)
    assert "loss" in lab.status.value


def test_remember_keeps_what_was_seen_until_reset(sketched):
    lab = LossLab()
    lab.loss.value = "sogclr"
    choose(lab, 2, 2)
    lab.remember_button.click()
    lab.value.value = -0.5
    assert lab.seen.pull[2] == pytest.approx(1.25 * 2 / 8, rel=1e-3)
    assert "1 step(s) remembered" in lab.status.value
    lab.reset_button.click()
    assert lab.seen.pull[2] == pytest.approx(2 / 8, rel=1e-5) and lab.visits == []


def test_script_repeats_the_view(sketched):
    lab = LossLab()
    lab.loss.value, lab.temperature.value, lab.scale.value = "onlineclr", 0.02, "clip"
    choose(lab, 6, 4)
    lab.value.value = 0.1
    lab.value.value = 0.35
    lab.swap_button.click()
    lab.remember_button.click()
    choose(lab, 1, 4)
    lab.negative_button.click()
    lab.value.value = -1
    again = repeat(lab)
    assert torch.equal(again["S"], lab.similarity)
    assert torch.equal(again["seen"].weights, lab.seen.weights) and again["seen"].total == lab.seen.total
    assert lab.script.count("with_similarity(S, 6, 4") == 1  # where a slider passed on its way is not kept
    assert html.escape(lab.script) in lab.line.value
    lab.reset_button.click()
    assert len(lab.script.splitlines()) == 3 and torch.equal(repeat(lab)["seen"].weights, lab.seen.weights)


def test_what_cannot_work_is_named_and_the_last_view_stays(sketched):
    lab = LossLab()
    lab.loss.value = "isogclr"
    picture, seen = bytes(lab.picture.value), lab.seen
    lab.temperature.value = 0.3
    assert "temperature_range" in lab.status.value and "last choice that worked" in lab.status.value
    assert bytes(lab.picture.value) == picture and lab.seen is seen
    lab.temperature.value = 0.02
    assert "loss" in lab.status.value and lab.seen is not seen
