"""`ENCODERS`: encoders with a name of their own.

An entry is a set of defaults: a model of timm (`defaults["timm"]`) or of transformers (`defaults["transformers"]`) with
settings that fit the embedded scenes. `image_encoders.py` and `text_encoders.py` build from it; `vit.py` makes the vision
transformers known to timm. To add an encoder, add a line at the end of this file.
"""

from __future__ import annotations

from typing import Any

from clipedu.utils.registry import Registry

ENCODERS = Registry("encoder")


def _image_entry(name: str, timm_name: str, description: str, **options: Any) -> None:
    ENCODERS.add(name, None, description, defaults={"timm": timm_name, **options})


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
    ENCODERS.add(name, None, description, defaults={"transformers": model, **config})


def encoder_names(kind: str) -> list[str]:
    """Names of the entries of a kind: "timm" for image encoders, "transformers" for text encoders."""
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
