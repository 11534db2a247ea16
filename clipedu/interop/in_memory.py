"""A model of open_clip or transformers that is in memory.

It was made or trained by the user. A copy of it is taken apart, so that it stays as it is.
"""

from __future__ import annotations

import copy
import sys
from typing import Any

from torch import nn

from clipedu.interop import open_clip_parts, transformers_parts
from clipedu.interop.image_settings import check_image_size
from clipedu.interop.parts import Parts
from clipedu.models.dual_encoder import DualEncoder
from clipedu.utils.errors import ClipeduError, without_trace

KINDS = "a CLIP, CustomTextCLIP or CoCa of open_clip, or a CLIPModel, SiglipModel, Siglip2Model or VisionTextDualEncoderModel of transformers"


def read_module(
    module: nn.Module, *, tokenizer: Any = None, image_processor: Any = None, image_size: int | None = None
) -> Parts:
    """Take a copy of a model apart.

    Args:
        module: the model, compiled, in `DistributedDataParallel` or with adapters of peft, too.
        tokenizer: of its library; or a processor of transformers, which holds an image processor, too.
        image_processor: of transformers; None takes the usual one of the class.
        image_size: height and width of the images; None takes the model's own.
    Raises:
        ClipeduError: a model of another kind, one without weights, no tokenizer, or what does not fit.
    """
    check_image_size(image_size)
    bare = _unwrapped(module)
    library, name = _library_of(bare), f"the {type(bare).__name__} in memory"
    if isinstance(bare, DualEncoder):
        raise ClipeduError("the DualEncoder in memory needs no adopting: use it as it is")
    if library is None:
        raise ClipeduError(f"{name} cannot be adopted: a model in memory is {KINDS}")
    if tokenizer is None:
        how = "open_clip.get_tokenizer(NAME)" if library == "open_clip" else "AutoTokenizer.from_pretrained(NAME)"
        raise ClipeduError(f"{name} does not say which tokenizer it has: clipedu.adopt(model, tokenizer={how})")
    if any(weight.is_meta for weight in bare.parameters()):
        raise ClipeduError(f"{name} has no weights: they are on the device 'meta'")
    tokenizer, image_processor = split_processor(tokenizer, image_processor)
    check_given(library, name, tokenizer, image_processor)
    try:
        own = copy.deepcopy(bare).cpu().float()
    except Exception as error:  # noqa: BLE001  weights that are results, quantized ones
        raise ClipeduError(
            f"{name} cannot be copied to float32 ({without_trace(error)}): save it, and adopt the folder"
        ) from None
    if library == "open_clip":
        return open_clip_parts.take_apart(own, tokenizer, name, image_size)
    if image_processor is None:
        image_processor = transformers_parts.plain_processor(own.config, name)
    if image_processor is None:
        raise ClipeduError(
            f"{name}: nothing is known of its images: clipedu.adopt(model, tokenizer=..., image_processor=AutoImageProcessor...)"
        )
    return transformers_parts.take_apart(own, tokenizer, image_processor, name, image_size)


def split_processor(tokenizer: Any, image_processor: Any) -> tuple[Any, Any]:
    """Return tokenizer and image processor.

    Args:
        tokenizer: may be a processor of transformers that holds both.
        image_processor: comes before the one that is held there.
    """
    inside = getattr(tokenizer, "image_processor", None)
    if inside is None or not hasattr(tokenizer, "tokenizer"):
        return tokenizer, image_processor
    return tokenizer.tokenizer, inside if image_processor is None else image_processor


def check_given(library: str, name: str, tokenizer: Any, image_processor: Any) -> None:
    """Check that tokenizer and image processor are of a model's library.

    Args:
        library: "open_clip" or "transformers".
        name: of the model, for messages.
        tokenizer, image_processor: as they were given; None is the model's own.
    Raises:
        ClipeduError: they are not.
    """
    theirs = "context_length" if library == "open_clip" else "pad_token_id"
    if tokenizer is not None and not (callable(tokenizer) and hasattr(tokenizer, theirs)):
        how = "open_clip.get_tokenizer(NAME)" if library == "open_clip" else "AutoTokenizer.from_pretrained(NAME)"
        raise ClipeduError(f"{name}: tokenizer={type(tokenizer).__name__} is no tokenizer of {library}: take {how}")
    if image_processor is None:
        return
    if library == "open_clip":
        raise ClipeduError(
            f"{name}: image_processor has no effect on a model of open_clip, which keeps mean and std in visual.preprocess_cfg: leave it out"
        )
    if not hasattr(image_processor, "do_normalize") and not hasattr(image_processor, "image_mean"):
        raise ClipeduError(
            f"{name}: image_processor={type(image_processor).__name__} is no image processor of transformers: take AutoImageProcessor.from_pretrained(NAME)"
        )


def _unwrapped(module: nn.Module) -> nn.Module:
    """Return a model without what compiling, parallel training and peft put around it."""
    inner: Any = module
    while True:
        if hasattr(inner, "_orig_mod"):
            inner = inner._orig_mod
        elif isinstance(inner, (nn.parallel.DistributedDataParallel, nn.DataParallel)):
            inner = inner.module
        elif hasattr(inner, "get_base_model"):
            inner = inner.get_base_model()
        else:
            return inner


def _library_of(module: nn.Module) -> str | None:
    """Return "open_clip", "transformers", or None for a model that is not taken."""
    library = sys.modules.get("open_clip")
    if library is not None and isinstance(module, (library.CLIP, library.CustomTextCLIP, library.CoCa)):
        return "open_clip"
    kind = getattr(getattr(module, "config", None), "model_type", None)
    classes = transformers_parts.model_classes() if "transformers" in sys.modules else {}
    return "transformers" if kind in classes and isinstance(module, classes[kind]) else None
