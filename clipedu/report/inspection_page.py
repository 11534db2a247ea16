"""The page of an inspected model, from norms to tokens.

Of an inspection the attributes of `clipedu.workflow.inspection.Inspection` are read.
"""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from clipedu import plots
from clipedu.evaluation.metrics import METRICS, SPACE
from clipedu.plots.inspection import plot_layer_norms
from clipedu.report.document import Block, Heading, Table, Text, to_html, to_markdown
from clipedu.report.format import number, picture
from clipedu.report.inspection_findings import COLUMNS, by_kind, findings, matrices
from clipedu.runs.folders import check_no_run
from clipedu.utils.files import check_writable, write_text

LAYER_COLUMNS = (
    "layer",
    "shape",
    "kind",
    "norm",
    "expected",
    "norm / expected",
    "rms",
    "spectral",
    "stable rank",
    "alpha",
)
HOW = (
    "Each step takes the share lr λ of a weight away (decay) and adds an update that is mostly sideways (injection). Where both are in balance the norm stays: at a "
    "constant lr, AdamW's weights settle at a root mean square of sqrt(lr / 2λ), whatever the data are.",
    "Expected is what the recipe alone says of a layer: its schedule followed step by step from the norm at the start, or, where steps or start are not known, the "
    "balance at the peak lr.",
    "The theory is about layers that a normalisation follows (batch norm after a convolution): their length does not change the output, so only the recipe sets it. "
    "Whether one follows is measured: the gradient is then orthogonal to the weight. All other layers have a length that the loss wants as well, and an output layer has "
    "no balance: there a difference tells what the loss wanted, not that the training was wrong.",
)
READ = (
    "spectral: the largest singular value of the matrix (of a kernel [out, in x height x width]), how much it can stretch.",
    "stable rank: norm^2 / spectral^2, how many directions carry the weight; 1 for a single one.",
    "alpha: exponent of the power law in the tail of the spectrum of W^T W, fitted by WeightWatcher; its authors read 2 to 6 (green) as well trained, more as little trained.",
)


def write_inspection(found: Any, folder: Path) -> Path:
    """Write inspect.html, inspect.md, layers.csv and the figures.

    Args:
        found: `clipedu.workflow.inspection.Inspection`.
        folder: made if it does not exist.
    Returns:
        the path of inspect.html.
    Raises:
        ClipeduError: the folder is that of a run, or cannot be written to.
    """
    check_place(folder)
    title, blocks = f"Inspection of {found.name}", inspection_blocks(found)
    write_text(folder / "layers.csv", found.layers.to_csv(index=False))
    write_text(folder / "inspect.md", to_markdown(title, blocks, folder))
    write_text(folder / "inspect.html", to_html(title, blocks))
    return folder / "inspect.html"


def check_place(folder: Path) -> None:
    """Check that a page can be written to a folder, and make it.

    Raises:
        ClipeduError: it is that of a run, which has a layers.csv of its own, or cannot be written to.
    """
    check_no_run(folder)
    check_writable(folder, "Give a folder you may write to: --folder")


def inspection_blocks(found: Any) -> list[Block]:
    """Return the page of an inspected model."""
    recipe = "" if found.recipe is None else f"The recipe: {found.recipe.words}."
    rows = matrices(found)
    numbers = int(found.layers["size"].sum())
    about = f"{found.about}. " if found.about else ""
    blocks: list[Block] = [
        Text(
            f"{about}It has {numbers:,} numbers in {len(found.layers)} tensors, {len(rows)} of them matrices. {recipe}"
        ),
        Heading("What stands out"),
        Text("", items=findings(found) or ["Nothing that could be said without a recipe or pairs."]),
        Heading("Where the norms are, and where the recipe says"),
        Text("", items=HOW)
        if found.recipe is not None
        else Text("No recipe is known, so only what is there is shown."),
    ]
    if table := by_kind(found):
        blocks.append(
            Table(
                COLUMNS,
                table,
                note=f"Expected: {_expectation(found)}. Matrices alone; biases and gains are not decayed.",
            )
        )
    for part in dict.fromkeys(rows["part"]):
        caption = f"Matrices of the part {part!r}, from the input down. Frozen layers have no recipe."
        blocks.append(picture(f"norms-{part}", lambda part=part: plot_layer_norms(found.layers, part), caption))  # type: ignore[misc]
    blocks += [Text("", items=READ), *_scale_blocks(found), *_embedding_blocks(found), *_token_blocks(found)]
    blocks += [Heading("What is not known"), Text("", items=found.unknown or ["Nothing of the above."])]
    blocks += [
        Heading("All matrices"),
        Table(LAYER_COLUMNS, layer_rows(found), note="layers.csv has all tensors, and more columns."),
    ]
    return blocks


def layer_rows(found: Any) -> list[list[str]]:
    """Return the table of all matrices as text, by `LAYER_COLUMNS`."""
    return [
        [
            row["layer"], row["shape"], row["look"], _shown(row["norm"]), _shown(row["expected"]), number(row["ratio"]),
            _shown(row["rms"]), _shown(row["spectral"]), number(row["stable_rank"], 1), number(row["alpha"], 1),
        ]
        for _, row in matrices(found).iterrows()
    ]  # fmt: skip


def _expectation(found: Any) -> str:
    """Say what the column `expected` is."""
    if found.layers["end"].notna().any():
        part = (
            ""
            if found.layers["end"].notna().sum() == found.layers["balance"].notna().sum()
            else ", or the balance where the start is not known"
        )
        return f"the norm at the end of the schedule{part}"
    return "the balance at the peak lr"


def _scale_blocks(found: Any) -> list[Block]:
    """Return the logit scale beside what is usual."""
    if found.scale is None:
        return []
    low, high = found.scale_range
    scale = found.scale.logit_scale
    rows = [
        ("logit scale", f"{scale:.4g}", "what similarities are multiplied by before the softmax or sigmoid"),
        ("its logarithm", f"{math.log(scale):.3f}", "as CLIP's checkpoints keep it"),
        ("temperature", f"{1 / scale:.4g}", "1 / logit scale; CLIP starts at 0.07"),
        ("allowed", f"{low:.3g} to {high:.4g}", "in this geometry; CLIP's usual end is 100"),
    ]
    if found.scale.bias is not None:
        rows.append(("bias", f"{found.scale.bias:.4g}", "added to all logits; SigLIP starts at -10"))
    return [Heading("Logit scale"), Table(("what", "value", "meaning"), rows)]


def _embedding_blocks(found: Any) -> list[Block]:
    """Return measures and figures of the embeddings."""
    if found.space is None:
        return []
    shape = [
        (METRICS[key].heading, number(found.scores[key], 3), METRICS[key].explanation)
        for key in SPACE
        if key in found.scores
    ]
    seen = _as_run(found)
    return [
        Heading("Embeddings"),
        Text(f"Of {found.pairs}, in the geometry {found.geometry}."),
        Table(("measure", "value", "what it is"), shape),
        picture(
            "inspect-similarity",
            lambda: plots.plot_similarity(seen),
            "Similarity of images and captions: the first pairs as a matrix, all of them as a histogram.",
        ),
        picture(
            "inspect-map",
            lambda: plots.plot_embedding_map(seen),
            "Images and captions on the two main axes of their joint PCA.",
        ),
    ]


def _as_run(found: Any, most: int = 1000) -> Any:
    """Return what the figures of embeddings read of a run."""
    space = found.space
    kept = {"image": space.image[:most], "text": space.text[:most], "captions": space.captions[:most]}
    return SimpleNamespace(
        name=found.name,
        experiment=SimpleNamespace(geometry=found.geometry),
        metrics=found.scores,
        geometry=lambda: space.geometry,
        embeddings=lambda: kept,
    )


def _token_blocks(found: Any) -> list[Block]:
    """Return token norms of a vision transformer."""
    from clipedu.plots.attention import plot_token_norms

    if found.tokens is None:
        return []
    tokens = found.tokens
    rows = [
        [f"{row['block']:.0f}", number(row["median"]), f"{100 * row['outliers']:.1f} %", number(row["largest"])]
        for _, row in tokens.table.iterrows()
    ]
    return [
        Heading("Tokens of the image encoder"),
        picture(
            "inspect-tokens",
            lambda: plot_token_norms({found.name: (tokens.norms, tokens.tokens)}, tokens.pixels),
            "Norms of tokens: artifacts would be patches far above the others, which registers are meant to remove.",
        ),
        Table(
            ("block", "median norm of a patch", "outliers", "largest / median"),
            rows,
            note="An outlier is above 3 medians.",
        ),
    ]


def _shown(value: float) -> str:
    """Return a number with three digits, or a dash for none."""
    return "–" if math.isnan(value) else f"{value:.3g}"
