"""Models of open_clip, taken apart.

Their towers are its own, timm's, and text models of transformers. Its projections are tensors or layers at the end of the towers; here
they become layers of their own, without a bias where they have none.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from types import SimpleNamespace
from typing import Any

from torch import nn

from clipedu.interop.hub import told
from clipedu.interop.image_settings import check_patches, one_side, pixel_stats_of
from clipedu.interop.image_towers import OpenClipImage
from clipedu.interop.parts import Parts
from clipedu.interop.released_tokenizer import of_open_clip
from clipedu.interop.text_towers import OpenClipText
from clipedu.utils.errors import ClipeduError

log = logging.getLogger("clipedu")


def take_apart(model: Any, tokenizer: Any, name: str, image_size: int | None = None) -> Parts:
    """Take a model of open_clip apart. It is not of use afterwards.

    Args:
        model: a `CLIP`, `CustomTextCLIP` or `CoCa`, in float32 on the CPU.
        tokenizer: as `open_clip.get_tokenizer` makes it.
        name: of the model, for messages.
        image_size: height and width of the images; None takes the model's own.
    Raises:
        ClipeduError: a tokenizer of another kind or length, images that are not square, or of a size that it cannot read.
    """
    text = getattr(model, "text", None)
    if (
        text is None
    ):  # a `CLIP`, whose text tower is not a module of its own: what is left of it without the image tower
        text = model
        visual, scale, bias = (getattr(model, part) for part in ("visual", "logit_scale", "logit_bias"))
        del text.visual, text.logit_scale, text.logit_bias
    else:
        visual, scale, bias = model.visual, model.logit_scale, model.logit_bias
    inner = getattr(tokenizer, "tokenizer", None)
    pad = inner.pad_token_id if inner is not None else 0
    reader = of_open_clip(tokenizer, vocab_size=_vocab_size(text), pad_id=pad, name=name)
    longest = getattr(text, "context_length", None)
    if isinstance(longest, int) and reader.length > longest:
        raise ClipeduError(
            f"{name}: its tokenizer makes texts of {reader.length} tokens, and the model reads {longest}: the tokenizer is another model's"
        )
    settings = _preprocessing(visual, name)
    own = one_side(name, settings["size"], image_size)
    size = image_size or own
    if size != own:
        _resize(visual, size, name)
    image, image_head = _image_tower(visual)
    features, text_head = _text_tower(text)
    return Parts(
        name,
        image,
        features,
        image_head,
        text_head,
        reader,
        None if hasattr(text, "pooler") else (reader.length, pad),  # transformers' read the padding's mask
        size,
        *pixel_stats_of(name, settings["mean"], settings["std"]),
        "squash" if settings["resize_mode"] == "squash" else "crop",
        float(scale.detach()),
        None if bias is None else float(bias.detach()),
        own_size=own,
    )


def _preprocessing(visual: Any, name: str) -> dict[str, Any]:
    """Return how a model's images are made; open_clip's usual way where the model does not say it."""
    from open_clip.transform import PreprocessCfg

    said = getattr(visual, "preprocess_cfg", None) or {}
    settings = asdict(PreprocessCfg()) | ({"size": visual.image_size} if hasattr(visual, "image_size") else {}) | said
    if "mean" not in said or "std" not in said:
        log.warning(
            "%s does not say how its images are made: mean %s and std %s are taken, the usual ones of open_clip",
            name,
            settings["mean"],
            settings["std"],
        )
    return settings


def _resize(visual: Any, size: int, name: str) -> None:
    """Make an image tower read images of another size; its positions are resampled by open_clip or timm.

    A convolutional network needs nothing of it.
    """
    from open_clip.model import resize_pos_embed

    trunk: Any = getattr(visual, "trunk", None)
    check_patches(name, size, getattr(getattr(trunk, "patch_embed", visual), "patch_size", None))
    with quiet_open_clip(), told(name, f"images of {size} x {size} pixels", "take its own size"):
        if hasattr(trunk, "set_input_size"):
            trunk.set_input_size((size, size))
        elif hasattr(visual, "grid_size"):
            patch = visual.patch_size
            visual.image_size, visual.grid_size = (size, size), (size // patch[0], size // patch[1])
            place, before = "visual.positional_embedding", visual.positional_embedding
            state = {place: before.detach()}
            resize_pos_embed(state, SimpleNamespace(visual=visual))
            visual.positional_embedding = nn.Parameter(state[place], requires_grad=before.requires_grad)


def _image_tower(visual: Any) -> tuple[nn.Module, nn.Module]:
    """Return an image tower without its projection, and that."""
    from timm.models import VisionTransformer
    from timm.models.eva import Eva

    if type(visual).__name__ == "VisionTransformer":
        head, visual.proj = _layer(visual.proj), None
        return OpenClipImage(visual), head
    trunk = getattr(visual, "trunk", None)  # timm's
    if trunk is None or "pool" in dict(
        visual.head.named_children()
    ):  # a ResNet, whose pooling ends with its projection
        return visual, nn.Identity()
    if len(visual.head):
        return trunk, visual.head
    if isinstance(trunk, (VisionTransformer, Eva)):
        head = trunk.get_classifier()
        trunk.reset_classifier(0)
        return trunk, head
    return trunk, nn.Identity()


def _text_tower(text: Any) -> tuple[nn.Module, nn.Module]:
    """Return a text tower without its projection, and that."""
    name = "proj" if hasattr(text, "pooler") else "text_projection"
    head = _layer(getattr(text, name))
    setattr(text, name, nn.Identity() if name == "proj" else None)
    return OpenClipText(text), head


def _layer(projection: Any) -> nn.Module:
    """Return a projection as a layer: open_clip's are matrices [F, D]."""
    if projection is None:
        return nn.Identity()
    if isinstance(projection, nn.Module):
        return projection
    width, dim = projection.shape
    layer = nn.Linear(width, dim, bias=False, device="meta")
    layer.weight = nn.Parameter(projection.detach().T.contiguous(), requires_grad=projection.requires_grad)
    return layer


def _vocab_size(text: Any) -> int:
    table = getattr(text, "token_embedding", None)
    return table.num_embeddings if table is not None else text.config.vocab_size


@contextmanager
def quiet_open_clip() -> Iterator[None]:
    """Silence open_clip inside.

    It logs to the root logger, and would set that up for all.
    """
    root = logging.getLogger()
    level, handler = root.level, logging.NullHandler()
    root.addHandler(handler)
    root.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        root.setLevel(level)
        root.removeHandler(handler)
