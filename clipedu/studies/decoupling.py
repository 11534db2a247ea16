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

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clipedu.config.course import display_name
from clipedu.evaluation.metrics import METRICS, SCORES
from clipedu.plots.decay_map import DecayMap, plot_intervals, plot_maps
from clipedu.plots.style import save_figure
from clipedu.studies.comparison import MEANING, Comparison, variant
from clipedu.studies.decay_maps import (
    MEASURES,
    RATES,
    SCORE,
    SETTINGS,
    best_settings,
    differences,
    final_scores,
    map_measures,
    measurements,
    surface,
)
from clipedu.studies.surfaces import WITHIN
from clipedu.utils.files import write_text
from clipedu.utils.markdown import markdown_table
from clipedu.utils.statistics import interval

if TYPE_CHECKING:
    import pandas

    from clipedu.config.experiment import Experiment
    from clipedu.runs.run import Run

DECOUPLED = ("adamw", "sgdw")
LABELS = {True: "decay: share taken at a step", False: "decay: L2 coefficient"}


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


def _variants() -> dict[str, dict[str, Any]]:
    made = {}
    for name, (lr, decay) in SETTINGS.items():
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
