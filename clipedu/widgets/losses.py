"""The losses' lab: edit a batch by hand, cell by cell, and see at once whom a loss pulls and whom it pushes.

    lab = LossLab()         # the last line of a cell shows it
    lab.seen.weights        # dL/dS of what it shows
    print(lab.script)       # Python that makes the same view

The lab is a thin skin over `clipedu.toys.similarity_batch`: each edit is one of its functions, each view one call of `examine` and one
of `plot_edited`. A loss with memory meets the batch for the first time, unless *Remember* was pressed: that is one training
step, after which the batch can be changed and the memory stays.
"""

from __future__ import annotations

import html

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
from clipedu.utils.errors import ClipeduError

TEMPERATURES = [0.005, 0.01, 0.02, 0.03, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0]


class LossLab(ipywidgets.VBox):
    """Choose loss, temperature and scale; edit the similarities of a batch; see weights, loss and terms.

    Attributes:
        batch: what it begins with and *Reset* returns to, `scene_batch()`.
        similarity: S as it is now, [B, B].
        visits: what a loss with memory has seen, a list of S.
        seen: what the loss says of it (a `Seen`), of the last choice that could work.
        script: Python that makes the same view.
    """

    def __init__(self):
        self.batch = scene_batch()
        self.similarity: Tensor = self.batch.similarity
        self.visits: list[Tensor] = []
        self.seen: Seen | None = None
        self._edits: list[str] = []
        self._busy = False
        look = {"style": {"description_width": "90px"}, "layout": ipywidgets.Layout(width="340px")}
        cells = [(name, row) for row, name in enumerate(self.batch.names)]
        self.loss = ipywidgets.Dropdown(options=similarity_losses(), value="clip", description="loss", **look)
        self.temperature = ipywidgets.SelectionSlider(
            options=[(f"{value:g}", value) for value in TEMPERATURES],
            value=0.05,
            description="temperature",
            continuous_update=False,
            **look,
        )
        self.scale = ipywidgets.Dropdown(options=["paper", "clip"], value="paper", description="scale", **look)
        self.image = ipywidgets.Dropdown(options=cells, value=len(cells) // 2, description="picture", **look)
        self.caption = ipywidgets.Dropdown(options=cells, value=len(cells) // 2, description="caption of", **look)
        self.value = ipywidgets.FloatSlider(
            min=-1, max=1, step=0.05, description="similarity", continuous_update=False, **look
        )
        self.reset_button = _button("Reset", "the batch as it was, and nothing remembered")
        self.negative_button = _button("False negative", "either caption fits either picture")
        self.swap_button = _button("Swap captions", "the two pairs get each other's caption")
        self.remember_button = _button("Remember", "one training step: what SogCLR, iSogCLR and OnlineCLR keep")
        self.about = ipywidgets.HTMLMath(layout=ipywidgets.Layout(max_width="1050px", overflow="auto hidden"))
        self.status = ipywidgets.HTML()
        self.picture = ipywidgets.Image(format="png", layout=ipywidgets.Layout(max_width="1150px", width="100%"))
        self.line = ipywidgets.HTML()
        for control in (self.loss, self.temperature, self.scale):
            control.observe(lambda _: self._show(), "value")
        for control in (self.image, self.caption):
            control.observe(lambda _: self._choose(), "value")
        self.value.observe(lambda change: self._edit_cell(change["new"]), "value")
        self.reset_button.on_click(lambda _: self.reset())
        self.negative_button.on_click(lambda _: self.make_false_negative())
        self.swap_button.on_click(lambda _: self.swap_captions())
        self.remember_button.on_click(lambda _: self.remember())
        self._choose()
        columns = ([self.loss, self.temperature, self.scale], [self.image, self.caption, self.value])
        controls = ipywidgets.HBox([ipywidgets.VBox(column) for column in columns])
        buttons = [self.negative_button, self.swap_button, self.remember_button, self.reset_button]
        parts = [controls, ipywidgets.HBox(buttons), self.status, self.picture, self.about, self.line]
        super().__init__(parts)

    @property
    def chosen(self) -> tuple[int, int]:
        """Numbers of the chosen picture and caption."""
        return self.image.value, self.caption.value

    @property
    def script(self) -> str:
        """Python that makes the same view: the edits so far, in order, then `examine`."""
        visits = ", visits=visits" if self.visits else ""
        last = f"examine({self.loss.value!r}, S, temperature={self.temperature.value!r}, scale={self.scale.value!r}{visits})"
        start = ["from clipedu.toys.similarity_batch import *", "S, visits = scene_batch().similarity, []"]
        return "\n".join([*start, *self._edits, f"seen = {last}"])

    def make_false_negative(self) -> None:
        """Either caption of the two chosen pairs fits either picture. The button of this name calls it, as those below."""
        self._edit_two(with_false_negative)

    def swap_captions(self) -> None:
        """The two chosen pairs get each other's caption."""
        self._edit_two(with_swapped_captions)

    def remember(self) -> None:
        """One training step: losses with memory keep what they now see. The other losses have nothing to keep."""
        self.visits.append(self.similarity)
        self._edits.append("visits.append(S)")
        self._show()

    def reset(self) -> None:
        """The batch as it was, and nothing remembered."""
        self.similarity, self.visits, self._edits = self.batch.similarity, [], []
        self._choose()

    def _edit_two(self, edit) -> None:
        first, second = self.chosen
        if first == second:
            self._say("Choose a picture and the caption of another pair, then press again.", mend=True)
            return
        self.similarity = edit(self.similarity, first, second)
        self._edits.append(f"S = {edit.__name__}(S, {first}, {second})")
        self._choose()

    def _edit_cell(self, value: float) -> None:
        """The slider was moved by a person: change the chosen cell."""
        if self._busy:
            return
        value = round(value, 2)
        self.similarity = with_similarity(self.similarity, *self.chosen, value)
        begin = f"S = with_similarity(S, {self.image.value}, {self.caption.value}, "
        if self._edits and self._edits[-1].startswith(begin):
            self._edits.pop()  # a slider on its way: where it stops is what counts
        self._edits.append(f"{begin}{value!r})")
        self._show()

    def _choose(self) -> None:
        """Put the slider where the chosen cell is; that is no edit."""
        self._busy = True
        self.value.value = self.similarity[self.chosen].item()
        self._busy = False
        self._show()

    def _show(self) -> None:
        entry = LOSSES[self.loss.value]
        self.about.value = f"<b>{entry.name}</b>: {html.escape(entry.description)}<br>$${html.escape(entry.formula)}$$"
        self.line.value = f"The same in Python:<pre>{html.escape(self.script)}</pre>"
        try:
            self.seen = examine(
                entry.name,
                self.similarity,
                temperature=self.temperature.value,
                scale=self.scale.value,
                visits=self.visits,
            )
        except ClipeduError as error:
            self._say(f"{error} (the picture shows the last choice that worked)", mend=True)
            return
        terms = ", ".join(f"{name} {value:.3f}" for name, value in self.seen.terms.items() if name != "in_modal")
        steps = f"; {len(self.visits)} step(s) remembered" if self.visits else ""
        self._say(f"loss {self.seen.total:.3f} = {terms}; norm of dL/dS {self.seen.size:.3g}{steps}")
        self.picture.value = to_png(plot_edited(self.batch, self.similarity, self.seen.weights, self.chosen))

    def _say(self, text: str, mend: bool = False) -> None:
        colour = "#D55E00" if mend else "inherit"
        self.status.value = f'<b style="color:{colour}">{html.escape(text)}</b>'


def _button(name: str, tooltip: str) -> ipywidgets.Button:
    return ipywidgets.Button(description=name, tooltip=tooltip, layout=ipywidgets.Layout(width="160px"))
