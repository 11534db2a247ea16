"""Measured over predicted norms, over seeds: which are in the band?

The ratio of a layer is its measured norm over the one that the settings predict. It is a product of three:

    size    predicted from measured sizes / predicted from settings: contributions were larger or smaller than the settings say
    drift   predicted from sizes and drift / predicted from sizes: contributions were not orthogonal to the weight
    rest    measured / predicted from sizes and drift: what neither explains

The cause of a ratio outside the band is the one that is farthest from 1. Means over seeds are geometric, with Student's 95 % interval
of the logarithm.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from clipedu.utils.markdown import markdown_table
from clipedu.utils.statistics import geometric_interval, interval

if TYPE_CHECKING:
    import pandas

BAND = 0.05
CAUSES = ("size", "drift", "rest")


def ratio_table(tables: Mapping[str, pandas.DataFrame]) -> pandas.DataFrame:
    """Return a table with one row a run and decayed layer.

    Args:
        tables: by the run's name, "<variant>-seed<seed>": as `clipedu.studies.norms.steady_table` returns them.
    Returns:
        columns variant, run, layer, kind, normalised (in most seeds), ratio, and each of `CAUSES`.
    """
    import pandas

    made = []
    for name, table in tables.items():
        rows = table[["layer", "kind", "normalised"]].assign(variant=name.rpartition("-seed")[0] or name, run=name)
        rows["ratio"], rows["rest"] = table["settings"], table["sizes, drift"]
        rows["size"], rows["drift"] = table["settings"] / table["sizes"], table["sizes"] / table["sizes, drift"]
        made.append(rows)
    frame = pandas.concat(made, ignore_index=True)
    votes = frame.groupby(["variant", "layer"], sort=False)["normalised"].transform("mean")
    return frame.assign(normalised=votes >= 0.5)


def gate_table(frame: pandas.DataFrame) -> pandas.DataFrame:
    """Return the share of layers within the band, the number that decides.

    Args:
        frame: as `ratio_table` returns it.
    Returns:
        a row a variant and group: variant, group ("normalised" or "other"), layers, seeds, share (percent, mean over seeds) and
        "+-" (half of Student's 95 % interval; nan for one seed).
    """
    import pandas

    made = []
    for (variant, normalised), rows in frame.groupby(["variant", "normalised"], sort=False):
        inside = (rows["ratio"] - 1).abs() <= BAND
        shares = 100 * inside.groupby(rows["run"]).mean()
        group = "normalised" if normalised else "other"
        made.append((variant, group, rows["layer"].nunique(), len(shares), *interval(shares.tolist())))
    columns = ["variant", "group", "layers", "seeds", "share", "+-"]
    return pandas.DataFrame(made, columns=columns).sort_values("group", kind="stable", ignore_index=True)


def layer_table(frame: pandas.DataFrame) -> pandas.DataFrame:
    """Return the mean ratio of every layer, and its cause.

    Args:
        frame: as `ratio_table` returns it.
    Returns:
        a row a variant and layer: variant, layer, kind, normalised, ratio, low, high (ends of the interval; nan for one seed),
        each of `CAUSES`, inside (the mean ratio is in the band) and cause.
    """
    import pandas

    made = []
    for (variant, layer), rows in frame.groupby(["variant", "layer"], sort=False):
        first = rows.iloc[0]
        ratio, low, high = geometric_interval(rows["ratio"].tolist())
        logs = {cause: float(np.log(rows[cause]).mean()) for cause in CAUSES}
        made.append(
            {
                **{"variant": variant, "layer": layer, "kind": first["kind"], "normalised": first["normalised"]},
                **{"ratio": ratio, "low": low, "high": high},
                **{cause: math.exp(log) for cause, log in logs.items()},
                "inside": abs(ratio - 1) <= BAND,
                "cause": max(logs, key=lambda cause: abs(logs[cause])),
            }
        )
    return pandas.DataFrame(made)


def gate_text(gates: pandas.DataFrame) -> str:
    """Return a `gate_table` as Markdown."""
    rows = [
        [str(row.variant), f"{row.layers} {row.group}", str(row.seeds), _plus_minus(row.share, gate["+-"])]
        for (_, gate), row in zip(gates.iterrows(), gates.itertuples(), strict=True)
    ]
    return markdown_table(["variant", "layers", "seeds", f"within {100 * BAND:g} % of what settings predict (%)"], rows)


def causes_text(layers: pandas.DataFrame) -> str:
    """Return what layers outside the band have in common, as Markdown.

    Args:
        layers: as `layer_table` returns it.
    """
    outside = layers[~layers["inside"]]
    if outside.empty:
        return "Every layer is within the band, in the mean over seeds."
    rows = []
    for (variant, normalised, kind, cause), own in outside.groupby(
        ["variant", "normalised", "kind", "cause"], sort=False
    ):
        of_kind = layers[
            (layers["variant"] == variant) & (layers["normalised"] == normalised) & (layers["kind"] == kind)
        ]
        ends = (
            f"{own['ratio'].min():.2f} to {own['ratio'].max():.2f}" if len(own) > 1 else f"{own['ratio'].iloc[0]:.2f}"
        )
        group = "normalised" if normalised else "other"
        rows.append([str(variant), group, str(kind), str(cause), f"{len(own)} of {len(of_kind)}", ends])
    head = ["variant", "group", "kind", "cause", "outside the band", "measured / predicted"]
    return markdown_table(head, rows)


def _plus_minus(mean: float, half: float) -> str:
    return f"{mean:.0f}" if math.isnan(half) else f"{mean:.0f} ± {half:.0f}"
