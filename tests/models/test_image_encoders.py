"""Image encoders by name, and the messages where a name, an option or a size does not fit."""

from __future__ import annotations

import pytest
import torch

from clipedu.models.image_encoders import build_image_encoder, feature_width, pixel_stats
from tests.helpers.errors import message_of


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


def test_an_unknown_tag_with_a_size():
    message = message_of(build_image_encoder, "resnet50.no_such_tag", image_size=32)
    assert message.startswith("image encoder 'resnet50.no_such_tag' cannot be built: ")


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


@pytest.mark.parametrize(
    "record",
    [
        {"mean": [0, 0], "std": [1, 1, 1]},
        {"mean": "x"},
        {"std": [0, 0, 0]},
        {"std": 0.5},
        {"mean": None},
        {"mean": [0.5, float("nan"), 0.5]},
        {"std": [0.2, -0.2, 0.2]},
    ],
)
def test_a_record_that_options_have_spoilt_is_named(record):
    encoder = build_image_encoder("test_resnet", pretrained_cfg_overlay=record)
    message = message_of(pixel_stats, encoder, "auto")
    assert "three finite numbers" in message and "pixel_stats='imagenet'" in message and "image_options" in message
    assert pixel_stats(encoder, "imagenet") == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
