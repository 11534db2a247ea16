"""A model for open_clip, with towers of timm and transformers.

The folder holds open_clip_config.json, the weights, the tokenizer, and one config.json with what open_clip asks of other libraries:
the text tower's configuration, and the arguments of an image tower that timm cannot make by its name alone. open_clip reads that
file by the name of a folder or repository, so its own settings say where they are: a folder that was moved needs another
`hf_model_name`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from clipedu.exports import own_open_clip
from clipedu.exports.bert import bert_config, bert_state
from clipedu.exports.reading import save_reading
from clipedu.exports.release import Release, check_equal, has_bias, own_tower
from clipedu.exports.timm_tower import TimmTower
from clipedu.exports.to_timm import plain_tower
from clipedu.interop.open_clip_parts import quiet_open_clip
from clipedu.utils.errors import ClipeduError
from clipedu.utils.files import write_json, write_text
from clipedu.utils.hub import quiet

CONFIG, WEIGHTS = "open_clip_config.json", "open_clip_model.safetensors"
POOLERS = {"mean": "mean_pooler", "cls": "cls_last_hidden_state_pooler"}
TEXTS = ("bert", "roberta", "xlm-roberta", "distilbert")  # the last one is written as the first


def write_open_clip(release: Release, folder: Path, where: str) -> None:
    """Write a model for `open_clip.create_model_from_pretrained`.

    Args:
        release: the model.
        folder: where to.
        where: the folder in which it will be, or its repository on the hub: `hf_model_name` of its settings.
    Raises:
        ClipeduError: open_clip is not installed, towers or a geometry that it does not have, or embeddings that are not equal when
            it is loaded again.
    """
    from safetensors.torch import save_file

    try:
        import open_clip
    except ImportError:
        raise ClipeduError(
            "--to open_clip needs open_clip, which is not installed: pip install 'clipedu[open_clip]'"
        ) from None
    if own_open_clip.fits(release):
        own_open_clip.write_own(release, folder, where)
        return
    tower = plain_tower(release, "open_clip")
    _check(release)
    text = _text_config(release)
    write_json(folder / "config.json", {**text.to_dict(), **_timm_settings(release, tower)})
    write_text(folder / CONFIG, settings_text(release, str(folder)))
    save_reading(release, folder)
    save_file(_state(release), folder / WEIGHTS)
    with quiet_open_clip(), quiet():
        try:
            loaded = open_clip.create_model(f"local-dir:{folder}", require_pretrained=True).eval()
            tokenizer = open_clip.get_tokenizer(f"local-dir:{folder}")
        except RuntimeError as error:
            reason = str(error).splitlines()[0]
            raise ClipeduError(
                f"{release.name} cannot be exported to open_clip, which builds its towers otherwise ({reason}): --to transformers "
                "or onnx"
            ) from None
    with torch.no_grad():
        image = loaded.encode_image(release.model.normalise(release.pixels()))
        check_equal(release, image, loaded.encode_text(tokenizer(release.texts)), f"{release.name} for open_clip")
    write_text(folder / CONFIG, settings_text(release, where))


def settings(release: Release, where: str) -> dict[str, Any]:
    """Return open_clip_config.json of a model.

    Args:
        release: the model.
        where: its folder, or its repository on the hub.
    """
    if own_open_clip.fits(release):
        return own_open_clip.own_settings(release, where)
    tower = own_tower(release)
    source = f"local-dir:{where}" if Path(where).is_absolute() else f"hf-hub:{where}"
    text: dict[str, Any] = {
        "context_length": release.length,
        "vocab_size": release.model.tokenizer.vocab_size,
        "hf_tokenizer_name": where,
        "hf_model_name": where,
        "hf_model_pretrained": False,
        "hf_pooler_type": POOLERS[release.model.text_pooling],
        "hf_proj_type": "linear",
    }
    image: dict[str, Any] = {
        "timm_model_name": tower.architecture if _by_name(tower) else source,
        "timm_model_pretrained": False,
        "timm_pool": "",
        "timm_proj": "linear",
        "timm_proj_bias": has_bias(release.model.image_projection),
        "image_size": release.image_size,
    }
    model: dict[str, Any] = {"embed_dim": release.dim, "custom_text": True, "vision_cfg": image, "text_cfg": text}
    if release.bias is not None:
        model["init_logit_bias"] = release.bias
    pixels = {
        "mean": release.mean,
        "std": release.std,
        "interpolation": "bicubic",
        "resize_mode": "shortest" if release.resize == "crop" else "squash",
    }
    return {"model_cfg": model, "preprocess_cfg": pixels}


def settings_text(release: Release, where: str) -> str:
    """Return the text of open_clip_config.json.

    Args:
        release, where: as of `settings`.
    """
    return json.dumps(settings(release, where), indent=2) + "\n"


def lines_open_clip(release: Release, where: str, hub: bool) -> str:
    """Return code that loads the model and compares a picture with two texts."""
    source = f"{'hf-hub' if hub else 'local-dir'}:{where}"
    logits = (
        "model.get_logits(image, text)[0]"
        if own_open_clip.has_logits(release)
        else "(model.logit_scale.exp() * model.encode_image(image) @ model.encode_text(text).T)"
    )
    return f"""\
import open_clip
from PIL import Image

model, preprocess = open_clip.create_model_from_pretrained({json.dumps(source)})
tokenizer = open_clip.get_tokenizer({json.dumps(source)})
model.eval()

image, text = preprocess(Image.open("photo.jpg"))[None], tokenizer(["a red star", "a blue circle"])
{logits}.softmax(dim=-1)"""


def _check(release: Release) -> None:
    """Refuse what open_clip does not compute."""
    model: Any = release.model
    elsewhere = "--to transformers and onnx have one"
    if release.geometry != "cosine":
        raise ClipeduError(
            f"{release.name} is compared in the geometry {release.geometry!r}, and open_clip knows the cosine alone: --to transformers "
            "and onnx take any"
        )
    kind = getattr(getattr(model.text_encoder, "config", None), "model_type", type(model.text_encoder).__name__)
    if model.text_pooling == "own" or kind not in TEXTS:
        raise ClipeduError(
            f"the text encoder of {release.name} is of the kind {kind!r}, and open_clip takes {', '.join(TEXTS)}: --to transformers "
            "and onnx take any"
        )
    if model.text_pooling not in POOLERS:
        raise ClipeduError(
            f"{release.name} has text_pooling={model.text_pooling!r}, and open_clip's towers of this kind have {', '.join(POOLERS)}: "
            "--to transformers and onnx take it"
        )
    for side in ("image", "text"):
        if not isinstance(getattr(model, f"{side}_projection"), nn.Linear):
            raise ClipeduError(f"the {side} projection of {release.name} is no linear layer: --to onnx takes any")
    if has_bias(model.text_projection):
        raise ClipeduError(
            f"the text projection of {release.name} has a bias (projection_bias=true), for which open_clip has no place: {elsewhere}"
        )


def _text_config(release: Release) -> Any:
    text: Any = release.model.text_encoder
    return bert_config(text.config) if text.config.model_type == "distilbert" else text.config


def _by_name(tower: TimmTower) -> bool:
    """Return whether timm makes a tower by its name alone."""
    return not {key: value for key, value in tower.args.items() if key != "num_classes"}


def _timm_settings(release: Release, tower: TimmTower) -> dict[str, Any]:
    """Return what timm reads of config.json; nothing where a name says all."""
    if _by_name(tower):
        return {}
    size = [3, release.image_size, release.image_size]
    record = {"input_size": size, "mean": release.mean, "std": release.std, "num_classes": 0}
    return {"architecture": tower.architecture, "num_classes": 0, "model_args": tower.args, "pretrained_cfg": record}


def _state(release: Release) -> dict[str, Tensor]:
    """Return the weights under open_clip's names."""
    model: Any = release.model
    text = model.text_encoder.state_dict()
    if model.text_encoder.config.model_type == "distilbert":
        text = bert_state(text)
    state = {f"visual.trunk.{name}": value for name, value in model.image_encoder.state_dict().items()}
    state |= {f"text.transformer.{name}": value for name, value in text.items() if not name.startswith("pooler.")}
    state["visual.head.proj.weight"] = model.image_projection.weight
    if has_bias(model.image_projection):
        state["visual.head.proj.bias"] = model.image_projection.bias
    state["text.proj.weight"] = model.text_projection.weight
    state["logit_scale"] = torch.tensor(1.0 if release.scale is None else release.scale.logit_scale).log()
    if release.bias is not None:
        state["logit_bias"] = torch.tensor(release.bias)
    return {name: value.detach().clone().contiguous() for name, value in state.items()}
