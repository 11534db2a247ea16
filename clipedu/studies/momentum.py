"""Which step size transfers? The study of `clipedu compare momentum`.

Scion's steps have a fixed size, lr, whatever the momentum. Its buffer is a mean over about 1 / alpha gradients, so successive steps
share their gradients and their sum grows faster than that of independent steps: as fast as that of independent steps of size

    gamma_eff = lr sqrt((2 - alpha) / alpha)            alpha: weight of the newest gradient, 1 - beta; 1 is no momentum

The claim (Chou 2025, arXiv:2512.08217): with another momentum the best gamma_eff stays, and the best lr does not. Here each alpha
is trained at the same values of lr, and scored on training pairs that are held out. Its best lr is the top of a parabola through
the best value and its neighbours, over log lr, seed by seed. Then, with Student's 95 % interval over the seeds:

    ratio       best value at the largest alpha / at the smallest: 1 for what transfers
    exponent    p of  best lr ~ ((2 - alpha) / alpha)^(-p/2)  by least squares: 1 where gamma_eff transfers, 0 where lr does
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from clipedu.evaluation.metrics import METRICS
from clipedu.plots.style import save_figure
from clipedu.plots.transfer import Way, plot_transfer
from clipedu.studies.comparison import Comparison, variant
from clipedu.studies.surfaces import peak
from clipedu.utils.errors import ClipeduError
from clipedu.utils.files import write_text
from clipedu.utils.markdown import markdown_table
from clipedu.utils.statistics import geometric_interval, interval

if TYPE_CHECKING:
    import pandas

    from clipedu.runs.run import Run

SCORE = "average"
ALPHAS = (1.0, 0.3, 0.1)
RATES = (0.0015, 0.0032, 0.007, 0.015, 0.032, 0.07, 0.15)  # a factor of 2.15 apart
WAYS = {"lr": "lr", "gamma_eff": "effective step, lr √((2 − α) / α)"}


def measurements(runs: Sequence[Run]) -> pandas.DataFrame:
    """Return a table with one row a run, by alpha, seed and lr.

    Columns: variant, alpha, lr, gamma_eff, seed, status, score (on the pairs held out, in percent; nan of a run that failed).

    Raises:
        ClipeduError: no run has a score.
    """
    import pandas

    from clipedu.optim.scion import effective_step

    rows: list[dict[str, Any]] = []
    for run in runs:
        ex, nesterov = run.experiment, bool(run.experiment.optimizer_options.get("nesterov"))
        alpha = float(ex.optimizer_options["alpha"])
        rows.append(
            {
                "variant": variant(run),
                "alpha": alpha,
                "lr": ex.lr,
                "gamma_eff": effective_step(ex.lr, alpha, nesterov),
                "seed": ex.seed,
                "status": run.status,
                "score": run.metrics.get(SCORE, math.nan),
            }
        )
    if not any(run.metrics.get(SCORE, 0) > 0 for run in runs):
        raise ClipeduError("no run has a score above 0: there is no best value to look for")
    return pandas.DataFrame(rows).sort_values(["alpha", "seed", "lr"], ascending=[False, True, True], ignore_index=True)


def peaks(frame: pandas.DataFrame) -> pandas.DataFrame:
    """Return the best lr and gamma_eff of each alpha and seed.

    Args:
        frame: as `measurements` returns it.
    Returns:
        a frame with columns alpha, seed, lr, gamma_eff (nan where no run has a score) and inside (`Peak.inside`).
    """
    import pandas

    made = []
    for (alpha, seed), rows in frame.groupby(["alpha", "seed"], sort=False):
        rows = rows.sort_values("lr")
        best = peak(rows["lr"].tolist(), rows["score"].tolist())
        factor = float((rows["gamma_eff"] / rows["lr"]).iloc[0])
        made.append((alpha, seed, best.at, best.at * factor, best.inside))
    return pandas.DataFrame(made, columns=["alpha", "seed", *WAYS, "inside"])


def best_table(frame: pandas.DataFrame) -> pandas.DataFrame:
    """Return the best lr and gamma_eff of each alpha, over seeds.

    Args:
        frame: as `measurements` returns it.
    Returns:
        a frame with one row an alpha: alpha, seeds, inside (in how many of them the best is between the ends), and for
        each of `WAYS` the geometric mean of the best value and the ends of its interval, "<way> low" and "<way> high"
        (nan for one seed).
    """
    import pandas

    made = []
    for alpha, rows in peaks(frame).groupby("alpha", sort=False):
        row: dict[str, Any] = {"alpha": alpha, "seeds": len(rows), "inside": int(rows["inside"].sum())}
        for way in WAYS:
            row[way], row[f"{way} low"], row[f"{way} high"] = geometric_interval(rows[way].dropna().tolist())
        made.append(row)
    return pandas.DataFrame(made)


def transfer_table(frame: pandas.DataFrame) -> pandas.DataFrame:
    """Return how far apart the best values of the alphas are.

    Args:
        frame: as `measurements` returns it, of at least two alphas.
    Returns:
        a frame with rows "ratio in lr", "ratio in gamma_eff" (largest alpha over smallest) and "exponent"; columns value,
        low, high (Student's 95 % interval over seeds, of the logarithm for ratios; nan for one seed), transfers (what the
        number is where that setting transfers) and seeds.
    """
    import pandas

    found = peaks(frame).dropna()
    made = {}
    for way in WAYS:
        wide = found.pivot(index="seed", columns="alpha", values=way).dropna()
        ratio = wide[wide.columns.max()] / wide[wide.columns.min()]
        made[f"ratio in {way}"] = (*geometric_interval(ratio.tolist()), 1.0, len(ratio))
    powers = []
    for _, rows in found.groupby("seed"):
        if len(rows) > 1:
            share = -np.log((2 - rows["alpha"]) / rows["alpha"]) / 2
            powers.append(float(np.polyfit(share, np.log(rows["lr"]), 1)[0]))
    middle, half = interval(powers)
    made["exponent"] = (middle, middle - half, middle + half, 1.0, len(powers))
    return pandas.DataFrame.from_dict(made, orient="index", columns=["value", "low", "high", "transfers", "seeds"])


def verdict(frame: pandas.DataFrame) -> list[str]:
    """Return what the intervals allow to say, a sentence a line.

    Args:
        frame: as `measurements` returns it.
    """
    lines, best = [], best_table(frame)
    ends = best[best["inside"] < best["seeds"]]
    for row in ends.itertuples():
        lines.append(
            f"At alpha {row.alpha:g} the best lr is at an end of those tried in {row.seeds - row.inside} of {row.seeds} seeds: the best may be "
            "beyond, and what follows is not to be relied on."
        )
    if len(best) < 2:
        return [*lines, "One alpha alone: nothing to compare."]
    table = transfer_table(frame)
    if table["low"].isna().any():
        return [*lines, "One seed has no interval: nothing is claimed."]
    for way in WAYS:
        row = table.loc[f"ratio in {way}"]
        value = f"{row['value']:.2f} ({row['low']:.2f} to {row['high']:.2f})"
        if row["low"] <= 1 <= row["high"]:
            lines.append(
                f"{way}: best at alpha {best['alpha'].max():g} over best at {best['alpha'].min():g} is {value}: no difference was seen; one by less "
                f"than a factor of {math.sqrt(row['high'] / row['low']):.2f} could not have been."
            )
        else:
            lines.append(
                f"{way}: best at alpha {best['alpha'].max():g} over best at {best['alpha'].min():g} is {value}: it does not stay the same."
            )
    row = table.loc["exponent"]
    fits = [name for name, at in (("gamma_eff (1)", 1), ("lr (0)", 0)) if row["low"] <= at <= row["high"]]
    lines.append(
        f"Exponent {row['value']:.2f} ({row['low']:.2f} to {row['high']:.2f}): it agrees with the transfer of "
        f"{' and of '.join(fits) if fits else 'neither gamma_eff (1) nor lr (0)'}."
    )
    return lines


def write_study(runs: Sequence[Run], folder: str | Path) -> str:
    """Write momentum.png, momentum.md and momentum.csv.

    Returns:
        tables, sentences and paths.
    """
    folder, frame = Path(folder), measurements(runs)
    best = best_table(frame)
    parts = [_best_text(best)]
    if len(best) > 1:
        parts.append(_transfer_text(transfer_table(frame)))
    text = "\n\n".join([*parts, "\n".join(f"- {line}" for line in verdict(frame))])
    write_text(folder / "momentum.csv", frame.to_csv(index=False))
    write_text(folder / "momentum.md", f"# Step sizes and momentum\n\n{__doc__}\n{text}\n\n![scores](momentum.png)\n")
    tops = best.set_index("alpha")
    ways = [Way(way, label, tops[way].to_dict()) for way, label in WAYS.items()]
    figure = plot_transfer(frame, ways, f"{METRICS[SCORE].heading} on pairs held out (%)")
    save_figure(figure, folder / "momentum.png")
    return f"{text}\n\nFigure: {folder}/momentum.png. Tables: {folder}/momentum.md, {folder}/momentum.csv"


def _best_text(best: pandas.DataFrame) -> str:
    rows = (
        [f"{row['alpha']:g}", *(_value(row, way) for way in WAYS), f"{row['inside']:.0f} of {row['seeds']:.0f}"]
        for _, row in best.iterrows()
    )
    return markdown_table(["alpha", "best lr", "best gamma_eff", "between the ends, seeds"], rows)


def _transfer_text(table: pandas.DataFrame) -> str:
    rows = (
        [str(name), _value(row.rename({"value": "v", "low": "v low", "high": "v high"}), "v"), f"{row['transfers']:g}"]
        for name, row in table.iterrows()
    )
    return markdown_table(["largest alpha / smallest", "value", "if it transfers"], rows)


def _value(row: pandas.Series, name: str) -> str:
    if math.isnan(row[f"{name} low"]):
        return f"{row[name]:.3g}"
    return f"{row[name]:.3g} ({row[f'{name} low']:.3g} to {row[f'{name} high']:.3g})"


COMPARISON = Comparison(
    "which step size transfers across momentum, lr or gamma_eff: Scion with three momentums at seven learning rates, on pairs held out",
    {f"alpha{alpha:g}+lr{lr:g}": {"optimizer_options": {"alpha": alpha}, "lr": lr} for alpha in ALPHAS for lr in RATES},
    {
        "optimizer": "scion",
        "weight_decay": 0.0,
        "holdout": 0.25,
        "train_size": 2000,
        "batch_size": 32,
        "epochs": 3,
        "norms_every": 1000,
        "keep_checkpoints": 1,
    },
    study=write_study,
    scan=True,
)
