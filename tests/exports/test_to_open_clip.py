"""Models loaded back by open_clip, and by clipedu again."""

import json

import pytest
import torch

from clipedu import ClipeduError, adopt
from clipedu.exports.to_open_clip import lines_open_clip, settings, settings_text, write_open_clip
from clipedu.workflow.opening import Scale
from tests.helpers.releases import VIT, photo, release, same

pytestmark = pytest.mark.xdist_group("exports")
BERT = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
KINDS = {
    "distilbert": {},
    "bert": {"text_encoder": "bert", "text_options": BERT, "text_pooling": "cls", "clean": True, "resize": "squash"},
    "siglip": {"text_encoder": "roberta", "text_options": BERT, "scale": Scale(7.0, -3.0), "geometry": "cosine"},
    "vit": {"image_encoder": "vit_nano_patch4_32", "image_options": VIT, "pixel_stats": "clip"},
}


@pytest.mark.parametrize("kind", KINDS)
def test_loaded_by_open_clip(kind, tmp_path, monkeypatch):
    one = release(**KINDS[kind])
    write_open_clip(one, tmp_path, str(tmp_path))
    pixels = photo(tmp_path / "photo.jpg")
    names = {}
    monkeypatch.chdir(tmp_path)
    exec(lines_open_clip(one, str(tmp_path), False), names)
    with torch.no_grad():
        image, text = one.model.encode_image(pixels), one.model.embed_texts(["a red star", "a blue circle"])
        assert same(names["model"].encode_image(names["image"]), image)
        assert same(names["model"].encode_text(names["text"]), text)
        logits = one.scale.logit_scale * one.model.geometry.similarity(image, text) + (one.bias or 0)
        torch.testing.assert_close(
            names["model"].get_logits(names["image"], names["text"])[0], logits, rtol=1e-5, atol=1e-5
        )


def test_clipedu_adopts_it_again(tmp_path):
    one = release(scale=Scale(7.0, -3.0))
    write_open_clip(one, tmp_path, str(tmp_path))
    model = adopt(tmp_path)
    assert model.logit_scale == pytest.approx(torch.tensor(7.0).log().item()) and model.logit_bias == -3
    assert same(model.embed_texts(one.texts), one.model.embed_texts(one.texts))
    assert (model.image_size, model.resize) == (32, "crop") and same(model.mean, one.model.mean, 1e-6)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"geometry": "lorentz"}, "'lorentz', and open_clip knows the cosine alone"),
        ({"geometry": "elliptic"}, "'elliptic', and open_clip knows the cosine alone"),
        ({"projection_bias": True}, "the text projection of a small model has a bias"),
        ({"image_encoder": "fractal_vit_nano_patch4_32", "image_options": VIT}, "an attention mask of its own"),
        ({"text_pooling": "last"}, "text_pooling='last', and open_clip's towers of this kind have mean, cls"),
        (
            {"text_encoder": "electra", "text_options": BERT | {"embedding_size": 16}},
            "of the kind 'electra', and open_clip takes bert, roberta",
        ),
    ],
)
def test_what_open_clip_has_no_place_for(changes, said, tmp_path):
    with pytest.raises(ClipeduError, match=said):
        write_open_clip(release(**changes), tmp_path, "x")


def test_open_clip_is_not_installed(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "open_clip", None)
    with pytest.raises(ClipeduError, match="needs open_clip, which is not installed: pip install"):
        write_open_clip(release(), tmp_path, "x")


def test_settings_say_where_they_are():
    vit = release(**KINDS["vit"])
    here, there = settings(vit, "/home/me/x"), json.loads(settings_text(vit, "me/x"))
    assert here["model_cfg"]["text_cfg"]["hf_model_name"] == "/home/me/x"
    assert here["model_cfg"]["vision_cfg"]["timm_model_name"] == "local-dir:/home/me/x"
    assert there["model_cfg"]["text_cfg"]["hf_model_name"] == "me/x"
    assert there["model_cfg"]["vision_cfg"]["timm_model_name"] == "hf-hub:me/x"
    assert settings(release(), "me/x")["model_cfg"]["vision_cfg"]["timm_model_name"] == "test_resnet"
    assert 'from_pretrained("hf-hub:me/x")' in lines_open_clip(vit, "me/x", True)
