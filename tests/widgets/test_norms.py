"""The norms' lab, without a browser: what a choice does, what it says, and the script that repeats the view."""

import html

import numpy as np
import pytest

from clipedu.norms import sandbox
from clipedu.norms.contribution import NORMALISERS
from clipedu.optim import DECAY_LAWS

pytest.importorskip("ipywidgets", reason="widgets need: pip install ipywidgets")

from clipedu.widgets import norms as norm_lab
from clipedu.widgets.norms import NormLab, in_words


@pytest.fixture
def sketched(monkeypatch):
    """Pictures are only what they are of, and walks are short."""
    monkeypatch.setattr(norm_lab, "STEPS", 60)
    monkeypatch.setattr(norm_lab, "plot_walk", lambda walk, quantity: f"{quantity} {walk.measured.tolist()}".encode())
    monkeypatch.setattr(norm_lab, "to_png", lambda figure: figure)


def repeat(lab):
    """What the lab's script walks."""
    names = {}
    exec(lab.script.replace("plot_walk(walk", "(walk"), names)
    return names["walk"]


def test_it_opens_on_a_walk_with_everything_shown():
    lab = NormLab()
    assert bytes(lab.picture.value).startswith(b"\x89PNG")
    assert lab.walk.settings["normaliser"] == "adam" and lab.walk.settings["alpha"] == 0.1
    assert f"theory {lab.walk.predicted[-1]:.4g}" in html.unescape(lab.status.value)
    assert lab.walk.predicted[-1] == pytest.approx(lab.walk.measured[-1], rel=0.1)
    assert html.escape(lab.script) in lab.line.value
    before = bytes(lab.picture.value)
    lab.quantity.value = "cosine"
    assert bytes(lab.picture.value) != before and lab.script.endswith("plot_walk(walk, 'cosine')")


def test_every_control_walks_anew(sketched):
    lab = NormLab()
    changes = {
        "lr": ("lr", 0.02),
        "weight_decay": ("weight_decay", 1.0),
        "beta": ("alpha", 0.2),
        "law": ("law", "corrected"),
        "schedule": ("schedule", "constant"),
        "normaliser": ("normaliser", "sign"),
    }
    for control, (setting, value) in changes.items():
        before = bytes(lab.picture.value)
        getattr(lab, control).value = 0.8 if control == "beta" else value
        assert lab.walk.settings[setting] == value and bytes(lab.picture.value) != before, control
    assert list(lab.law.options) == list(DECAY_LAWS) and list(lab.normaliser.options) == list(NORMALISERS)


def test_starts_are_in_units_of_the_balance(sketched):
    lab = NormLab()
    settled = lab.walk.start
    for begin, share in {"at 0": 0.0, "at a quarter of it": 0.25, "at four times it": 4.0}.items():
        lab.begin.value = begin
        assert lab.walk.start == pytest.approx(share * settled)
    lab.normaliser.value = "polar"
    high = lab.walk.start
    lab.begin.value = "at its balance"
    assert lab.walk.start == pytest.approx(high / 4) and lab.walk.settings["start"] is None


@pytest.mark.parametrize("normaliser", ["none", "polar"])
def test_script_repeats_the_view(sketched, normaliser):
    lab = NormLab()
    lab.normaliser.value, lab.law.value, lab.begin.value = normaliser, "corrected", "at four times it"
    lab.beta.value, lab.lr.value = 0.5, 0.02
    again = repeat(lab)
    assert np.array_equal(again.measured, lab.walk.measured) and again.Lambda == lab.walk.Lambda


def test_what_cannot_work_is_named_and_the_last_view_stays(sketched):
    lab = NormLab()
    picture, walk = bytes(lab.picture.value), lab.walk
    lab.weight_decay.value = 0.0
    assert "last choice that worked" in lab.status.value and "start" in lab.status.value
    assert bytes(lab.picture.value) == picture and lab.walk is walk
    lab.begin.value = "at 0"
    assert "theory" in lab.status.value and lab.walk is not walk and "no balance" in lab.about.value
    lab.begin.value = "at four times it"
    assert "last choice that worked" in lab.status.value


def test_words_say_what_was_predicted():
    settings = {"lr": 0.01, "chains": 2, "shape": 2, "start": 0.0}
    peak, step, verdict = in_words(sandbox(weight_decay=0.5, alpha=0.1, steps=1000, **settings))
    assert "0.5 %" in peak and "99.7 steps" in peak
    assert (
        "0.9" in step
        and "0.0436" in step
        and "Lambda = 2 * (sum of shrinks) = 10:" in verdict
        and "forgotten" in verdict
    )
    assert "less than 1" in in_words(sandbox(weight_decay=0.5, steps=50, **settings))[-1]
    assert "0.14 of the initial gap" in in_words(sandbox(weight_decay=0.5, steps=200, **settings))[-1]
    assert "counts once" in in_words(sandbox(weight_decay=0.5, steps=2, **settings))[1]
    assert "no balance" in in_words(sandbox(weight_decay=0.0, steps=2, **settings))[0]


def test_words_know_that_signs_resemble_each_other_less():
    settings = {"lr": 0.01, "weight_decay": 0.5, "alpha": 0.1, "steps": 2, "chains": 2}
    for normaliser, shape, step in (("vector", 4, "0.0436"), ("sign", 4, "0.0364"), ("polar", (4, 4), "0.0384")):
        assert step in in_words(sandbox(normaliser, shape=shape, **settings))[1]
