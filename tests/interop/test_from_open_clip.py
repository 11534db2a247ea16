"""Models of open_clip: names, weights, and where a tower ends."""

from __future__ import annotations

import logging
import sys

import pytest
import torch
from torch import nn

from clipedu import ClipeduError, adopt
from clipedu.interop.from_open_clip import read_open_clip
from clipedu.interop.sources import find_source
from tests.helpers.released import LENGTH, OPEN_CLIP, SIZE, embeddings, save_open_clip, word_tokenizer

pytestmark = pytest.mark.xdist_group("interop")


@pytest.mark.parametrize(
    ("kind", "encoder", "image", "text"),
    [
        ("vit", "OpenClipImage", (24, 32), (24, 32)),
        ("resnet", "ModifiedResNet", None, (24, 32)),  # whose pooling ends with its projection
        ("timm_vit", "VisionTransformer", (24, 64), (24, 32)),
        ("timm_siglip", "VisionTransformer", None, (96, 32)),
        ("timm_eva", "Eva", (24, 192), (24, 32)),  # its classifier is the projection
        ("timm_convnext", "ConvNeXt", (24, 64), (24, 32)),
    ],
)
def test_where_towers_end(kind, encoder, image, text, released):
    parts = read_open_clip(find_source(released(kind)[0]), None, 0)
    assert type(parts.image_encoder).__name__ == encoder

    def shape(head):
        layers = [layer for layer in head.modules() if isinstance(layer, nn.Linear)]
        return tuple(layers[0].weight.shape) if layers else None

    assert shape(parts.image_projection) == image and shape(parts.text_projection) == text
    assert (parts.mean, parts.std, parts.resize) == ((0.4, 0.5, 0.6), (0.2, 0.25, 0.3), "squash")
    assert parts.text_padding == (16, 0)


@pytest.mark.parametrize("pooler", ["mean_pooler", "cls_pooler"])
def test_a_text_model_of_transformers_inside(pooler, tmp_path, monkeypatch):
    """Its tower makes its own mask, of the padding."""
    from transformers import RobertaConfig

    tokenizer = word_tokenizer("<s>", "</s>", "<pad>")
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 4}
    RobertaConfig(vocab_size=len(tokenizer), pad_token_id=0, **sizes).save_pretrained(tmp_path / "roberta")
    text = {"hf_model_name": str(tmp_path / "roberta"), "hf_tokenizer_name": "its own", "hf_pooler_type": pooler}
    monkeypatch.setitem(OPEN_CLIP, "roberta", OPEN_CLIP["vit"] | {"text_cfg": {"context_length": LENGTH} | text})
    library = save_open_clip(tmp_path / "model", "roberta")
    tokenizer.save_pretrained(tmp_path / "model")
    model, texts = adopt(tmp_path / "model"), ["a red star", "", "a small photo of, blue", "red " * 20]
    pixels = torch.randint(0, 256, (1, 3, SIZE, SIZE))
    _, expected = embeddings(library, tmp_path / "model", pixels, texts)
    torch.testing.assert_close(model.embed_texts(texts, strict=False), expected, rtol=0, atol=1e-6)
    assert model.tokenizer.truncated == 1 and model.text_padding is None
    assert [type(layer).__name__ for layer in model.text_projection] == ["Linear", "GELU", "Linear"]


def test_parameters_keep_their_names(released):
    folder, library = released("vit")
    model = adopt(folder)
    own = {name.removeprefix("image_encoder.").removeprefix("text_encoder.") for name in model.state_dict()}
    theirs = {
        name if name.startswith("visual.") else f"text.{name}" for name in library.state_dict() if name != "logit_scale"
    }
    assert own - theirs == {"image_projection.weight", "text_projection.weight"}
    assert theirs - own == {"visual.proj", "text.text_projection"}


@pytest.mark.parametrize(
    ("name", "weights", "message"),
    [
        ("ViT-B32", "random", "^open_clip has no model 'ViT-B32'. Did you mean 'ViT-B-32'"),
        ("zzzz", None, "^open_clip has no model 'zzzz'. All [0-9]+: open_clip.list_models"),
        (
            "ViT-B-32",
            None,
            r"^open_clip:ViT-B-32 needs weights: one of its \d+ pretrained tags .openai(, \w+){7}, \.\.\.; all: .*, the path of a file, or random",
        ),
        ("ViT-S-32", None, "^open_clip:ViT-S-32 needs weights: the path of a file, or random"),
        (
            "ViT-B-32",
            "opennai",
            "^unknown weights of open_clip:ViT-B-32: 'opennai'. Did you mean 'openai'. Allowed: .*the path of a file, or random",
        ),
        ("ViT-B-32", "no/such.pt", "^weights 'no/such.pt' for open_clip:ViT-B-32: no such file"),
        (
            "ViT-B-32",
            "openai",
            r"^timm/.* \(weights 'openai' of open_clip:ViT-B-32\) is not on this machine, and HF_HUB_OFFLINE",
        ),
        (
            "roberta-ViT-B-32",
            "random",
            r"^roberta-base \(the text model of open_clip:roberta-ViT-B-32\) is not on this machine",
        ),
    ],
)
def test_names_and_weights_that_are_not_there(name, weights, message):
    with pytest.raises(ClipeduError, match=message):
        adopt(f"open_clip:{name}", weights)


def test_weights_of_another_model(released, broken, tmp_path):
    folder, _ = released("vit")
    other = tmp_path / "other.pt"
    torch.save({"state_dict": {"visual.proj": torch.ones(3, 3), "logit_scale": torch.ones(())}}, other)
    with pytest.raises(
        ClipeduError, match=r"do not fit .*: 1 tensors have another shape \(first: visual.proj: \[3, 3\] in the file"
    ):
        adopt(folder, other)
    with pytest.raises(ClipeduError, match="do not fit .*Missing key"):
        adopt(folder, released("clip")[0] / "model.safetensors")
    wider = broken("vit", "open_clip_config.json", lambda s: s["model_cfg"]["text_cfg"].update(width=64))
    with pytest.raises(ClipeduError, match="text pos_embed width changed|do not fit"):
        adopt(wider)
    (wider / "open_clip_model.safetensors").write_bytes(b"x" * 100)
    with pytest.raises(ClipeduError, match="its model cannot be read .*: take another file"):
        adopt(wider)
    (wider / "open_clip_model.safetensors").unlink()
    with pytest.raises(ClipeduError, match="could not be loaded"):  # open_clip only warns, and its weights are random
        adopt(wider)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s["model_cfg"]["text_cfg"].update(pool_type="none"), "its text tower has no pooling"),
        (lambda s: s["model_cfg"]["vision_cfg"].update(image_size=[32, 48]), "are not square"),
        (lambda s: s["model_cfg"].update(bogus=1), "unexpected keyword argument 'bogus'"),
        (lambda s: s.pop("model_cfg"), "missing 'model_cfg'"),
    ],
)
def test_settings_that_cannot_be_used(change, message, broken):
    with pytest.raises(ClipeduError, match=message) as caught:
        adopt(broken("vit", "open_clip_config.json", change), "random")
    assert len(str(caught.value)) < 500


def test_open_clip_is_not_installed(monkeypatch):
    monkeypatch.setitem(sys.modules, "open_clip", None)
    with pytest.raises(ClipeduError, match=r"which is not installed: pip install 'clipedu\[open_clip\]'"):
        adopt("open_clip:ViT-B-32", "random")
    with pytest.raises(ClipeduError, match="unknown model 'ViT-B-32': no such folder or file. Allowed"):
        adopt("ViT-B-32")


def test_the_root_logger_stays_as_it_is(released, caplog):
    """open_clip logs to it, which would set it up for every library."""
    root = logging.getLogger()
    before = root.level, list(root.handlers)
    adopt(released("vit")[0], "random")
    assert (root.level, list(root.handlers)) == before and not caplog.records
