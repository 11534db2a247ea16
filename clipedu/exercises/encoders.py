"""Checks of the exercises in 03_encoders."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

from clipedu.evaluation.relative import relative as relative_of
from clipedu.exercises.base import NotYet, compare, exercise
from clipedu.models.text_encoders import pool_text


def _batch() -> tuple[Tensor, Tensor]:
    """Return states [3, 5, 4] and a mask of 5, 2 and 1 tokens."""
    states = torch.randn(3, 5, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return states, torch.arange(5) < torch.tensor([5, 2, 1])[:, None]


def _compare(answer: Any, right: Tensor, wrong: list[tuple[Tensor, str]], what: str) -> None:
    if not isinstance(answer, Tensor) or answer.shape != right.shape:
        shape = list(answer.shape) if isinstance(answer, Tensor) else type(answer).__name__
        raise NotYet(f"return a tensor of shape {list(right.shape)}, not {shape}.")
    if torch.allclose(answer.double(), right, atol=1e-5):
        return
    for known, why in wrong:
        if known.shape == right.shape and torch.allclose(answer.double(), known, atol=1e-5):
            raise NotYet(f"{why}.")
    row = int((answer.double() - right).abs().flatten(1).amax(1).nan_to_num(torch.inf).argmax())
    raise NotYet(
        f"row {row} (from 0) of {what} begins with {answer[row].flatten()[0].item():.4f}, and should with {right[row].flatten()[0].item():.4f}."
    )


@exercise
def check_mean_pooling(mean_pooling: Callable[[Tensor, Tensor], Tensor]) -> str:
    """Check `mean_pooling(states, mask)`.

    It returns the mean over each text's own tokens, [B, H].
    """
    states, mask = _batch()
    kept = states * mask[..., None]
    wrong = [
        (states.mean(1), "that is the mean over all places, the padding too: short texts would become alike"),
        (kept.mean(1), "the padding is zeroed, but you divide by L: divide by how many tokens a text has"),
        (kept.sum(1), "that is the sum: divide it by how many tokens a text has"),
        (kept.sum(1) / mask.sum(), "each text has a number of tokens of its own: mask.sum(1)"),
        (states[:, 0], "that is the first token alone, the pooling 'cls'"),
    ]
    _compare(mean_pooling(states, mask), pool_text(states, mask, "mean"), wrong, "the features")
    return "a text has the same feature whatever batch it is in. Famous error: a plain .mean(1), which runs and trains, and is wrong."


@exercise
def check_last_pooling(last_pooling: Callable[[Tensor, Tensor], Tensor]) -> str:
    """Check `last_pooling(states, mask)`.

    It returns the state of each text's last token, [B, H].
    """
    states, mask = _batch()
    rows = torch.arange(len(states))
    wrong = [
        (states[:, -1], "that is the last place, which is padding in a short text"),
        (states[rows, mask.sum(1) % 5], "one too far: the tokens are numbered from 0"),
        (states[rows, (mask.sum(1) - 2).clamp(min=0)], "one too early: that is the token before the last"),
        (states[:, 0], "that is the first token"),
        (states.gather(1, torch.full((3, 1, 4), 1))[:, 0], "texts have lengths of their own: mask.sum(1)"),
    ]
    _compare(last_pooling(states, mask), pool_text(states, mask, "last"), wrong, "the features")
    return "in a model that reads from left to right only this token has seen all others. CLIP reads its end token."


@exercise
def check_relative(relative: Callable[[Tensor, Tensor], Tensor]) -> str:
    """Check `relative(x, anchors)`.

    It returns the cosines of each row of x to each anchor, [N, K].
    """
    generator = torch.Generator().manual_seed(1)
    x, anchors = (torch.randn(count, 4, generator=generator, dtype=torch.float64) for count in (3, 6))
    unit, fixed = normalize(x, dim=1), normalize(anchors, dim=1)
    wrong = [
        (x @ anchors.T, "those are dot products: they change with the lengths. Normalise both"),
        (unit @ anchors.T, "the anchors have lengths, too: normalise them"),
        (x @ fixed.T, "x has lengths, too: normalise it"),
        (normalize(x, dim=0) @ normalize(anchors, dim=0).T, "a row is a vector: normalise along dim=1"),
        (torch.cdist(unit, fixed), "those are distances; cosines were asked for"),
    ]
    if isinstance(answer := relative(x, anchors), Tensor) and answer.shape == (6, 3):
        raise NotYet("a row belongs to a row of x, a column to an anchor: you have it the other way round.")
    _compare(answer, relative_of(x, anchors), wrong, "the cosines")
    return "turn or mirror the whole space, and these numbers stay: they need no coordinate system in common."


@exercise
def check_image_tokens(image_tokens: Callable[[int, int], int]) -> str:
    """Check `image_tokens(image_size, patch_size)`.

    It returns how many tokens a vision transformer makes, the class token included.
    """
    for size, patch in ((224, 32), (384, 14), (336, 14)):
        side = size // patch
        right = side**2 + 1
        wrong = {
            side**2: "and one class token",
            side + 1: "patches lie in rows and columns",
            (size / patch) ** 2
            + 1: "a patch that does not fit whole is left out, on each side: round down before you square",
            (size**2) // (patch**2) + 1: "round down before you square: rows and columns are whole",
            (-(-size // patch)) ** 2 + 1: "round down, not up: nothing is padded",
        }
        compare(image_tokens(size, patch), right, wrong, f"{size} pixels in patches of {patch}")
    return "384 pixels in patches of 14, as SigLIP so400m has them: 27 x 27, and 6 pixels at the edge that nobody sees."
