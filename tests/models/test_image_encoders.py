"""Encoders by name, and what is told when a name, an option or a size doesn't fit."""

from __future__ import annotations

import pytest
import timm
import torch

from clipedu.models.catalog import ENCODERS
from clipedu.models.image_encoders import build_image_encoder, feature_width, pixel_stats
from clipedu.models.text_encoders import build_text_encoder, hub_id, pool_text, text_config
from tests.helpers.errors import message_of

SMALL = {"vocab_size": 50, "dim": 16, "n_heads": 2, "n_layers": 1, "hidden_dim": 32}


# images


def test_timm_models_come_without_their_classifier():
    encoder = build_image_encoder("test_resnet")
    features = encoder.eval()(torch.randn(2, 3, 32, 32))
    assert features.shape == (2, feature_width(encoder, 32)) == (2, encoder.num_features)


def test_options_reach_timm():
    encoder = build_image_encoder("test_vit", img_size=32, patch_size=8)
    assert encoder.patch_embed.num_patches == 16 and feature_width(encoder, 32) == 64
    padded = build_image_encoder("mobilenetv2_100", pad_type="same")
    assert type(padded.conv_stem).__name__ == "Conv2dSame"


def test_feature_width_is_measured_not_believed():
    """`num_features` of a MobileNetV3 is what comes before its last convolution."""
    encoder = build_image_encoder("mobilenetv3_small_050")
    width = feature_width(encoder, 32)
    assert width == encoder.eval()(torch.zeros(1, 3, 32, 32)).shape[1] != encoder.num_features


def test_feature_width_leaves_the_encoder_as_it_was():
    encoder = build_image_encoder("test_resnet").train()
    before = {name: tensor.clone() for name, tensor in encoder.state_dict().items()}
    feature_width(encoder, 32)
    assert encoder.training and all(torch.equal(before[name], tensor) for name, tensor in encoder.state_dict().items())
    vit = build_image_encoder("vit_tiny_patch16_224", depth=1).train()
    message_of(feature_width, vit, 32)
    assert vit.training


@pytest.mark.parametrize(
    ("options", "size"), [({}, 32), ({"img_size": 32, "patch_size": 8}, 40)], ids=["as timm made it", "as asked"]
)
def test_a_size_that_does_not_fit(options, size):
    message = message_of(feature_width, build_image_encoder("vit_tiny_patch16_224", depth=1, **options), size)
    assert (
        message.startswith(f"image_size={size} does not fit the image encoder") and "img_size and patch_size" in message
    )


@pytest.mark.parametrize("options", [{"features_only": True}, {"global_pool": ""}])
def test_an_encoder_that_gives_no_vectors(options):
    message = message_of(feature_width, build_image_encoder("test_resnet", **options), 32)
    assert "it gives feature maps, not one vector for each image" in message


def test_an_unknown_image_encoder():
    message = message_of(build_image_encoder, "resnet5")
    assert message.startswith("unknown image encoder 'resnet5'. Did you mean 'resnet50'?")
    assert "test_resnet" in message and message.endswith("or any other timm model") and message.count("resnet50,") == 1
    assert "unknown image encoder 'resnext'" in message_of(build_image_encoder, "resnext")


def test_a_text_encoders_name_for_images():
    message = message_of(build_image_encoder, "distilbert-nano")
    assert message.startswith("'distilbert-nano' is a text encoder. Image encoders: test_resnet, resnet50")
    assert message_of(build_image_encoder, "bert").startswith("unknown image encoder 'bert'")


@pytest.mark.parametrize(
    ("name", "options"),
    [("test_resnet", {"foo": 3}), ("test_resnet", {"act_layer": "no such"}), ("test_vit", {"patch_size": "x"}),
     ("resnet50.no_such_tag", {})],
)  # fmt: skip
def test_a_model_that_can_not_be_built(name, options):
    message = message_of(build_image_encoder, name, **options)
    assert message.startswith(f"image encoder {name!r}") and "cannot be built: " in message and "hub" not in message
    assert not options or f"image_options={options}" in message


def test_pixel_statistics():
    encoder = build_image_encoder("test_vit")
    assert pixel_stats(encoder, "auto") == (encoder.pretrained_cfg["mean"], encoder.pretrained_cfg["std"])
    assert pixel_stats(build_image_encoder("resnet50d"), "auto") == pixel_stats(encoder, "imagenet")
    assert pixel_stats(encoder, "imagenet") == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    assert pixel_stats(encoder, "inception") == ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    assert pixel_stats(encoder, "clip") == (
        (0.48145466, 0.4578275, 0.40821073),
        (0.26862954, 0.26130258, 0.27577711),
    )


# texts


@pytest.mark.parametrize("name", ["distilbert-nano", "distilbert-tiny", "distilbert-small"])
def test_our_own_text_encoders(name):
    model = build_text_encoder(name, vocab_size=60)
    settings = ENCODERS[name].defaults
    assert model.config.hidden_size == settings["dim"] and model.config.num_hidden_layers == settings["n_layers"]
    hidden = model.eval()(input_ids=torch.tensor([[2, 59, 3]]), attention_mask=torch.ones(1, 3)).last_hidden_state
    assert hidden.shape == (1, 3, settings["dim"]) and hidden.isfinite().all()


@pytest.mark.parametrize("name", ["bert", "roberta", "distilbert"])
def test_a_model_type_needs_no_network(name):
    sizes = {"hidden_size": 16, "num_attention_heads": 2, "num_hidden_layers": 1}
    model = build_text_encoder(name, vocab_size=50, **sizes)
    assert model.config.vocab_size == 50 and model.get_input_embeddings().weight.shape == (50, 16)
    assert next(model.parameters()).dtype == torch.float32


def test_the_courses_text_encoder_needs_no_network_for_its_shape():
    config = text_config("distilbert-base-uncased")
    assert (config.vocab_size, config.dim, config.n_layers, config.n_heads) == (30522, 768, 6, 12)
    assert hub_id("distilbert-base-uncased") == "distilbert-base-uncased" and hub_id("some/model") == "some/model"


def test_an_entry_made_for_scratch_has_no_pretrained_weights():
    message = message_of(build_text_encoder, "distilbert-nano", "pretrained")
    assert "'distilbert-nano' has no pretrained weights: use text_weights='random'" in message


def test_options_reach_the_configuration():
    model = build_text_encoder("distilbert-nano", dropout=0.375, **SMALL)
    assert model.config.dropout == 0.375 and model.config.n_layers == 1
    assert text_config("distilbert-nano").n_layers == 2  # and stay with the one model
    assert build_text_encoder("distilbert-nano", vocab_size=50, hidden_size=32).config.dim == 32  # its other name


@pytest.mark.parametrize("key", ["n_layer", "to_dict", "__class__"])
def test_an_option_the_configuration_has_not(key):
    message = message_of(build_text_encoder, "distilbert-nano", **{key: 3})
    assert message.startswith(f"unknown text_options of 'distilbert-nano': {key!r}.") and "n_layers" in message


@pytest.mark.parametrize(
    "wrong", [{"dim": 15}, {"dim": "wide"}, {"dim": -16}, {"activation": "no such"}, {"n_layers": None}]
)
def test_values_that_do_not_fit(wrong):
    message = message_of(build_text_encoder, "distilbert-nano", **{**SMALL, **wrong})
    assert message.startswith("text encoder 'distilbert-nano'") and "text_options" in message
    assert next(iter(wrong)) in message


@pytest.mark.parametrize("name", ["resnet50", "vit_small_patch16_224", "mobilenetv3_small_100"])
def test_an_image_encoders_name_for_texts(name):
    assert message_of(build_text_encoder, name).startswith(
        f"'{name}' is an image encoder. Text encoders: distilbert-nano"
    )


@pytest.mark.parametrize("name", ["vit", "clip", "t5"])
def test_transformers_models_that_are_no_text_encoders(name):
    assert message_of(build_text_encoder, name).startswith(f"'{name}' is no text encoder")


def test_an_unknown_text_encoder():
    message = message_of(build_text_encoder, "distlbert")
    assert message.startswith("unknown text encoder 'distlbert'. Did you mean 'distilbert'?")
    assert "distilbert-nano" in message and message.endswith("a transformers model type, or a hub id")


def test_a_misspelt_hub_id_says_what_may_be_meant():
    message = message_of(build_text_encoder, "distilbert-nanoo")
    assert "text encoder 'distilbert-nanoo' (did you mean 'distilbert-nano'?): not on this machine" in message


def test_pooling_by_hand():
    hidden = torch.arange(24.0).view(2, 3, 4)
    mask = torch.tensor([[True, True, False], [True, True, True]])
    assert torch.equal(pool_text(hidden, mask, "cls"), hidden[:, 0])
    expected = torch.stack([(hidden[0, 0] + hidden[0, 1]) / 2, hidden[1].sum(0) / 3])
    torch.testing.assert_close(pool_text(hidden, mask, "mean"), expected)


def test_every_entry_is_described_and_is_what_its_name_says():
    for name, entry in ENCODERS.items():
        assert len(entry.description) > 20
        assert ("timm" in entry.defaults) != ("transformers" in entry.defaults), name
        assert "timm" not in entry.defaults or timm.is_model(entry.defaults["timm"])
