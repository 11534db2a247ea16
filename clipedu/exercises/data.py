"""Checks of the exercises in 01_data."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from clipedu.data.batches import share
from clipedu.data.survey import half_life as library_half_life
from clipedu.data.survey import hamming as library_hamming
from clipedu.data.survey import repeats
from clipedu.data.survey import sampling_error as library_sampling_error
from clipedu.data.survey import swap_sides as library_swap_sides
from clipedu.exercises.base import NotYet, close, compare, exercise


@exercise
def check_surplus(surplus: Callable[[Sequence], int]) -> str:
    """Check `surplus(items)`: how many must go until each item is there once."""
    for items in (["dog", "cat", "dog", "owl", "dog", "bird", "cat", "dog", "fish"], list("abc"), [1, 1], []):
        groups = repeats(items)
        members = sum(map(len, groups))
        right = members - len(groups)
        wrong = {
            members: "you count every copy: one of each group may stay",
            len(groups): "that is how many items are there more than once; of three equal ones, two must go",
            len(set(items)): "that is how many different items there are",
            len(set(items)) - len(groups): "that is how many items are there once",
            sum(
                len(group) * (len(group) - 1) // 2 for group in groups
            ): "you count pairs of copies: three equal items are three pairs, but only two must go",
        }
        compare(surplus(list(items)), right, wrong, f"{items}")
    return "one line with a set, and no loop over pairs: with 3.3 million captions that would be five million million comparisons."


@exercise
def check_hamming(hamming: Callable[[Tensor, Tensor], Tensor]) -> str:
    """Check `hamming(one bool [N, K], other bool [M, K])`.

    It returns in how many bits each row differs from each, [N, M].
    """
    noise = torch.Generator().manual_seed(0)
    for n, m, k in ((4, 3, 8), (2, 5, 64), (3, 3, 1)):
        one, other = (torch.rand(size, k, generator=noise) < 0.5 for size in (n, m))
        right = library_hamming(one, other)
        both = (one[:, None] & other[None]).sum(2)
        wrong = {
            "you count where they agree: K minus that": k - right,
            "you count only where the first has a 1 and the second a 0. The other way round counts too": one.sum(1)[
                :, None
            ]
            - both,
            "you count only where the first has a 0 and the second a 1. The other way round counts too": other.sum(1)[
                None
            ]
            - both,
            "you count the ones that both have": both,
            "that is a share; count the bits": right / k,
            "you count the ones that either has": one.sum(1)[:, None] + other.sum(1)[None] - both,
        }
        _compare_table(hamming(one.clone(), other.clone()), right, wrong, f"{n} hashes against {m}, of {k} bits")
    return "each against each in one go. For 6,000 pictures that is 36 million distances in less than a second."


@exercise
def check_half_life(half_life: Callable[[float, float], float]) -> str:
    """Check `half_life(lost, years)`.

    It returns when half of the links are dead, if the same share of those left dies each year.
    """
    for lost, years in ((0.124, 3.4), (0.3, 6.0), (0.5, 2.0), (0.75, 4.0)):
        left = 1 - lost
        wrong = {
            years
            / 2
            / lost: "you draw a straight line. It would end with all links dead; but each year takes a share of "
            "those that are *left*",
            years * math.log(2) / -math.log(lost): "`lost` is the share that is dead: what is left is 1 - lost",
            -years * math.log(2) / -math.log(left): "a half-life is positive: log of a share is below 0",
            years / -math.log(left): "that is when 1 / e = 37 % are left: times log 2",
            -math.log(left) / years: "that is the rate, a share a year. How long until half are gone?",
            -math.log(left) * math.log(2) / years: "upside down: a slow loss has a long half-life",
        }
        case = f"{100 * lost:g} % dead after {years:g} years"
        compare(half_life(lost, years), library_half_life(lost, years), wrong, case)
    return "so a list that lost 12.4 % in 3.4 years has half of its links for 18 years, if nothing gets worse. It did."


@exercise
def check_sampling_error(sampling_error: Callable[[float, int, int], float]) -> str:
    """Check `sampling_error(share, sample, population)`.

    It returns the relative standard error of a word's frequency in a random sample.
    """
    for p, n, total in ((0.01, 1000, 4000), (1e-4, 100_000, 3_318_333), (0.3, 50, 60), (0.2, 60, 60)):
        rest = (total - n) / (total - 1)
        right = library_sampling_error(p, n, total)
        wrong = {
            math.sqrt(
                (1 - p) / (p * n)
            ): "you drew with putting back. Nothing is drawn twice: times sqrt((N - n) / (N - 1)), "
            "and a sample of all has no error",
            math.sqrt(
                p * (1 - p) / n * rest
            ): "that is the error of the share itself: divide by p, to have it relative",
            math.sqrt(p * (1 - p) / n): "that is the error of the share: divide by p; and nothing is drawn twice",
            (1 - p) / (p * n) * rest: "that is a variance: take the root",
            math.sqrt((1 - p) / p * rest): "divide by n: a larger sample is better",
            math.sqrt((1 - p) / (p * n)) * rest: "the factor (N - n) / (N - 1) belongs under the root",
            math.sqrt((1 - p) / (p * n) * n / total): "the share that is *not* drawn counts: (N - n) / (N - 1)",
        }
        compare(sampling_error(p, n, total), right, wrong, f"p = {p:g}, {n:,} of {total:,}")
    return (
        "a word in one caption of 10,000 is there ten times in 100k, give or take 3: a third too often or too seldom."
    )


@exercise
def check_swap_sides(swap_sides: Callable[[str], str]) -> str:
    """Check `swap_sides(caption)`.

    It returns the caption of the mirror image, "left" and "right" exchanged, as whole words.
    """
    cases = (
        "a ring left of a star",
        "a star to the right of a ring",
        "the left dog looks to the right",
        "a bright light, leftover food",
        "a red ball",
    )
    got = [swap_sides(caption) for caption in cases]
    for text in got:
        if not isinstance(text, str):
            raise NotYet(f"return a text, not a {type(text).__name__}")
    right = [library_swap_sides(caption) for caption in cases]
    bad = [k for k in range(len(cases)) if _letters(got[k]) != _letters(right[k])]
    if bad:
        both = "Two replacements, one after the other, undo each other, and one alone does half: go word by word"
        wrong: dict[str, Callable[[str], str]] = {
            "nothing is exchanged": lambda text: text,
            f'every side is "left" now. {both}': lambda text: text.replace("right", "left"),
            f'every side is "right" now. {both}': lambda text: text.replace("left", "right"),
            "these letters are in other words too: compare whole words": lambda text: (
                text.replace("left", "\0").replace("right", "left").replace("\0", "right")
            ),
        }
        for why, error in wrong.items():
            if all(_letters(error(caption)) == _letters(text) for caption, text in zip(cases, got, strict=True)):
                raise NotYet(f"{cases[bad[0]]!r} became {got[bad[0]]!r}: {why}.")
        raise NotYet(
            f"{cases[bad[0]]!r} became {got[bad[0]]!r}: left and right, as whole words, should change places and all else stay."
        )
    return 'true for sides. Not for "turns right around", "the right answer", or text in a picture: a mirror makes that wrong too.'


@exercise
def check_my_rows(my_rows: Callable[[Tensor, int, int, int, int], Tensor]) -> str:
    """Check `my_rows(order [N], step, batch_size, rank, ranks)`.

    It returns the rows of this process at this step of the epoch.
    """
    order = torch.randperm(53, generator=torch.Generator().manual_seed(0))
    for step, size, ranks in ((3, 12, 3), (0, 8, 2), (5, 8, 1), (2, 10, 5)):
        for rank in range(ranks):
            own, batch = share(size, rank, ranks), order[step * size : (step + 1) * size]
            right, each = batch[own], size // ranks
            part = order[rank * (len(order) // ranks) :]
            wrong = {
                "that is the batch of all processes: take this one's piece": batch,
                "each process has its own part of the epoch here. Then a step's rows depend on the number of processes: cut "
                "the order into batches first, then each batch into pieces": part[step * each : (step + 1) * each],
                "every N-th row. The pieces of all processes, joined in the order of their ranks, have to be the batch: take "
                "one run of rows": batch[rank::ranks],
                "you start at step times the piece. A step moves on by the whole batch": order[step * each :][own],
                "that is the first step of the epoch": order[own],
            }
            case = f"step {step}, batch_size {size}, rank {rank} of {ranks}"
            _compare_table(my_rows(order.clone(), step, size, rank, ranks), right, wrong, case)
    return "no state at all: any step of any epoch can be found again, on any number of machines. That is how a run resumes."


def _letters(text: str) -> str:
    return " ".join(text.lower().replace(",", " ").split())


def _compare_table(answer: Any, right: Tensor, wrong: dict[str, Tensor], case: str) -> None:
    """Compare a tensor with the right one; as `compare`."""
    if not isinstance(answer, Tensor):
        raise NotYet(f"return a tensor {[*right.shape]}, not a {type(answer).__name__}")
    for why, known in {"": right, **wrong}.items():
        same = answer.shape == known.shape and torch.allclose(answer.double(), known.double())
        if same and not why:
            return
        if same:
            raise NotYet(f"{case}: {why}.")
    if answer.shape != right.shape:
        raise NotYet(f"{case}: your tensor is {[*answer.shape]}, and it should be {[*right.shape]}.")
    place = int((answer.double() - right.double()).abs().nan_to_num(math.inf).argmax())
    got, expected = answer.flatten()[place].item(), right.flatten()[place].item()
    assert not close(got, expected)
    raise NotYet(f"{case}: entry {place} is {got:.4g} and should be {expected:.4g}.")
