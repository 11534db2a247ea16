"""Encoders by name: any timm image model, any transformers text model, and a few small ones for two CPU cores.

    timm names          resnet50, vit_small_patch16_224, mobilenetv2_100, ...
    transformers names  a hub id (distilbert-base-uncased) or a model type (distilbert, bert, roberta): then from its
                        default configuration, which needs no network
    our own             entries of `ENCODERS`: one of the above with settings that fit the embedded scenes

Weights are "random", "pretrained" (fetched from the hub by timm or transformers) or the path of a .safetensors file.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from clipedu.registry import ClipeduError, Registry, unknown_name

ENCODERS = Registry("encoder")


def _image_entry(name: str, timm_name: str, description: str, **options: Any) -> None:
    ENCODERS.add(name, build_image_encoder, description, defaults={"timm": timm_name, **options})


def _text_entry(name: str, model: str, description: str, **config: Any) -> None:
    ENCODERS.add(name, build_text_encoder, description, defaults={"transformers": model, **config})


def build_image_encoder(name: str, weights: str = "random", **options: Any) -> nn.Module:
    """A timm model without its classifier: pixels [B, 3, H, W] (normalised) -> features [B, F].

    Args:
        name: an image entry of `ENCODERS` or any name timm knows.
        weights: "random", "pretrained" or the path of a .safetensors file with the model's state dict.
        options: further arguments of `timm.create_model`.
    Raises:
        ClipeduError: unknown name or option, weights that can't be had or don't fit.
    """
    import timm

    settings = {"timm": name}
    if name in ENCODERS:
        settings = dict(ENCODERS[name].defaults)
        if "timm" not in settings:
            raise ClipeduError(f"{name!r} is a text encoder. Image encoders: {', '.join(_names('timm'))}, or any timm model")
    elif not timm.is_model(name.split(".")[0]):
        raise unknown_name("image encoder", name, _names("timm") + _nearest(name, timm.list_models()))
    timm_name = settings.pop("timm")
    try:
        with _one_line_errors(f"image encoder {name!r}", weights):
            model = timm.create_model(timm_name, pretrained=weights == "pretrained", num_classes=0, **{**settings, **options})
    except TypeError as error:
        raise ClipeduError(f"image_options={options} do not fit the image encoder {name!r}: {error}") from None
    _load_weights(model, weights, name)
    return model


def build_text_encoder(name: str, weights: str = "random", *, vocab_size: int | None = None, **config: Any) -> nn.Module:
    """A transformers model: token ids [B, L] and mask -> hidden states [B, L, H] (`.last_hidden_state`).

    Args:
        name: a text entry of `ENCODERS`, a transformers model type, or a hub id.
        weights: "random", "pretrained" or the path of a .safetensors file with the model's state dict.
        vocab_size: of the tokenizer in use, where the weights are not the hub's.
        config: changes to the model's configuration.
    Raises:
        ClipeduError: unknown name or option, weights that can't be had or don't fit.
    """
    from transformers import AutoModel

    configuration = text_config(name, **config)
    if weights == "pretrained":
        with _one_line_errors(f"text encoder {name!r}", weights):
            return AutoModel.from_pretrained(hub_id(name), config=configuration)
    if vocab_size is not None:
        configuration.vocab_size = vocab_size
    try:
        model = AutoModel.from_config(configuration)
    except (TypeError, ValueError) as error:
        raise ClipeduError(f"text_options={config} do not fit the text encoder {name!r}: {error}".splitlines()[0]) from None
    _load_weights(model, weights, name)
    return model


def text_config(name: str, **changes: Any):
    """The transformers configuration of a text encoder; reaches for the network only for an unknown hub id.

    Raises:
        ClipeduError: no such model type or hub id, an image encoder's name, or an option the configuration has not.
    """
    from transformers import AutoConfig
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

    settings = {"transformers": name}
    if name in ENCODERS:
        settings = dict(ENCODERS[name].defaults)
        if "transformers" not in settings:
            raise ClipeduError(f"{name!r} is an image encoder. Text encoders: {', '.join(_names('transformers'))}, "
                               "a transformers model type, or a hub id")
    model = settings.pop("transformers")
    settings.pop("hub", None)
    if model in CONFIG_MAPPING_NAMES:
        configuration = AutoConfig.for_model(model)
    elif "/" not in model and not model.startswith(tuple(CONFIG_MAPPING_NAMES)):
        raise unknown_name("text encoder", name, _names("transformers") + _nearest(name, CONFIG_MAPPING_NAMES))
    else:
        with _one_line_errors(f"text encoder {name!r}", "its configuration"):
            configuration = AutoConfig.from_pretrained(model)
    for key, value in {**settings, **changes}.items():
        if not hasattr(configuration, key):
            raise ClipeduError(f"text_options: {key!r} is not in the configuration of {name!r}. "
                               f"It has: {', '.join(sorted(k for k in configuration.to_dict() if k[0] != '_'))}")
        setattr(configuration, key, value)
    return configuration


def hub_id(name: str) -> str:
    """The name under which the hub knows a text encoder, for its weights and its tokenizer.

    Raises:
        ClipeduError: an entry made for training from scratch has none.
    """
    settings = ENCODERS[name].defaults if name in ENCODERS else {"hub": name}
    if "hub" not in settings:
        raise ClipeduError(f"text encoder {name!r} has no pretrained weights: use text_weights='random', or another encoder")
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
        width = encoder(torch.zeros(1, 3, image_size, image_size)).shape[-1]
    except (RuntimeError, AssertionError, ValueError) as error:
        raise ClipeduError(f"image_size={image_size} does not fit the image encoder: {str(error).splitlines()[0]} "
                           "(a ViT takes image_options img_size and patch_size)") from None
    encoder.train(was_training)
    return width


def pool_text(hidden: Tensor, mask: Tensor, how: str) -> Tensor:
    """One vector a text: hidden [B, L, H], mask [B, L] -> [B, H]. "cls" takes the first token, "mean" averages all."""
    if how == "cls":
        return hidden[:, 0]
    weight = mask.to(hidden.dtype)[..., None]
    return (hidden * weight).sum(1) / weight.sum(1)


def _load_weights(model: nn.Module, weights: str, name: str) -> None:
    if weights in ("random", "pretrained"):
        return
    from safetensors.torch import load_file

    path = Path(weights).expanduser()
    if not path.is_file():
        raise ClipeduError(f"weights {weights!r} for {name!r}: no such file. Allowed: random, pretrained, or a .safetensors file")
    try:
        state = load_file(path)
    except Exception as error:  # safetensors raises its own type for a file that is not one
        raise ClipeduError(f"weights {weights!r} for {name!r} can't be read as safetensors: {error}") from None
    wanted = {key: value.shape for key, value in model.state_dict().items()}
    unfit = [key for key in state if key in wanted and state[key].shape != wanted[key]]
    missing = [key for key in wanted if key not in state and not key.endswith("num_batches_tracked")]
    if unfit or missing:
        raise ClipeduError(f"weights {weights!r} do not fit {name!r}: {len(missing)} tensors missing, {len(unfit)} of another "
                           f"shape (first: {(missing + unfit)[0]})")
    model.load_state_dict({key: value for key, value in state.items() if key in wanted}, strict=False)


class _one_line_errors:
    """Whatever a hub client raises when it can't reach or find something becomes one line that says what to do."""

    def __init__(self, what: str, weights: str):
        self.what, self.weights = what, weights

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        if kind is None or issubclass(kind, (KeyboardInterrupt, ClipeduError, TypeError)):
            return False
        first = str(error).strip().splitlines()[0][:200] if str(error).strip() else kind.__name__
        raise ClipeduError(f"{self.what}: {self.weights} could not be had from the hub ({first}). It needs a network once; "
                           "or give weights 'random' or a .safetensors file") from None


def _names(kind: str) -> list[str]:
    return [name for name, entry in ENCODERS.items() if kind in entry.defaults]


def _nearest(name: str, all_names) -> list[str]:
    import difflib

    return difflib.get_close_matches(name, list(all_names), n=5, cutoff=0.6)


_image_entry("test_resnet", "test_resnet", "timm's smallest ResNet, 0.4 M parameters: the scenes at 32 px")
_image_entry("resnet50", "resnet50", "the course's image encoder, 23.5 M parameters")
_image_entry("mobilenetv2_100", "mobilenetv2_100", "small ImageNet network, 2.2 M parameters")
_text_entry("distilbert-nano", "distilbert", "2 layers, 64 wide, from scratch",
            dim=64, n_layers=2, n_heads=2, hidden_dim=256, max_position_embeddings=128)
_text_entry("distilbert-tiny", "distilbert", "2 layers, 128 wide, from scratch",
            dim=128, n_layers=2, n_heads=4, hidden_dim=512, max_position_embeddings=128)
_text_entry("distilbert-small", "distilbert", "4 layers, 256 wide, from scratch",
            dim=256, n_layers=4, n_heads=4, hidden_dim=1024, max_position_embeddings=128)
_text_entry("distilbert-base-uncased", "distilbert", "the course's text encoder, 66 M parameters",
            hub="distilbert-base-uncased")
