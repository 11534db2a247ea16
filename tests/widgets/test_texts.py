"""The text lab, without a browser: what a choice does, what it says, and the script that repeats the view."""

from __future__ import annotations

import html

import pytest

pytest.importorskip("ipywidgets", reason="widgets need: pip install ipywidgets")

import clipedu
from clipedu.data.tokenizer import train_tokenizer
from clipedu.models.special_tokens import OWN_TOKENS
from clipedu.widgets import texts as text_lab
from clipedu.widgets.texts import TextLab
from tests.helpers.released import save_transformers

TEXT = "a red star above a ring"


@pytest.fixture(scope="module")
def model():
    tokenizer = train_tokenizer([TEXT, "a blue ring", "redder"] * 20, length=16, vocab_size=300)
    model = clipedu.build_model(clipedu.Experiment.preset("tiny"), tokenizer.vocab_size, special_tokens=OWN_TOKENS)
    model.tokenizer = tokenizer
    return model.eval()


@pytest.fixture
def lab(model, monkeypatch):
    monkeypatch.setattr(text_lab, "to_png", lambda figure: b"drawn " + str(id(figure)).encode())
    return TextLab(model, TEXT)


def said(lab):
    return html.unescape(lab.status.value + lab.about.value)


def test_it_opens_on_the_models_own_reading(model):
    lab = TextLab(model, TEXT)
    assert bytes(lab.picture.value).startswith(b"\x89PNG")
    assert "8 tokens and 0 of padding; cosine to the model's own embedding 1.00." in said(lab)
    assert "mean: 0 % of the feature are states of padding." in said(lab) and "moves most without" in said(lab)


def test_every_control_draws_anew(lab):
    for control, value in {"padding": 4, "mask": False, "pooling": "last", "text": "a redring"}.items():
        before = lab.reading
        getattr(lab, control).value = value
        assert lab.reading is not before, control
    assert "pieces that go on with a word (##)" in said(
        lab
    ) and "last: 100 % of the feature are states of padding" in said(lab)


def test_padding_ends_where_the_model_does(lab):
    lab.padding.value = lab.padding.max
    assert len(lab.reading.tokens) == 16


def test_a_text_that_is_too_long_is_said_and_the_picture_stays(lab):
    before = bytes(lab.picture.value)
    lab.text.value = "a " * 30
    assert "#D55E00" in lab.status.value and "the limit is 16" in said(lab) and bytes(lab.picture.value) == before
    lab.text.value = ""
    assert "2 tokens" in said(lab) and "moves most" not in said(lab)


def test_the_script_repeats_the_view(lab, model):
    lab.padding.value, lab.mask.value, lab.text.value = 3, False, "a 'red' ring"
    names = {"model": model}
    exec(lab.script, names)
    assert names["reading"].tokens == lab.reading.tokens and names["reading"].cosine == lab.reading.cosine


def test_a_released_model_is_read_with_its_own_pooling(tmp_path):
    save_transformers(tmp_path / "clip", "clip")
    adopted = clipedu.adopt(tmp_path / "clip")
    lab = TextLab(adopted, TEXT)
    assert lab.pooling.value == "own" and lab.pooling.disabled and lab.mask.disabled
    assert "The tower pools by itself." in said(lab) and "moves most without" in said(lab)
    lab.padding.value = 3
    names = {"model": adopted}
    exec(lab.script, names)
    assert names["reading"].tokens == lab.reading.tokens
