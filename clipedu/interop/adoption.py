"""`adopt`: a released model as a `DualEncoder`."""

from __future__ import annotations

import os

import torch

from clipedu.interop.from_open_clip import read_open_clip
from clipedu.interop.from_transformers import read_transformers
from clipedu.interop.parts import assemble
from clipedu.interop.sources import find_source
from clipedu.models.dual_encoder import DualEncoder
from clipedu.utils.errors import ClipeduError, quoted


def adopt(
    model: str | os.PathLike,
    weights: str | os.PathLike | None = None,
    *,
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
            and `VisionTextDualEncoder` are taken. A folder or file is found by what it contains.
        weights: of open_clip a pretrained tag, as "laion2b_s34b_b79k"; or a file; or "random". None or "pretrained" takes the model's
            own, where there is no choice between several.
        dtype: of the weights.
        seed: of random weights.
    Returns:
        the model in evaluation mode, on the CPU.
    Raises:
        ClipeduError: an unknown name, with near ones; a repository that is gated or missing; open_clip is not installed; weights of another
            width, a tower without pooling, a tokenizer without a pad token, images that are not square.
    """
    source = find_source(model)
    if not isinstance(dtype, torch.dtype) or not dtype.is_floating_point:
        raise ClipeduError(f"dtype={quoted(dtype)} must be one of floating numbers, as torch.float32 or torch.bfloat16")
    given = source.weights if weights in (None, "pretrained") else weights
    read = read_open_clip if source.library == "open_clip" else read_transformers
    return assemble(read(source, None if given is None else os.fspath(given), seed), dtype)
