"""Maps of the score over learning rate and decay, an optimizer each.

Two numbers a map (`clipedu.studies.surfaces`): the share of settings within 90 % of the best, and the tilt. Differences of optimizers
are taken seed by seed.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from clipedu.evaluation.metrics import SCORES
from clipedu.studies.comparison import variant
from clipedu.studies.surfaces import share_near_best, tilt
from clipedu.utils.errors import ClipeduError
from clipedu.utils.statistics import interval

if TYPE_CHECKING:
    import pandas

    from clipedu.runs.run import Run

SCORE = "average"
RATES = {
    **dict.fromkeys(("adam", "adamw"), (3e-4, 1e-3, 3e-3, 1e-2, 3e-2)),
    **dict.fromkeys(("sgd", "sgdw"), (1e-2, 3e-2, 1e-1, 3e-1, 1.0)),
}
DECAYS = {
    "adam": (1e-4, 1e-3, 1e-2, 1e-1, 1.0),
    **dict.fromkeys(("adamw", "sgd", "sgdw"), (1e-5, 1e-4, 1e-3, 1e-2, 1e-1)),
}
MEASURES = {"share": "settings within 90 % of the best (%)", "tilt": "tilt"}
ORDER = ("adam", "sgd", "sgdw", "adamw")  # a difference is that of a later one less an earlier one
SETTINGS = {
    f"{optimizer}+lr{lr:g}+decay{decay:g}": (lr, decay)
    for optimizer in RATES
    for lr in RATES[optimizer]
    for decay in DECAYS[optimizer]
}


def measurements(runs: Sequence[Run]) -> pandas.DataFrame:
    """Return a table with one row a run that was scored on pairs held out.

    Columns: variant, optimizer, lr, decay (as the maps have it), weight_decay, seed, status, score (percent; nan of a run
    that failed).

    Raises:
        ClipeduError: none has a score.
    """
    import pandas

    rows = []
    for run in runs:
        ex = run.experiment
        if ex.holdout is not None:
            lr, decay = SETTINGS[variant(run)]
            score = run.metrics.get(SCORE, math.nan)
            rows.append((variant(run), ex.optimizer, lr, decay, ex.weight_decay, ex.seed, run.status, score))
    columns = ["variant", "optimizer", "lr", "decay", "weight_decay", "seed", "status", "score"]
    frame = pandas.DataFrame(rows, columns=columns)
    if not (frame["score"] > 0).any():
        raise ClipeduError("no run has a score above 0 on the pairs held out: there is no best setting")
    return frame


def surface(rows: pandas.DataFrame) -> pandas.DataFrame:
    """Return mean scores by decay (rows) and lr (columns).

    A run that failed counts as 0; a setting without a run is nan.

    Args:
        rows: of `measurements`, of one optimizer.
    """
    return rows.fillna({"score": 0.0}).pivot_table(index="decay", columns="lr", values="score", aggfunc="mean")


def best_settings(frame: pandas.DataFrame) -> pandas.DataFrame:
    """Return the best setting of each optimizer, by the mean over seeds.

    Args:
        frame: as `measurements` returns it.
    Returns:
        a frame with optimizer as index, and columns variant, lr, decay, weight_decay, score.
    """
    means = (
        frame.fillna({"score": 0.0})
        .groupby(["optimizer", "variant"], sort=False)
        .agg({"lr": "first", "decay": "first", "weight_decay": "first", "score": "mean"})
        .reset_index()
    )
    order = list(dict.fromkeys(means["optimizer"]))
    best = means.sort_values("score", ascending=False, kind="stable").drop_duplicates("optimizer")
    return best.set_index("optimizer").loc[order]


def map_measures(frame: pandas.DataFrame) -> pandas.DataFrame:
    """Return share and tilt of every map.

    Args:
        frame: as `measurements` returns it.
    Returns:
        a frame with columns optimizer, seed, share (percent of the settings) and tilt.
    """
    import pandas

    made = []
    for (optimizer, seed), rows in frame.groupby(["optimizer", "seed"], sort=False):
        scores = surface(rows)
        made.append(
            {
                "optimizer": optimizer,
                "seed": seed,
                "share": 100 * share_near_best(rows["score"].to_numpy()),
                "tilt": tilt(scores.to_numpy(), scores.columns.tolist(), scores.index.tolist()),
            }
        )
    return pandas.DataFrame(made)


def final_scores(runs: Sequence[Run]) -> pandas.DataFrame:
    """Return a table with one row a finished run of a best setting.

    Columns: optimizer, seed, and those of `SCORES` that a run has. It is empty where there is none.
    """
    import pandas

    rows = [
        {
            "optimizer": run.experiment.optimizer,
            "seed": run.experiment.seed,
            **{key: run.metrics[key] for key in SCORES if key in run.metrics},
        }
        for run in runs
        if run.experiment.holdout is None and run.status == "finished"
    ]
    return pandas.DataFrame(rows, columns=None if rows else ["optimizer", "seed"])


def differences(table: pandas.DataFrame, keys: Sequence[str]) -> pandas.DataFrame:
    """Return the differences of each two optimizers, seed by seed.

    Args:
        table: with columns optimizer, seed and `keys`.
        keys: what is compared.
    Returns:
        a frame with columns one, other, what (key), difference (mean of one - other), +- (half of Student's 95 % interval; nan
        for one seed) and seeds.
    """
    import pandas

    made = []
    found = [name for name in RATES if name in set(table["optimizer"])]
    for other, one in itertools.combinations(sorted(found, key=ORDER.index), 2):
        for key in keys:
            wide = table.pivot(index="seed", columns="optimizer", values=key)
            apart = (wide[one] - wide[other]).dropna()
            made.append((one, other, key, *interval(apart.tolist()), len(apart)))
    return pandas.DataFrame(made, columns=["one", "other", "what", "difference", "+-", "seeds"])
