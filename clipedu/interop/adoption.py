"""`adopt`: a released model, or one in memory, as a `DualEncoder`."""

from __future__ import annotations

import os
from typing import Any

import torch
from torch import nn

from clipedu.interop.from_open_clip import read_open_clip
from clipedu.interop.from_transformers import read_transformers
from clipedu.interop.image_settings import check_image_size
from clipedu.interop.in_memory import check_given, read_module, split_processor
from clipedu.interop.parts import assemble
from clipedu.interop.sources import find_source
from clipedu.models.dual_encoder import DualEncoder
from clipedu.utils.errors import ClipeduError, quoted


def adopt(
    model: str | os.PathLike | nn.Module,
    weights: str | os.PathLike | None = None,
    *,
    tokenizer: Any = None,
    image_processor: Any = None,
    image_size: int | None = None,
    dtype: torch.dtype = torch.float32,
    seed: int = 0,
) -> DualEncoder:
    """Load a released model, to score it and to look into it.

    Its towers are its library's own modules, with their names; embeddings equal the library's. It brings its own tokenizer, image size
    (`image_size`: open pairs with that, and with `resize`), mean and standard deviation of the pixels, and `logit_scale` and `logit_bias`.
    The geometry is the cosine.

    Args:
        model: "open_clip:ViT-B-32" (a name of `open_clip.list_models()`), "hf:openai/clip-vit-base-patch32" (a repository of the hub,
            in the form of transformers or of open_clip), or a folder or file on this machine. Of transformers CLIP, SigLIP, SigLIP 2
            and `VisionTextDualEncoder` are taken. A folder or file is found by what it contains. Or a model in memory, of either
            library, with `tokenizer`: a copy is taken, and the model stays as it is.
        weights: of open_clip a pretrained tag, as "laion2b_s34b_b79k"; or a file; or "random". None or "pretrained" takes the model's
            own, where there is no choice between several. A model in memory has its own.
        tokenizer: of the model's library, instead of its own: `open_clip.get_tokenizer(...)`, `AutoTokenizer.from_pretrained(...)`, or a
            processor of transformers, which holds an image processor, too.
        image_processor: of transformers, instead of the model's own: `AutoImageProcessor.from_pretrained(...)`.
        image_size: height and width of the images, instead of the model's own: positions are resampled as its library does it. A
            multiple of the patches' size.
        dtype: of the weights.
        seed: of random weights.
    Returns:
        the model in evaluation mode, on the CPU.
    Raises:
        ClipeduError: an unknown name, with near ones; a repository that is gated or missing; open_clip is not installed; weights of another
            width, a tower without pooling, a tokenizer without a pad token, images that are not square, an image size that the model cannot
            read, a model in memory of another kind.
    """
    if not isinstance(dtype, torch.dtype) or not dtype.is_floating_point:
        raise ClipeduError(f"dtype={quoted(dtype)} must be one of floating numbers, as torch.float32 or torch.bfloat16")
    check_image_size(image_size)
    tokenizer, image_processor = split_processor(tokenizer, image_processor)
    if isinstance(model, nn.Module):
        if weights is not None:
            raise ClipeduError(
                f"weights={quoted(weights)} has no effect on a model in memory, which has its own: leave it out"
            )
        parts = read_module(model, tokenizer=tokenizer, image_processor=image_processor, image_size=image_size)
        return assemble(parts, dtype)
    if not isinstance(model, (str, os.PathLike)):
        raise ClipeduError(
            f"model={quoted(model)} must be a name, a folder or file, or a model in memory: an object, not its class"
        )
    source = find_source(model)
    check_given(source.library, source.name, tokenizer, image_processor)
    of_source = source.weights if weights in (None, "pretrained") else weights
    file_or_tag = None if of_source is None else os.fspath(of_source)
    if source.library == "open_clip":
        parts = read_open_clip(source, file_or_tag, seed, tokenizer=tokenizer, image_size=image_size)
    else:
        given = {"tokenizer": tokenizer, "image_processor": image_processor}
        parts = read_transformers(source, file_or_tag, seed, **given, image_size=image_size)
    return assemble(parts, dtype)
