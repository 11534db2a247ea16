"""Models of transformers, taken apart.

They are CLIP, SigLIP, SigLIP 2 and `VisionTextDualEncoder`. What is read of a repository or a folder is config.json, the weights, the tokenizer and the image processor's mean, standard deviation
and way to make a picture square. A SigLIP's text projection is the linear layer that ends its text model; its image tower has none.
"""

from __future__ import annotations

import logging
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import nn

from clipedu.interop.hub import from_model_hub, told
from clipedu.interop.image_towers import PatchesImage, TransformersImage
from clipedu.interop.parts import Parts
from clipedu.interop.released_tokenizer import ReleasedTokenizer, of_transformers
from clipedu.interop.sources import Source
from clipedu.interop.text_towers import TransformersText
from clipedu.models.text_probe import probe
from clipedu.models.weights import load_weights
from clipedu.utils.errors import ClipeduError, quoted
from clipedu.utils.hub import quiet
from clipedu.utils.importing import importing

log = logging.getLogger("clipedu")
_PROCESSORS = {"preprocessor_config.json", "processor_config.json"}
_REMEDY = "save the model again (model.save_pretrained)"


@importing()
def read_transformers(source: Source, weights: str | None, seed: int) -> Parts:
    """Load a model of transformers and take it apart.

    Args:
        source: where it is.
        weights: None for its own, "random", or the path of a file.
        seed: of random weights.
    Raises:
        ClipeduError: what is missing or does not fit, of weights, tokenizer or image processor.
    """
    import transformers

    hub = from_model_hub(source.where) if source.on_hub else nullcontext(True)
    with hub as local, quiet(bars=not local):
        with told(source.name, "its config.json", _REMEDY):
            config = transformers.AutoConfig.from_pretrained(source.where, local_files_only=local)
        processor = _image_processor(source, config, local)
        size = _image_size(source.name, config.vision_config, processor)
        tokenizer = _tokenizer(source, local)
        model = _model(source, config, weights, seed, local)
    siglip = config.model_type.startswith("siglip")
    image = (PatchesImage if config.model_type == "siglip2" else TransformersImage)(model.vision_model, size)
    reader = _reader(source.name, model, tokenizer, siglip=siglip)
    heads: dict[str, nn.Module] = {"image": nn.Identity(), "text": nn.Identity()}
    if siglip:  # its head is a projection, with a bias, after pooling
        heads["text"], model.text_model.head = model.text_model.head, nn.Identity()
    else:
        heads |= {"image": model.visual_projection, "text": model.text_projection}
    bias = getattr(model, "logit_bias", None)
    mean, std = _mean_and_std(processor)
    return Parts(
        source.name,
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
        0.0 if bias is None else float(bias.detach()),
    )


def _model(source: Source, config: Any, weights: str | None, seed: int, local: bool) -> Any:
    """Return the library's model in float32, with its weights."""
    import transformers

    classes = {
        "clip": transformers.CLIPModel,
        "siglip": transformers.SiglipModel,
        "siglip2": transformers.Siglip2Model,
        "vision-text-dual-encoder": transformers.VisionTextDualEncoderModel,
    }
    kind: Any = classes[config.model_type]
    if weights is not None:
        with torch.random.fork_rng(devices=[]), told(source.name, "its config.json", _REMEDY):
            torch.default_generator.manual_seed(seed)
            model = kind._from_config(config, dtype=torch.float32)
        load_weights(model, weights, source.name)
        return model
    with told(source.name, "its weights", _REMEDY):
        model, found = kind.from_pretrained(
            source.where,
            dtype=torch.float32,
            local_files_only=local,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # they are told below
        )
    if unfit := sorted(found["mismatched_keys"]):
        name, theirs, ours = unfit[0]
        raise ClipeduError(
            f"the weights of {source.name} do not fit its config.json: {len(unfit)} tensors have another shape (first: {name}: "
            f"{list(theirs)} in the file, {list(ours)} in the model)"
        )
    if missing := sorted(found["missing_keys"]):
        raise ClipeduError(
            f"the weights of {source.name} do not fit its config.json: {len(missing)} tensors are missing (first: {missing[0]})"
        )
    return model


def _tokenizer(source: Source, local: bool) -> Any:
    from transformers import AutoTokenizer, PreTrainedTokenizerFast
    from transformers.models.auto.tokenization_auto import get_tokenizer_config

    remedy = "save the tokenizer beside it (tokenizer.save_pretrained), and install what it needs"
    with told(source.name, "its tokenizer", remedy):
        try:
            tokenizer = AutoTokenizer.from_pretrained(source.where, local_files_only=local)
        except Exception:  # noqa: BLE001  it takes the usual class of the model, whatever was saved
            saved = get_tokenizer_config(source.where, local_files_only=local).get("tokenizer_class")
            if saved not in ("PreTrainedTokenizerFast", "TokenizersBackend"):
                raise
            tokenizer = PreTrainedTokenizerFast.from_pretrained(source.where, local_files_only=local)
        if len(tokenizer) <= len(set(tokenizer.all_special_ids)):
            raise ValueError("it has no vocabulary")
    return tokenizer


def _image_processor(source: Source, config: Any, local: bool) -> Any:
    """Return the image processor; that of its kind of vision model where none was saved."""
    from transformers import AutoImageProcessor

    remedy = (
        "save the image processor beside it (image_processor.save_pretrained): it has mean, standard deviation and size"
    )
    with told(source.name, "its image processor", remedy):
        try:
            return AutoImageProcessor.from_pretrained(source.where, local_files_only=local)
        except Exception:  # noqa: BLE001  OSError, ValueError, KeyError: nothing is there, or it cannot be read
            saved = source.on_hub or {path.name for path in Path(source.where).iterdir()} & _PROCESSORS
            plain = None if saved else _plain_processor(config)
            if plain is None:
                raise
    log.warning(
        "%s was saved without its image processor: mean %s and std %s are taken, the usual ones of %s",
        source.name,
        *_mean_and_std(plain),
        type(plain).__name__.removesuffix("Pil"),
    )
    return plain


def _plain_processor(config: Any) -> Any:
    """Return an image processor as its class is by default; None where none is known."""
    from transformers.models.auto.image_processing_auto import IMAGE_PROCESSOR_MAPPING as mapping

    for one in (config, config.vision_config):
        found = mapping.get(type(one), None)
        classes = list(found.values()) if isinstance(found, dict) else list(found or ())
        for kind in classes:
            if kind is not None:
                return kind()
    return None


def _image_size(name: str, config: Any, processor: Any) -> int:
    """Return height and width of a model's images, those its positions are made for."""
    if config.model_type == "siglip2_vision_model":
        return int(getattr(processor, "max_num_patches", config.num_patches) ** 0.5) * config.patch_size
    size = getattr(config, "image_size", None)
    if size is None:  # a convolutional network: what it was trained with
        both = getattr(processor, "crop_size", None) or getattr(processor, "size", None) or {}
        sides = {both.get(side) for side in ("height", "width")} if hasattr(both, "get") else set()
        size = next(iter(sides)) if len(sides) == 1 else None
    if isinstance(size, (list, tuple)) and len(set(size)) == 1:
        size = size[0]
    if not isinstance(size, int):
        raise ClipeduError(f"{name}: images of {quoted(size)} pixels are not square, and clipedu's are")
    return size


def _mean_and_std(processor: Any) -> tuple[tuple[float, ...], tuple[float, ...]]:
    if not getattr(processor, "do_normalize", True):
        return (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    return tuple(processor.image_mean), tuple(processor.image_std)


def _reader(name: str, model: Any, tokenizer: Any, *, siglip: bool) -> ReleasedTokenizer:
    """Return the tokenizer with the length of text that the model reads."""
    config = model.config.text_config
    longest = getattr(config, "max_position_embeddings", None)
    limits = [int(limit) for limit in (tokenizer.model_max_length, longest) if limit and limit < 10**6]
    if not limits:
        raise ClipeduError(
            f"{name}: neither its tokenizer (model_max_length) nor its text model says how long a text may be"
        )
    length = min(limits)
    if model.config.model_type == "vision-text-dual-encoder" and tokenizer.pad_token_id is not None:
        ids = {token: getattr(tokenizer, f"{token}_token_id", None) for token in ("pad", "cls", "sep")}
        length = probe(model.text_model, name, length, ids).longest  # RoBERTa's positions begin after its padding id
    return of_transformers(tokenizer, length=length, vocab_size=config.vocab_size, name=name, right=not siglip)
