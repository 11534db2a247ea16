"""Models of transformers: what is read of a folder, and what is missing."""

from __future__ import annotations

import json
import logging
import shutil

import pytest
import torch
from torch import nn

from clipedu import ClipeduError, adopt
from clipedu.interop.from_transformers import read_transformers
from clipedu.interop.sources import find_source
from tests.helpers.released import LENGTH, SIZE, save_transformers

pytestmark = pytest.mark.xdist_group("interop")


@pytest.mark.parametrize(
    ("kind", "image", "text", "bias", "padding", "resize"),
    [
        ("clip", nn.Linear, nn.Linear, False, None, "crop"),
        ("siglip", nn.Identity, nn.Linear, True, (LENGTH, 0), "squash"),
        ("siglip2", nn.Identity, nn.Linear, True, (LENGTH, 0), "squash"),
        ("dual", nn.Linear, nn.Linear, False, None, "squash"),
    ],
)
def test_where_towers_end(kind, image, text, bias, padding, resize, released):
    parts = read_transformers(find_source(released(kind)[0]), None, 0)
    assert type(parts.image_projection) is image and type(parts.text_projection) is text
    assert (parts.text_projection.bias is not None) is bias
    assert (parts.text_padding, parts.resize, parts.image_size) == (padding, resize, SIZE)
    assert parts.tokenizer.length == LENGTH


def test_parameters_keep_their_names(released):
    folder, library = released("clip")
    names = set(adopt(folder).state_dict())
    for theirs in library.state_dict():
        own = theirs.replace("visual_projection", "image_projection")
        own = {"vision_model": "image_encoder.", "text_model": "text_encoder."}.get(theirs.partition(".")[0], "") + own
        assert own in names or theirs == "logit_scale", theirs


def test_the_position_of_roberta_begins_later(released):
    """18 positions are for 16 tokens: what the settings say would be too long."""
    model = adopt(released("dual_roberta")[0])
    assert model.tokenizer.length == LENGTH
    assert model.embed_texts([" ".join(["red"] * 14)]).isfinite().all()


def test_a_text_tower_without_pooling(tmp_path):
    save_transformers(tmp_path / "dual", "dual_distilbert")
    with pytest.raises(ClipeduError, match=r"its text tower has no pooling, it gives \[1, 4, 32\] for one text"):
        adopt(tmp_path / "dual")


def test_a_tokenizer_without_a_pad_token(released, broken):
    folder = broken("clip", "tokenizer_config.json", lambda s: s.pop("pad_token"))
    with pytest.raises(
        ClipeduError, match="its tokenizer has no pad token, .*: set pad_token in its tokenizer_config.json"
    ):
        adopt(folder)


def test_a_tokenizer_of_another_model(broken):
    folder = broken("clip", "config.json", lambda s: s["text_config"].update(vocab_size=12))
    model = adopt(folder, "random")
    with pytest.raises(ClipeduError, match="and the model has 12: the tokenizer is another model's"):
        model.embed_texts(["a photo of a large square and a triangle below"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s["vision_config"].update(hidden_size=64), r"38 tensors have another shape \(first: vision_model.* \[32\] in the file, \[64\] in"),
        (lambda s: s["vision_config"].update(num_hidden_layers=3), "16 tensors are missing .first: vision_model.encoder.layers.2"),
        (lambda s: s["vision_config"].update(image_size=48), r"position_embedding.weight: \[17, 32\] in the file, \[37, 32\] in the model"),
        (lambda s: s["vision_config"].update(image_size=[32, 64]), "images of .* pixels are not square"),
        (lambda s: s["vision_config"].update(hidden_size="wide"), "its (config.json|weights) cannot be read"),
    ],
)  # fmt: skip
def test_settings_that_do_not_fit_the_weights(change, message, broken):
    with pytest.raises(ClipeduError, match=message) as caught:
        adopt(broken("clip", "config.json", change))
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    ("files", "message"), [("model*", "its weights cannot be read"), ("tokenizer*", "its tokenizer cannot be read")]
)
def test_what_is_missing(files, message, released, tmp_path):
    shutil.copytree(released("clip")[0], tmp_path / "clip")
    for file in (tmp_path / "clip").glob(files):
        file.unlink()
    with pytest.raises(ClipeduError, match=message):
        adopt(tmp_path / "clip")


def test_without_an_image_processor(released, tmp_path, caplog):
    folder = tmp_path / "clip"
    shutil.copytree(released("clip")[0], folder)
    (folder / "preprocessor_config.json").unlink()
    with caplog.at_level(logging.WARNING, logger="clipedu"):
        model = adopt(folder)
    assert "comes without its image processor: mean (0.48" in caplog.text and "CLIPImageProcessor" in caplog.text
    assert torch.equal(model.mean, adopt(released("clip")[0]).mean)
    (folder / "preprocessor_config.json").write_text("{")
    with pytest.raises(ClipeduError, match="its image processor cannot be read"):
        adopt(folder)


def test_pixels_that_are_not_normalised(broken):
    folder = broken("siglip", "preprocessor_config.json", lambda s: s.update(do_normalize=False))
    model = adopt(folder)
    assert model.mean.abs().max() == 0 and (model.std == 255).all()


def test_files_of_weights(released):
    folder, other = released("clip")[0], released("siglip")[0]
    with pytest.raises(ClipeduError, match="do not fit .* tensors missing"):
        adopt(folder, other / "model.safetensors")
    with pytest.raises(ClipeduError, match="weights 'openai' for .*: no such file. Allowed: random, pretrained"):
        adopt(folder, "openai")
    assert json.loads((folder / "config.json").read_text())["model_type"] == "clip"
