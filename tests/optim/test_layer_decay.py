"""The order of layers: timm's own for its models, blocks for transformers, an error for what has none."""

import pytest
import torch
from torch import nn

from clipedu import ClipeduError
from clipedu.optim.layer_decay import layer_numbers
from clipedu.optim.lr_scales import tower_scales


@pytest.mark.parametrize("name", ["test_vit", "test_resnet"])
def test_factors_are_those_of_timm(name):
    """timm's model with its head is our encoder with its projection."""
    import timm
    from timm.optim import param_groups_layer_decay

    whole = timm.create_model(name, num_classes=4)
    theirs = {}
    for group in param_groups_layer_decay(whole, layer_decay=0.7):
        theirs |= {id(p): group["lr_scale"] for p in group["params"]}
    by_name = {key: theirs[id(p)] for key, p in whole.named_parameters()}
    encoder = timm.create_model(name, num_classes=0)
    parts = {"image_encoder": encoder, "image_projection": nn.Linear(2, 2), "text_encoder": nn.Identity()}
    scales = tower_scales(nn.ModuleDict(parts | {"text_projection": nn.Linear(2, 2)}), layer_decay=0.7)
    heads = {key for key in by_name if key not in dict(encoder.named_parameters())}
    assert heads and all(by_name[key] == 1.0 for key in heads)
    for key, _ in encoder.named_parameters():
        assert scales[f"image_encoder.{key}"] == pytest.approx(by_name[key]), key


def test_pooling_with_weights_is_a_layer_above_the_blocks():
    from transformers import SiglipVisionConfig, SiglipVisionModel

    size = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2}
    numbers = layer_numbers(SiglipVisionModel(SiglipVisionConfig(**size, image_size=16, patch_size=8)))
    for key, number in numbers.items():
        block = key.partition("layers.")[2][:1]
        assert not block or number == int(block) + 1, key
        assert "embeddings" not in key or number == 0, key
    assert max(numbers.values()) == 3
    assert all(n == 2 for key, n in numbers.items() if "post_layernorm" in key)
    assert all(n == 3 for key, n in numbers.items() if ".head." in f".{key}")


def test_stages_of_several_widths_have_no_order():
    stages = nn.ModuleList([nn.ModuleList([nn.Bilinear(2, 2, 2)] * 2), nn.ModuleList([nn.Bilinear(3, 3, 3)] * 3)])
    encoder = nn.Sequential(nn.Linear(2, 2), stages[0], nn.Linear(2, 2), stages[1])
    with pytest.raises(ClipeduError, match=r"this text encoder, a Sequential.*text_frozen=True"):
        layer_numbers(encoder, "text encoder")


def test_adapters_are_in_the_layer_that_they_adapt():
    from clipedu.models.image_encoders import build_image_encoder

    peft = pytest.importorskip("peft")
    encoder = build_image_encoder("test_vit", image_size=160)
    before = layer_numbers(encoder)
    peft.inject_adapter_in_model(peft.LoraConfig(r=2, target_modules=["qkv"]), encoder)
    after = layer_numbers(encoder)
    assert after["blocks.3.attn.qkv.lora_A.default.weight"] == before["blocks.3.attn.qkv.weight"]
    assert {key.replace(".base_layer", ""): n for key, n in after.items() if "lora" not in key} == before
    assert torch.is_tensor(next(encoder.parameters()))
