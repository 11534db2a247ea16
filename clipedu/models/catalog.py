"""The catalog of encoders that have a name of their own.

An entry holds defaults, which `build_image_encoder` and `build_text_encoder` read. To add an encoder, add a line at the end of
this file, or call `add_image_encoder` or `add_text_encoder` in your own code:

    add_image_encoder("resnet18-narrow", "resnet18", "half as wide", base_width=32)
    Experiment(image_encoder="resnet18-narrow")
"""

from __future__ import annotations

from functools import partial
from typing import Any

from clipedu.models.image_encoders import build_image_encoder
from clipedu.models.registry import ENCODERS, VISION_TRANSFORMERS
from clipedu.models.text_encoders import build_text_encoder


def add_image_encoder(name: str, timm_name: str, description: str, **options: Any) -> None:
    """Add an image encoder to the catalog.

    Args:
        name: what `Experiment.image_encoder` is given.
        timm_name: the timm model that it stands for.
        description: one line for menus and `clipedu list encoders`.
        options: defaults of further arguments of `timm.create_model`.
    """
    ENCODERS.add(name, partial(build_image_encoder, name), description, defaults={"timm": timm_name, **options})


def add_text_encoder(name: str, model_type: str, description: str, *, hub: str | None = None, **config: Any) -> None:
    """Add a text encoder to the catalog.

    Args:
        name: what `Experiment.text_encoder` is given.
        model_type: the transformers model type ("distilbert") or hub id that it stands for.
        description: one line for menus and `clipedu list encoders`.
        hub: hub id of its pretrained weights and tokenizer; None for an encoder that is trained from scratch.
        config: changes to the configuration of the model type.
    """
    weights = {} if hub is None else {"hub": hub}
    ENCODERS.add(
        name, partial(build_text_encoder, name), description, defaults={"transformers": model_type, **weights, **config}
    )


def _add_vision_transformers(
    size: str, patch_size: int, img_size: int, base: int, registers: int, **shape: int
) -> None:
    """Add a vision transformer of one shape in three variants.

    They are plain, with registers, and fractal.
    """
    grid, name = img_size // patch_size, f"vit_{size}_patch{patch_size}_{img_size}"
    shape |= {"img_size": img_size, "patch_size": patch_size, "base": base}
    what = f"vision transformer, {shape['embed_dim']} wide, {grid} x {grid} patches"
    fractal = f"{what}, {registers} summary tokens (windows {base} x {base}) under the fractal mask"
    kinds: list[tuple[str, str, dict[str, Any]]] = [
        (name, what, {}),
        (f"{name}_reg{registers}", f"{what}, {registers} registers", {"extra": "registers", "registers": registers}),
        (f"fractal_{name}", fractal, {"extra": "fractal"}),
    ]
    for own_name, description, options in kinds:
        add_image_encoder(own_name, own_name, description, **shape, **options)
        VISION_TRANSFORMERS.append(own_name)


add_image_encoder("test_resnet", "test_resnet", "timm's smallest ResNet, 0.4 M parameters: the scenes at 32 px")
add_image_encoder("resnet50", "resnet50", "the course's image encoder, 23.5 M parameters")
add_image_encoder("mobilenetv2_100", "mobilenetv2_100", "small ImageNet network, 2.2 M parameters")
add_text_encoder(
    "distilbert-nano",
    "distilbert",
    "2 layers, 64 wide, from scratch",
    dim=64,
    n_layers=2,
    n_heads=2,
    hidden_dim=256,
    max_position_embeddings=128,
)
add_text_encoder(
    "distilbert-tiny",
    "distilbert",
    "2 layers, 128 wide, from scratch",
    dim=128,
    n_layers=2,
    n_heads=4,
    hidden_dim=512,
    max_position_embeddings=128,
)
add_text_encoder(
    "distilbert-small",
    "distilbert",
    "4 layers, 256 wide, from scratch",
    dim=256,
    n_layers=4,
    n_heads=4,
    hidden_dim=1024,
    max_position_embeddings=128,
)
add_text_encoder(
    "distilbert-base-uncased", "distilbert", "the course's text encoder, 66 M parameters", hub="distilbert-base-uncased"
)
_add_vision_transformers("nano", 4, 32, base=2, registers=21, embed_dim=64, depth=4, num_heads=4)
_add_vision_transformers("nano", 8, 64, base=2, registers=21, embed_dim=64, depth=4, num_heads=4)
_add_vision_transformers("tiny", 4, 64, base=4, registers=17, embed_dim=192, depth=12, num_heads=3)
_add_vision_transformers("small", 16, 256, base=4, registers=17, embed_dim=384, depth=12, num_heads=6)
