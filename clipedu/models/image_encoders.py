"""Image encoders by name: any timm model, or an entry of `ENCODERS`.

    timm names     resnet50, vit_small_patch16_224, mobilenetv2_100, ...
    `ENCODERS`     a timm model with settings that fit the embedded scenes, and vision transformers with registers, summary
                   tokens and the fractal mask (`clipedu.models.vit`)

Weights are "random", "pretrained" (timm fetches them from the hub) or the path of a file of weights (`weights.py`).
"""

from __future__ import annotations

import difflib
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from clipedu.models.registry import ENCODERS, encoder_names
from clipedu.models.weights import cached_timm_weights, from_hub, load_weights, one_line_errors
from clipedu.utils.checks import is_finite_number
from clipedu.utils.errors import ClipeduError, quoted, unknown_name, without_trace

PixelStats = tuple[tuple[float, ...], tuple[float, ...]]  # mean and std of pixels in 0..1, a number a channel


def build_image_encoder(
    name: str, weights: str = "random", *, image_size: int | None = None, **options: Any
) -> nn.Module:
    """Build a timm model without its classifier.

    Pixels [B, 3, H, W] (normalised) -> features [B, F].

    Args:
        name: an image entry of `ENCODERS` or any name of a timm model.
        weights: "random", "pretrained" or the path of a file with the model's state dict.
        image_size: H and W; a model that timm says has a fixed input size (a ViT) is built for it. None leaves it as it is.
        options: further arguments of `timm.create_model`.
    Raises:
        ClipeduError: unknown name or option, weights that are missing or do not fit.
    """
    import timm

    import clipedu.models.vit  # noqa: F401  registers its names with timm

    settings: dict[str, Any] = dict(ENCODERS[name].defaults) if name in ENCODERS else {"timm": name}
    if "timm" not in settings:
        raise ClipeduError(
            f"{name!r} is a text encoder. Image encoders: {', '.join(encoder_names('timm'))}, or any timm model"
        )
    timm_name = settings.pop("timm")
    if not timm.is_model(timm_name):
        near = difflib.get_close_matches(name, timm.list_models(), n=5)
        known = dict.fromkeys(encoder_names("timm") + near)
        raise ClipeduError(f"{unknown_name('image encoder', name, known)}, or any other timm model")
    pretrained = weights == "pretrained"
    if pretrained and name in ENCODERS and not timm.models.is_model_pretrained(timm_name):
        raise ClipeduError(
            f"image encoder {name!r} has no pretrained weights: use image_weights='random', or another encoder"
        )
    if image_size is not None:
        with one_line_errors(f"image encoder {name!r}", "image_options", options):
            record = timm.get_pretrained_cfg(timm_name)
        if record is not None and record.fixed_input_size:
            settings["img_size"] = image_size
    hub = (
        from_hub(f"pretrained weights of image encoder {name!r}", "image_weights") if pretrained else nullcontext(False)
    )
    with one_line_errors(f"image encoder {name!r}", "image_options", options), hub as local:
        source = cached_timm_weights(timm_name) if local else {}
        kwargs = {**source, **settings, **options}
        model: Any = timm.create_model(timm_name, pretrained=pretrained, num_classes=0, **kwargs)
    load_weights(model, weights, name)
    model.made_as = f"timm {timm_name} {sorted({**settings, **options}.items())}"  # for the name of its kept features
    return model


def pixel_stats(encoder: Any, choice: str) -> PixelStats:
    """Return mean and standard deviation of the pixels an encoder expects.

    Args:
        encoder: as `build_image_encoder` makes it.
        choice: "imagenet", "inception", "clip", or "auto" for what timm's record of the encoder says.
    Raises:
        ClipeduError: the record, which `image_options` can change, does not say it for three channels.
    """
    from timm.data import constants

    named = {
        "imagenet": (constants.IMAGENET_DEFAULT_MEAN, constants.IMAGENET_DEFAULT_STD),
        "inception": (constants.IMAGENET_INCEPTION_MEAN, constants.IMAGENET_INCEPTION_STD),
        "clip": (constants.OPENAI_CLIP_MEAN, constants.OPENAI_CLIP_STD),
    }
    if choice != "auto":
        return named[choice]
    mean, std = (encoder.pretrained_cfg.get(name) for name in ("mean", "std"))
    if _three(mean) and _three(std) and min(std) > 0:
        return tuple(mean), tuple(std)
    raise ClipeduError(
        f"pixel_stats='auto' takes mean and std from the image encoder's record, which has mean={quoted(mean)} and "
        f"std={quoted(std)}: each must be three finite numbers, std above 0. Change image_options, or use pixel_stats='imagenet'"
    )


def _three(values: Any) -> bool:
    return isinstance(values, (list, tuple)) and len(values) == 3 and all(map(is_finite_number, values))


@torch.no_grad()
def feature_width(encoder: nn.Module, image_size: int) -> int:
    """Measure the width of an image encoder's features.

    timm's `num_features` is wrong where a convolutional head follows.

    Args:
        encoder: pixels -> features; its mode is left as it was.
        image_size: height and width of the images, pixels.
    Raises:
        ClipeduError: a size that the encoder refuses, or features that are not one vector an image.
    """
    was_training = encoder.training
    encoder.eval()
    try:
        features = encoder(torch.zeros(1, 3, image_size, image_size))
        if not isinstance(features, Tensor) or features.ndim != 2:
            raise ValueError("it gives feature maps, not one vector for each image")
    except Exception as error:  # noqa: BLE001  each of timm's models refuses a size in its own way
        raise ClipeduError(
            f"image_size={image_size} does not fit the image encoder with its image_options: {without_trace(error)} (a ViT takes "
            "image_options img_size and patch_size)"
        ) from None
    finally:
        encoder.train(was_training)
    return features.shape[1]
