"""Models of transformers, taken apart.

A SigLIP's text projection is the linear layer that ends its text model; its image tower has none.
"""

from __future__ import annotations

import logging
from typing import Any

from torch import nn

from clipedu.interop.image_settings import check_patches, one_side, pixel_stats_of
from clipedu.interop.image_towers import PatchesImage, TransformersImage
from clipedu.interop.parts import Parts
from clipedu.interop.released_tokenizer import ReleasedTokenizer, check_pad, of_transformers
from clipedu.interop.text_towers import TransformersText
from clipedu.models.text_probe import probe
from clipedu.utils.errors import ClipeduError, quoted

log = logging.getLogger("clipedu")


def model_classes() -> dict[str, Any]:
    """Return the classes of models that are taken, by model type."""
    import transformers

    return {
        "clip": transformers.CLIPModel,
        "siglip": transformers.SiglipModel,
        "siglip2": transformers.Siglip2Model,
        "vision-text-dual-encoder": transformers.VisionTextDualEncoderModel,
    }


def take_apart(model: Any, tokenizer: Any, processor: Any, name: str, image_size: int | None = None) -> Parts:
    """Take a model of transformers apart. It is not of use afterwards.

    Args:
        model: of one of `model_classes`, in float32 on the CPU.
        tokenizer: of transformers.
        processor: its image processor.
        name: of the model, for messages.
        image_size: height and width of the images; None takes the model's own.
    Raises:
        ClipeduError: a tokenizer of another kind or without a pad token, images that are not square, or of a size that it cannot read.
    """
    config = model.config
    own = own_size(name, config.vision_config, processor, image_size)
    size = image_size or own
    if size != own:  # its own may leave some over, as 384 pixels in patches of 14 do
        check_patches(name, size, getattr(config.vision_config, "patch_size", None))
    mean, std = _mean_and_std(name, processor)
    siglip = config.model_type.startswith("siglip")
    image = (PatchesImage if config.model_type == "siglip2" else TransformersImage)(
        model.vision_model, size, resampled=size != own
    )
    reader = _reader(name, model, tokenizer, siglip=siglip)
    heads: dict[str, nn.Module] = {"image": nn.Identity(), "text": nn.Identity()}
    if siglip:  # its head is a projection, with a bias, after pooling
        heads["text"], model.text_model.head = model.text_model.head, nn.Identity()
    else:
        heads |= {"image": model.visual_projection, "text": model.text_projection}
    bias = getattr(model, "logit_bias", None)
    return Parts(
        name,
        image,
        TransformersText(model.text_model, masked=not siglip),
        heads["image"],
        heads["text"],
        reader,
        (reader.length, reader.pad_id) if siglip else None,
        size,
        mean,
        std,
        "crop" if getattr(processor, "do_center_crop", False) else "squash",
        float(model.logit_scale.detach()),
        None if bias is None else float(bias.detach()),
        own_size=own,
    )


def plain_processor(config: Any, name: str) -> Any:
    """Return an image processor as its class is by default.

    None where none is known.

    Args:
        config: of the model.
        name: of the model, for the log line that says which numbers are taken.
    """
    from transformers.models.auto.image_processing_auto import IMAGE_PROCESSOR_MAPPING as mapping

    for one in (config, config.vision_config):
        found = mapping.get(type(one), None)
        classes = list(found.values()) if isinstance(found, dict) else list(found or ())
        for kind in classes:
            if kind is not None:
                plain = kind()
                if hasattr(plain, "max_num_patches"):
                    plain.max_num_patches = config.vision_config.num_patches
                log.warning(
                    "%s comes without its image processor: mean %s and std %s are taken, the usual ones of %s",
                    name,
                    tuple(plain.image_mean),
                    tuple(plain.image_std),
                    type(plain).__name__.removesuffix("Pil"),
                )
                return plain
    return None


def own_size(name: str, config: Any, processor: Any, asked: int | None) -> int:
    """Return height and width of a model's images.

    They are those its positions are made for; 0 where they are not square.

    Args:
        name: of the model, for messages.
        config: of its vision model.
        processor: its image processor.
        asked: what a user wants instead; None takes the model's own.
    Raises:
        ClipeduError: images that are not square, and no other size was asked for.
    """
    if config.model_type == "siglip2_vision_model":
        return int(getattr(processor, "max_num_patches", config.num_patches) ** 0.5) * config.patch_size
    size = getattr(config, "image_size", None)
    if size is None:  # a convolutional network: what it was trained with
        both = getattr(processor, "crop_size", None) or getattr(processor, "size", None) or {}
        sides = {both.get(side) for side in ("height", "width")} if hasattr(both, "get") else set()
        size = next(iter(sides)) if len(sides) == 1 else None
    return one_side(name, size, asked)


def _mean_and_std(name: str, processor: Any) -> tuple[tuple[float, ...], tuple[float, ...]]:
    if not getattr(processor, "do_normalize", True):
        return (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    return pixel_stats_of(name, getattr(processor, "image_mean", None), getattr(processor, "image_std", None))


def _reader(name: str, model: Any, tokenizer: Any, *, siglip: bool) -> ReleasedTokenizer:
    """Return the tokenizer with the length of text that the model reads."""
    config = model.config.text_config
    longest = getattr(config, "max_position_embeddings", None)
    said = [limit for limit in (tokenizer.model_max_length, longest) if limit is not None]
    if not all(isinstance(limit, (int, float)) for limit in said):
        raise ClipeduError(
            f"{name}: its tokenizer's model_max_length={quoted(tokenizer.model_max_length)} must be a number of tokens: mend its "
            "tokenizer_config.json"
        )
    limits = [int(limit) for limit in said if 0 < limit < 10**6]
    if not limits:
        raise ClipeduError(
            f"{name}: neither its tokenizer (model_max_length) nor its text model says how long a text may be"
        )
    length = min(limits)
    check_pad(tokenizer.pad_token_id, config.vocab_size, name)
    if model.config.model_type == "vision-text-dual-encoder":
        ids = {token: getattr(tokenizer, f"{token}_token_id", None) for token in ("pad", "cls", "sep")}
        length = probe(model.text_model, name, length, ids).longest  # RoBERTa's positions begin after its padding id
    return of_transformers(tokenizer, length=length, vocab_size=config.vocab_size, name=name, right=not siglip)
