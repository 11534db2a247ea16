"""The tables of a sweep.

There is one with a row a trial and seed, one with a row a trial, and one with a row a variant.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from clipedu.evaluation.metrics import SCORES as SHOWN
from clipedu.studies.sweep.claims import NOTE, SCORES, SECONDS, SETTINGS, counted
from clipedu.studies.sweep.plan import METRICS_TO_CHOOSE_BY, Plan
from clipedu.studies.sweep.space import Range, shown
from clipedu.utils.checks import is_finite_number
from clipedu.utils.statistics import interval

if TYPE_CHECKING:
    import optuna
    import pandas

    from clipedu.runs.run import Run

NEAR_END = 0.05  # of a range: as near to one of its ends
STATES = {"COMPLETE": "finished", "PRUNED": "pruned", "FAIL": "failed", "RUNNING": "running"}


def trial_rows(studies: Mapping[str, optuna.Study], plan: Plan) -> pandas.DataFrame:
    """Return the tidy table of a sweep: a row a trial and seed.

    Args:
        studies: of each variant.
        plan: of the sweep.
    Returns:
        a frame with the columns "variant", "trial", "state", "seed" (missing where no seed has a score yet), one for each
        setting that is compared or varied, one for each score on the pairs held out, in percent, "seconds" and "note".
    """
    import pandas as pd

    rows = []
    for variant, compared in plan.variant_settings().items():
        for trial in counted(studies[variant]):
            if trial.state.name == "WAITING":
                continue
            kept = trial.user_attrs
            shared = {"variant": variant, "trial": trial.number, "state": STATES[trial.state.name]}
            settings = {**compared, **kept.get(SETTINGS, {})}
            settings = {
                name: "none" if value is None else value for name, value in settings.items()
            }  # nan in a column of numbers
            note = kept.get(NOTE, "its process was killed, each time" if trial.state.name == "FAIL" else "")
            scores = kept.get(SCORES, {})
            for seed in plan.seeds if scores else (None,):
                if seed is not None and str(seed) not in scores:
                    continue
                found = scores.get(str(seed), {})
                if not found and trial.state.name == "PRUNED" and trial.value is not None:
                    found = {plan.metric: trial.value}
                rows.append(
                    {
                        **shared,
                        "seed": seed,
                        **settings,
                        **{key: found.get(key) for key in METRICS_TO_CHOOSE_BY},
                        "seconds": kept.get(SECONDS, {}).get(str(seed)),
                        "note": note,
                    }
                )
    first = ["variant", "trial", "state", "seed", *plan.variants, *plan.vary]
    frame = pd.DataFrame(rows, columns=[*first, *METRICS_TO_CHOOSE_BY, "seconds", "note"])
    return frame.astype({**dict.fromkeys([*METRICS_TO_CHOOSE_BY, "seconds"], float), "seed": "Int64"})


def setting_rows(rows: pandas.DataFrame, plan: Plan) -> pandas.DataFrame:
    """Return a row a trial that is finished, the best of each variant first.

    Args:
        rows: as `trial_rows` returns them.
        plan: of the sweep.
    Returns:
        a frame with the columns "variant", "trial", one for each setting that is varied, "runs" (how many seeds), "mean" of the
        score to choose by, and "interval", half of Student's 95 % interval of it over the seeds (nan for one seed).
    """
    import pandas as pd

    found = []
    finished = rows[rows["state"] == "finished"]
    for (variant, number), of_trial in finished.groupby(["variant", "trial"], sort=False):
        mean, half = interval(of_trial[plan.metric].tolist())
        settings = {name: of_trial[name].iloc[0] for name in plan.vary}
        found.append(
            {"variant": variant, "trial": number, **settings, "runs": len(of_trial), "mean": mean, "interval": half}
        )
    frame = pd.DataFrame(found, columns=["variant", "trial", *plan.vary, "runs", "mean", "interval"])
    order = {name: place for place, name in enumerate(plan.variant_settings())}
    place = frame["variant"].map(order)
    return (
        frame.assign(place=place)
        .sort_values(["place", "mean"], ascending=[True, False], kind="stable")
        .drop(columns="place")
        .reset_index(drop=True)
    )


def best_rows(settings: pandas.DataFrame, scored: Mapping[str, Sequence[Run]], plan: Plan) -> pandas.DataFrame:
    """Return a row a variant: its best setting and its scores.

    Args:
        settings: as `setting_rows` returns them.
        scored: the runs of the best setting of each variant, trained on all training pairs, one a seed.
        plan: of the sweep.
    Returns:
        the first row of each variant of `settings`, with "<score> mean" and "<score> interval" for each score of the scored
        sets (keys of `clipedu.evaluation.metrics.SCORES`), nan where there is none, and "scored", how many runs have scores.
    """
    best = settings.drop_duplicates("variant").set_index("variant", drop=False)
    columns: dict[str, list[Any]] = {
        "scored": [],
        **{f"{key} {of}": [] for key in SHOWN for of in ("mean", "interval")},
    }
    for variant in best.index:
        runs = [run for run in scored.get(str(variant), ()) if run.metrics]
        columns["scored"].append(len(runs))
        for key in SHOWN:
            mean, half = interval([run.metrics[key] for run in runs if key in run.metrics])
            columns[f"{key} mean"].append(mean)
            columns[f"{key} interval"].append(half)
    return best.reset_index(drop=True).assign(**columns)


def at_ends(chosen: Mapping[str, Mapping[str, Any]], plan: Plan) -> list[str]:
    """Return a line for each best value at an end of what was tried.

    A better one may be beyond it.

    Args:
        chosen: the best setting of each variant, by variant and name.
        plan: of the sweep.
    """
    lines = []
    for variant, settings in chosen.items():
        for name, one in plan.vary.items():
            value = settings[name]
            if isinstance(one, Range):
                low, high, at = ((math.log(x) if one.log else x) for x in (one.low, one.high, value))
                near = min(at - low, high - at) < NEAR_END * (high - low)
            else:
                numbers = [v for v in one.values if is_finite_number(v)]
                near = len(numbers) == len(one.values) > 2 and value in (min(numbers), max(numbers))
            if near:
                where = "" if len(chosen) == 1 else f" of {variant}"
                lines.append(
                    f"The best {name}{where}, {shown(value)}, is at an end of what was tried ({one}): a better one may be beyond it."
                )
    return lines
