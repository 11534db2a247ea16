"""Do extra tokens help? The study of `clipedu compare vit`.

Each variant is "<extra tokens>+<position encoding>" (`clipedu.models.vit`). Registers, summary tokens and the fractal mask
are as many tokens, so they cost the same; "plain" costs less, and "wide" is plain with a wider MLP that costs
as much.

A difference of two variants is taken seed by seed, since the runs of one seed share scenes, captions and text tower; its
interval is Student's, 95 %, over the seeds (`clipedu.utils.statistics.interval`). With three seeds it is wide. Of 20
intervals one misses the truth.

Learned summary tokens without a mask *are* registers. So with the position encodings "learned" and "rope" the arms "summary"
and "registers" are one model; with "none" and "alibi" the summary tokens are copies of one constant token.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clipedu.evaluation.metrics import FOIL_KEYS, METRICS, SCORES
from clipedu.plots.style import COLOURS, dress, new_figure, save_figure
from clipedu.studies.comparison import Comparison, variant
from clipedu.utils.errors import ClipeduError
from clipedu.utils.files import write_text
from clipedu.utils.markdown import markdown_table
from clipedu.utils.statistics import interval

if TYPE_CHECKING:
    import pandas
    from matplotlib.figure import Figure

    from clipedu.runs.run import Run

ARMS = ("plain", "wide", "registers", "summary", "fractal", "fractal-learned")
PEERS = ("plain", "wide", "registers", "summary")  # what the fractal mask is compared with
PLACELESS = ("none", "learned", "alibi", "rope")  # what fixed codes are compared with
ASKED = ("foil_place", "foil_relation", "foil_binding")  # what a figure and a sentence show, where it was measured
MEASURED = ("average", *(key for key in SCORES if key != "average"), "tr@10", "ir@10", *ASKED)


def measurements(runs: Sequence[Run]) -> pandas.DataFrame:
    """Return a table with one row a finished run.

    Columns: arm, positions, seed, and those of `MEASURED` that a run has.

    Raises:
        ClipeduError: no run is finished.
    """
    import pandas

    rows = []
    for run in runs:
        if run.status == "finished":
            arm, _, positions = variant(run).partition("+")
            scores = {key: run.metrics[key] for key in MEASURED if key in run.metrics}
            rows.append({"arm": arm, "positions": positions, "seed": run.experiment.seed, **scores})
    if not rows:
        raise ClipeduError("no run is finished: there is nothing to compare")
    return pandas.DataFrame(rows)


def cost(run: Run) -> tuple[int, float, int]:
    """Return the cost of a run's image encoder, by running it once.

    Returns:
        tokens, millions of multiply-adds an image, and trained parameters.
    """
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from clipedu.models.image_encoders import build_image_encoder

    ex = run.experiment
    encoder: Any = build_image_encoder(ex.image_encoder, image_size=ex.image_size, **ex.image_options).eval()
    for block in encoder.blocks:
        block.attn.fused_attn = False  # a fused kernel is not counted on every device
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        encoder(torch.zeros(1, 3, ex.image_size, ex.image_size))
    trained = sum(parameter.numel() for parameter in encoder.parameters() if parameter.requires_grad)
    return encoder.num_prefix_tokens + encoder.grid**2, counter.get_total_flops() / 2e6, trained


def vit_table(runs: Sequence[Run]) -> pandas.DataFrame:
    """Return one row a variant.

    Columns: arm, positions, tokens, MMACs, parameters, runs, then "<score>" (mean) and "<score> +-" (half-width).
    """
    import pandas

    one = {variant(run): run for run in runs if run.status == "finished"}
    made = []
    for (arm, positions), group in measurements(runs).groupby(["arm", "positions"], sort=False):
        tokens, macs, parameters = cost(one[f"{arm}+{positions}"])
        row = {"arm": arm, "positions": positions, "tokens": tokens, "MMACs": macs, "parameters": parameters}
        row["runs"] = len(group)
        for key in MEASURED:
            if key in group:
                row[key], row[f"{key} +-"] = interval(group[key].dropna())
        made.append(row)
    return pandas.DataFrame(made)


def differences(
    runs: Sequence[Run], one: str = "fractal", others: Sequence[str] = PEERS, axis: str = "arm"
) -> pandas.DataFrame:
    """Return `one` minus each of `others`, all else equal, seed by seed.

    Args:
        runs: of `clipedu compare vit`; those that are not finished do not count.
        one: the arm (or position encoding) of interest.
        others: what it is compared with.
        axis: "arm" or "positions": of which of the two `one` and `others` are names.

    Returns:
        a frame with columns one, other, at (the other factor's name; "all": its mean over all names that both have, seed by
        seed), score (key), difference, +- (half-width of the interval; nan for one seed) and seeds.

    Raises:
        ClipeduError: no run is finished.
    """
    import pandas

    at = "positions" if axis == "arm" else "arm"
    frame = measurements(runs)
    wide = frame.pivot_table(index=[at, "seed"], columns=axis, values=[key for key in MEASURED if key in frame])
    made = []
    for other in others:
        for key in MEASURED:
            if (key, one) not in wide or (key, other) not in wide:
                continue
            difference = (wide[key, one] - wide[key, other]).dropna()
            groups = dict(list(difference.groupby(at, sort=False)))
            if len(groups) > 1:
                groups["all"] = difference.groupby("seed").mean()
            for name, part in groups.items():
                mean, half = interval(part)
                made.append((one, other, name, key, mean, half, len(part)))
    return pandas.DataFrame(made, columns=["one", "other", "at", "score", "difference", "+-", "seeds"])


def verdict(runs: Sequence[Run]) -> list[str]:
    """Return the differences in words, a line each.

    The last line counts the intervals that exclude 0, and how many would by chance.
    """
    questions = [
        ("registers", ("plain", "wide"), "arm"),
        ("fractal", PEERS, "arm"),
        ("sincos2d", PLACELESS, "positions"),
    ]
    lines, counted, found = [], 0, 0
    for one, others, axis in questions:
        table = differences(runs, one, others, axis)
        for other, rows in table.groupby("other", sort=False):
            whole = rows[rows["at"] == "all"] if (rows["at"] == "all").any() else rows
            whole = whole[whole["score"].isin(_shown(whole["score"])) & whole["+-"].notna()]
            if len(whole):
                parts = [
                    f"{METRICS[r.score].heading} {r.difference:+.1f} ± {r.half:.1f}"
                    for r in whole.rename(columns={"+-": "half"}).itertuples()
                ]
                lines.append(f"{one} - {other}: {', '.join(parts)}")
            if axis == "arm":
                counted += len(whole)
                found += int((whole["difference"].abs() > whole["+-"]).sum())
    if counted:
        lines.append(
            f"Of these {counted} differences between arms {found} exclude 0; "
            f"if none were real, {counted / 20:.1f} would by chance"
        )
    return lines


def _shown(keys: Iterable[str]) -> list[str]:
    """Return the scores that a sentence or a table shows.

    They are those of rank 1, and foils, or without foils those of rank 10.
    """
    measured = set(keys)
    ten = [key for key in MEASURED if key.endswith("10")]
    return [*(key for key in MEASURED if key in SCORES), *([key for key in ASKED if key in measured] or ten)]


def plot_vit(runs: Sequence[Run]) -> Figure:
    """Draw the scores of every variant with 95 % intervals.

    Each score has a panel, each arm a colour and a marker.
    """
    table = vit_table(runs)
    keys = [key for key in _shown(table) if key in table and key not in ("average", "ir@1", "top1")]
    positions = list(dict.fromkeys(table["positions"]))
    arms = [arm for arm in ARMS if arm in set(table["arm"])]
    figure = new_figure(10, 2.4 * len(keys) + 0.6)
    axes = figure.subplots(len(keys), 1, sharex=True, squeeze=False)[:, 0]
    for ax, key in zip(axes, keys, strict=True):
        for number, arm in enumerate(arms):
            rows = table[table["arm"] == arm]
            place = [positions.index(name) + 0.13 * (number - (len(arms) - 1) / 2) for name in rows["positions"]]
            colour, mark = COLOURS[number], "osD^vP"[number]
            ax.errorbar(
                place, rows[key], rows[f"{key} +-"].fillna(0), fmt=mark, color=colour, capsize=3, label=arm, ms=5
            )
        metric = METRICS[key]
        if key in FOIL_KEYS:
            ax.axhline(metric.chance, color="#666666", linewidth=0.8, linestyle=":")
            ax.text(len(positions) - 0.5, metric.chance, " chance", va="center", fontsize=8, color="#666666")
            ax.set_ylim(30, 105)
        title = metric.definition[0].upper() + metric.definition[1:] if key in FOIL_KEYS else metric.heading
        dress(ax, title, "", metric.unit)
        for left in range(1, len(positions)):
            ax.axvline(left - 0.5, color="#cccccc", linewidth=0.8)
    axes[-1].set_xticks(range(len(positions)), positions)
    axes[-1].set_xlabel("position encoding")
    axes[0].set_xlim(-0.5, len(positions) - 0.5)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(arms), frameon=False)
    seeds = int(table["runs"].max())
    figure.suptitle(f"Mean over {seeds} seeds and Student's 95 % interval" if seeds > 1 else "One seed: no intervals")
    return figure


def table_text(table: pandas.DataFrame) -> str:
    """Return a `vit_table` as Markdown, "mean ± half-width" a cell."""
    keys = [key for key in _shown(table) if key in table]
    rows = []
    for _, row in table.iterrows():
        cells = [
            f"{row['arm']}+{row['positions']}",
            f"{row['tokens']}",
            f"{row['MMACs']:.1f}",
            f"{row['parameters']:,}",
        ]
        scores = [f"{row[k]:.1f}" + ("" if math.isnan(row[f"{k} +-"]) else f" ± {row[f'{k} +-']:.1f}") for k in keys]
        rows.append([*cells, f"{row['runs']}", *scores])
    head = ["variant", "tokens", "MMACs", "parameters", "runs", *(METRICS[key].heading for key in keys)]
    return markdown_table(head, rows)


def write_study(runs: Sequence[Run], folder: str | Path) -> str:
    """Write vit.png, vit.md, vit.csv and vit-differences.csv.

    Returns:
        the table, the differences in words and the paths.
    """
    import pandas

    folder, table = Path(folder), vit_table(runs)
    lines = "\n".join(f"- {line}" for line in verdict(runs))
    text = f"Mean ± half of Student's 95 % interval:\n\n{table_text(table)}\n\n{lines}".rstrip()
    apart = pandas.concat([differences(runs), differences(runs, "sincos2d", PLACELESS, "positions")])
    write_text(folder / "vit.csv", table.to_csv(index=False))
    write_text(folder / "vit-differences.csv", apart.to_csv(index=False))
    write_text(folder / "vit.md", f"# Extra tokens and position encodings\n\n{__doc__}\n{text}\n\n![scores](vit.png)\n")
    save_figure(plot_vit(runs), folder / "vit.png")
    return (
        f"{text}\n\nFigure: {folder}/vit.png. Tables: {folder}/vit.md, {folder}/vit.csv, {folder}/vit-differences.csv"
    )


def _variants() -> dict[str, dict[str, Any]]:
    """Return the variants: extra tokens x position encodings.

    They are those of `clipedu.models.vit`, and the fractal mask with learned summary tokens.
    """
    arms = {"plain": "none", "wide": "wide", "registers": "registers", "summary": "summary", "fractal": "fractal"}
    options = {
        f"{arm}+{positions}": {"extra": extra, "pos_embed": positions}
        for positions in ("none", "sincos2d", "learned", "alibi", "rope")
        for arm, extra in arms.items()
    }
    options["fractal-learned+none"] = {"extra": "fractal", "pos_embed": "none", "summary": "learned"}
    return {name: {"image_options": chosen} for name, chosen in options.items()}


COMPARISON = Comparison(
    "do registers, summary tokens or the fractal mask help a vision transformer, with five position encodings",
    _variants(),
    {"image_encoder": "fractal_vit_nano_patch4_32", "epochs": 6, "lr": 1e-3, "clip_grad": 1.0, "norms_every": 50},
    study=write_study,
)
