"""The catalog: every entry is one of timm or transformers, and adding one is a line."""

from __future__ import annotations

import pytest
import timm
import torch

import clipedu.models.vit  # noqa: F401  registers its names with timm
from clipedu.models.catalog import add_image_encoder, add_text_encoder
from clipedu.models.image_encoders import build_image_encoder
from clipedu.models.registry import ENCODERS, VISION_TRANSFORMERS
from clipedu.models.text_encoders import build_text_encoder, hub_id
from clipedu.utils.errors import ClipeduError


@pytest.fixture
def own_entries():
    """Entries that a test adds are taken out again."""
    before = dict(ENCODERS)
    yield
    ENCODERS.clear()
    ENCODERS.update(before)


def test_every_entry_is_described_and_is_what_its_name_says():
    for name, entry in ENCODERS.items():
        assert len(entry.description) > 20
        assert ("timm" in entry.defaults) != ("transformers" in entry.defaults), name
        assert "timm" not in entry.defaults or timm.is_model(entry.defaults["timm"])


def test_an_image_encoder_of_ones_own_is_a_line(own_entries):
    add_image_encoder("mine", "test_vit", "a description", img_size=32, patch_size=8)
    assert ENCODERS["mine"].description == "a description" and "mine" not in VISION_TRANSFORMERS
    assert build_image_encoder("mine").patch_embed.grid_size == (4, 4)
    assert ENCODERS["mine"].build("random", depth=1).patch_embed.grid_size == (4, 4)
    assert build_image_encoder("mine", image_size=64).patch_embed.grid_size == (8, 8)
    assert build_image_encoder("mine", patch_size=16).patch_embed.grid_size == (2, 2)
    with pytest.raises(ClipeduError, match="Did you mean 'mine'"):
        build_image_encoder("mined")


def test_a_text_encoder_of_ones_own_is_a_line(own_entries):
    sizes = {"hidden_size": 16, "num_attention_heads": 2, "num_hidden_layers": 1, "intermediate_size": 32}
    add_text_encoder("mine", "bert", "a description", hub="owner/weights", **sizes)
    assert hub_id("mine") == "owner/weights"
    model = build_text_encoder("mine", vocab_size=50)
    assert model.get_input_embeddings().weight.shape == (50, 16)
    assert ENCODERS["mine"].build(vocab_size=50).config == model.config
    assert build_text_encoder("mine", vocab_size=50, hidden_size=32).config.hidden_size == 32
    add_text_encoder("from scratch", "bert", "no weights", **sizes)
    with pytest.raises(ClipeduError, match="'from scratch' has no pretrained weights"):
        hub_id("from scratch")


@pytest.mark.parametrize("name", [name for name in VISION_TRANSFORMERS if "nano" in name])
def test_our_vision_transformers_are_known_to_timm(name):
    model = timm.create_model(name, num_classes=0).eval()
    size = ENCODERS[name].defaults["img_size"]
    assert model(torch.zeros(1, 3, size, size)).shape == (1, ENCODERS[name].defaults["embed_dim"])
