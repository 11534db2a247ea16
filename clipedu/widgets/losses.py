"""The loss lab: edit a batch; see which pairs a loss pulls and pushes.

    lab = LossLab()         # the last line of a cell shows it
    lab.seen.weights        # dL/dS of what it shows
    print(lab.script)       # Python that makes the same view

Each edit is a function of `clipedu.toys.similarity_batch`, each view one call of `examine` and one of `plot_edited`. A loss
with memory starts empty, until *Remember* is pressed: that is one training step, whose memory stays when the batch is edited.
"""

from __future__ import annotations

import html
from collections.abc import Callable
from typing import Any

import ipywidgets
from torch import Tensor

from clipedu.losses import LOSSES
from clipedu.plots.losses import plot_edited
from clipedu.plots.style import to_png
from clipedu.toys.similarity_batch import (
    Seen,
    examine,
    scene_batch,
    similarity_losses,
    with_false_negative,
    with_similarity,
    with_swapped_captions,
)
from clipedu.widgets.controls import Lab, control_style, slider

TEMPERATURES = [0.005, 0.01, 0.02, 0.03, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0]


class LossLab(Lab):
    """Choose a loss, edit the similarities of a batch, see weights and terms.

    Attributes:
        batch: what it begins with and *Reset* returns to, `scene_batch()`.
        similarity: S as it is now, [B, B].
        visits: what a loss with memory has seen, a list of S.
        seen: the loss of it and its weights (a `Seen`), of the last choice that worked.
    """

    def __init__(self):
        super().__init__("1150px")
        self.batch = scene_batch()
        self.similarity: Tensor = self.batch.similarity
        self.visits: list[Tensor] = []
        self.seen: Seen | None = None
        self._edits: list[str] = []
        style = control_style("340px")
        cells = [(name, row) for row, name in enumerate(self.batch.names)]
        self.loss = ipywidgets.Dropdown(options=similarity_losses(), value="clip", description="loss", **style)
        self.temperature = slider("temperature", TEMPERATURES, 0.05, style)
        self.scale = ipywidgets.Dropdown(options=["paper", "clip"], value="paper", description="scale", **style)
        self.image = ipywidgets.Dropdown(options=cells, value=len(cells) // 2, description="picture", **style)
        self.caption = ipywidgets.Dropdown(options=cells, value=len(cells) // 2, description="caption of", **style)
        self.value = ipywidgets.FloatSlider(
            min=-1, max=1, step=0.05, description="similarity", continuous_update=False, **style
        )
        self.reset_button = _button("Reset", "the batch as it was, and nothing remembered")
        self.negative_button = _button("False negative", "either caption fits either picture")
        self.swap_button = _button("Swap captions", "the two pairs get each other's caption")
        self.remember_button = _button("Remember", "one training step: what SogCLR, iSogCLR and OnlineCLR keep")
        self.about = ipywidgets.HTMLMath(layout=ipywidgets.Layout(max_width="1050px", overflow="auto hidden"))
        self.reset_button.on_click(lambda _: self.reset())
        self.negative_button.on_click(lambda _: self.make_false_negative())
        self.swap_button.on_click(lambda _: self.swap_captions())
        self.remember_button.on_click(lambda _: self.remember())
        self._place_slider()
        columns = ([self.loss, self.temperature, self.scale], [self.image, self.caption, self.value])
        buttons = [self.negative_button, self.swap_button, self.remember_button, self.reset_button]
        self._arrange(columns, [ipywidgets.HBox(buttons), self.status, self.picture, self.about, self.line])

    @property
    def chosen(self) -> tuple[int, int]:
        """Numbers of the chosen picture and caption."""
        return self.image.value, self.caption.value

    def _script(self) -> str:
        """Return code with the edits so far, in order, then `examine`."""
        visits = ", visits=visits" if self.visits else ""
        last = f"examine({self.loss.value!r}, S, temperature={self.temperature.value!r}, scale={self.scale.value!r}{visits})"
        start = ["from clipedu.toys.similarity_batch import *", "S, visits = scene_batch().similarity, []"]
        return "\n".join([*start, *self._edits, f"seen = {last}"])

    def make_false_negative(self) -> None:
        """Make either caption of the two chosen pairs fit either picture."""
        self._edit_two(with_false_negative)

    def swap_captions(self) -> None:
        """Exchange the captions of the two chosen pairs."""
        self._edit_two(with_swapped_captions)

    def remember(self) -> None:
        """Make one training step, which losses with memory remember."""
        self.visits.append(self.similarity)
        self._edits.append("visits.append(S)")
        self._show()

    def reset(self) -> None:
        """Return to the first batch, with nothing remembered."""
        self.similarity, self.visits, self._edits = self.batch.similarity, [], []
        self._choose()

    def _edit_two(self, edit: Callable[[Tensor, int, int], Tensor]) -> None:
        first, second = self.chosen
        if first == second:
            self._say("Choose a picture and the caption of another pair, then press again.", warn=True)
            return
        self.similarity = edit(self.similarity, first, second)
        self._edits.append(f"S = {edit.__name__}(S, {first}, {second})")
        self._choose()

    def _on_change(self, change: dict[str, Any]) -> None:
        if change["owner"] is self.value:
            self._edit_cell(change["new"])
        elif change["owner"] in (self.image, self.caption):
            self._choose()
        else:
            self._show()

    def _edit_cell(self, value: float) -> None:
        """Change the chosen cell: the slider was moved."""
        value = round(value, 2)
        self.similarity = with_similarity(self.similarity, *self.chosen, value)
        begin = f"S = with_similarity(S, {self.image.value}, {self.caption.value}, "
        if self._edits and self._edits[-1].startswith(begin):
            self._edits.pop()  # the slider passed there on its way
        self._edits.append(f"{begin}{value!r})")
        self._show()

    def _choose(self) -> None:
        """Show another cell, or the cells after an edit."""
        self._place_slider()
        self._show()

    def _place_slider(self) -> None:
        """Put the slider at the value of the chosen cell; that is no edit."""
        with self._unobserved():
            self.value.value = self.similarity[self.chosen].item()

    def _draw(self) -> None:
        entry = LOSSES[self.loss.value]
        self.about.value = f"<b>{entry.name}</b>: {html.escape(entry.description)}<br>$${html.escape(entry.formula)}$$"
        self.seen = examine(
            entry.name,
            self.similarity,
            temperature=self.temperature.value,
            scale=self.scale.value,
            visits=self.visits,
        )
        terms = ", ".join(f"{name} {value:.3f}" for name, value in self.seen.terms.items() if name != "in_modal")
        steps = f"; {len(self.visits)} step(s) remembered" if self.visits else ""
        self._say(f"loss {self.seen.total:.3f} = {terms}; norm of dL/dS {self.seen.size:.3g}{steps}")
        self.picture.value = to_png(plot_edited(self.batch, self.similarity, self.seen.weights, self.chosen))


def _button(name: str, tooltip: str) -> ipywidgets.Button:
    return ipywidgets.Button(description=name, tooltip=tooltip, layout=ipywidgets.Layout(width="160px"))
