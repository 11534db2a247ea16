"""`build_model`: the dual encoder of an experiment."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from clipedu.geometry import build_geometry
from clipedu.models.dual_encoder import DualEncoder, Tower
from clipedu.models.final_norm import drop_final_norm
from clipedu.models.image_encoders import build_image_encoder, feature_width, pixel_stats
from clipedu.models.special_tokens import OWN_TOKENS
from clipedu.models.text_encoders import build_text_encoder
from clipedu.models.text_probe import check_length, choose_pooling, probe
from clipedu.utils.errors import ClipeduError, quoted

log = logging.getLogger("clipedu")


def build_model(
    experiment: Any,
    vocab_size: int,
    *,
    special_tokens: Mapping[str, int | None] | None = None,
    saved_text: Path | None = None,
) -> DualEncoder:
    """Build the dual encoder of an experiment, on the CPU.

    Its random parts are drawn from the experiment's seed.

    Each part has random numbers of its own, so that another image encoder leaves the text encoder what it was. The
    global random state is neither used nor changed.

    Args:
        experiment: a `clipedu.Experiment`, a class that this package does not import.
        vocab_size: of the tokenizer in use.
        special_tokens: its ids of special tokens (`Tokenizer.special_tokens`); None takes those of our own tokenizers.
        saved_text: folder of the text encoder's configuration in a run, which is then built as it was, unchecked, with the
            experiment's weights; None builds and checks the experiment's.
    Raises:
        ClipeduError: unknown encoders or options, weights that are missing, sizes that do not fit, or a text encoder that
            cannot read captions as the experiment asks.
    """
    ex = experiment
    with torch.random.fork_rng(devices=[]):
        _seed(ex.seed, part=0)
        image = build_image_encoder(ex.image_encoder, ex.image_weights, image_size=ex.image_size, **ex.image_options)
        _seed(ex.seed, part=1)
        if saved_text is None:
            text = build_text_encoder(
                ex.text_encoder,
                ex.text_weights,
                vocab_size=vocab_size,
                special_tokens=special_tokens,
                **ex.text_options,
            )
        else:
            text = build_text_encoder(str(saved_text.resolve()), ex.text_weights, vocab_size=vocab_size)
        if not ex.final_norm:
            pixels = torch.zeros(1, 3, ex.image_size, ex.image_size, device=next(image.parameters()).device)
            drop_final_norm(image, lambda: image(pixels), f"image encoder {ex.image_encoder!r}")
            ids = torch.zeros((1, 3), dtype=torch.long, device=next(text.parameters()).device)
            drop_final_norm(text, lambda: text(input_ids=ids), f"text encoder {ex.text_encoder!r}")
        width, pooling, padding = _fit_text(text, ex, special_tokens or OWN_TOKENS, saved=saved_text is not None)
        stats = pixel_stats(image, ex.pixel_stats)
        _seed(ex.seed, part=2)
        model = DualEncoder(
            Tower(image, feature_width(image, ex.image_size), ex.image_frozen),
            Tower(text, width, ex.text_frozen),
            embedding_dim=ex.embedding_dim,
            pixel_stats=stats,
            geometry=build_geometry(ex.geometry, ex.embedding_dim, **ex.geometry_options),
            text_pooling=pooling,
            text_padding=padding,
            projection_bias=ex.projection_bias,
        )
    return model.to(memory_format=torch.channels_last)


def _fit_text(
    text: Any, ex: Any, special: Mapping[str, int | None], *, saved: bool
) -> tuple[int, str, tuple[int, int] | None]:
    """Return width, pooling and padding for a text encoder, as it is measured to read.

    One that was saved in a run stays what it was: it is not checked, and is padded to one length only if it was so before.
    """
    if next(text.parameters()).is_meta:  # it has sizes alone, which is all that is asked of it
        ids = torch.zeros((1, 4), dtype=torch.long, device="meta")
        return text(input_ids=ids).last_hidden_state.shape[-1], "mean", None
    reading = probe(text, ex.text_encoder, ex.text_length, special)
    padded = getattr(text.config, "clipedu_padded_to", None)
    if saved:
        if padded is not None and (type(padded) is not int or padded != ex.text_length):
            raise ClipeduError(
                f"the run's text configuration has clipedu_padded_to={quoted(padded)}: it must be text_length, {ex.text_length}"
            )
        how = choose_pooling(ex.text_pooling, reading) if ex.text_pooling == "auto" else ex.text_pooling
    else:
        check_length(ex.text_length, reading, ex.text_encoder)
        how = choose_pooling(ex.text_pooling, reading, ex.text_encoder)
        padded = ex.text_length if reading.padding_moves else None
    if padded is None:
        return reading.width, how, None
    if not saved:
        text.config.clipedu_padded_to = padded  # kept with the run
        text.made_as += f" padded to {padded}"
        log.warning(
            "text encoder %r: padding moves its vectors by up to %.0f %%, so every caption is padded to text_length=%d "
            "tokens; bert, distilbert and modernbert read the mask and need no padding",
            ex.text_encoder,
            100 * reading.moved,
            padded,
        )
    return reading.width, how, (padded, special.get("pad") or 0)


def _seed(seed: int, part: int) -> None:
    """Seed the CPU's generator alone.

    torch.manual_seed seeds those of all devices, which fork_rng would not restore.
    """
    torch.default_generator.manual_seed(int(np.random.SeedSequence((seed, part)).generate_state(1, np.uint64)[0]))
