"""What texts and images go through: tokenizer and image processor.

Both are written as transformers keeps them, so that its processor does what clipedu does: the same tokens, and the same pixels of
an image that has the model's size already. A larger image is made smaller by another resampling: clipedu cuts and scales in one
step of Pillow, from an image that JPEG's decoder has made smaller already, where it can.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np

from clipedu.exports.release import PROBES, Release
from clipedu.utils.errors import ClipeduError
from clipedu.utils.hub import quiet

BICUBIC = 3  # as Pillow numbers them


def library_tokenizer(release: Release, *, mask: bool = True) -> Any:
    """Return a tokenizer of transformers that does what the model's does.

    It cleans captions as the run did, as far as a tokenizer can: not more than that the first 30 words are taken, and not what
    ftfy does.

    Args:
        release: the model.
        mask: whether it returns an attention mask; SigLIP reads its padding, and would be computed otherwise with one.
    Raises:
        ClipeduError: the model's tokenizer is none of transformers.
    """
    inner = transformers_tokenizer(release)
    if inner is None:
        raise ClipeduError(
            f"the tokenizer of {release.name} is none of transformers, so it cannot be written beside the model"
        )
    backend = getattr(inner, "backend_tokenizer", None)
    sides: dict[str, Any] = {"model_max_length": release.length, "padding_side": "right", "truncation_side": "right"}
    if not mask:
        sides["model_input_names"] = ["input_ids"]
    if backend is None:  # a slow one, in Python
        tokenizer = copy.deepcopy(inner)
        for key, value in sides.items():
            setattr(tokenizer, key, value)
        return tokenizer
    from tokenizers import Tokenizer as Backend
    from transformers import PreTrainedTokenizerFast

    own = Backend.from_str(backend.to_str())
    own.no_truncation()
    own.no_padding()
    if release.clean is True:
        own.normalizer = _cleaning(own.normalizer)
        sides["split_special_tokens"] = True  # [SEP] in a text is a word in brackets, once it is in lower case
    return PreTrainedTokenizerFast(tokenizer_object=own, **dict(inner.special_tokens_map), **sides)


def transformers_tokenizer(release: Release) -> Any:
    """Return the tokenizer of transformers inside the model's own.

    None: there is none.
    """
    own = release.model.tokenizer  # of a run, or of a released model: then its library's, which may hold one again
    for holder in (own, library := getattr(own, "library", None), getattr(library, "tokenizer", None)):
        for found in (holder, getattr(holder, "tokenizer", None)):
            if hasattr(found, "special_tokens_map") and hasattr(found, "save_pretrained"):
                return found
    return None


def image_processor(release: Release) -> Any:
    """Return an image processor of transformers.

    It makes normalised pixels of a picture.
    """
    from transformers import CLIPImageProcessor

    side, both = release.image_size, {"height": release.image_size, "width": release.image_size}
    crop = release.resize == "crop"
    return CLIPImageProcessor(
        do_convert_rgb=True,
        do_resize=True,
        size={"shortest_edge": side} if crop else both,
        resample=BICUBIC,
        do_center_crop=crop,
        crop_size=both,
        do_rescale=True,
        rescale_factor=1 / 255,
        do_normalize=True,
        image_mean=release.mean,
        image_std=release.std,
    )


def save_reading(release: Release, folder: Path) -> None:
    """Write tokenizer and image processor, for `AutoProcessor`.

    Args:
        release: the model.
        folder: where to.
    Raises:
        ClipeduError: as `library_tokenizer`, and tokens that are not those of the model.
    """
    from transformers import VisionTextDualEncoderProcessor

    tokenizer = library_tokenizer(release)
    with quiet():
        VisionTextDualEncoderProcessor(image_processor(release), tokenizer).save_pretrained(folder)
        check_tokens(release, type(tokenizer).from_pretrained(folder, local_files_only=True))


def check_tokens(release: Release, tokenizer: Any) -> None:
    """Check that a tokenizer of transformers gives the model's own tokens.

    Raises:
        ClipeduError: it gives others.
    """
    ids, lengths = release.model.tokenizer.encode(PROBES)
    read = tokenizer(PROBES, truncation=True, max_length=release.length)["input_ids"]
    for text, row, length, theirs in zip(PROBES, ids, lengths, read, strict=True):
        if not np.array_equal(row[:length], theirs):
            raise ClipeduError(
                f"the tokenizer of {release.name} cannot be exported: it makes other tokens of {text!r} when it is loaded again"
            )


def reading_words(release: Release) -> list[str]:
    """Say how images and texts are read, in sentences for the model card."""
    side = release.image_size
    how = (
        f"the shorter side is scaled to {side} pixels and the middle is taken"
        if release.resize == "crop"
        else f"both sides are scaled to {side} pixels, so shapes change"
    )
    words = [
        f"Images: RGB, {side} x {side} pixels: {how} (bicubic, with antialiasing). Values from 0 to 1, minus the mean "
        f"{release.mean}, divided by {release.std}. An image that has this size already gives the embedding that clipedu gives; a "
        "larger one nearly so, since libraries resample in other ways.",
        f"Texts: at most {release.length} tokens{_added_words(release)}; what is longer is cut.",
    ]
    if release.clean is True:
        words.append(
            "Captions were cleaned in training: lower case, no punctuation. The tokenizer here does that by itself, but for one "
            "thing: of more than 30 words the first 30 were taken."
        )
    elif release.clean:
        words.append(
            "Captions were cleaned in training by ftfy and html.unescape, as open_clip does. The tokenizer here does not: clean "
            "texts of the web first."
        )
    return words


def added_tokens(release: Release) -> list[str]:
    """Return the tokens that the model's tokenizer adds to each text."""
    ids, lengths = release.model.tokenizer.encode([""])
    own = [int(number) for number in ids[0, : lengths[0]]]
    if (inner := transformers_tokenizer(release)) is not None:
        return [str(token) for token in inner.convert_ids_to_tokens(own)]
    decoder: Any = getattr(getattr(release.model.tokenizer, "library", None), "decoder", {})
    return [decoder[number] for number in own if number in decoder]


def _added_words(release: Release) -> str:
    added = [f"`{token}`" for token in added_tokens(release)]
    return f", the {' and '.join(added)} that the tokenizer adds included" if added else ""


def _cleaning(then: Any) -> Any:
    """Return a normalizer that cleans as `clipedu.data.cleaning.clean_caption`, before another one."""
    from tokenizers import Regex, normalizers

    steps = [
        normalizers.Lowercase(),
        normalizers.Replace(Regex(r"[,.'!?\"()*#:;~]"), ""),
        normalizers.Replace(Regex(r"[-/]"), " "),
        normalizers.Replace("<person>", "person"),
        normalizers.Replace(Regex(r"\s+"), " "),
        normalizers.Strip(),
    ]
    return normalizers.Sequence(steps + ([then] if then is not None else []))
