r"""Figures of embedding spaces: radius, generality, the disk, traversals, maps. All take `clipedu.evaluation.embedding_space.Space`s.

    spaces = {"cosine": embed_space(a, pairs), "lorentz": embed_space(b, pairs)}
    plot_disk(spaces)            # one panel a space, so that geometries stand side by side

Colours are those of `clipedu.plots.style`; generality runs from dark (generic) to bright (specific).
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from clipedu.evaluation.embedding_space import Space, norm_summary
from clipedu.evaluation.hierarchy import generality_scores
from clipedu.evaluation.traversals import Stop
from clipedu.geometry.sphere import Sphere
from clipedu.plots.disk_projection import Disk
from clipedu.plots.embeddings import main_axes
from clipedu.plots.style import IMAGE, TEXT, draw_pairs, draw_points, dress, new_figure, panels, plain
from clipedu.utils.errors import ClipeduError, unknown_name

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def plot_root_distances(spaces: Mapping[str, Space]) -> Figure:
    """How far from the root images and first captions are, counted; one panel a space. The lines are the medians."""
    figure, axes = _space_panels(spaces, 3.1)
    for ax, (name, space) in zip(axes, spaces.items(), strict=True):
        sides = {"images": (space.image, IMAGE, "-"), "captions": (space.text, TEXT, "--")}
        radii = {side: space.radius(points).numpy() for side, (points, *_) in sides.items()}
        edges = np.histogram_bin_edges(np.concatenate(list(radii.values())), 40)
        for side, (_, colour, dashes) in sides.items():
            style: dict[str, Any] = {"facecolor": f"{colour}40", "edgecolor": colour, "linestyle": dashes}
            ax.hist(radii[side], edges.tolist(), histtype="stepfilled", label=side, linewidth=1.6, **style)
            ax.axvline(np.median(radii[side]), color=colour, linestyle=dashes, linewidth=1)
        nearer = 100 * norm_summary(space.geometry, space.image, space.text)["text_nearer_root"]
        dress(ax, f"{name}: the caption is nearer\nin {nearer:.0f} % of the pairs", _unit(space), "count")
    axes[0].legend(fontsize=9)
    return figure


def plot_generality(spaces: Mapping[str, Space]) -> Figure:
    """Distance to the root of captions by level, 0 the most generic, and of the images; one panel a space.

    A box holds the middle half of the captions, its whiskers nine tenths. Raises ClipeduError: a space without chains.
    """
    figure, axes = _space_panels(spaces, 3.4)
    for ax, (name, space) in zip(axes, spaces.items(), strict=True):
        _check_chains(name, space)
        levels = space.radius(space.phrase)[space.chain].T
        boxes = ax.boxplot(
            [*levels.numpy(), space.radius(space.image).numpy()],
            whis=(5, 95),
            showfliers=False,
            patch_artist=True,
            widths=0.7,
            medianprops={"color": "black"},
            tick_labels=[*map(str, range(len(levels))), "image"],
        )
        for box, colour in zip(boxes["boxes"], [*level_colours(len(levels)), IMAGE], strict=True):
            box.set(facecolor=colour, alpha=0.75)
        within = generality_scores(space)["generality_within"]
        title = f"{name}: rank correlation {within:+.2f}\n(mean within a chain)"
        dress(ax, title, "level of the caption: generic to specific", _unit(space))
    return figure


def plot_disk(spaces: Mapping[str, Space], chains: int = 2, points: int = 300) -> Figure:
    """Images and captions around the root, one panel a space; `clipedu.plots.disk_projection` says what is true of the picture.

    Args:
        chains: of the first so many rows, the way from the most generic caption to the image is drawn, along shortest
            paths; without chains, from the first caption to the image.
        points: images that are shown, and captions a level.
    """
    figure, axes = _space_panels(spaces, 4.9)
    for ax, (name, space) in zip(axes, spaces.items(), strict=True):
        disk = Disk(space)
        draw_disk(ax, disk, range(chains), points)
        dress(ax, f"{name}\n{disk.about}", "first main axis", "second main axis")
    name_levels(figure, max((space.chain.shape[1] for space in spaces.values() if space.chain is not None), default=0))
    return figure


def draw_disk(ax: Axes, disk: Disk, rows: Iterable[int], points: int = 300) -> None:
    """One panel of `plot_disk`, with the ways of these rows."""
    from matplotlib.patches import Circle

    space = disk.space
    draw_points(ax, disk.place(space.image[:points]), s=9, color=IMAGE, marker="o", alpha=0.5, linewidths=0)
    levels = [space.text] if space.chain is None else space.phrase[space.chain].unbind(1)
    for level, colour in zip(levels, level_colours(len(levels)), strict=True):
        draw_points(ax, disk.place(level[:points]), s=14, color=colour, marker="^", alpha=0.8, linewidths=0)
    for row in rows:
        _draw_way(ax, disk, torch.stack([*(level[row] for level in levels), space.image[row]]))
        draw_points(ax, disk.place(space.image[row, None]), s=60, facecolors="none", edgecolors="black", zorder=4)
    if disk.has_circle:
        ax.add_patch(Circle((0, 0), 1, fill=False, color="#666666", linewidth=1.2))
    ax.plot(0, 0, "*", color="#D55E00", markersize=14, markeredgecolor="white", zorder=5)
    ax.set_aspect("equal", adjustable="datalim")


def _draw_way(ax: Axes, disk: Disk, stations: Tensor) -> None:
    """The shortest paths from each of stations [S, D] to the next."""
    shares = torch.linspace(0, 1, 25, dtype=stations.dtype)[:, None]
    for start, end in zip(stations[:-1], stations[1:], strict=True):
        path = disk.space.geometry.geodesic(start, end, shares).detach()
        ax.plot(*disk.place(path).T, color="black", linewidth=1)


def level_colours(levels: int) -> list[Any]:
    """From dark (generic) to bright (specific); where there is one level, the colour of captions."""
    import matplotlib

    return [TEXT] if levels < 2 else list(matplotlib.colormaps["cividis"](np.linspace(0, 1, levels)))


def name_levels(figure: Figure, levels: int) -> None:
    """A legend for disks, below the panels: images, captions by level, ways and the root."""
    from matplotlib.lines import Line2D

    def mark(marker: str, colour: Any, label: str) -> Line2D:
        return Line2D([], [], linestyle="", marker=marker, color=colour, markersize=7, label=label)

    names = [f"level {level}" for level in range(levels)] or ["captions"]
    handles = [mark("^", colour, name) for colour, name in zip(level_colours(len(names)), names, strict=True)]
    way = Line2D([], [], color="black", linewidth=1, label="generic to specific to image (ring)")
    handles += [mark("o", IMAGE, "images"), mark("*", "#D55E00", "root"), way]
    figure.legend(handles=handles, loc="outside lower center", ncols=5, frameon=False, fontsize=9)


def plot_traversal(walks: Mapping[str, list[Stop]], picture: Tensor | None = None) -> Figure:
    """Ways from an image to the root, one panel a walk (`clipedu.evaluation.traversals`): the image above, the root below.

    A dot is where a caption becomes the nearest; the number before it is the distance to the root there.

    Args:
        picture: uint8 [3, H, W], the image, shown on the left.
    """
    widths = [1] * len(walks) if picture is None else [0.35, *[1] * len(walks)]
    figure = new_figure(3.5 * sum(widths), 4.6)
    axes = list(figure.subplots(1, len(widths), width_ratios=widths, squeeze=False)[0])
    if picture is not None:
        show_picture(axes.pop(0), picture)
    for ax, (name, stops) in zip(axes, walks.items(), strict=True):
        draw_walk(ax, stops)
        ax.tick_params(labelleft=ax is axes[0])
        dress(ax, name, "", "share of the way to the root" if ax is axes[0] else "")
    return figure


def show_picture(ax: Axes, picture: Tensor) -> None:
    """A picture, uint8 [3, H, W], at the top of a panel."""
    ax.imshow(picture.permute(1, 2, 0).numpy())
    ax.set_anchor("N")
    ax.axis("off")


def draw_walk(ax: Axes, stops: list[Stop]) -> None:
    """One panel of `plot_traversal`."""
    labels = [textwrap.wrap(f"{stop.distance:.2f}  {stop.caption}", 42, subsequent_indent=" " * 10) for stop in stops]
    heights = _spread([stop.share for stop in stops], [0.02 + 0.038 * len(lines) for lines in labels])
    ax.plot([0, 0], [0, 1], color="#999999", linewidth=2, zorder=1)
    for stop, lines, height in zip(stops, labels, heights, strict=True):
        ax.plot([0, 0.05, 0.1], [stop.share, height, height], color="#999999", linewidth=0.7, zorder=1)
        ax.text(0.12, height, plain("\n".join(lines)), fontsize=8, va="center")
    ax.scatter([0] * len(stops), [stop.share for stop in stops], color=TEXT, zorder=2)
    ax.set(xlim=(-0.05, 1.5), ylim=(1.06, -0.06), xticks=[])


def plot_maps(space: Space, method: str = "tsne", points: int = 300, seed: int = 0) -> Figure:
    """Two maps of images and first captions: PCA (what is far stays far) and a map of neighbours (what is near stays near).

    PCA is that of the tangent vectors (on a sphere, of unit vectors); the other knows only the geometry's own distances.

    Args:
        method: "tsne" (van der Maaten and Hinton 2008) or "umap" (McInnes et al. 2018, arXiv:1802.03426; needs umap-learn, whose
            first map in a session takes half a minute).
        points: pairs that are shown, the first ones.
    Raises:
        ClipeduError: an unknown method, or umap-learn is not installed.
    """
    sides = [space.image[:points], space.text[:points]]
    both = torch.cat(sides)
    with torch.no_grad():
        distances = space.geometry.distance(both, both).numpy()
    flat = normalize(both, dim=1) if isinstance(space.geometry, Sphere) else both
    axes, shares = main_axes(flat.numpy())
    places = {f"PCA of the tangent vectors: {100 * shares.sum():.0f} % of the variance": axes}
    places[f"{METHODS.get(method)} of the distances: neighbours"] = neighbour_map(distances, method, seed)
    figure = new_figure(10, 4.6)
    for ax, (title, place) in zip(figure.subplots(1, 2), places.items(), strict=True):
        images, captions = np.split(place, 2)
        draw_pairs(ax, images, captions, linewidth=0.4)
        draw_points(ax, images, s=12, color=IMAGE, marker="o", alpha=0.7, linewidths=0, label="images")
        draw_points(ax, captions, s=12, color=TEXT, marker="^", alpha=0.7, linewidths=0, label="captions")
        ax.set_aspect("equal", adjustable="datalim")
        dress(ax, title, "", "")
    ax.legend(fontsize=9)
    return figure


METHODS = {"tsne": "t-SNE", "umap": "UMAP"}


def neighbour_map(distances: np.ndarray, method: str = "tsne", seed: int = 0) -> np.ndarray:
    """Points [N, 2] for a matrix of distances [N, N], such that neighbours stay neighbours. See `plot_maps`."""
    if method not in METHODS:
        raise unknown_name("method", method, METHODS)
    if method == "tsne":
        from sklearn.manifold import TSNE

        perplexity = min(30, (len(distances) - 1) / 3)
        tsne = TSNE(metric="precomputed", init="random", perplexity=perplexity, random_state=seed)
        return tsne.fit_transform(distances.clip(0))
    try:
        from umap import UMAP
    except ImportError:
        raise ClipeduError("method='umap' needs umap-learn: pip install umap-learn, or take method='tsne'") from None
    import warnings

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "using precomputed metric")  # only says that new points cannot be placed
        return UMAP(metric="precomputed", random_state=seed, n_jobs=1).fit_transform(distances.clip(0))


def _space_panels(spaces: Mapping[str, Space], height: float) -> tuple[Figure, list[Axes]]:
    if not spaces:
        raise ClipeduError("there are no spaces to plot: give at least one, {name: embed_space(model, pairs)}")
    figure = new_figure(max(4.6, 3.7 * len(spaces)), height)
    return figure, panels(figure, len(spaces), len(spaces))


def _unit(space: Space) -> str:
    return "angle to the root (radians)" if isinstance(space.geometry, Sphere) else "distance to the root"


def _check_chains(name: str, space: Space) -> None:
    if space.chain is None:
        raise ClipeduError(
            f"the space {name!r} has no chains of captions: only scenes have captions of known generality"
        )


def _spread(heights: list[float], sizes: list[float]) -> list[float]:
    """The ascending heights, moved as little as that labels of these sizes don't overlap, and none far below 1."""
    apart = [(size + after) / 2 for size, after in pairwise(sizes)]
    spread = heights[:1]
    for height, gap in zip(heights[1:], apart, strict=True):
        spread.append(max(height, spread[-1] + gap))
    spread[-1] = min(spread[-1], max(1.0, heights[-1]))
    for k in reversed(range(len(apart))):
        spread[k] = min(spread[k], spread[k + 1] - apart[k])
    return spread
