"""Each check of 01_data passes the right answer, and names the famous error that a wrong one has made."""

import math
from collections import Counter

import pytest
import torch

from clipedu.exercises import data as ex

SIDES = {"left": "right", "right": "left"}


def surplus(items):
    return len(items) - len(set(items))


def hamming(one, other):
    return (one[:, None, :] != other[None, :, :]).sum(2)


def half_life(lost, years):
    return years * math.log(0.5) / math.log(1 - lost)


def sampling_error(p, n, total):
    return math.sqrt((1 - p) / (p * n) * (total - n) / (total - 1))


def swap_sides(caption):
    return " ".join(SIDES.get(word, word) for word in caption.split())


def my_rows(order, step, size, rank, ranks):
    start, each = step * size, size // ranks
    return order[start + rank * each : start + (rank + 1) * each]


RIGHT = [
    (ex.check_surplus, surplus),
    (ex.check_surplus, lambda items: sum(count - 1 for count in Counter(items).values())),
    (ex.check_hamming, hamming),
    (ex.check_hamming, lambda a, b: torch.cdist(a.float(), b.float(), p=0)),
    (ex.check_half_life, half_life),
    (ex.check_sampling_error, sampling_error),
    (ex.check_swap_sides, swap_sides),
    (ex.check_swap_sides, lambda caption: swap_sides(caption.replace(",", ""))),
    (ex.check_my_rows, my_rows),
    (ex.check_my_rows, lambda order, step, size, rank, ranks: order[step * size :][:size].chunk(ranks)[rank]),
]


@pytest.mark.parametrize("check, answer", RIGHT)
def test_right_answers_pass(check, answer):
    verdict = check(answer)
    assert verdict.passed, verdict


def groups(items):
    return [count for count in Counter(items).values() if count > 1]


FAMOUS = [
    (ex.check_surplus, lambda items: sum(groups(items)), "one of each group may stay"),
    (ex.check_surplus, lambda items: len(groups(items)), "two must go"),
    (ex.check_surplus, lambda items: len(set(items)), "different items"),
    (ex.check_surplus, lambda items: list(Counter(items).values()).count(1), "items are there once"),
    (ex.check_surplus, lambda items: sum(math.comb(count, 2) for count in groups(items)), "pairs of copies"),
    (ex.check_surplus, lambda items: items, "one number"),
    (ex.check_hamming, lambda a, b: (a[:, None] == b[None]).sum(2), "where they agree"),
    (ex.check_hamming, lambda a, b: (a[:, None] & ~b[None]).sum(2), "a 1 and the second a 0"),
    (ex.check_hamming, lambda a, b: (~a[:, None] & b[None]).sum(2), "a 0 and the second a 1"),
    (ex.check_hamming, lambda a, b: (a[:, None] & b[None]).sum(2), "that both have"),
    (ex.check_hamming, lambda a, b: (a[:, None] | b[None]).sum(2), "either has"),
    (ex.check_hamming, lambda a, b: (a[:, None] != b[None]).float().mean(2), "a share"),
    (ex.check_hamming, lambda a, b: hamming(b, a), "and it should be [4, 3]"),
    (ex.check_hamming, lambda a, b: hamming(a, b) + 1, "entry "),
    (ex.check_hamming, lambda a, b: 3, "not a int"),
    (ex.check_half_life, lambda lost, years: years / 2 / lost, "straight line"),
    (ex.check_half_life, lambda lost, years: half_life(1 - lost, years), "what is left"),
    (ex.check_half_life, lambda lost, years: -half_life(lost, years), "positive"),
    (ex.check_half_life, lambda lost, years: half_life(lost, years) / math.log(2), "37 %"),
    (ex.check_half_life, lambda lost, years: math.log(2) / half_life(lost, years), "a share a year"),
    (ex.check_half_life, lambda lost, years: math.log(2) ** 2 / half_life(lost, years), "upside down"),
    (ex.check_half_life, lambda lost, years: math.nan, "should be"),
    (ex.check_sampling_error, lambda p, n, total: math.sqrt((1 - p) / (p * n)), "putting back"),
    (ex.check_sampling_error, lambda p, n, total: p * sampling_error(p, n, total), "relative"),
    (ex.check_sampling_error, lambda p, n, total: math.sqrt(p * (1 - p) / n), "divide by p; and"),
    (ex.check_sampling_error, lambda p, n, total: sampling_error(p, n, total) ** 2, "take the root"),
    (ex.check_sampling_error, lambda p, n, total: sampling_error(p, n, total) * math.sqrt(n), "divide by n"),
    (
        ex.check_sampling_error,
        lambda p, n, total: sampling_error(p, n, total) * math.sqrt((total - n) / (total - 1)),
        "under the root",
    ),
    (ex.check_sampling_error, lambda p, n, total: math.sqrt((1 - p) / (p * n) * n / total), "*not* drawn"),
    (ex.check_swap_sides, lambda caption: caption, "nothing is exchanged"),
    (
        ex.check_swap_sides,
        lambda caption: caption.replace("left", "right").replace("right", "left"),
        'every side is "left"',
    ),
    (
        ex.check_swap_sides,
        lambda caption: caption.replace("right", "left").replace("left", "right"),
        'every side is "right"',
    ),
    (ex.check_swap_sides, lambda caption: caption.replace("right", "left"), "one alone does half"),
    (ex.check_swap_sides, lambda caption: caption.replace("left", "right"), "one alone does half"),
    (
        ex.check_swap_sides,
        lambda caption: caption.replace("left", "#").replace("right", "left").replace("#", "right"),
        "whole words",
    ),
    (ex.check_swap_sides, lambda caption: caption.split(), "return a text"),
    (ex.check_swap_sides, lambda caption: caption[::-1], "change places and all else stay"),
    (ex.check_my_rows, lambda order, step, size, rank, ranks: order[step * size :][:size], "batch of all processes"),
    (
        ex.check_my_rows,
        lambda order, step, size, rank, ranks: order[rank * (len(order) // ranks) :][step * (size // ranks) :][
            : size // ranks
        ],
        "own part of the epoch",
    ),
    (
        ex.check_my_rows,
        lambda order, step, size, rank, ranks: order[rank::ranks][step * (size // ranks) :][: size // ranks],
        "every N-th row.",
    ),
    (
        ex.check_my_rows,
        lambda order, step, size, rank, ranks: order[step * size :][:size][rank::ranks],
        "one run of rows",
    ),
    (ex.check_my_rows, lambda order, step, size, rank, ranks: my_rows(order, 0, size, rank, ranks), "the first step"),
    (ex.check_my_rows, lambda order, step, size, rank, ranks: list(order), "not a list"),
]


@pytest.mark.parametrize("check, answer, lesson", FAMOUS)
def test_famous_errors_are_named(check, answer, lesson):
    verdict = check(answer)
    assert not verdict.passed and lesson in verdict.message, verdict
