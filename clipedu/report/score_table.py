"""Tables of scores: of one run, and of many runs with one row each."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from clipedu.config.course import in_course_order
from clipedu.data.prompts import prompts_text
from clipedu.evaluation.held_out import trained_lines
from clipedu.evaluation.metrics import AVERAGED_PREFIX, FOIL_KEYS, METRICS, SCORES
from clipedu.evaluation.uncertainty import chance_levels, standard_errors
from clipedu.report.format import number
from clipedu.utils.statistics import interval

if TYPE_CHECKING:
    import pandas


def scores_text(metrics: Mapping[str, float]) -> str:
    """Return the scores as lines, with their meaning and level of chance."""
    if not metrics:
        return "\nThere are no scores: score the run again with clipedu evaluate"
    chance = chance_levels(metrics)
    lines = [f"\n{'score':<9} {METRICS['average'].unit:>6} {'chance':>7}"]
    for key, heading in SCORES.items():
        if key in metrics:
            lines.append(f"{heading:<9} {number(metrics[key]):>6} {number(chance.get(key)):>7}   {METRICS[key].short}")
    beside = [
        f"{heading} {number(metrics[AVERAGED_PREFIX + key])}"
        for key, heading in SCORES.items()
        if AVERAGED_PREFIX + key in metrics
    ]
    if beside:
        lines.append(f"with averaged weights (ema_decay): {', '.join(beside)}")
    counts = []
    if "retrieval_images" in metrics:
        counts.append(f"{metrics['retrieval_images']} images with {metrics['retrieval_captions']} captions")
    if "zeroshot_images" in metrics:
        counts.append(f"{metrics['zeroshot_images']} images in {metrics['zeroshot_classes']} classes")
    if prompts := prompts_text(metrics):
        counts.append(f"zero-shot with {prompts}")
    on = [f"on {'; '.join(counts)}"] if counts else []
    return "\n".join([*lines, *on, *trained_lines(metrics), *_hierarchy_lines(metrics), *_foil_lines(metrics)])


def _hierarchy_lines(metrics: Mapping[str, float]) -> list[str]:
    """Return what `clipedu.evaluation.hierarchy` measured, as far as it did."""
    lines = []

    def shown(key: str) -> str:
        return number(metrics.get(key))

    def percent(key: str) -> str:
        return number(100 * metrics.get(key, math.nan), 0)

    if "text_nearer_root" in metrics:
        image, text = shown("root_distance_image"), shown("root_distance_text")
        nearer = f"text nearer than its image in {percent('text_nearer_root')} % of pairs (50: no order)"
        lines.append(f"distance to the root: images {image}, captions {text} (medians); {nearer}")
    if "generality_within" in metrics:
        within, pooled = shown("generality_within"), shown("generality_pooled")
        lines.append(f"rank correlation of that distance with specificity: {within} within a scene, {pooled} over all")
    if "cone_captions" in metrics:
        shares = [
            f"{what} {percent(key)} % (chance {percent(str(METRICS[key].chance))})"
            for what, key in (("captions", "cone_captions"), ("images", "cone_images"))
        ]
        lines.append(f"inside the cone of a caption that is true of them: {', '.join(shares)}")
    return lines


def _foil_lines(metrics: Mapping[str, float]) -> list[str]:
    """Return what `clipedu.evaluation.foils` measured, if it did."""
    scores = [f"{key.removeprefix('foil_')} {number(metrics[key], 0)}" for key in FOIL_KEYS if key in metrics]
    foil = METRICS[FOIL_KEYS[0]]
    start = f"true caption before one wrong in its ... ({foil.unit}, chance {foil.chance:g}): "
    return [start + ", ".join(scores)] if scores else []


def score_table(runs: Sequence[Any]) -> pandas.DataFrame:
    """Return one row a run, in the course's order: by optimizer, loss, name.

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
    """Return which runs are too near the best to call them worse.

    They are given by the index in a `score_table`: those whose average is less than 1.96 standard errors of the
    difference below the best one, which is itself left out.
    """
    scored = table[table["average"].notna()]
    if not len(scored):
        return set()
    best = scored.loc[scored["average"].idxmax()]
    apart = 1.96 * (scored["error"] ** 2 + best["error"] ** 2) ** 0.5
    return set(scored.index[best["average"] - scored["average"] < apart]) - {best.name}


def at_chance(table: pandas.DataFrame) -> set[int]:
    """Return which runs are no better than chance.

    They are given by the index in a `score_table`: those whose average is less than 1.96 standard errors above its
    level of chance.
    """
    return set(table.index[table["average"] - table["chance"] < 1.96 * table["error"]])


def repeats(runs: Sequence[Any]) -> pandas.DataFrame:
    """Return the cells (loss x optimizer) that were run more than once.

    The table is empty if none was. Columns: optimizer, loss, runs, mean, sd and interval (of the averages in percent, sd with n -
    1, half of Student's 95 % interval of the mean), differ (the fields of the experiment in which runs of the cell differ,
    comma-separated). Runs without scores do not count.
    """
    import pandas

    scored = [run for run in runs if "average" in run.metrics]
    table = score_table(scored)
    rows = []
    for (optimizer, loss), cell in table.groupby(["optimizer", "loss"], sort=False) if len(table) else ():
        if len(cell) > 1:
            settings = [dataclasses.asdict(scored[place].experiment) for place in cell.index]
            differ = [key for key in settings[0] if any(other[key] != settings[0][key] for other in settings)]
            mean, half = interval(cell["average"])
            rows.append((optimizer, loss, len(cell), mean, cell["average"].std(), half, ", ".join(differ)))
    return pandas.DataFrame(rows, columns=["optimizer", "loss", "runs", "mean", "sd", "interval", "differ"])
