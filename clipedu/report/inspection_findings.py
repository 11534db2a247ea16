"""What stands out in an inspected model, in sentences and a table.

Of an inspection the attributes of `clipedu.workflow.inspection.Inspection` are read.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from clipedu.norms.recipe_balance import FORGOTTEN
from clipedu.plots.inspection import KINDS, kind_of_layer
from clipedu.report.format import number

if TYPE_CHECKING:
    import pandas

NEAR = 0.10  # a norm within this share of what is expected is as expected
SHORT = 1.0  # Lambda below which a run ends before it comes near its balance
COLUMNS = ("layers", "how many", "norm / expected, median", "smallest", "largest", f"within {100 * NEAR:.0f} %")


def matrices(found: Any) -> pandas.DataFrame:
    """Return the rows of matrices, with a column `look`: a key of `KINDS`."""
    rows = found.layers[found.layers["kind"] != "1-D"]
    return rows.assign(look=[kind_of_layer(row) for _, row in rows.iterrows()])


def by_kind(found: Any) -> list[list[str]]:
    """Return how far norms are from what is expected, a row a kind.

    The columns are `COLUMNS`; kinds without an expectation are left out.
    """
    made = []
    rows = matrices(found)
    for look, (_, _, words) in KINDS.items():
        ratio = rows[(rows["look"] == look) & rows["ratio"].notna()]["ratio"]
        if len(ratio):
            near = int(((ratio - 1).abs() <= NEAR).sum())
            numbers = [number(x) for x in (ratio.median(), ratio.min(), ratio.max())]
            made.append([words, str(len(ratio)), *numbers, f"{near} of {len(ratio)}"])
    return made


def findings(found: Any) -> list[str]:
    """Return what stands out in an inspected model, a sentence each."""
    return [*_of_recipe(found), *_of_layers(found), *_of_scale(found), *_of_embeddings(found), *_of_tokens(found)]


def _of_recipe(found: Any) -> list[str]:
    """Say whether the recipe had time to set the norms."""
    rows = found.layers[found.layers["turns"].notna()]
    if not len(rows):
        return []
    turns, left = float(rows["turns"].max()), 100 * float(rows["left"].min())
    lead = f"Λ = 2 Σ(lr λ) is {turns:.3g}: {left:.3g} % of the squared norms at the start is left"
    if turns < SHORT:
        return [
            f"{lead}. The run is too short, or its decay too small, for weight decay to set the norms: they are those of the start and of what "
            "the steps have added."
        ]
    if left > 100 * FORGOTTEN:
        return [f"{lead}. Weight decay had some time to set the norms, but they still depend on the start."]
    return [f"{lead}. Weight decay had time to set the norms, whatever they were at the start."]


def _of_layers(found: Any) -> list[str]:
    """Say how well norms agree with the recipe, and which are farthest off."""
    rows = matrices(found)
    rows = rows[rows["ratio"].notna() & rows["look"].isin(("normalised", "other", "not measured"))]
    if not len(rows):
        return []
    made = []
    words = {
        "normalised": "that a normalisation follows",
        "other": "that no normalisation follows",
        "not measured": "in all",
    }
    for look, what in words.items():
        ratio = rows[rows["look"] == look]["ratio"]
        if len(ratio):
            near = int(((ratio - 1).abs() <= NEAR).sum())
            made.append(
                f"Of {len(ratio)} {'layer' if len(ratio) == 1 else 'layers'} {what}, {near} {'has' if near == 1 else 'have'} a norm within {100 * NEAR:.0f} % of what the recipe says (median {ratio.median():.2f} "
                "of it)."
            )
    far = rows.assign(off=rows["ratio"].map(lambda ratio: abs(math.log(ratio)))).nlargest(1, "off").iloc[0]
    if abs(far["ratio"] - 1) > NEAR:
        made.append(f"The farthest from it is {far['layer']}, at {far['ratio']:.2f} of what the recipe says.")
    return made


def _of_scale(found: Any) -> list[str]:
    """Say where the logit scale is, and whether that is at an end of what is allowed."""
    if found.scale is None:
        return []
    scale, (low, high) = found.scale.logit_scale, found.scale_range
    made = (
        f"The logit scale is {scale:.4g} (temperature {1 / scale:.3g}), {'learned' if found.scale.learned else 'fixed'}"
    )
    if found.scale.bias is not None:
        made += f", with the bias {found.scale.bias:.3g}"
    if found.scale.learned and scale > 0.98 * high:
        made += f": at the largest that is allowed, {high:.4g}. The loss would have it larger still"
    if found.scale.learned and scale < 1.02 * low:
        made += f": at the smallest that is allowed, {low:.3g}"
    return [made + "."]


def _of_embeddings(found: Any) -> list[str]:
    """Say how far apart images and captions are."""
    if "modality_gap" not in found.scores:
        return []
    gap, alignment = found.scores["modality_gap"], found.scores["alignment"]
    share = f"{min(1.0, gap**2 / alignment):.0%}" if alignment > 0 else "none"
    return [
        f"On {found.pairs} the mean image and the mean caption are {gap:.2f} apart (modality gap, 0 to 2), and matched pairs "
        f"{math.sqrt(alignment):.2f} (root mean square): {share.replace('%', ' %')} of the squared distance of a pair is the gap between the two clouds."
    ]


def _of_tokens(found: Any) -> list[str]:
    """Say whether there are artifacts among the tokens."""
    if found.tokens is None:
        return []
    worst = found.tokens.table.loc[found.tokens.table["outliers"].idxmax()]
    if worst["outliers"] == 0:
        return [
            f"No patch is an outlier by its norm: the largest is {found.tokens.table['largest'].max():.2f} medians (3 would be one)."
        ]
    return [
        f"{100 * worst['outliers']:.1f} % of the patches are outliers after block {worst['block']:.0f}, the largest of {worst['largest']:.1f} medians: "
        "artifacts, which registers are meant to remove."
    ]
