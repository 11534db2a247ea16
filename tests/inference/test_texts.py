"""What a text tower gets of a caption: tokens, pooling, what moves the embedding."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import cosine_similarity

import clipedu
from clipedu import ClipeduError
from clipedu.data.tokenizer import train_tokenizer
from clipedu.inference.texts import read_text
from clipedu.models.special_tokens import OWN_TOKENS
from tests.helpers.released import OPEN_CLIP, save_open_clip, save_transformers

TEXT = "a red star above a ring"


@pytest.fixture(scope="module")
def model():
    tokenizer = train_tokenizer([TEXT, "a blue ring", "a star"] * 20, length=16, vocab_size=300)
    model = clipedu.build_model(clipedu.Experiment.preset("tiny"), tokenizer.vocab_size, special_tokens=OWN_TOKENS)
    model.tokenizer = tokenizer
    return model


def test_the_models_own_reading_is_its_embedding(model):
    reading = read_text(model, TEXT)
    assert reading.tokens == ("[CLS]", "a", "red", "star", "above", "a", "ring", "[SEP]") and reading.real == 8
    assert reading.cosine == pytest.approx(1, abs=1e-6) and reading.pooling == model.text_pooling
    torch.testing.assert_close(reading.weights, torch.full((8,), 1 / 8))
    padded = read_text(model, TEXT, length=16)
    assert padded.tokens[8:] == ("[PAD]",) * 8 and padded.cosine == pytest.approx(1, abs=1e-5)
    assert padded.weights[8:].abs().max() == 0 and padded.moved[8:].isnan().all()
    torch.testing.assert_close(padded.moved[:8], reading.moved, equal_nan=True)


def test_a_token_left_out_is_the_caption_without_it(model):
    moved = read_text(model, TEXT).moved
    assert moved[[0, 7]].isnan().all()
    shorter = model.embed_texts([TEXT, "a star above a ring", "red star above a ring"])
    torch.testing.assert_close(
        moved[2].item(), 1 - cosine_similarity(shorter[:1], shorter[1:2]).item(), rtol=0, atol=1e-5
    )
    torch.testing.assert_close(
        moved[1].item(), 1 - cosine_similarity(shorter[:1], shorter[2:]).item(), rtol=0, atol=1e-5
    )


@pytest.mark.parametrize(("pooling", "place"), [("cls", 0), ("last", 7)])
def test_other_poolings_take_one_state(pooling, place, model):
    reading = read_text(model, TEXT, pooling=pooling, length=12)
    assert reading.weights.tolist() == [float(at == place) for at in range(12)] and reading.cosine < 0.999


def test_padding_without_a_mask_gets_into_the_feature(model):
    reading = read_text(model, TEXT, length=16, masked=False)
    assert reading.weights.tolist() == pytest.approx([1 / 16] * 16) and reading.cosine < 0.999
    assert read_text(model, TEXT, pooling="last", length=16, masked=False).weights.argmax() == 15


def test_nothing_but_marks_and_the_mode_stays(model):
    model.train()
    assert read_text(model, "").moved.isnan().all() and model.training
    model.eval()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"pooling": "max"}, "unknown pooling 'max'"),
        ({"length": 17}, "^length=17 must be 8, the tokens of the caption, to 16, which the model reads"),
        ({"length": 7}, "^length=7 must be 8"),
        ({"text": "a " * 30}, "text 0 has 32 tokens, the limit is 16"),
    ],
)
def test_what_cannot_be_read(given, message, model):
    with pytest.raises(ClipeduError, match=message):
        read_text(model, given.pop("text", TEXT), **given)


def test_a_model_without_a_tokenizer(model, monkeypatch):
    monkeypatch.setattr(model, "tokenizer", None)
    with pytest.raises(ClipeduError, match=r"this model has no tokenizer: use that of a run"):
        read_text(model, TEXT)


@pytest.mark.parametrize("kind", ["vit", "siglip", "dual_roberta"])
def test_a_released_model_is_read_with_its_own_pooling(kind, tmp_path):
    (save_open_clip if kind in OPEN_CLIP else save_transformers)(tmp_path / kind, kind)
    model = clipedu.adopt(tmp_path / kind)
    reading = read_text(model, "a red star above a ring", length=12)
    assert reading.pooling == "own" and reading.weights.isnan().all() and len(reading.tokens) == 12
    assert "red" in "".join(reading.tokens[: reading.real]) and reading.cosine == pytest.approx(1, abs=1e-5)
    words = [token for token, moved in zip(reading.tokens, reading.moved.tolist(), strict=True) if moved == moved]
    assert len(words) == 6 and "star" in words[2] and min(reading.moved[~reading.moved.isnan()]) > 0
    for wrong, said in (({"pooling": "mean"}, "'mean'.*own"), ({"masked": False}, "pools by itself")):
        with pytest.raises(ClipeduError, match=said):
            read_text(model, "a red star", **wrong)
