"""Figures of embeddings: similarities and PCA.

`clipedu.plots` exports both.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from clipedu.plots.style import COLOURS, IMAGE, TEXT, draw_pairs, draw_points, dress, new_figure, plain, shorten
from clipedu.utils.errors import ClipeduError
from clipedu.utils.statistics import share_of_wins

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def plot_similarity(run: Any, pairs: int = 24) -> Figure:
    """Draw similarities of images with captions: a matrix and two histograms.

    Left: the first `pairs` images (rows) with their captions (columns); a ring marks the caption that an image ranks first among
    those shown. Right: all similarities, counted. The similarity is that of the run's geometry. The share of wins is the area
    under the ROC curve: how often a matched pair is more similar than an unmatched one, a tie counting half.

    Raises ClipeduError: a run without embeddings, or with some that are not finite.
    """
    image, text, captions = _embeddings(run)
    scores = run.geometry().similarity(image, text).detach().numpy()
    pairs = min(pairs, len(scores))
    name = f"similarity ({run.experiment.geometry})"
    figure = new_figure(10, 4.9)
    left, right = figure.subplots(1, 2, width_ratios=[1.25, 1])

    shown = scores[:pairs, :pairs]
    best = shown.argmax(axis=1)
    figure.colorbar(left.imshow(shown, cmap="cividis"), ax=left, shrink=0.7, label=name)
    left.scatter(best, np.arange(pairs), s=26, facecolors="none", edgecolors=COLOURS[1], linewidths=1.4)
    left.set_yticks(range(pairs), [f"{plain(shorten(captions[row]))}  {row}" for row in range(pairs)], fontsize=7)
    left.set_xticks(range(0, pairs, 2))
    left.tick_params(axis="x", labelsize=7)
    left.set_xlabel("caption number (as in the rows)")
    left.set_ylabel("image, named by its first caption")
    found = int((best == np.arange(pairs)).sum())
    title = f"The diagonal should be brightest\n(ring: best caption of a row; {found} of {pairs} right)"
    left.set_title(title, fontsize=10)

    matched = np.eye(len(scores), dtype=bool)
    style = {"bins": np.histogram_bin_edges(scores, 40), "density": True, "histtype": "stepfilled", "linewidth": 1.6}
    for which, colour, dashes, label in ((~matched, TEXT, "--", "unmatched"), (matched, IMAGE, "-", "matched")):
        right.hist(
            scores[which], **style, facecolor=f"{colour}40", edgecolor=colour, linestyle=dashes, label=f"{label} pairs"
        )
    right.legend(fontsize=9)
    wins = 100 * share_of_wins(scores[matched], scores[~matched])
    title = (
        f"Matched pairs should be to the right\nof unmatched ones (a matched pair\nwins in {wins:.1f} %; chance 50 %)"
    )
    dress(right, title, name, "density")
    return figure


def plot_embedding_map(run: Any, lines: int = 60) -> Figure:
    """Draw images and captions on the two main axes of their joint PCA.

    `lines` pairs are joined. In the cosine geometry the embeddings are first scaled to unit length, as the loss sees them. The
    two large marks are the means of the modalities; what lies between them is the modality gap (Liang et al. 2022,
    arXiv:2203.02053).

    Raises ClipeduError: a run without embeddings, or with some that are not finite.
    """
    image, text, _ = _embeddings(run)
    if run.experiment.geometry == "cosine":
        image, text = (side / side.norm(dim=1, keepdim=True).clamp_min(1e-12) for side in (image, text))
    points, shares = main_axes(np.concatenate([image.numpy(), text.numpy()]).astype(float))
    images, captions = points[: len(image)], points[len(image) :]
    figure = new_figure(7, 5.6)
    ax = figure.subplots()
    draw_pairs(ax, images[:lines], captions[:lines], linewidth=0.6)
    means = []
    for place, colour, marker, name in ((images, IMAGE, "o", "images"), (captions, TEXT, "^", "captions")):
        means.append(place.mean(axis=0))
        draw_points(ax, place, s=12, color=colour, marker=marker, alpha=0.55, linewidths=0, label=name, zorder=2)
        draw_points(
            ax, means[-1][None], s=170, color=colour, marker=marker, edgecolors="white", linewidths=1.8, zorder=4
        )
    ax.plot([], [], color="#999999", linewidth=0.8, label=f"a pair ({min(lines, len(images))} shown)")
    ax.plot(*np.transpose(means), color="black", linewidth=2, zorder=3, label="mean to mean: the modality gap")
    ax.legend(fontsize=9)
    ax.set_aspect("equal", adjustable="datalim")
    first, second = 100 * shares
    gap = run.metrics.get("modality_gap") if run.experiment.geometry == "cosine" else None
    note = f"modality gap {gap:.2f}; " if gap is not None else ""
    title = f"Pairs should be close, and the two clouds mixed\n({note}the two axes show {first + second:.0f} % of the variance)"
    dress(ax, title, f"first axis ({first:.0f} % of the variance)", f"second axis ({second:.0f} %)")
    return figure


def main_axes(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Project points [N, D] on their first two principal components.

    An axis points where its largest loading is positive, so that a second call draws the same picture.

    Returns:
        places [N, 2], and the share of the variance on each axis [2]; shares of points without variance are 0.
    """
    centred = points - points.mean(axis=0)
    _, lengths, axes = np.linalg.svd(centred, full_matrices=False)
    largest = np.take_along_axis(axes, abs(axes).argmax(axis=1)[:, None], axis=1)
    variance = lengths**2
    places = centred @ (axes[:2] * np.sign(largest[:2])).T
    return places, variance[:2] / (variance.sum() or 1)


def _embeddings(run: Any) -> tuple[Any, Any, list[str]]:
    """Return image and text embeddings, float32 [N, D], and N captions."""
    kept = run.embeddings()
    if kept is None or len(kept["image"]) < 2:
        raise ClipeduError(f"run {run.name!r} has no embeddings: they are kept when a run is evaluated at its end")
    image, text = kept["image"].float(), kept["text"].float()
    if not (image.isfinite().all() and text.isfinite().all()):
        raise ClipeduError(f"embeddings of run {run.name!r} are not finite: its training diverged")
    return image, text, kept["captions"]
