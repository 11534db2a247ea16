"""Checks of the exercises in 00_start_here and 05_train."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from clipedu.config.course import course_table
from clipedu.evaluation.recall import retrieval
from clipedu.exercises.base import NotYet, as_float, close, compare, exercise
from clipedu.geometry import Cosine
from clipedu.toys.similarity_batch import Given


@exercise
def check_chance(chance: Callable[[int, int], float]) -> str:
    """Check `chance(images, captions_each)`.

    It returns TR@1 in percent of a random ranking, which is 100 / images.
    """
    for images, each in ((1000, 5), (200, 5), (5000, 1)):
        wrong = {
            1 / images: "that is a share from 0 to 1: scores here are in percent",
            100
            / (images * each): "you count one right caption an image, but each has several, and any of them is a hit",
            100
            * each
            / images: "you count the right captions, but divide by the images: the ranking is among all captions",
        }
        compare(chance(images, each), 100 / images, wrong, f"{images:,} images with {each} caption(s) each")
    return "the captions cancel: right ones grow as fast as wrong ones. With 1,000 images chance is 0.1 %."


@exercise
def check_recall(recall_at_1: Callable[[Tensor], float]) -> str:
    """Check `recall_at_1(similarity [N, N])`.

    It returns TR@1 in percent; row i is an image, column i its one caption.
    """
    for seed in range(4):
        s = _random_similarity(8, 8, seed)
        right, transposed = _recalls(s, torch.arange(8))
        wrong = {
            transposed: "that is IR@1: you looked for the best image of each caption, down the columns. Rows are images",
            right / 100: "that is a share from 0 to 1: scores here are in percent",
            8 * right / 100: "that is the number of hits: divide by the number of images, and give percent",
        }
        compare(recall_at_1(s), right, wrong, "a matrix of 8 images and 8 captions")
    return "your recall agrees with clipedu.evaluation.recall.retrieval on random matrices."


@exercise
def check_both_recalls(recalls: Callable[[Tensor, Tensor], tuple[float, float]]) -> str:
    """Check `recalls(similarity [N, T], owner [T])`.

    It returns (TR@1, IR@1) in percent, for images with several captions each.
    """
    for seed in range(4):
        owner = torch.arange(6).repeat_interleave(3)
        s = _random_similarity(6, 18, seed)
        s[owner, torch.arange(18)] += 0.4
        tr, ir = _recalls(s, owner)
        answer = recalls(s, owner)
        if not isinstance(answer, (tuple, list)) or len(answer) != 2:
            raise NotYet("return two numbers, TR@1 and IR@1: `return tr, ir`")
        given = [as_float(value) for value in answer]
        if close(given[0], ir) and close(given[1], tr) and not close(tr, ir):
            raise NotYet("the two are swapped. TR@1 retrieves text: one query an image, along the rows, so it is a mean over "
                         "images; IR@1 has one query a caption")  # fmt: skip
        first = 100 * (s.argmax(1) == torch.arange(6) * 3).double().mean().item()
        wrong = {first: "you accept only an image's first caption; a hit is any caption whose owner is that image"}
        compare(given[0], tr, wrong, "TR@1 of 6 images with 3 captions each")
        by_image = 100 * sum(bool((s[:, owner == i].argmax(0) == i).any()) for i in range(6)) / 6
        wrong = {by_image: "you count images with at least one good caption; IR@1 counts captions"}
        compare(given[1], ir, wrong, "IR@1 of 6 images with 3 captions each")
    return "both directions agree with clipedu.evaluation.recall.retrieval. A table shows no sign of a swap: read how a paper defines them."


@exercise
def check_cheat(cheat: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]) -> str:
    """Check `cheat(image, text)`.

    It returns embeddings with the same cosines and a loss without normalisation below 0.01.
    """
    noise = torch.Generator().manual_seed(0)
    image, text = (torch.eye(8, 16).double() + 0.1 * torch.randn(8, 16, generator=noise).double() for _ in range(2))
    answer = cheat(image.clone(), text.clone())
    if not isinstance(answer, tuple) or [getattr(side, "shape", None) for side in answer] != [image.shape, text.shape]:
        raise NotYet("return both embeddings, in the shape in which they came: `return image, text`")
    before, after = _cosines(image, text), _cosines(*answer)
    if not torch.allclose(before, after, atol=1e-6):
        moved = (before - after).abs().max().item()
        raise NotYet(f"a cosine changed by {moved:.2g}: only the lengths may change, or the scores change with them")
    loss, was = _unnormalised_loss(*answer).item(), _unnormalised_loss(image, text).item()
    if not loss < 0.01:
        raise NotYet(f"the cosines are the same, and the loss went from {was:.3f} to {loss:.3f}: it can go below 0.01")
    return f"loss {was:.2f} -> {loss:.1g}, and not one ranking has changed. This is why CLIP divides by the lengths."


@exercise
def check_lowest_loss(lowest_loss: Callable[[int, float], float]) -> str:
    """Check `lowest_loss(batch_size, temperature)`.

    It returns InfoNCE with similarity 1 of own pairs and 0 of all others.
    """
    for batch, tau in ((128, 1.0), (128, 0.3), (4, 0.5)):
        pull, others = math.exp(1 / tau), batch - 1
        right = math.log(1 + others / pull)
        wrong = {
            math.log(1 + others * math.exp(-tau)): "you multiply by the temperature; similarities are divided by it",
            math.log(others / pull): "the sum in the softmax runs over all captions, the own one too",
            math.log(1 + batch / pull): f"in a batch of {batch} there are {others} others",
            -right: "the loss is minus the log of the probability",
            math.exp(-right): "that is the probability of the own caption; the loss is minus its log",
            math.log(batch): "that is the loss of a blind model, whose similarities are all equal",
        }
        compare(lowest_loss(batch, tau), right, wrong, f"a batch of {batch} at temperature {tau}")
    return "at temperature 1 a perfect model pays 3.87 and a blind one 4.85: nearly nothing to learn from. At 0.05 it pays 0."


@exercise
def check_averages(wrong_averages: Callable[[Any], list[tuple[str, str]]]) -> str:
    """Check `wrong_averages(table)`.

    It returns (optimizer, loss) of the published rows whose printed average is not the mean of its scores.
    """
    table = course_table()
    right = {(row.optimizer, row.loss) for row in table[table["corrected"]].itertuples()}
    given = {tuple(row) for row in wrong_averages(table.drop(columns=["average", "corrected"]))}
    unknown = given - set(zip(table["optimizer"], table["loss"], strict=True))
    if unknown:
        raise NotYet(f"{sorted(unknown)[0]} is not a row of the table: return pairs such as ('adamw', 'clip')")
    if len(given) > len(right):
        raise NotYet(
            f"you found {len(given)} rows. Print the differences: most are below 0.01, which is rounding, no error"
        )
    if given != right:
        raise NotYet(f"you found {len(given)} of {len(right)} rows: allow for rounding, and no more than that")
    return "AdamW + SogCLR and AdamW + CLIP are printed 0.67 and 0.66 too high: recompute before you compare."


def _random_similarity(rows: int, columns: int, seed: int) -> Tensor:
    return torch.rand(rows, columns, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def _recalls(similarity: Tensor, owner: Tensor) -> tuple[float, float]:
    """Return TR@1 and IR@1 of a similarity matrix [N, T], by the library."""
    scores = retrieval(similarity, torch.eye(similarity.shape[1], dtype=similarity.dtype), owner, Given())
    return scores["tr@1"], scores["ir@1"]


def _cosines(image: Tensor, text: Tensor) -> Tensor:
    return Cosine().similarity(image, text)


def _unnormalised_loss(image: Tensor, text: Tensor) -> Tensor:
    """Compute the loss of a much-copied tutorial.

    It is the cross-entropy of dot products, without normalising the lengths.
    """
    logits = image @ text.T
    own = torch.arange(len(logits))
    return (torch.nn.functional.cross_entropy(logits, own) + torch.nn.functional.cross_entropy(logits.T, own)) / 2
