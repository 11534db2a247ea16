"""What to know before scores are believed.

Are the pairs that a model is scored on held out from its training, and is it the model that the training ended with?
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from clipedu.data.overlap import Shared
from clipedu.evaluation.metrics import EARLIER

if TYPE_CHECKING:
    from clipedu.data.pairs import Pairs


def trained_counts(pairs: Pairs, found: Shared | None) -> dict[str, float]:
    """Return how much of a set was trained on, as metrics.

    Args:
        pairs: a retrieval set, or one of split "zeroshot", of which pictures alone are counted.
        found: the rows that are in the training set too; None if that is not known.
    Returns:
        counts by key (`clipedu.evaluation.metrics.TRAINED`), those that are not 0.
    """
    if found is None:
        return {}
    if pairs.split == "zeroshot":
        counts = {"zeroshot_trained_images": found.pictures}
    else:
        counts = {"retrieval_trained_pairs": found.pairs, "retrieval_trained_images": found.pictures}
    return {key: count for key, count in counts.items() if count}


def trained_lines(metrics: Mapping[str, float]) -> list[str]:
    """Say how much of the test sets was trained on, and what was scored.

    Args:
        metrics: of a run.
    Returns:
        a line where an earlier checkpoint was scored than the last; at most a line for the retrieval set and one for the
        zero-shot set, none where all rows are held out.
    """
    lines = []
    if all(key in metrics for key in EARLIER):
        scored, last = (f"{metrics[key]:.0f}" for key in EARLIER)
        lines = [f"these are the scores after step {scored} of {last}: the last checkpoint is damaged"]
    images, pairs = metrics.get("retrieval_trained_images", 0), metrics.get("retrieval_trained_pairs", 0)
    zeroshot = metrics.get("zeroshot_trained_images", 0)
    return lines + [
        _line(count, metrics.get(total, count), what)
        for count, total, what in (
            (pairs, "retrieval_images", "pairs to score on"),
            (images if images > pairs else 0, "retrieval_images", "pictures to score on"),
            (zeroshot, "zeroshot_images", "zero-shot pictures"),
        )
        if count
    ]


def trained_lines_of(runs: Sequence[Any]) -> list[str]:
    """Say the same of several runs, each line once.

    It names the runs that it is true of, where it is not true of all.

    Args:
        runs: with `name` and `metrics`.
    """
    found: dict[str, list[str]] = {}
    for run in runs:
        for line in trained_lines(run.metrics):
            found.setdefault(line, []).append(run.name)
    scored = sum(bool(run.metrics) for run in runs)
    return [line if len(names) == scored else f"{line} ({', '.join(names)})" for line, names in found.items()]


def _line(count: float, total: float, what: str) -> str:
    if count >= total:
        return (
            f"all {total:,.0f} {what} are also trained on: these scores do not tell what the model does with new ones"
        )
    return f"{count:,.0f} of {total:,.0f} {what} {'is' if count == 1 else 'are'} also trained on"
