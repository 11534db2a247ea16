"""Models of transformers, found and loaded.

They are CLIP, SigLIP, SigLIP 2 and `VisionTextDualEncoder`. What is read of a repository or a folder is config.json, the weights, the tokenizer and the image processor's mean, standard deviation
and way to make a picture square.
"""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch

from clipedu.interop.hub import from_model_hub, told
from clipedu.interop.parts import Parts
from clipedu.interop.sources import Source
from clipedu.interop.transformers_parts import model_classes, own_size, plain_processor, take_apart
from clipedu.models.weights import load_weights
from clipedu.utils.errors import ClipeduError
from clipedu.utils.hub import quiet
from clipedu.utils.importing import importing

_PROCESSORS = {"preprocessor_config.json", "processor_config.json"}
_REMEDY = "save the model again (model.save_pretrained)"


@importing()
def read_transformers(
    source: Source,
    weights: str | None,
    seed: int,
    *,
    tokenizer: Any = None,
    image_processor: Any = None,
    image_size: int | None = None,
) -> Parts:
    """Load a model of transformers and take it apart.

    Args:
        source: where it is.
        weights: None for its own, "random", or the path of a file.
        seed: of random weights.
        tokenizer, image_processor: of transformers; None takes the model's own.
        image_size: height and width of the images; None takes the model's own.
    Raises:
        ClipeduError: what is missing or does not fit, of weights, tokenizer or image processor.
    """
    import transformers

    hub = from_model_hub(source.where) if source.on_hub else nullcontext(True)
    with hub as local, quiet(bars=not local):
        with told(source.name, "its config.json", _REMEDY):
            config = transformers.AutoConfig.from_pretrained(source.where, local_files_only=local)
        processor = _image_processor(source, config, local) if image_processor is None else image_processor
        own_size(source.name, config.vision_config, processor, image_size)  # before weights are fetched
        reader = _tokenizer(source, local) if tokenizer is None else tokenizer
        model = _model(source, config, weights, seed, local)
    return take_apart(model, reader, processor, source.name, image_size)


def _model(source: Source, config: Any, weights: str | None, seed: int, local: bool) -> Any:
    """Return the library's model in float32, with its weights."""
    kind = model_classes()[config.model_type]
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
        unexpected = next(iter(sorted(found["unexpected_keys"])), None)
        also = f"; first in the file that the model does not have: {unexpected}" if unexpected else ""
        raise ClipeduError(
            f"the weights of {source.name} do not fit its config.json: {len(missing)} tensors are missing (first: {missing[0]}){also}"
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
            plain = None if saved else plain_processor(config, source.name)
            if plain is None:
                raise
            return plain
