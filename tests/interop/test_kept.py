"""What a run keeps of a released model builds it again, without what it was loaded from."""

import pickle
import shutil

import pytest
import torch

from clipedu import ClipeduError, adopt
from clipedu.interop import kept
from clipedu.interop.kept import RELEASED, copy_released, keep_released, rebuild, released_sum
from tests.helpers.released import LENGTH, save_open_clip, word_tokenizer

pytestmark = pytest.mark.xdist_group("interop")
TEXTS = ["a red star", "Blue, green ring"]


@pytest.mark.parametrize("kind", ["vit", "clip", "siglip2", "dual"])
def test_a_model_is_built_again(kind, released, tmp_path):
    shutil.copytree(released(kind)[0], tmp_path / "model")
    model = adopt(tmp_path / "model")
    keep_released(model, str(tmp_path / "model"), tmp_path)
    shutil.rmtree(tmp_path / "model")
    again = rebuild(tmp_path / RELEASED)
    again.load_state_dict(model.state_dict())
    pixels = torch.randint(0, 256, (2, 3, model.image_size, model.image_size), dtype=torch.uint8)
    with torch.no_grad():
        assert torch.equal(again.encode_image(pixels), model.encode_image(pixels))
        torch.testing.assert_close(again.embed_texts(TEXTS), model.embed_texts(TEXTS), rtol=0, atol=1e-6)
    assert again.tokenizer.identity() == model.tokenizer.identity() and again.resize == model.resize
    assert again.logit_scale is None and again.released_loss is None
    assert not [path for path in (tmp_path / RELEASED).rglob("*") if path.suffix in (".safetensors", ".bin")]


def test_a_name_of_open_clip_is_kept_with_the_activation_of_its_weights(tmp_path):
    model = adopt("open_clip:ViT-S-32-alt", "random")
    keep_released(model, "open_clip:ViT-S-32-alt", tmp_path)
    again = rebuild(tmp_path / RELEASED)
    assert {n: x.shape for n, x in again.state_dict().items()} == {n: x.shape for n, x in model.state_dict().items()}
    assert repr(again) == repr(model)


def test_a_change_of_what_is_kept_is_seen(released, tmp_path):
    assert released_sum(tmp_path) is None
    folder = released("clip")[0]
    keep_released(adopt(folder), str(folder), tmp_path)
    before = released_sum(tmp_path)
    (tmp_path / "other").mkdir()
    copy_released(tmp_path, tmp_path / "other")
    assert released_sum(tmp_path / "other") == before
    file = tmp_path / RELEASED / "config.json"
    file.write_text(file.read_text().replace("quick_gelu", "gelu"))
    assert released_sum(tmp_path) != before


def test_a_model_that_is_not_the_same_again_is_refused(released, tmp_path, monkeypatch):
    folder, other = released("clip")[0], adopt(released("siglip")[0])
    monkeypatch.setattr(kept, "rebuild", lambda *_: other)
    with pytest.raises(ClipeduError, match="cannot be kept in a run: .* another tokenizer"):
        keep_released(adopt(folder), str(folder), tmp_path)
    assert not (tmp_path / RELEASED).exists()


@pytest.mark.parametrize("kind", ["vit", "clip"])
def test_a_tokenizer_can_be_given_to_another_process(kind, released):
    tokenizer = adopt(released(kind)[0]).tokenizer
    other = pickle.loads(pickle.dumps(tokenizer))
    assert other.identity() == tokenizer.identity()
    assert (other.encode(TEXTS)[0] == tokenizer.encode(TEXTS)[0]).all()


def test_an_open_clip_model_with_a_text_tower_of_transformers_is_kept(tmp_path):
    """Its text model's configuration is kept, too, and names no folder that has gone."""
    from transformers import BertConfig

    text, before = tmp_path / "text", tmp_path / "model"
    tokenizer = word_tokenizer("[CLS]", "[SEP]", "[PAD]")
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    BertConfig(vocab_size=len(tokenizer), **sizes).save_pretrained(text)
    settings = {"hf_model_name": str(text), "hf_tokenizer_name": "mine", "hf_pooler_type": "mean_pooler"}
    save_open_clip(before, "vit", text_cfg=settings | {"hf_proj_type": "linear", "context_length": LENGTH})
    tokenizer.save_pretrained(before)  # where open_clip reads it from
    model = adopt(before)
    keep_released(model, str(before), tmp_path)
    for folder in (before, text):
        shutil.rmtree(folder)
    again = rebuild(tmp_path / RELEASED)
    again.load_state_dict(model.state_dict())
    torch.testing.assert_close(again.embed_texts(TEXTS), model.embed_texts(TEXTS), rtol=0, atol=1e-6)
    assert again.tokenizer.identity() == model.tokenizer.identity()
