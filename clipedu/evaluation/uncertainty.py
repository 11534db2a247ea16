"""Reading scores: what chance gives, how far one evaluation can be trusted, and the table of many runs.

All scores, chance levels and errors are in percent.

    TR@k   image -> text: share of images with one of their captions among the k best-ranked captions
    IR@k   text -> image: share of captions whose image is among the k best-ranked images
    top-k  zero-shot: share of images whose class is among the k best-ranked class prompts

A share p of n trials has the binomial standard error sqrt(p (1 - p) / n). Scores of two runs that are less than about
2.8 standard errors apart (1.96 x sqrt(2)) differ by no more than two draws of a test set from one and the same model would.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

SCORES = ("tr@1", "ir@1", "top1", "average")


def chance_levels(metrics: Mapping[str, float]) -> dict[str, float]:
    """What random ranking would score, in percent, for each score in `metrics`.

    With n images and m captions (m/n of them for each image, which is exact where all images have equally many): TR@k is
    the chance that k captions drawn without replacement hold one of the m/n, TR@1 = 1/n; IR@k = k/n; top-k = k/classes.
    The average's is the mean of those that it is the mean of.
    """
    chance = {}
    for key in metrics:
        kind, _, k = key.partition("@") if "@" in key else (key[:3], "", key[3:])
        if kind == "tr" and k:
            chance[key] = 100 * _hit(metrics["retrieval_images"], metrics["retrieval_captions"], int(k))
        elif kind == "ir" and k:
            chance[key] = 100 * min(1.0, int(k) / metrics["retrieval_images"])
        elif kind == "top" and k:
            chance[key] = 100 * min(1.0, int(k) / metrics["zeroshot_classes"])
    parts = [chance[key] for key in ("tr@1", "ir@1", "top1") if key in chance]
    if "average" in metrics and parts:
        chance["average"] = sum(parts) / len(parts)
    return chance


def _hit(images: float, captions: float, k: int) -> float:
    """Chance that k of `captions`, drawn without replacement, hold at least one of an image's `captions / images`."""
    miss = 1.0
    for drawn in range(k):
        miss *= max(0.0, captions - captions / images - drawn) / max(1.0, captions - drawn)
    return 1.0 - miss


def standard_errors(metrics: Mapping[str, float]) -> dict[str, float]:
    """The sampling error of each score in `metrics`: one binomial standard error, in percent.

    n is the number of images, for TR@k and top-k, and also for IR@k: captions of one image are no independent trials, so this
    is the cautious end (if they were independent, it would be smaller by the root of captions per image). The average
    takes its parts as independent. A score of 0 or 100 % is treated as one hit or one miss, so that no error is 0.
    """
    errors = {}
    for key, value in metrics.items():
        if key[:3] in ("tr@", "ir@"):
            errors[key] = _binomial(value, metrics["retrieval_images"])
        elif key[:3] == "top":
            errors[key] = _binomial(value, metrics["zeroshot_images"])
    parts = [errors[key] for key in ("tr@1", "ir@1", "top1") if key in errors]
    if "average" in metrics and parts:
        errors["average"] = math.sqrt(sum(error**2 for error in parts)) / len(parts)
    return errors


def _binomial(percent: float, trials: float) -> float:
    share = min(max(percent / 100, 1 / trials), 1 - 1 / trials) if trials > 1 else 0.5
    return 100 * math.sqrt(share * (1 - share) / trials)
