"""The geometry lab: choose a space and an image; see its path to the root.

    lab = GeometryLab(spaces, pairs)       # {name: embed_space(model, pairs)}; the last line of a cell shows it
    lab.stops                              # the path that is shown, as `clipedu.evaluation.traversals` gives it

`walk` and `lab_figure` do the work, and a script can call them too. `recipe` is the line of Python that repeats the walk.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import ipywidgets
import torch

from clipedu.evaluation.embedding_space import Space
from clipedu.evaluation.traversals import Stop, walk_to_root
from clipedu.plots.disk_projection import Disk
from clipedu.plots.geometry import draw_disk, draw_walk, name_levels, show_picture
from clipedu.plots.style import dress, new_figure, to_png
from clipedu.utils.errors import ClipeduError
from clipedu.widgets.controls import Lab, control_style, paragraphs

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from clipedu.data.pairs import Pairs

RADII = {"off": 0.0} | {f"{k:g}": k for k in (0.01, 0.03, 0.1, 0.2, 0.3, 0.5, 1.0, 2.0)}  # K of the cones


def walk(space: Space, row: int, min_radius: float | None = None) -> list[Stop]:
    """Find the captions nearest to the path from an image to the root.

    Args:
        space: embeddings of images and phrases.
        row: number of the image.
        min_radius: K of the entailment cones that a caption has to hold the image in; None admits all captions.
    Raises:
        ClipeduError: `min_radius` in a geometry without cones.
    """
    return walk_to_root(
        space.geometry, space.image[row], space.phrase, space.phrases, space.root, min_radius=min_radius
    )


def recipe(name: str, row: int, min_radius: float | None) -> str:
    """Write the line of Python that repeats a walk.

    Args:
        name: key of the space in `spaces`.
        row: number of the image.
        min_radius: K of the cones; None where they are off.
    """
    radius = "" if min_radius is None else f", min_radius={min_radius:g}"
    return f"walk(spaces[{name!r}], {row}{radius})"


def cone_line(space: Space, min_radius: float | None) -> str:
    """Describe how wide the cones are at this K, in this geometry."""
    if not space.geometry.has_cones:
        return "This geometry has no cones: all captions may be named."
    if min_radius is None:
        return "Cones are off: all captions may be named."
    with torch.no_grad():
        apertures = space.geometry.half_aperture(space.phrase, min_radius).rad2deg()
    middle, wide = apertures.median().item(), 100 * (apertures > 89.9).double().mean().item()
    return f"Half-aperture of the captions at K = {min_radius:g}: {middle:.0f} degrees (median); {wide:.0f} % are half-spaces."


def lab_figure(space: Space, disk: Disk, picture: torch.Tensor, row: int, stops: list[Stop]) -> Figure:
    """Draw the image, its place and chain on the disk, and its path.

    Args:
        space: the space that was walked.
        disk: the projection of it.
        picture: pixels of the image, uint8 [3, H, W].
        row: number of the image.
        stops: the captions on its path.
    """
    figure = new_figure(11, 5)
    left, middle, right = figure.subplots(1, 3, width_ratios=[0.3, 1.1, 1])
    show_picture(left, picture)
    draw_disk(middle, disk, [row])
    dress(middle, disk.about, "first main axis", "second main axis")
    draw_walk(right, stops)
    dress(right, "nearest captions on the way to the root", "", "share of the way")
    name_levels(figure, 0 if space.chain is None else space.chain.shape[1])
    return figure


class GeometryLab(Lab):
    """Choose a space, an image and K: the captions on its path to the root.

    Args:
        spaces: {name: `embed_space(model, pairs)`}, all of the same pairs.
        pairs: the set they were made of, for its images.

    Attributes:
        stops: the captions on the path that is shown.

    Raises:
        ClipeduError: there are no spaces.
    """

    script_label = "The same walk in Python:"

    def __init__(self, spaces: Mapping[str, Space], pairs: Pairs):
        if not spaces:
            raise ClipeduError("there are no spaces to show: give at least one, {name: embed_space(model, pairs)}")
        super().__init__("1100px")
        self.spaces, self.pairs = dict(spaces), pairs
        self.stops: list[Stop] = []
        self._disks = {name: Disk(space) for name, space in self.spaces.items()}
        style = control_style("380px")
        self.space = ipywidgets.Dropdown(options=list(self.spaces), description="geometry", **style)
        self.row = ipywidgets.IntSlider(max=len(pairs) - 1, description="image", continuous_update=False, **style)
        self.min_radius = ipywidgets.SelectionSlider(
            options=list(RADII.items()), description="cones, K", continuous_update=False, **style
        )
        self.about = ipywidgets.HTML()
        self._arrange([[self.space, self.row], [self.min_radius, self.about]], [self.status, self.picture, self.line])

    @property
    def _radius(self) -> float | None:
        """Return K of the cones, None where there are none."""
        return (self.min_radius.value or None) if self.spaces[self.space.value].geometry.has_cones else None

    def _draw(self) -> None:
        name, row = self.space.value, self.row.value
        space = self.spaces[name]
        self.min_radius.disabled = not space.geometry.has_cones
        self.stops = walk(space, row, self._radius)
        picture = self.pairs.pixels(torch.tensor([row]))[0]
        self.picture.value = to_png(lab_figure(space, self._disks[name], picture, row, self.stops))
        self.about.value = paragraphs([cone_line(space, self._radius)])

    def _script(self) -> str:
        return recipe(self.space.value, self.row.value, self._radius)
