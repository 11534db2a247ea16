"""Encoders by name: any timm image model, any transformers text model, and a few small ones for two CPU cores.

    timm names          resnet50, vit_small_patch16_224, mobilenetv2_100, ...
    transformers names  a hub id (distilbert-base-uncased) or a model type (distilbert, bert, roberta): then from its
                        default configuration, which needs no network
    our own             entries of `ENCODERS`: one of the above with settings that fit the embedded scenes, and vision
                        transformers with registers, summary tokens and the fractal mask (`clipedu.models.vit`)

Weights are "random", "pretrained" (fetched from the hub by timm or transformers) or the path of a .safetensors file.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from clipedu.models.weights import from_hub, load_weights
from clipedu.registry import ClipeduError, Registry, unknown_name

ENCODERS = Registry("encoder")


def _image_entry(name: str, timm_name: str, description: str, **options: Any) -> None:
    ENCODERS.add(name, build_image_encoder, description, defaults={"timm": timm_name, **options})


def _vit_entries(size: str, patch_size: int, img_size: int, base: int, registers: int, **shape: int) -> None:
    """Plain, with registers, and fractal: the same vision transformer with a grid of img_size / patch_size patches a side."""
    grid, name = img_size // patch_size, f"vit_{size}_patch{patch_size}_{img_size}"
    shape |= {"img_size": img_size, "patch_size": patch_size, "base": base}
    what = f"vision transformer, {shape['embed_dim']} wide, {grid} x {grid} patches"
    _image_entry(name, name, what, **shape)
    own = {"extra": "registers", "registers": registers}
    _image_entry(f"{name}_reg{registers}", f"{name}_reg{registers}", f"{what}, {registers} registers", **shape, **own)
    fractal = f"{what}, {registers} summary tokens (windows {base} x {base}) under the fractal mask"
    _image_entry(f"fractal_{name}", f"fractal_{name}", fractal, **shape, extra="fractal")


def _text_entry(name: str, model: str, description: str, **config: Any) -> None:
    ENCODERS.add(name, build_text_encoder, description, defaults={"transformers": model, **config})


def build_image_encoder(
    name: str, weights: str = "random", *, image_size: int | None = None, **options: Any
) -> nn.Module:
    """A timm model without its classifier: pixels [B, 3, H, W] (normalised) -> features [B, F].

    Args:
        name: an image entry of `ENCODERS` or any name timm knows.
        weights: "random", "pretrained" or the path of a .safetensors file with the model's state dict.
        image_size: H and W; a model that timm says has a fixed input size (a ViT) is built for it. None leaves it as it is.
        options: further arguments of `timm.create_model`.
    Raises:
        ClipeduError: unknown name or option, weights that can't be had or don't fit.
    """
    import timm

    import clipedu.models.vit  # noqa: F401  its names become timm's

    settings = dict(ENCODERS[name].defaults) if name in ENCODERS else {"timm": name}
    if "timm" not in settings:
        raise ClipeduError(
            f"{name!r} is a text encoder. Image encoders: {', '.join(_names('timm'))}, or any timm model"
        )
    timm_name = settings.pop("timm")
    if not timm.is_model(timm_name):
        near = difflib.get_close_matches(name, timm.list_models(), n=5)
        known = dict.fromkeys(_names("timm") + near)
        raise ClipeduError(f"{unknown_name('image encoder', name, known)}, or any other timm model")
    pretrained = weights == "pretrained"
    if pretrained and name in ENCODERS and not timm.models.is_model_pretrained(timm_name):
        raise ClipeduError(
            f"image encoder {name!r} has no pretrained weights: use image_weights='random', or another encoder"
        )
    if image_size is not None and timm.get_pretrained_cfg(timm_name).fixed_input_size:
        settings["img_size"] = image_size
    hub = from_hub(f"pretrained weights of image encoder {name!r}", "image_weights") if pretrained else nullcontext()
    with _one_line(f"image encoder {name!r}", "image_options", options), hub:
        model = timm.create_model(timm_name, pretrained=pretrained, num_classes=0, **{**settings, **options})
    load_weights(model, weights, name)
    model.made_as = f"timm {timm_name} {sorted({**settings, **options}.items())}"  # for the name of its kept features
    return model


def build_text_encoder(
    name: str, weights: str = "random", *, vocab_size: int | None = None, **config: Any
) -> nn.Module:
    """A transformers model: token ids [B, L] and mask -> hidden states [B, L, H] (`.last_hidden_state`). In float32.

    Args:
        name: a text entry of `ENCODERS`, a transformers model type, a hub id, or a folder that transformers has saved.
        weights: "random", "pretrained" or the path of a .safetensors file with the model's state dict.
        vocab_size: of the tokenizer in use; None keeps the configuration's.
        config: changes to the model's configuration.
    Raises:
        ClipeduError: unknown name or option, weights that can't be had or don't fit.
    """
    from transformers import AutoModel

    configuration = text_config(name, pretrained=weights == "pretrained", **config)
    with _one_line(f"text encoder {name!r}", "text_options", config):
        if weights == "pretrained":
            with from_hub(f"pretrained weights of text encoder {name!r}", "text_weights"):
                model = AutoModel.from_pretrained(hub_id(name), config=configuration, dtype=torch.float32)
            if vocab_size not in (None, model.config.vocab_size):  # hubs pad embeddings beyond the tokenizer's last id
                model.resize_token_embeddings(vocab_size, mean_resizing=False)
        else:
            configuration.vocab_size = vocab_size or configuration.vocab_size
            model = AutoModel.from_config(configuration, dtype=torch.float32)
    load_weights(model, weights, name)
    model.made_as = f"transformers {model.config.to_json_string()}"
    return model


def text_config(name: str, *, pretrained: bool = False, **changes: Any):
    """The transformers configuration of a text encoder; asks the hub only for a hub id, or for pretrained weights' own.

    Raises:
        ClipeduError: no such model type or hub id, no text encoder, or an option the configuration does not take.
    """
    import timm
    from transformers import AutoConfig
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

    entries = ", ".join(_names("transformers"))
    settings = dict(ENCODERS[name].defaults) if name in ENCODERS else {"transformers": name}
    if "transformers" not in settings or (name not in ENCODERS and timm.is_model(name)):
        raise ClipeduError(
            f"{name!r} is an image encoder. Text encoders: {entries}, a transformers model type, or a hub id"
        )
    model = settings.pop("transformers")
    settings.pop("hub", None)
    near = difflib.get_close_matches(name, [*_names("transformers"), *CONFIG_MAPPING_NAMES], n=5)
    if pretrained:
        with from_hub(f"pretrained weights of text encoder {name!r}", "text_weights"):
            configuration = AutoConfig.from_pretrained(hub_id(name))
    elif model in CONFIG_MAPPING_NAMES:
        configuration = AutoConfig.for_model(model)
    elif Path(model).is_dir():  # saved by transformers, as in a run's folder: no need to ask anybody
        with _one_line(f"text encoder {name!r}", "text_options", changes):
            configuration = AutoConfig.from_pretrained(model)
    elif "/" in model or model.startswith(tuple(CONFIG_MAPPING_NAMES)):  # bert-base-uncased: a hub id without an owner
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        with from_hub(f"text encoder {name!r}{hint}", "text_encoder"):
            configuration = AutoConfig.from_pretrained(model)
    else:
        known = dict.fromkeys(_names("transformers") + near)
        raise ClipeduError(f"{unknown_name('text encoder', name, known)}, a transformers model type, or a hub id")
    if not hasattr(configuration, "vocab_size") or configuration.is_encoder_decoder:
        raise ClipeduError(
            f"{name!r} is no text encoder (one stack of layers over token ids). Allowed: {entries}, bert, ..."
        )
    known = {**configuration.to_dict(), **configuration.attribute_map}
    for key, value in {**settings, **changes}.items():
        if key not in known:
            raise unknown_name(f"text_options of {name!r}:", key, sorted(key for key in known if key[0] != "_"))
        with _one_line(f"text encoder {name!r}", "text_options", {key: value}):
            setattr(configuration, key, value)
    return configuration


def hub_id(name: str) -> str:
    """The name under which the hub knows a text encoder, for its weights and its tokenizer.

    Raises:
        ClipeduError: an entry made for training from scratch has none.
    """
    settings = ENCODERS[name].defaults if name in ENCODERS else {"hub": name}
    if "hub" not in settings:
        raise ClipeduError(
            f"text encoder {name!r} has no pretrained weights: use text_weights='random', or another encoder"
        )
    return settings["hub"]


def pixel_stats(encoder: nn.Module, choice: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of pixels (in 0..1) that an image encoder expects. "auto" asks timm's own record."""
    from timm.data import constants

    named = {
        "imagenet": (constants.IMAGENET_DEFAULT_MEAN, constants.IMAGENET_DEFAULT_STD),
        "inception": (constants.IMAGENET_INCEPTION_MEAN, constants.IMAGENET_INCEPTION_STD),
        "clip": (constants.OPENAI_CLIP_MEAN, constants.OPENAI_CLIP_STD),
    }
    if choice == "auto":
        return encoder.pretrained_cfg["mean"], encoder.pretrained_cfg["std"]
    return named[choice]


@torch.no_grad()
def feature_width(encoder: nn.Module, image_size: int) -> int:
    """Width of an image encoder's features, by trying it: `num_features` is wrong where a conv head follows."""
    was_training = encoder.training
    encoder.eval()
    try:
        features = encoder(torch.zeros(1, 3, image_size, image_size))
        if not isinstance(features, Tensor) or features.ndim != 2:
            raise ValueError("it gives feature maps, not one vector for each image")
    except Exception as error:  # noqa: BLE001  each of timm's models refuses a size in its own way
        raise ClipeduError(
            f"image_size={image_size} does not fit the image encoder: {error} (a ViT takes image_options img_size and patch_size)"
        ) from None
    finally:
        encoder.train(was_training)
    return features.shape[1]


def pool_text(hidden: Tensor, mask: Tensor, how: str) -> Tensor:
    """One vector a text: hidden [B, L, H], mask [B, L] -> [B, H]. "cls" takes the first token, "mean" averages all."""
    if how == "cls":
        return hidden[:, 0]
    weight = mask.to(hidden.dtype)[..., None]
    return (hidden * weight).sum(1) / weight.sum(1)


@contextmanager
def _one_line(what: str, option: str, given: dict[str, Any]) -> Iterator[None]:
    """Each model refuses an option in its own way, and with any kind of error: tell it in one line."""
    try:
        yield
    except ClipeduError:
        raise
    except Exception as error:  # noqa: BLE001
        raise ClipeduError(f"{what}{f' with {option}={given}' if given else ''} can't be built: {error}") from None


def _names(kind: str) -> list[str]:
    return [name for name, entry in ENCODERS.items() if kind in entry.defaults]


_image_entry("test_resnet", "test_resnet", "timm's smallest ResNet, 0.4 M parameters: the scenes at 32 px")
_image_entry("resnet50", "resnet50", "the course's image encoder, 23.5 M parameters")
_image_entry("mobilenetv2_100", "mobilenetv2_100", "small ImageNet network, 2.2 M parameters")
_text_entry(
    "distilbert-nano",
    "distilbert",
    "2 layers, 64 wide, from scratch",
    dim=64,
    n_layers=2,
    n_heads=2,
    hidden_dim=256,
    max_position_embeddings=128,
)
_text_entry(
    "distilbert-tiny",
    "distilbert",
    "2 layers, 128 wide, from scratch",
    dim=128,
    n_layers=2,
    n_heads=4,
    hidden_dim=512,
    max_position_embeddings=128,
)
_text_entry(
    "distilbert-small",
    "distilbert",
    "4 layers, 256 wide, from scratch",
    dim=256,
    n_layers=4,
    n_heads=4,
    hidden_dim=1024,
    max_position_embeddings=128,
)
_text_entry(
    "distilbert-base-uncased", "distilbert", "the course's text encoder, 66 M parameters", hub="distilbert-base-uncased"
)
_vit_entries("nano", 4, 32, base=2, registers=21, embed_dim=64, depth=4, num_heads=4)
_vit_entries("nano", 8, 64, base=2, registers=21, embed_dim=64, depth=4, num_heads=4)
_vit_entries("tiny", 4, 64, base=4, registers=17, embed_dim=192, depth=12, num_heads=3)
_vit_entries("small", 16, 256, base=4, registers=17, embed_dim=384, depth=12, num_heads=6)
