"""What a text tower gets of a caption, and what it makes of it.

    tokens     the pieces that the tokenizer cuts a caption into, with the padding behind them
    weights    how much of each token's state is in the feature: the pooling
    moved      1 - cosine between the embedding and that of the caption without this token

Other poolings than the model's, and a padding that no mask marks, can be tried: the errors that are made by hand most often. A released
model, whose tower pools by itself, is read with its own pooling alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity, pad

from clipedu.models.dual_encoder import DualEncoder, evaluating
from clipedu.models.text_encoders import pool_text
from clipedu.utils.errors import ClipeduError, quoted, unknown_name

POOLINGS = ("cls", "mean", "last")
OWN = "own"  # of a tower that pools by itself


@dataclass(frozen=True)
class TextReading:
    """How a caption is read.

    Attributes:
        tokens: L of them, the padding included.
        real: how many are no padding.
        weights: float32 [L], share of each token's state in the feature; they sum to 1. nan where the tower pools by itself.
        moved: float32 [L], 0..2: 1 - cosine between the embedding and that of the caption without the token; nan for special tokens
            and padding.
        pooling: "cls", "mean", "last", or "own": the tower's.
        cosine: between the embedding and the one that the model itself makes of the caption: 1 with its own pooling under the mask.
    """

    tokens: tuple[str, ...]
    real: int
    weights: Tensor
    moved: Tensor
    pooling: str
    cosine: float


@torch.no_grad()
def read_text(
    model: DualEncoder, text: str, *, pooling: str | None = None, length: int | None = None, masked: bool = True
) -> TextReading:
    """Read a caption as a text tower does.

    Args:
        model: of a run, or adopted, with its tokenizer.
        text: a caption that is not longer than the model reads.
        pooling: "cls", "mean" or "last"; None is the model's own.
        length: pad to so many tokens; None pads nothing. At most as many as the model reads, and not fewer than there are.
        masked: mark the padding, as is right; False takes it for a part of the caption, in the encoder and in the pooling.
    Raises:
        ClipeduError: a model without a tokenizer, an unknown pooling, a text or a length that is too long; another pooling or
            `masked=False` for a tower that pools by itself.
    """
    if model.tokenizer is None:
        raise ClipeduError("this model has no tokenizer: use that of a run, run.model(), or set model.tokenizer")
    how = model.text_pooling if pooling is None else pooling
    if how not in (known := poolings(model)):
        raise unknown_name("pooling", how, known)
    if how == OWN and not masked:
        raise ClipeduError("masked=False has no effect: the text tower of this model pools by itself. Leave it out")
    rows, lengths = model.tokenizer.encode([text], strict=True)
    real, longest = int(lengths[0]), model.tokenizer.length
    if length is not None and not real <= length <= longest:
        raise ClipeduError(
            f"length={quoted(length)} must be {real}, the tokens of the caption, to {longest}, which the model reads"
        )
    count = real if length is None else length
    ids = torch.from_numpy(rows[:, :count].astype("int64")).to(model.device)
    mask = torch.arange(count, device=model.device)[None] < (real if masked else count)
    alone = torch.ones_like(ids[:, :real], dtype=torch.bool)
    special = torch.isin(
        ids[0], torch.tensor([x for x in model.tokenizer.special_tokens.values() if x is not None]).to(ids.device)
    )
    with evaluating(model):
        found = _embed(model, ids, mask, how)
        right = model.encode_text(ids[:, :real], alone)
        moved = torch.full((count,), torch.nan)
        if words := [place for place in range(real) if not special[place]]:
            without = torch.stack([torch.cat([ids[0, :place], ids[0, place + 1 : real]]) for place in words])
            left = _embed(model, without, torch.ones_like(without, dtype=torch.bool), how)
            whole = _embed(model, ids[:, :real], alone, how)
            moved[words] = (1 - cosine_similarity(left, whole)).float().cpu()
    weights = torch.full((count,), torch.nan)
    if how != OWN:
        weights = pool_text(torch.eye(count, device=mask.device)[None], mask, how)[0]
    return TextReading(
        tuple(model.tokenizer.pieces(ids[0])), real, weights.cpu(), moved, how, cosine_similarity(found, right).item()
    )


def poolings(model: DualEncoder) -> tuple[str, ...]:
    """Return the poolings that a model can be read with."""
    return (OWN,) if model.text_pooling == OWN else POOLINGS


def _embed(model: DualEncoder, ids: Tensor, mask: Tensor, how: str) -> Tensor:
    """Embed token ids [B, L] under a mask, with a pooling that may not be the model's: [B, D]."""
    if how == OWN:
        return model.encode_text(ids, mask)
    if model.text_padding is not None:
        length, token = model.text_padding
        more = (0, max(0, length - ids.shape[1]))
        ids, mask = pad(ids, more, value=token), pad(mask, more)
    states = model.text_encoder(input_ids=ids, attention_mask=mask.long()).last_hidden_state
    return model.project_text(pool_text(states, mask, how))
