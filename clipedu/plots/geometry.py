r"""Figures of embedding spaces: radius, generality, disk, traversals, maps.

    spaces = {"cosine": embed_space(a, pairs), "lorentz": embed_space(b, pairs)}
    plot_disk(spaces)            # one panel a space, so that geometries can be compared

All take `clipedu.evaluation.embedding_space.Space`s. Colours are those of `clipedu.plots.style`; generality runs from dark
(generic) to bright (specific).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from clipedu.evaluation.embedding_space import Space, norm_summary
from clipedu.evaluation.hierarchy import generality_scores
from clipedu.geometry.sphere import Sphere
from clipedu.plots.disk_projection import Disk
from clipedu.plots.embeddings import main_axes
from clipedu.plots.style import IMAGE, TEXT, draw_pairs, draw_points, dress, new_figure, panels
from clipedu.plots.traversals import draw_walk, plot_traversal, show_picture
from clipedu.utils.errors import ClipeduError, unknown_name

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "METHODS",
    "draw_disk",
    "draw_walk",
    "level_colours",
    "name_levels",
    "neighbour_map",
    "plot_disk",
    "plot_generality",
    "plot_maps",
    "plot_root_distances",
    "plot_traversal",
    "show_picture",
]


def plot_root_distances(spaces: Mapping[str, Space]) -> Figure:
    """Plot how far from the root images and first captions are, counted.

    Each space has a panel. The lines are the medians. Raises ClipeduError: no spaces.
    """
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
    """Plot the distance to the root of captions by level, and of images.

    Each space has a panel; level 0 is the most generic. A box holds the middle half of the captions, its whiskers nine
    tenths. Raises ClipeduError: no spaces, or one without chains.
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
    """Draw images and captions around the root, one panel a space.

    `clipedu.plots.disk_projection` says what is true of the picture.

    Args:
        spaces: title -> space.
        chains: of the first so many rows, the way from the most generic caption to the image is drawn, along shortest
            paths; without chains, from the first caption to the image.
        points: images that are shown, and captions a level.
    Raises:
        ClipeduError: no spaces.
    """
    figure, axes = _space_panels(spaces, 4.9)
    for ax, (name, space) in zip(axes, spaces.items(), strict=True):
        disk = Disk(space)
        draw_disk(ax, disk, range(chains), points)
        dress(ax, f"{name}\n{disk.about}", "first main axis", "second main axis")
    name_levels(figure, max((space.chain.shape[1] for space in spaces.values() if space.chain is not None), default=0))
    return figure


def draw_disk(ax: Axes, disk: Disk, rows: Iterable[int], points: int = 300) -> None:
    """Draw one panel of `plot_disk`.

    Args:
        ax: the panel.
        disk: the map of its space.
        rows: those whose way from the most generic caption to the image is drawn.
        points: images that are shown, and captions a level.
    """
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
    """Draw the shortest paths from each of stations [S, D] to the next."""
    shares = torch.linspace(0, 1, 25, dtype=stations.dtype)[:, None]
    for start, end in zip(stations[:-1], stations[1:], strict=True):
        path = disk.space.geometry.geodesic(start, end, shares).detach()
        ax.plot(*disk.place(path).T, color="black", linewidth=1)


def level_colours(levels: int) -> list[Any]:
    """Return colours from dark (generic) to bright (specific).

    A single level has the colour of captions.
    """
    import matplotlib

    return [TEXT] if levels < 2 else list(matplotlib.colormaps["cividis"](np.linspace(0, 1, levels)))


def name_levels(figure: Figure, levels: int) -> None:
    """Add the legend of disks, below the panels.

    It names images, captions by level, ways and the root.
    """
    from matplotlib.lines import Line2D

    def mark(marker: str, colour: Any, label: str) -> Line2D:
        return Line2D([], [], linestyle="", marker=marker, color=colour, markersize=7, label=label)

    names = [f"level {level}" for level in range(levels)] or ["captions"]
    handles = [mark("^", colour, name) for colour, name in zip(level_colours(len(names)), names, strict=True)]
    way = Line2D([], [], color="black", linewidth=1, label="generic to specific to image (ring)")
    handles += [mark("o", IMAGE, "images"), mark("*", "#D55E00", "root"), way]
    figure.legend(handles=handles, loc="outside lower center", ncols=5, frameon=False, fontsize=9)


def plot_maps(space: Space, method: str = "tsne", points: int = 300, seed: int = 0) -> Figure:
    """Draw two maps of images and captions: PCA, and a map of neighbours.

    PCA preserves large distances, the other preserves neighbours. PCA is that of the tangent vectors (on a sphere, of
    unit vectors); the other is made from the geometry's own distances alone.

    Args:
        space: what is shown.
        method: "tsne" (van der Maaten and Hinton 2008) or "umap" (McInnes et al. 2018, arXiv:1802.03426), whose first map in a
            session takes half a minute.
        points: pairs that are shown, the first ones.
        seed: of the map of neighbours.
    Raises:
        ClipeduError: an unknown method.
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
    """Place points so that neighbours by their distances stay neighbours.

    Args:
        distances: [N, N], all of them.
        method: "tsne" or "umap", as in `plot_maps`.
        seed: of the first places.
    Returns:
        places [N, 2].
    Raises:
        ClipeduError: an unknown method.
    """
    if method not in METHODS:
        raise unknown_name("method", method, METHODS)
    if method == "tsne":
        from sklearn.manifold import TSNE

        perplexity = min(30, (len(distances) - 1) / 3)
        tsne = TSNE(metric="precomputed", init="random", perplexity=perplexity, random_state=seed)
        return tsne.fit_transform(distances.clip(0))
    import warnings

    from umap import UMAP

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
