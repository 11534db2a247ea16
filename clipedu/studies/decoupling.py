"""What decoupling does: the study of `clipedu compare decoupling`.

Loshchilov & Hutter (arXiv:1711.05101) say two things of weight decay that is taken from the weight itself, and not added to the gradient as
L2: learning rate and decay can be chosen one by one, and more settings are good. Each optimizer is trained over a grid of both, with as many
values over as many powers of ten, and scored on training pairs that are held out:

    adam, sgd      decay: the L2 coefficient, added to the gradient (weight_decay)
    adamw, sgdw    decay: the share of the weight that a step takes away at the peak of the schedule. That is the paper's lambda;
                   weight_decay is it divided by lr, since torch multiplies them

Two numbers a map (`clipedu.studies.surfaces`), the mean over seeds with half of Student's 95 % interval: the share of settings within 90 % of the
best, and the tilt: 0 where the good settings are a box along the axes, negative where a larger lr needs a smaller decay. Both are of this
grid: other ends give other numbers. Without momentum sgd and sgdw are one optimizer: its L2 coefficient times lr is the share that a step takes.

The best setting of each optimizer, by the mean over seeds, is then trained on all training pairs and scored on the scored sets, which no
choice has seen. Differences are taken seed by seed.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clipedu.config.course import display_name
from clipedu.evaluation.metrics import METRICS, SCORES
from clipedu.plots.decay_map import DecayMap, plot_intervals, plot_maps
from clipedu.plots.style import save_figure
from clipedu.studies.comparison import MEANING, Comparison, variant
from clipedu.studies.surfaces import WITHIN, share_near_best, tilt
from clipedu.utils.errors import ClipeduError
from clipedu.utils.files import write_text
from clipedu.utils.markdown import markdown_table
from clipedu.utils.statistics import interval

if TYPE_CHECKING:
    import pandas

    from clipedu.config.experiment import Experiment
    from clipedu.runs.run import Run

SCORE = "average"
DECOUPLED = ("adamw", "sgdw")
RATES = {
    **dict.fromkeys(("adam", "adamw"), (3e-4, 1e-3, 3e-3, 1e-2, 3e-2)),
    **dict.fromkeys(("sgd", "sgdw"), (1e-2, 3e-2, 1e-1, 3e-1, 1.0)),
}
DECAYS = {
    "adam": (1e-4, 1e-3, 1e-2, 1e-1, 1.0),
    **dict.fromkeys(("adamw", "sgd", "sgdw"), (1e-5, 1e-4, 1e-3, 1e-2, 1e-1)),
}
LABELS = {True: "decay: share taken at a step", False: "decay: L2 coefficient"}
MEASURES = {"share": "settings within 90 % of the best (%)", "tilt": "tilt"}


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
            lr, decay = _SETTINGS[variant(run)]
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


def follow(runs: Sequence[Run]) -> dict[int, dict[str, Experiment]]:
    """Return the runs that come after the grid, by seed and folder name.

    They are the best setting of each optimizer, trained on all training pairs.
    """
    best = best_settings(measurements(runs))
    names = dict(zip(best["variant"], best.index, strict=True))
    cells: dict[int, dict[str, Experiment]] = {}
    for run in runs:
        if variant(run) in names:
            seed = run.experiment.seed
            name = f"{names[variant(run)]}-seed{seed}"
            cells.setdefault(seed, {})[name] = run.experiment.replace(holdout=None)
    return cells


def verdict(frame: pandas.DataFrame, finals: pandas.DataFrame) -> list[str]:
    """Return what the intervals allow to say, a sentence a line.

    Args:
        frame: as `measurements` returns it.
        finals: as `final_scores` returns it.
    """
    lines = []
    for optimizer, best in best_settings(frame).iterrows():
        own = frame[frame["optimizer"] == optimizer]
        ends = [
            name
            for name in ("lr", "decay")
            if own[name].nunique() > 1 and best[name] in (own[name].min(), own[name].max())
        ]
        if ends:
            lines.append(
                f"{_name(optimizer)}: the best {' and '.join(ends)} {'is' if len(ends) == 1 else 'are'} at an end of the grid."
            )
    maps = differences(map_measures(frame), list(MEASURES))
    for one, other in (("adamw", "adam"), ("sgdw", "sgd")):
        pair = maps[(maps["one"] == one) & (maps["other"] == other)]
        lines += [
            _sentence(row, MEASURES[row.what].removesuffix(" (%)"), 0 if row.what == "share" else 2)
            for row in pair.itertuples()
        ]
    if len(finals):
        apart = differences(finals, [SCORE])
        lines += [_sentence(row, METRICS[SCORE].heading, 1) for row in apart.itertuples()]
        known = apart[apart["+-"].notna()]
        if len(known):
            count = int((known["difference"].abs() > known["+-"]).sum())
            lines.append(
                f"Of these {len(known)} differences of scores {count} exclude 0; if none were real, {len(known) / 20:.1f} would by chance."
            )
    return lines


def write_study(runs: Sequence[Run], folder: str | Path) -> str:
    """Write decoupling.png, decoupling-scores.png, decoupling.md and .csv.

    Returns:
        tables, sentences and paths.
    """
    folder, frame, finals = Path(folder), measurements(runs), final_scores(runs)
    measures = map_measures(frame)
    parts = [_map_table(frame, measures), _final_table(finals)] if len(finals) else [_map_table(frame, measures)]
    text = "\n\n".join([*parts, MEANING, "\n".join(f"- {line}" for line in verdict(frame, finals))]).rstrip()
    write_text(folder / "decoupling.csv", frame.to_csv(index=False))
    if len(finals):
        write_text(folder / "decoupling-best.csv", finals.to_csv(index=False))
    write_text(
        folder / "decoupling.md",
        f"# Decoupled decay\n\n{__doc__}\n{text}\n\n![maps](decoupling.png)\n\n![intervals](decoupling-scores.png)\n",
    )
    heading = METRICS[SCORE].heading
    save_figure(
        plot_maps(_maps(frame, measures), f"{heading} on pairs held out (%)", WITHIN), folder / "decoupling.png"
    )
    panels = {label: measures.rename(columns={key: "value"}) for key, label in MEASURES.items()}
    if len(finals):
        panels[f"{heading}, best setting, scored set (%)"] = finals.rename(columns={SCORE: "value"})
    save_figure(plot_intervals(panels, list(RATES), _name), folder / "decoupling-scores.png")
    files = "decoupling.md, decoupling.csv" + (", decoupling-best.csv" if len(finals) else "")
    return f"{text}\n\nFigures: decoupling.png, decoupling-scores.png. Tables: {files}. All in {folder}/"


def _maps(frame: pandas.DataFrame, measures: pandas.DataFrame) -> list[DecayMap]:
    made = []
    for optimizer, rows in frame.groupby("optimizer", sort=False):
        scores, own = surface(rows), measures[measures["optimizer"] == optimizer]
        made.append(
            DecayMap(
                f"{_name(optimizer)}: {_plus_minus(own['share'], 0)} % good, tilt {_plus_minus(own['tilt'], 2)}",
                scores.columns.tolist(),
                scores.index.tolist(),
                scores.to_numpy(),
                LABELS[optimizer in DECOUPLED],
            )
        )
    return made


def _map_table(frame: pandas.DataFrame, measures: pandas.DataFrame) -> str:
    rows = []
    for optimizer, best in best_settings(frame).iterrows():
        own = measures[measures["optimizer"] == optimizer]
        settings = (f"{best[name]:.3g}" for name in ("lr", "decay", "weight_decay"))
        at_best = frame[frame["variant"] == best["variant"]]["score"]
        numbers = (_plus_minus(own["share"], 0), _plus_minus(own["tilt"], 2), str(len(own)))
        rows.append([_name(optimizer), *settings, _plus_minus(at_best, 1), *numbers])
    head = ["optimizer", "best lr", "best decay", "weight_decay", f"{METRICS[SCORE].heading}, held out"]
    return markdown_table([*head, MEASURES["share"], "tilt", "seeds"], rows)


def _final_table(finals: pandas.DataFrame) -> str:
    keys = [key for key in SCORES if key in finals]
    rows = [
        [_name(optimizer), str(len(own)), *(_plus_minus(own[key], 1) for key in keys)]
        for optimizer, own in finals.groupby("optimizer", sort=False)
    ]
    return markdown_table(["best setting, all pairs", "seeds", *(METRICS[key].heading for key in keys)], rows)


def _sentence(row: Any, what: str, digits: int) -> str:
    """Return a difference in words; `row` is of `differences`."""
    one, other, half = _name(row.one), _name(row.other), row[5]
    if math.isnan(half):
        return f"{what}, {one} - {other}: {row.difference:+.{digits}f}; one seed has no interval."
    found = "excludes 0" if abs(row.difference) > half else "no difference was seen"
    return f"{what}, {one} - {other}: {row.difference:+.{digits}f} ± {half:.{digits}f}: {found}."


def _name(optimizer: object) -> str:
    """Return an optimizer's usual spelling."""
    return {"sgdw": "SGDW"}.get(str(optimizer)) or display_name(str(optimizer))


def _plus_minus(values: pandas.Series, digits: int) -> str:
    mean, half = interval(values.dropna().tolist())
    return f"{mean:.{digits}f}" if math.isnan(half) else f"{mean:.{digits}f} ± {half:.{digits}f}"


ORDER = ("adam", "sgd", "sgdw", "adamw")  # a difference is that of a later one less an earlier one
_SETTINGS = {
    f"{optimizer}+lr{lr:g}+decay{decay:g}": (lr, decay)
    for optimizer in RATES
    for lr in RATES[optimizer]
    for decay in DECAYS[optimizer]
}


def _variants() -> dict[str, dict[str, Any]]:
    made = {}
    for name, (lr, decay) in _SETTINGS.items():
        optimizer = name.partition("+")[0]
        weight_decay = float(f"{decay / lr:.6g}") if optimizer in DECOUPLED else decay
        made[name] = {"optimizer": optimizer, "lr": lr, "weight_decay": weight_decay}
    return made


COMPARISON = Comparison(
    "what decoupling does: maps of lr x decay for adam, adamw, sgd and sgdw on pairs held out, then the best of each on the scored sets",
    _variants(),
    {
        "holdout": 0.25,
        "train_size": 2000,
        "batch_size": 64,
        "epochs": 3,
        "clip_grad": 10.0,
        "norms_every": 1000,
        "keep_checkpoints": 1,
    },
    study=write_study,
    scan=True,
    follow=follow,
)
