"""The mask lab: choose grid, base and token; see the fractal mask.

    lab = MaskLab()         # the last line of a cell shows it
    lab.mask                # the mask of what it shows, bool [L, L]
    print(lab.script)       # Python that makes the same view

A base that does not fit the grid can be chosen: few do, and the lab says which. Each view is a call of `fractal_mask`,
`plot_mask` and `plot_who_sees`; `in_words` makes the sentences.
"""

from __future__ import annotations

import ipywidgets
from torch import Tensor

from clipedu.models.cost import block_cost
from clipedu.models.fractal_mask import fractal_mask, summary_sides
from clipedu.plots.masks import level_names, plot_mask, plot_who_sees, token_at, token_name
from clipedu.plots.style import to_png
from clipedu.widgets.controls import Lab, control_style, paragraphs, png_image

LARGEST = 32  # patches along one side
WIDTH = 384  # embedding width of a ViT-S


class MaskLab(Lab):
    """Choose grid, base and token; see the mask and what the token sees.

    Attributes:
        mask: bool [L, L], True where query (row) may attend to key (column). This and `token` are of the last choice that
            worked.
        token: number of the chosen token in the sequence.
    """

    def __init__(self):
        super().__init__("620px")
        self.mask: Tensor | None = None
        self.token = 0
        style = control_style("330px")
        slider = {"continuous_update": False, **style}
        self.grid = ipywidgets.IntSlider(min=2, max=LARGEST, value=4, description="grid side", **slider)
        self.base = ipywidgets.IntSlider(min=2, max=LARGEST, value=2, description="base", **slider)
        self.level = ipywidgets.Dropdown(description="token of level", **style)
        self.row = ipywidgets.IntSlider(max=3, value=1, description="row", **slider)
        self.column = ipywidgets.IntSlider(max=3, value=2, description="column", **slider)
        self.blocks = ipywidgets.Dropdown(options={"1 block": 1, "2 blocks": 2}, description="after", **style)
        self.about = ipywidgets.HTML(layout=ipywidgets.Layout(max_width="1050px"))
        self.seen = png_image("100%")
        for image in (self.seen, self.picture):  # never larger than drawn
            image.layout.width, image.layout.align_self = None, "flex-start"
        columns = ([self.grid, self.base, self.blocks], [self.level, self.row, self.column])
        self._arrange(columns, [self.status, self.about, self.seen, self.picture, self.line])

    def _script(self) -> str:
        grid, base = self.grid.value, self.base.value
        place = f"{self.level.value!r}, {self.row.value}, {self.column.value}"
        after = "" if self.blocks.value == 1 else f", blocks={self.blocks.value}"
        return "\n".join(
            [
                "from clipedu.plots.masks import plot_mask, plot_who_sees, token_at",
                "from clipedu.models.fractal_mask import fractal_mask",
                f"mask = fractal_mask({grid}, {base})",
                f"token = token_at({grid}, {base}, {place})",
                f"plot_who_sees({grid}, {base}, token{after})",
                f"plot_mask({grid}, {base}, token{after})",
            ]
        )

    def _draw(self) -> None:
        grid, base, after = self.grid.value, self.base.value, self.blocks.value
        mask = fractal_mask(grid, base)
        with self._unobserved():
            self._fit_token()
        self.mask = mask
        self.token = token_at(grid, base, self.level.value, self.row.value, self.column.value)
        first, *rest = in_words(grid, base, self.token)
        self._say(first)
        self.about.value = paragraphs(rest)
        self.seen.value = to_png(plot_who_sees(grid, base, self.token, blocks=after))
        self.picture.value = to_png(plot_mask(grid, base, self.token, blocks=after))

    def _fit_token(self) -> None:
        """Offer the levels and places that exist, and move the token to one."""
        grid, base = self.grid.value, self.base.value
        names, sides = level_names(grid, base), [*summary_sides(grid, base), grid]
        if list(self.level.options) != names:
            patch, old = self.level.value in (None, "patches"), self.level.index or 0
            self.level.options = names
            self.level.index = len(names) - 1 if patch else min(old, len(names) - 2)
        for slider in (self.row, self.column):
            slider.max = sides[self.level.index] - 1


def in_words(grid: int, base: int, token: int) -> list[str]:
    """Describe a mask in three sentences: pairs, what a token sees, its cost.

    Args:
        grid: patches along one side.
        base: each window holds base x base of the next smaller ones.
        token: number in the sequence, from 0.
    Raises:
        ClipeduError: the base does not fit the grid, or there is no such token.
    """
    mask, sides = fractal_mask(grid, base), summary_sides(grid, base)
    name, counts = token_name(grid, base, token).replace("global", "the global"), [side * side for side in sides]
    count, patches, summary = len(mask), grid * grid, sum(counts)
    allowed = int(mask.sum())
    share = f"{allowed:,} of {count**2:,} pairs may attend, {allowed / count**2:.1%}."
    if mask.all():
        share = f"all {count**2:,} pairs may attend: this mask forbids nothing."
    levels = f" ({' + '.join(map(str, counts))})" if len(counts) > 1 else ""
    tokens = f"R = {summary} summary {'token' if summary == 1 else 'tokens'}{levels}"
    parts = mask[token].split([*counts, patches])
    seen = ", ".join(
        f"{int(part.sum())} of {len(part)} {'patches' if level == 'patches' else f'on level {level}'}"
        for level, part in zip(level_names(grid, base), parts, strict=True)
    )
    more = block_cost(count, WIDTH) / block_cost(patches, WIDTH) - 1
    return [
        f"{tokens} and {patches:,} patches: a sequence of L = {count:,} tokens; {share}",
        f"In one block {name} sees {int(mask[token].sum()):,} tokens, itself among them: {seen}.",
        f"A block of ViT-S (d = {WIDTH}) on N tokens takes 12 N d² + 2 N² d multiply-adds: the summary tokens add {more:.1%}. "
        "The mask saves none of them: dense attention computes what it hides.",
    ]
