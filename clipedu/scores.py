"""Reading scores: what chance gives, how far one evaluation can be trusted, and the table of many runs.

All scores, chance levels and errors are in percent.

    TR@k   image -> text: share of images with one of their captions among the k best-ranked captions
    IR@k   text -> image: share of captions whose image is among the k best-ranked images
    top-k  zero-shot: share of images whose class is among the k best-ranked class prompts

A share p of n trials has the binomial standard error sqrt(p (1 - p) / n). Scores of two runs that are less than about
2.8 standard errors apart (1.96 x sqrt(2)) differ by no more than two draws of a test set from one and the same model would.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from clipedu.course_table import in_course_order

if TYPE_CHECKING:
    import pandas

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


def scores_text(metrics: Mapping[str, float]) -> str:
    """The scores as lines for a terminal, with what they mean and what chance would give."""
    chance = chance_levels(metrics)
    rows = [
        ("tr@1", "TR@1", "image -> text: its best-ranked caption is one of its own"),
        ("ir@1", "IR@1", "text -> image: its own image ranks first"),
        ("top1", "top-1", "zero-shot: the right class of all"),
        ("average", "average", "mean of the lines above, the course's score"),
    ]
    lines = [f"\n{'score':<9} {'%':>6} {'chance':>7}"]
    for key, name, meaning in rows:
        if key in metrics:
            lines.append(f"{name:<9} {metrics[key]:6.2f} {chance[key]:7.2f}   {meaning}")
    counts = []
    if "retrieval_images" in metrics:
        counts.append(f"{metrics['retrieval_images']} images with {metrics['retrieval_captions']} captions")
    if "zeroshot_images" in metrics:
        counts.append(f"{metrics['zeroshot_images']} images in {metrics['zeroshot_classes']} classes")
    return "\n".join([*lines, f"on {'; '.join(counts)}", *_hierarchy_lines(metrics), *_foil_lines(metrics)])


def _hierarchy_lines(metrics: Mapping[str, float]) -> list[str]:
    """What `clipedu.hierarchy` measured, as far as it did: how far from the root text and image, generic and specific are."""
    lines = []
    if "text_nearer_root" in metrics:
        image, text = metrics["root_distance_image"], metrics["root_distance_text"]
        nearer = f"text nearer than its image in {100 * metrics['text_nearer_root']:.0f} % of pairs (50: no order)"
        lines.append(f"distance to the root: images {image:.2f}, captions {text:.2f} (medians); {nearer}")
    if "generality_within" in metrics:
        within, pooled = metrics["generality_within"], metrics["generality_pooled"]
        lines.append(
            f"rank correlation of that distance with specificity: {within:.2f} within a scene, {pooled:.2f} over all"
        )
    if "cone_captions" in metrics:
        shares = [
            f"{what} {100 * metrics[f'cone_{what}']:.0f} % (chance {100 * metrics[f'cone_{what}_chance']:.0f})"
            for what in ("captions", "images")
        ]
        lines.append(f"inside the cone of a caption that is true of them: {', '.join(shares)}")
    return lines


def _foil_lines(metrics: Mapping[str, float]) -> list[str]:
    """What `clipedu.foils` measured, if it did."""
    told = [f"{key.removeprefix('foil_')} {value:.0f}" for key, value in metrics.items() if key.startswith("foil_")]
    return [f"true caption before one wrong in its ... (%, chance 50): {', '.join(told)}"] if told else []


def score_table(runs: Sequence[Any]) -> pandas.DataFrame:
    """One row a run, in the course's order: by optimizer, then by loss, then by name.

    Columns: name, optimizer, loss, seed, tr@1, ir@1, top1, average (percent; nan where a run has none), error and chance
    (standard error and level of chance of the average), seconds, status, note. Index: the place of the run in `runs`.
    """
    import pandas

    rows = []
    for run in runs:
        errors = standard_errors(run.metrics)
        rows.append(
            {
                "name": run.name,
                "optimizer": run.experiment.optimizer,
                "loss": run.experiment.loss,
                "seed": run.experiment.seed,
                **{key: float(run.metrics.get(key, math.nan)) for key in SCORES},
                "error": errors.get("average", math.nan),
                "chance": chance_levels(run.metrics).get("average", math.nan),
                "seconds": run.seconds,
                "status": run.status,
                "note": run.note or "",
            }
        )
    optimizers = in_course_order(row["optimizer"] for row in rows)
    losses = in_course_order(row["loss"] for row in rows)
    order = sorted(
        range(len(rows)),
        key=lambda place: (
            optimizers.index(rows[place]["optimizer"]),
            losses.index(rows[place]["loss"]),
            rows[place]["name"],
        ),
    )
    return pandas.DataFrame([rows[place] for place in order], index=order)


def undecided(table: pandas.DataFrame) -> set[int]:
    """Index of the runs in a `score_table` whose average is too near the best one to call it worse (95 %), best excluded."""
    scored = table[table["average"].notna()]
    if not len(scored):
        return set()
    best = scored.loc[scored["average"].idxmax()]
    apart = 1.96 * (scored["error"] ** 2 + best["error"] ** 2) ** 0.5
    return set(scored.index[best["average"] - scored["average"] < apart]) - {best.name}


def at_chance(table: pandas.DataFrame) -> set[int]:
    """Index of the runs in a `score_table` whose average is no better than chance (less than 1.96 standard errors above)."""
    return set(table.index[table["average"] - table["chance"] < 1.96 * table["error"]])


def repeats(runs: Sequence[Any]) -> pandas.DataFrame:
    """Cells (loss x optimizer) that were run more than once, e.g. with several seeds; empty if there are none.

    Columns: optimizer, loss, runs, mean and sd (of the averages in percent, sd with n - 1), differ (the fields of the
    experiment in which runs of the cell differ, comma-separated). Runs without scores don't count.
    """
    import pandas

    scored = [run for run in runs if "average" in run.metrics]
    table = score_table(scored)
    rows = []
    for (optimizer, loss), cell in table.groupby(["optimizer", "loss"], sort=False) if len(table) else ():
        if len(cell) > 1:
            settings = [dataclasses.asdict(scored[place].experiment) for place in cell.index]
            differ = [key for key in settings[0] if any(other[key] != settings[0][key] for other in settings)]
            rows.append((optimizer, loss, len(cell), cell["average"].mean(), cell["average"].std(), ", ".join(differ)))
    return pandas.DataFrame(rows, columns=["optimizer", "loss", "runs", "mean", "sd", "differ"])
