"""Measure how a text encoder reads: a few short sequences run through it.

What a model does with padding, which tokens its first position sees and how long a text may be depends on the architecture, and
configurations do not say it reliably: XLNet's limit is "-1", RoBERTa's positions begin after the padding index, FNet takes a mask
and ignores it. So it is measured, right after the model is built: milliseconds for a small one.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from clipedu.utils.errors import ClipeduError

SHORT = 6  # tokens of the short sequences
MOVED = 1e-3  # root mean squares of a state: above, padding moves it; rounding is 1e-6 to 1e-5


@dataclass(frozen=True)
class Reading:
    """How a text encoder reads.

    Attributes:
        width: of a hidden state.
        longest: tokens that a text may have, or the length that was asked for if it may have more.
        moved: by how much padding moves a state, as a share of its root mean square.
        first_sees: the state of the first token depends on the tokens after it.
        tells_apart: the states of two texts differ.
    """

    width: int
    longest: int
    moved: float
    first_sees: bool
    tells_apart: bool

    @property
    def padding_moves(self) -> bool:
        """Whether the vector of a caption depends on the padding."""
        return self.moved > MOVED


def probe(model: Any, name: str, length: int, special: Mapping[str, int | None]) -> Reading:
    """Run short sequences through a text encoder and compare the states.

    Neither the model nor any random state changes.

    Args:
        model: a transformers text model on the CPU.
        name: of the model, for error messages.
        length: tokens of the longest text it is to read, at least 3.
        special: ids of the tokenizer's special tokens.
    Raises:
        ClipeduError: it cannot read token ids with a mask.
    """
    pad = special.get("pad") or 0
    with _unchanged(model):
        declared = getattr(model.config, "max_position_embeddings", None)
        if isinstance(declared, int) and declared > 0:  # XLNet's -1 stands for no limit
            length = min(length, declared)
        short = min(SHORT, max(3, length - 2))
        one, other = (_text(model, short, special, start) for start in (0, 1))
        try:
            alone, changed = _states(model, [one], pad), _states(model, [other], pad)
        except Exception as error:  # noqa: BLE001  each model fails in its own way
            raise ClipeduError(
                f"text encoder {name!r} cannot read captions, token ids with a mask: {_first_line(error).rstrip('.')}. Change "
                "text_options, or take another, e.g. bert, distilbert or modernbert"
            ) from None
        longest = _longest(model, length, special)
        full = _text(model, longest, special, 2)
        padded = _states(model, [one, full], pad)[:1, :short]
        scale = alone.double().square().mean().sqrt().item() or 1.0
        difference = (alone - changed).abs()
        return Reading(
            width=alone.shape[-1],
            longest=longest,
            moved=(alone - padded).abs().max().item() / scale,
            first_sees=difference[:, 0].max().item() > 1e-6 * scale,
            tells_apart=difference.max().item() > 1e-6 * scale,
        )


def check_length(length: int, reading: Reading, name: str) -> None:
    """Check that a text encoder reads texts of a length.

    Args:
        length: of the longest text, in tokens.
        reading: `probe` of the encoder, for that length.
        name: of the encoder.
    Raises:
        ClipeduError: it does not.
    """
    if length > reading.longest:
        raise ClipeduError(
            f"text_length={length} is more than the text encoder {name!r} takes: at most {reading.longest} tokens"
        )


def choose_pooling(how: str, reading: Reading, name: str = "") -> str:
    """Choose how hidden states become one vector a text.

    Args:
        how: "auto", "cls", "mean" or "last"; "auto" is "mean", or "last" where the first token sees none of the others.
        reading: `probe` of the text encoder.
        name: of the encoder.
    Returns:
        "cls", "mean" or "last".
    Raises:
        ClipeduError: all texts would get the same vector.
    """
    if not reading.tells_apart:
        raise ClipeduError(
            f"text encoder {name!r} gives all captions the same vectors: choose another, or other text_options"
        )
    if how == "auto":
        return "mean" if reading.first_sees else "last"
    if how == "cls" and not reading.first_sees:
        raise ClipeduError(
            f"text_pooling='cls' gives all captions one vector: {name!r} reads from left to right, its first token sees none of "
            "the others. Use text_pooling='last' (the last token), 'mean' or 'auto'"
        )
    return how


def _longest(model: Any, length: int, special: Mapping[str, int | None]) -> int:
    """Return `length`, or the longest text below it that the model reads."""

    def reads(tokens: int) -> bool:
        try:
            _states(model, [_text(model, tokens, special, 2)], 0)
        except Exception:  # noqa: BLE001  an index outside the table of positions, shapes that do not fit
            return False
        return True

    if reads(length):
        return length
    good, bad = min(SHORT, length), length
    while bad - good > 1:
        middle = (good + bad) // 2
        good, bad = (middle, bad) if reads(middle) else (good, middle)
    return good


def _text(model: Any, tokens: int, special: Mapping[str, int | None], start: int) -> list[int]:
    """Return ids of a text: beginning, `tokens` - 2 ordinary tokens, end."""
    ids = range(min(model.config.vocab_size, 64))
    ordinary = [index for index in ids if index not in special.values()]
    if len(ordinary) < 2:
        ordinary = [index for index in ids if index != special.get("pad")]
    first, last = (special.get(token) or ordinary[0] for token in ("cls", "sep"))
    middle = [ordinary[(start + place) % len(ordinary)] for place in range(tokens - 2)]
    return [first, *middle, last]


def _states(model: Any, texts: list[list[int]], pad: int) -> Tensor:
    """Return hidden states of texts, padded to the longest: [T, L, H]."""
    longest = max(map(len, texts))
    ids = torch.tensor([text + [pad] * (longest - len(text)) for text in texts])
    mask = torch.tensor([[1] * len(text) + [0] * (longest - len(text)) for text in texts])
    hidden = model(input_ids=ids, attention_mask=mask).last_hidden_state
    if hidden.shape[:2] != ids.shape:
        raise ValueError(f"{ids.shape[1]} tokens give {hidden.shape[1]} states")
    return hidden.float()


@contextmanager
def _unchanged(model: nn.Module) -> Iterator[None]:
    """Run without gradients, in evaluation mode; then put all back.

    That is the modes of the modules and the random states of torch, NumPy and Python.
    """
    modes = [(module, module.training) for module in model.modules()]
    numpy_state, python_state = np.random.get_state(), random.getstate()
    model.eval()
    try:
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            yield
    finally:
        for module, mode in modes:
            module.training = mode
        np.random.set_state(numpy_state)
        random.setstate(python_state)


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]
