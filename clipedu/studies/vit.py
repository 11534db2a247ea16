"""Do extra tokens help? What `clipedu compare vit` makes of its runs: a table with intervals, a figure, and what they say.

Each variant is "<extra tokens>+<position encoding>" (`clipedu.models.vit`). Registers, summary tokens and the fractal mask are as
many tokens, so they cost the same; "plain" costs less, and "wide" is plain with a wider MLP that brings its cost up to theirs.

A difference of two variants is taken seed by seed, since the runs of one seed share scenes, captions and text tower; its
interval is Student's, 95 %, over the seeds:

    mean of the differences +- t(0.975, n - 1) * their standard deviation / sqrt(n)          t = 4.30 for 3 seeds, 2.78 for 5

With three seeds such an interval is wide, and it is what three seeds can say. Of 20 intervals one misses the truth.

Learned summary tokens without a mask *are* registers. So with the position encodings "learned" and "rope" the arms "summary"
and "registers" are one model, to the digit; and with "none" and "alibi", where summary tokens are zeros, "summary" has copies
of one constant token.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clipedu.plots.style import COLOURS, dress, new_figure
from clipedu.studies.comparison import Comparison, variant
from clipedu.utils.errors import ClipeduError
from clipedu.utils.files import write_text
from clipedu.utils.statistics import interval

if TYPE_CHECKING:
    import pandas
    from matplotlib.figure import Figure

    from clipedu.runs.run import Run

ARMS = ("plain", "wide", "registers", "summary", "fractal", "fractal-learned")
PEERS = ("plain", "wide", "registers", "summary")  # what the fractal mask is held against
PLACELESS = ("none", "learned", "alibi", "rope")  # what fixed codes are held against
SCORES = {
    "average": "average",
    "tr@1": "TR@1",
    "ir@1": "IR@1",
    "top1": "top-1",
    "tr@10": "TR@10",
    "ir@10": "IR@10",
    "foil_place": "place",
    "foil_relation": "relation",
    "foil_binding": "binding",
}
FOILED = {
    "foil_place": "place",
    "foil_relation": "relation (below for above)",
    "foil_binding": "binding (the two colours exchanged)",
}  # chance is 50 %


def measurements(runs: Sequence[Run]) -> pandas.DataFrame:
    """One row a finished run: arm, positions, seed, and those of `SCORES` that it has. Raises ClipeduError: no run is finished."""
    import pandas

    rows = []
    for run in runs:
        if run.status == "finished":
            arm, _, positions = variant(run).partition("+")
            scores = {key: run.metrics[key] for key in SCORES if key in run.metrics}
            rows.append({"arm": arm, "positions": positions, "seed": run.experiment.seed, **scores})
    if not rows:
        raise ClipeduError("no run is finished: there is nothing to compare")
    return pandas.DataFrame(rows)


def cost(run: Run) -> tuple[int, float, int]:
    """Tokens, millions of multiply-adds for one image, and trained parameters of a run's image encoder, by running it once."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from clipedu.models.image_encoders import build_image_encoder

    ex = run.experiment
    encoder = build_image_encoder(ex.image_encoder, image_size=ex.image_size, **ex.image_options).eval()
    for block in encoder.blocks:
        block.attn.fused_attn = False  # a fused kernel is not counted on every device
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        encoder(torch.zeros(1, 3, ex.image_size, ex.image_size))
    trained = sum(parameter.numel() for parameter in encoder.parameters() if parameter.requires_grad)
    return encoder.num_prefix_tokens + encoder.grid**2, counter.get_total_flops() / 2e6, trained


def vit_table(runs: Sequence[Run]) -> pandas.DataFrame:
    """One row a variant: arm, positions, tokens, MMACs, parameters, runs, then "<score>" (mean) and "<score> +-" (half-width)."""
    import pandas

    one = {variant(run): run for run in runs if run.status == "finished"}
    made = []
    for (arm, positions), group in measurements(runs).groupby(["arm", "positions"], sort=False):
        tokens, macs, parameters = cost(one[f"{arm}+{positions}"])
        row = {"arm": arm, "positions": positions, "tokens": tokens, "MMACs": macs, "parameters": parameters}
        row["runs"] = len(group)
        for key in SCORES:
            if key in group:
                row[key], row[f"{key} +-"] = interval(group[key].dropna())
        made.append(row)
    return pandas.DataFrame(made)


def differences(
    runs: Sequence[Run], one: str = "fractal", others: Sequence[str] = PEERS, axis: str = "arm"
) -> pandas.DataFrame:
    """`one` minus each of `others`, all else being equal, paired by seed.

    Args:
        axis: "arm" or "positions": of which of the two `one` and `others` are names.
    Returns:
        a frame with columns one, other, at (the other factor's name; "all": its mean over all names that both have, seed by
        seed), score, difference, +- (half-width of the interval; nan for one seed) and seeds.
    """
    import pandas

    at = "positions" if axis == "arm" else "arm"
    frame = measurements(runs)
    wide = frame.pivot_table(index=[at, "seed"], columns=axis, values=[key for key in SCORES if key in frame])
    made = []
    for other in others:
        for key in SCORES:
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
    """What the runs say, a sentence a question; at the end, how many differences would be found if there were none."""
    asked = [("registers", ("plain", "wide"), "arm"), ("fractal", PEERS, "arm"), ("sincos2d", PLACELESS, "positions")]
    lines, counted, found = [], 0, 0
    for one, others, axis in asked:
        table = differences(runs, one, others, axis)
        for other, rows in table.groupby("other", sort=False):
            whole = rows[rows["at"] == "all"] if (rows["at"] == "all").any() else rows
            whole = whole[whole["score"].isin(_told(whole["score"])) & whole["+-"].notna()]
            if len(whole):
                told = [
                    f"{SCORES[r.score]} {r.difference:+.1f} ± {r.half:.1f}"
                    for r in whole.rename(columns={"+-": "half"}).itertuples()
                ]
                lines.append(f"{one} - {other}: {', '.join(told)}")
            if axis == "arm":
                counted += len(whole)
                found += int((whole["difference"].abs() > whole["+-"]).sum())
    if counted:
        lines.append(
            f"Of these {counted} differences between arms {found} exclude 0; "
            f"if none were real, {counted / 20:.1f} would by chance"
        )
    return lines


def _told(keys) -> list[str]:
    """Which scores a sentence or a table shows: with foils the first ranks and these, else the first ten ranks."""
    foils = [key for key in SCORES if key.startswith("foil_") and key in set(keys)]
    return ["average", "tr@1", "ir@1", "top1", *(foils or ["tr@10", "ir@10"])]


def plot_vit(runs: Sequence[Run]) -> Figure:
    """Scores of every variant with 95 % intervals: a panel a score, position encodings along it, a colour and mark an arm."""
    table = vit_table(runs)
    keys = [key for key in _told(table) if key in table and key not in ("average", "ir@1", "top1")]
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
        if key in FOILED:
            ax.axhline(50, color="#666666", linewidth=0.8, linestyle=":")
            ax.text(len(positions) - 0.5, 50, " chance", va="center", fontsize=8, color="#666666")
            ax.set_ylim(30, 105)
        title = f"True caption before one wrong in its {FOILED[key]}" if key in FOILED else SCORES[key]
        dress(ax, title, "", "%")
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
    """`vit_table` as Markdown, "mean ± half-width" a cell."""
    keys = [key for key in _told(table) if key in table]
    head = ["variant", "tokens", "MMACs", "parameters", "runs", *(SCORES[key] for key in keys)]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for _, row in table.iterrows():
        cells = [
            f"{row['arm']}+{row['positions']}",
            f"{row['tokens']}",
            f"{row['MMACs']:.1f}",
            f"{row['parameters']:,}",
        ]
        scores = [f"{row[k]:.1f}" + ("" if math.isnan(row[f"{k} +-"]) else f" ± {row[f'{k} +-']:.1f}") for k in keys]
        lines.append("| " + " | ".join([*cells, f"{row['runs']}", *scores]) + " |")
    return "\n".join(lines)


def write_study(runs: Sequence[Run], folder: str | Path) -> str:
    """Write vit.png, vit.md, vit.csv and vit-differences.csv into `folder`; returns table and verdict with the paths."""
    import pandas

    folder, table = Path(folder), vit_table(runs)
    said = "\n".join(f"- {line}" for line in verdict(runs))
    text = f"Mean ± half of Student's 95 % interval:\n\n{table_text(table)}\n\n{said}".rstrip()
    apart = pandas.concat([differences(runs), differences(runs, "sincos2d", PLACELESS, "positions")])
    write_text(folder / "vit.csv", table.to_csv(index=False))
    write_text(folder / "vit-differences.csv", apart.to_csv(index=False))
    write_text(folder / "vit.md", f"# Extra tokens and position encodings\n\n{__doc__}\n{text}\n\n![scores](vit.png)\n")
    plot_vit(runs).savefig(folder / "vit.png")
    return (
        f"{text}\n\nFigure: {folder}/vit.png. Tables: {folder}/vit.md, {folder}/vit.csv, {folder}/vit-differences.csv"
    )


def _variants() -> dict[str, dict[str, Any]]:
    """Extra tokens x position encodings (`clipedu.models.vit`), and the fractal mask alone with summary tokens that are learned."""
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
