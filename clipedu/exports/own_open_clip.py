"""A model of open_clip's own, trained further or not, back to open_clip.

Its settings are those it came with. The library builds the model from them; what `clipedu.adopt` does to it is done, so that weights find
their places, and undone.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from clipedu.exports.reading import image_processor, transformers_tokenizer
from clipedu.exports.release import Release, check_equal
from clipedu.interop.open_clip_parts import quiet_open_clip, take_apart
from clipedu.interop.parts import assemble
from clipedu.interop.sources import OPEN_CLIP_CONFIG, find_source
from clipedu.interop.text_towers import OpenClipText
from clipedu.utils.errors import ClipeduError
from clipedu.utils.files import read_json, write_text
from clipedu.utils.hub import quiet

WEIGHTS = "open_clip_model.safetensors"
KEPT = "released"  # folder of a run that began with a released model: its settings, in the form of its library


def fits(release: Release) -> bool:
    """Return whether a model is one of open_clip's."""
    return isinstance(release.model.text_encoder, OpenClipText)


def has_logits(release: Release) -> bool:
    """Return whether open_clip's class has `get_logits`: CoCa has not."""
    return not fits(release) or "multimodal_cfg" not in _model_settings(release)


def own_settings(release: Release, where: str) -> dict[str, Any]:
    """Return open_clip_config.json of a model of open_clip.

    Args:
        release: the model.
        where: its folder, or its repository on the hub.
    Raises:
        ClipeduError: the settings it came with are not there any more.
    """
    model = dict(_model_settings(release)) | {"custom_text": True}
    text = dict(model["text_cfg"])
    if text.get("hf_model_name"):
        text |= {"hf_model_name": where, "hf_model_pretrained": False}
    if transformers_tokenizer(release) is not None:
        text["hf_tokenizer_name"] = where
    if release.bias is not None:
        model["init_logit_bias"] = release.bias
    model["text_cfg"] = text
    pixels = {"mean": release.mean, "std": release.std, "interpolation": "bicubic"}
    return {
        "model_cfg": model,
        "preprocess_cfg": pixels | {"resize_mode": "squash" if release.resize == "squash" else "shortest"},
    }


def write_own(release: Release, folder: Path, where: str) -> None:
    """Write a model of open_clip in its own form.

    Args:
        release, folder, where: as those of `clipedu.exports.to_open_clip.write_open_clip`.
    Raises:
        ClipeduError: its settings are missing, or embeddings that are not equal when it is loaded again.
    """
    import open_clip
    from safetensors.torch import save_file

    if release.geometry != "cosine":
        raise ClipeduError(
            f"{release.name} is compared in the geometry {release.geometry!r}, and open_clip knows the cosine alone: --to onnx takes any"
        )
    write_text(folder / OPEN_CLIP_CONFIG, json.dumps(own_settings(release, str(folder)), indent=2) + "\n")
    inner: Any = release.model.get_submodule("text_encoder.text")
    with quiet_open_clip(), quiet():
        image_processor(release).save_pretrained(folder)
        if (tokenizer := transformers_tokenizer(release)) is not None:
            tokenizer.save_pretrained(folder)
        if hasattr(inner, "pooler"):
            inner.config.save_pretrained(folder)
        source = f"local-dir:{folder}"
        made = open_clip.create_model(source, load_weights=False, pretrained_text=False)
        save_file(_state(release, made, open_clip.get_tokenizer(source)), folder / WEIGHTS)
        loaded = open_clip.create_model(source, require_pretrained=True).eval()
        tokens = open_clip.get_tokenizer(source)(release.texts)
    with torch.no_grad():
        image = loaded.encode_image(release.model.normalise(release.pixels()), normalize=False)  # as CoCa does unasked
        text = loaded.encode_text(tokens, normalize=False)
        check_equal(release, image, text, f"{release.name} for open_clip")
    write_text(folder / OPEN_CLIP_CONFIG, json.dumps(own_settings(release, where), indent=2) + "\n")


def _model_settings(release: Release) -> dict[str, Any]:
    """Return the settings that a model came with, without those of pixels."""
    import open_clip

    if release.run is not None:
        found = read_json(release.run.folder / KEPT / OPEN_CLIP_CONFIG).get("model_cfg")
    else:
        with quiet_open_clip():
            found = open_clip.get_model_config(find_source(release.name).where)
        quick = any(type(module).__name__ == "QuickGELU" for module in release.model.modules())
        found = None if found is None else {**found, "quick_gelu": quick}  # by the weights, whatever the name says
    if not found:
        raise ClipeduError(f"{release.name} does not say any more which model of open_clip it is: --to onnx takes any")
    vision, size = found["vision_cfg"], release.image_size
    if vision.get("timm_model_name") and vision.get("image_size", size) != size and _has_positions(release):
        raise ClipeduError(
            f"{release.name} reads images of {size} x {size} pixels, and open_clip builds {vision['timm_model_name']} for "
            f"{vision['image_size']} x {vision['image_size']} alone: --to timm or onnx takes it"
        )
    return {**found, "vision_cfg": {**vision, "image_size": size}}


def _has_positions(release: Release) -> bool:
    return any(name.endswith("pos_embed") for name, _ in release.model.named_parameters())


@torch.no_grad()
def _state(release: Release, made: Any, tokenizer: Any) -> dict[str, Tensor]:
    """Return the weights under open_clip's names.

    Args:
        release: the model.
        made: open_clip's, with random weights; they are set.
        tokenizer: of open_clip.
    """
    whole = [
        (module, dict(module.named_parameters(recurse=False)), dict(module.named_children()))
        for module in made.modules()
    ]
    twin = assemble(take_apart(made, tokenizer, release.name), torch.float32)
    twin.load_state_dict(release.model.state_dict())
    for module, parameters, children in whole:  # what was taken away comes back, and is set by now
        for name, part in (*parameters.items(), *children.items()):
            setattr(module, name, part)
    matrices = ((made.visual, "proj", twin.image_projection), (made.text, "text_projection", twin.text_projection))
    for tower, name, projection in matrices:
        matrix = getattr(tower, name, None)
        if isinstance(matrix, nn.Parameter):
            matrix.copy_(projection.weight.T)  # type: ignore[union-attr,arg-type]
    scale = 1.0 if release.scale is None else release.scale.logit_scale
    made.logit_scale.fill_(torch.tensor(scale).log())
    if made.logit_bias is not None:
        made.logit_bias.fill_(release.bias or 0.0)
    return {name: value.detach().clone().contiguous() for name, value in made.state_dict().items()}
