"""Each check passes the right answer, and names the famous error that a wrong one has made."""

import math

import pytest
import torch
from torch.nn.functional import normalize

from clipedu import exercises as ex


def recall(similarity):
    return 100 * (similarity.argmax(1) == torch.arange(len(similarity))).double().mean().item()


def both(similarity, owner):
    tr = (owner[similarity.argmax(1)] == torch.arange(len(similarity))).double().mean().item()
    ir = (similarity.argmax(0) == owner).double().mean().item()
    return 100 * tr, 100 * ir


def only_first_caption(similarity, owner):
    first = torch.searchsorted(owner, torch.arange(len(similarity)))
    return 100 * (similarity.argmax(1) == first).double().mean().item(), both(similarity, owner)[1]


def lowest(batch, tau):
    return math.log(1 + (batch - 1) * math.exp(-1 / tau))


def averages(table, tolerance=0.01):
    mean = (table["tr@1"] + table["ir@1"] + table["top1"]) / 3
    rows = table[(table["printed"] - mean).abs() > tolerance]
    return list(zip(rows["optimizer"], rows["loss"], strict=True))


RIGHT = [
    (ex.check_chance, lambda images, each: 100 / images),
    (ex.check_recall, recall),
    (ex.check_recall, lambda s: torch.tensor(recall(s))),
    (ex.check_both_recalls, both),
    (ex.check_both_recalls, lambda s, owner: list(both(s, owner))),
    (ex.check_cheat, lambda image, text: (10 * image, 10 * text)),
    (ex.check_cheat, lambda image, text: (1000 * normalize(image, dim=1), normalize(text, dim=1))),
    (ex.check_lowest_loss, lowest),
    (ex.check_averages, averages),
    (ex.check_averages, lambda table: [list(row) for row in averages(table, 0.3)]),
]


@pytest.mark.parametrize("check, answer", RIGHT)
def test_right_answers_pass(check, answer):
    verdict = check(answer)
    assert verdict.passed, verdict


FAMOUS = [
    (ex.check_chance, lambda images, each: 1 / images, "percent"),
    (ex.check_chance, lambda images, each: 100 / (images * each), "any of them is a hit"),
    (ex.check_chance, lambda images, each: 100 * each / images, "among all captions"),
    (ex.check_chance, lambda images, each: 50, "should be 0.1"),
    (ex.check_recall, lambda s: recall(s.T), "IR@1"),
    (ex.check_recall, lambda s: recall(s) / 100, "percent"),
    (ex.check_recall, lambda s: recall(s) * 8 / 100, "number of hits"),
    (ex.check_recall, lambda s: s.argmax(1), "one number"),
    (ex.check_recall, lambda s: None, "one number"),
    (ex.check_both_recalls, lambda s, owner: both(s, owner)[::-1], "swapped"),
    (ex.check_both_recalls, only_first_caption, "first caption"),
    (ex.check_both_recalls, lambda s, owner: both(s, owner)[0], "two numbers"),
    (ex.check_cheat, lambda image, text: (image, text), "can go below 0.01"),
    (ex.check_cheat, lambda image, text: (text, text), "cosine changed"),
    (ex.check_cheat, lambda image, text: (image, 0 * text), "cosine changed"),
    (ex.check_cheat, lambda image, text: 10 * image, "both embeddings"),
    (ex.check_cheat, lambda image, text: (math.nan * image, text), "cosine changed"),
    (ex.check_lowest_loss, lambda b, tau: math.log(1 + (b - 1) * math.exp(-tau)), "divided by it"),
    (ex.check_lowest_loss, lambda b, tau: math.log((b - 1) * math.exp(-1 / tau)), "the own one too"),
    (ex.check_lowest_loss, lambda b, tau: math.log(1 + b * math.exp(-1 / tau)), "127 others"),
    (ex.check_lowest_loss, lambda b, tau: -lowest(b, tau), "minus the log"),
    (ex.check_lowest_loss, lambda b, tau: math.exp(-lowest(b, tau)), "probability"),
    (ex.check_lowest_loss, lambda b, tau: math.log(b), "blind"),
    (ex.check_averages, lambda table: averages(table, 0), "rounding"),
    (ex.check_averages, lambda table: [], "0 of 2 rows"),
    (ex.check_averages, lambda table: [("adamw", "sogclr")], "1 of 2 rows"),
    (ex.check_averages, lambda table: [("sogclr", "adamw")], "not a row"),
]


@pytest.mark.parametrize("check, answer, lesson", FAMOUS)
def test_famous_errors_are_named(check, answer, lesson):
    verdict = check(answer)
    assert not verdict.passed and lesson in verdict.message, verdict


def test_ir_counted_by_images_is_named():
    def by_image(similarity, owner):
        hit = similarity.argmax(0) == owner
        images = torch.zeros(len(similarity)).index_add(0, owner, hit.float()) > 0
        return both(similarity, owner)[0], 100 * images.double().mean().item()

    assert "IR@1 counts captions" in ex.check_both_recalls(by_image).message


def test_learners_inputs_are_not_changed_by_a_check():
    def doubles_in_place(image, text):
        image *= 10
        text *= 10
        return image, text

    assert ex.check_cheat(doubles_in_place).passed
