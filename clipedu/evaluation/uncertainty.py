"""What a score means: its level of chance, and its sampling error.

All scores, levels and errors are in percent. A share p of n trials has the binomial standard error sqrt(p (1 - p) / n).
Scores of two runs that are less than about 2.8 standard errors apart (1.96 x sqrt(2)) differ by no more than one
model's scores on two draws of a test set would.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from clipedu.evaluation.metrics import AVERAGED, rank_of


def chance_levels(metrics: Mapping[str, float]) -> dict[str, float]:
    """Return what a random ranking would score, in percent, for each score.

    With n images and m captions (m/n of them for each image, which is exact where all images have equally many): TR@k is
    the chance that k captions drawn without replacement hold one of the m/n, TR@1 = 1/n; IR@k = k/n; top-k = k/classes.
    That of the average is the mean of its parts'.
    """
    chance = {}
    for key in metrics:
        match rank_of(key):
            case "tr", k:
                chance[key] = 100 * _hit(metrics["retrieval_images"], metrics["retrieval_captions"], k)
            case "ir", k:
                chance[key] = 100 * min(1.0, k / metrics["retrieval_images"])
            case "top", k:
                chance[key] = 100 * min(1.0, k / metrics["zeroshot_classes"])
    parts = [chance[key] for key in AVERAGED if key in chance]
    if "average" in metrics and parts:
        chance["average"] = sum(parts) / len(parts)
    return chance


def _hit(images: float, captions: float, k: int) -> float:
    """Return the chance that k captions hold at least one of an image.

    They are drawn without replacement; an image has `captions / images` of its own.
    """
    miss = 1.0
    for drawn in range(k):
        miss *= max(0.0, captions - captions / images - drawn) / max(1.0, captions - drawn)
    return 1.0 - miss


def standard_errors(metrics: Mapping[str, float]) -> dict[str, float]:
    """Return one binomial standard error of each score, in percent.

    n is the number of images, for TR@k and top-k, and also for IR@k: captions of one image are not independent trials, so
    this is an upper bound (if they were, it would be smaller by the root of captions per image). The average takes its
    parts as independent. A score of 0 or 100 % is treated as one hit or one miss, so that no error is 0.
    """
    errors = {}
    for key, value in metrics.items():
        if rank := rank_of(key):
            errors[key] = _binomial(value, metrics["zeroshot_images" if rank[0] == "top" else "retrieval_images"])
    parts = [errors[key] for key in AVERAGED if key in errors]
    if "average" in metrics and parts:
        errors["average"] = math.sqrt(sum(error**2 for error in parts)) / len(parts)
    return errors


def _binomial(percent: float, trials: float) -> float:
    share = min(max(percent / 100, 1 / trials), 1 - 1 / trials) if trials > 1 else 0.5
    return 100 * math.sqrt(share * (1 - share) / trials)
