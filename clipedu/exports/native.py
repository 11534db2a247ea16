"""Models of transformers' own classes.

They are CLIP, SigLIP, SigLIP 2 and `VisionTextDualEncoder`.

A model that came from there, trained further or not, goes back into its class: towers and projections under the names they have there.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from clipedu.exports.reading import check_tokens, image_processor, library_tokenizer
from clipedu.exports.release import Release, check_equal, has_bias
from clipedu.interop.image_towers import TransformersImage
from clipedu.interop.text_towers import TransformersText
from clipedu.utils.errors import ClipeduError
from clipedu.utils.hub import quiet


def fits(release: Release) -> bool:
    """Return whether both towers are vision and text models of transformers."""
    model = release.model
    return isinstance(model.image_encoder, TransformersImage) and isinstance(model.text_encoder, TransformersText)


def family(release: Release) -> str:
    """Return the kind of a model that `fits`.

    It is "CLIP", "Siglip", "Siglip2" or "VisionTextDualEncoder".
    """
    towers: Any = release.model
    kinds = (towers.image_encoder.vision_model.config.model_type, towers.text_encoder.text_model.config.model_type)
    known = {"clip": "CLIP", "siglip": "Siglip", "siglip2": "Siglip2"}
    for kind, name in known.items():
        if kinds == (f"{kind}_vision_model", f"{kind}_text_model"):
            return name
    return "VisionTextDualEncoder"


def text_options(release: Release) -> dict[str, Any]:
    """Return what its processor must be called with, beside the texts: SigLIP reads texts padded to one length."""
    if release.model.text_padding is None:
        return {"padding": True, "truncation": True}
    return {"padding": "max_length", "max_length": release.model.text_padding[0], "truncation": True}


def call_options(release: Release) -> dict[str, Any]:
    """Return what its processor must be called with, beside texts and images.

    That of SigLIP 2 has a size of patches and a number of its own, whatever its image processor has.
    """
    if family(release) != "Siglip2":
        return text_options(release)
    patch, count = _patches(release)
    return text_options(release) | {"patch_size": patch, "max_num_patches": count}


def _patches(release: Release) -> tuple[int, int]:
    towers: Any = release.model
    side = towers.image_encoder.vision_model.config.patch_size
    return side, (release.image_size // side) ** 2


def write(release: Release, folder: Path) -> None:
    """Write a model in its class, with its processor.

    Raises:
        ClipeduError: a projection with a bias where the class has none, a loss with a bias likewise, or embeddings that are not
            equal when it is loaded again.
    """
    import transformers

    name = family(release)
    siglip = name.startswith("Siglip")
    _check(release, name)
    with quiet():
        made = getattr(transformers, f"{name}Model")(_config(release, name)).eval()
        made.load_state_dict(_state(release, siglip, made), strict=True)
        made.save_pretrained(folder)
        _processor(release, name).save_pretrained(folder)
        loaded = transformers.AutoModel.from_pretrained(folder, local_files_only=True).eval()
        read = transformers.AutoProcessor.from_pretrained(folder, local_files_only=True)
    if not siglip:  # whose texts are padded to one length
        check_tokens(release, read.tokenizer)
    _compare(release, loaded, read)


def _check(release: Release, name: str) -> None:
    siglip = name.startswith("Siglip")
    if not siglip and (has_bias(release.model.image_projection) or has_bias(release.model.text_projection)):
        raise ClipeduError(
            f"the projections of {release.name} have a bias, for which transformers' {name} has no place: --to onnx keeps it"
        )
    if not siglip and release.bias:
        raise ClipeduError(
            f"the loss of {release.name} has learned a bias, {release.bias:.3f}, for which transformers' {name} has no place: "
            "--to onnx leaves logits to you"
        )
    if release.geometry != "cosine":
        raise ClipeduError(
            f"{release.name} is compared in the geometry {release.geometry!r}, and transformers' {name} by the cosine: --to onnx "
            "takes any"
        )


def _config(release: Release, name: str) -> Any:
    """Return the configuration of both towers together."""
    import transformers

    towers: Any = release.model
    both = {
        "vision_config": towers.image_encoder.vision_model.config.to_dict(),
        "text_config": towers.text_encoder.text_model.config.to_dict(),
    }
    sizes = {} if name.startswith("Siglip") else {"projection_dim": release.dim}
    return getattr(transformers, f"{name}Config")(**both, **sizes)


def _state(release: Release, siglip: bool, made: Any) -> dict[str, torch.Tensor]:
    """Return the weights under the names of the class."""
    renamed = {
        "image_encoder.vision_model.": "vision_model.",
        "text_encoder.text_model.": "text_model.",
        "image_projection.": "visual_projection.",
        "text_projection.": "text_model.head." if siglip else "text_projection.",
    }
    state = {}
    for key, value in release.model.state_dict().items():
        begin = next((old for old in renamed if key.startswith(old)), None)
        if begin is not None:
            state[renamed[begin] + key.removeprefix(begin)] = value
    scale = torch.tensor(1.0 if release.scale is None else release.scale.logit_scale).log()
    state["logit_scale"] = scale.expand(made.logit_scale.shape)
    if siglip:
        state["logit_bias"] = torch.tensor(release.bias or 0.0).expand(made.logit_bias.shape)
    return state


def _processor(release: Release, name: str) -> Any:
    import transformers

    images = image_processor(release)
    if name == "Siglip2":
        patch, patches = _patches(release)
        images = transformers.Siglip2ImageProcessor(
            patch_size=patch, max_num_patches=patches, image_mean=release.mean, image_std=release.std
        )
    tokenizer = library_tokenizer(release, mask=not name.startswith("Siglip"))
    return getattr(transformers, f"{name}Processor")(images, tokenizer)


@torch.no_grad()
def _compare(release: Release, loaded: Any, processor: Any) -> None:
    """Check that class and processor give the model's own embeddings."""
    towers: Any = release.model
    image = loaded.get_image_features(**towers.image_encoder.inputs(towers.normalise(release.pixels())))
    text = loaded.get_text_features(**processor(text=release.texts, return_tensors="pt", **text_options(release)))
    image, text = (getattr(out, "pooler_output", out) for out in (image, text))  # older versions give the tensor
    check_equal(release, image, text, f"{release.name} for transformers")
