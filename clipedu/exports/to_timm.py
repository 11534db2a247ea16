"""The image tower alone, in the form of timm's hub.

That is a folder with config.json and model.safetensors.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from clipedu.exports.release import Release, check_equal, dropped_norms, has_bias, own_tower
from clipedu.exports.timm_tower import TimmTower
from clipedu.utils.errors import ClipeduError
from clipedu.utils.hub import quiet

SPHERES = ("cosine", "elliptic")  # geometries in which an embedding is its direction


def write_timm(release: Release, folder: Path, where: str, *, projection: bool = False) -> None:
    """Write the image tower for `timm.create_model("local-dir:...")`.

    Args:
        release: the model.
        folder: where to.
        where: what it will be called; not used, its files do not say where they are.
        projection: put the projection on it, as its classifier; without it the features come out.
    Raises:
        ClipeduError: a tower that timm does not have, or one whose classifier is no linear layer after the features.
    """
    import timm

    tower = plain_tower(release, "timm")
    model = _with_projection(release, tower) if projection else _plain(release, tower)
    size = (3, release.image_size, release.image_size)
    mode = "center" if release.resize == "crop" else "squash"
    data: dict[str, Any] = {"input_size": size, "mean": release.mean, "std": release.std}
    timm.models.save_for_hf(
        model,
        str(folder),
        model_config={"pretrained_cfg": {"license": None, "tag": "clipedu", "origin_url": None, "paper_ids": None}},
        safe_serialization=True,
        data_config=data | {"interpolation": "bicubic", "crop_pct": 1.0, "crop_mode": mode},
    )
    with quiet():
        loaded = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    compare_image(release, loaded, projection=projection)


def lines_timm(release: Release, where: str, hub: bool) -> str:
    """Return code that loads the tower and reads a picture."""
    return f"""\
import timm
from PIL import Image

model = timm.create_model("{"hf-hub" if hub else "local-dir"}:{where}", pretrained=True).eval()
transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model))

model(transform(Image.open("photo.jpg").convert("RGB"))[None])"""


def plain_tower(release: Release, library: str) -> TimmTower:
    """Return how timm makes a plain image encoder again.

    It is one with its last norm and without an attention mask, as not all libraries can be given others.

    Raises:
        ClipeduError: it is otherwise, or none of timm's.
    """
    tower = own_tower(release)
    if dropped_norms(release):
        raise ClipeduError(
            f"the encoders of {release.name} have no last norm (final_norm=false), and those of {library} have one: --to transformers "
            "and onnx leave it out"
        )
    if tower.mask is not None:
        raise ClipeduError(
            f"the image encoder of {release.name} has an attention mask of its own (fractal, ALiBi), for which {library} has no "
            "place: --to transformers and onnx keep it"
        )
    return tower


@torch.no_grad()
def compare_image(release: Release, loaded: nn.Module, *, projection: bool) -> None:
    """Check that a tower that was loaded again gives the model's embeddings."""
    model = release.model
    with torch.no_grad():
        image = loaded(model.normalise(release.pixels()))
        if not projection:
            image = model.project_image(image)
    check_equal(release, image, None, f"the image encoder of {release.name}")


def _plain(release: Release, tower: TimmTower) -> Any:
    """Return the tower with its weights."""
    made = tower.build()
    made.load_state_dict(release.model.image_encoder.state_dict())
    return made


@torch.no_grad()
def _with_projection(release: Release, tower: TimmTower) -> Any:
    """Return the tower with its weights and the projection as classifier."""
    if release.geometry not in SPHERES:
        raise ClipeduError(
            f"{release.name} is compared in the geometry {release.geometry!r}, which timm does not have: leave the projection out, "
            "or take --to transformers or onnx"
        )
    projection: Any = release.model.image_projection
    if not isinstance(projection, nn.Linear):
        raise ClipeduError(f"the image projection of {release.name} is no linear layer: leave it out")
    made = tower.build(num_classes=projection.out_features)
    head = made.get_classifier()
    if not isinstance(head, nn.Linear) or head.weight.shape != projection.weight.shape:
        raise ClipeduError(
            f"timm's {tower.architecture} has no linear classifier on its features: leave the projection out"
        )
    head.weight.copy_(projection.weight)
    if head.bias is not None:  # of timm's classifiers all have one
        head.bias.zero_()
        if has_bias(projection):
            head.bias.copy_(projection.bias)
    own = release.model.image_encoder.state_dict()
    unfit = made.load_state_dict(own, strict=False)
    missing = set(unfit.missing_keys) - {name for name, value in made.state_dict().items() if _is_of(value, head)}
    if unfit.unexpected_keys or missing:
        raise ClipeduError(f"timm's {tower.architecture} with a classifier is another model: leave the projection out")
    return made


def _is_of(value: torch.Tensor, layer: nn.Linear) -> bool:
    """Return whether a tensor of a state is that of a layer."""
    return any(value.data_ptr() == own.data_ptr() for own in layer.parameters())
