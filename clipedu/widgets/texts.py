"""The text lab: type a caption; see what the encoder gets of it.

    lab = TextLab(run.model())    # the last line of a cell shows it
    lab.reading                   # what it shows, a TextReading
    print(lab.script)             # Python that makes the same view

Each view is a call of `read_text` and `plot_reading`; `in_words` makes the sentences.
"""

from __future__ import annotations

from typing import Any

import ipywidgets

from clipedu.inference.texts import OWN, TextReading, poolings, read_text
from clipedu.plots.style import to_png
from clipedu.plots.texts import plot_reading
from clipedu.widgets.controls import Lab, control_style, paragraphs


class TextLab(Lab):
    """Type a caption, choose pooling, padding and mask.

    Args:
        model: of a run, or adopted, with its tokenizer.
        text: the first caption.

    Attributes:
        reading: of the last choice that worked.
    """

    reading: TextReading

    def __init__(self, model: Any, text: str = "a large red star above a small blue ring"):
        super().__init__("900px")
        self._model = model
        style = control_style("330px")
        wide = control_style("660px")
        self.text = ipywidgets.Text(value=text, description="caption", continuous_update=False, **wide)
        self.pooling = ipywidgets.Dropdown(
            options=poolings(model), value=model.text_pooling, description="pooling", **style
        )
        self.padding = ipywidgets.IntSlider(
            max=model.tokenizer.length - 3, value=0, description="padding", continuous_update=False, **style
        )
        self.mask = ipywidgets.Checkbox(value=True, description="mark padding in the mask", indent=False)
        self.pooling.disabled = self.mask.disabled = model.text_pooling == OWN
        self.about = ipywidgets.HTML(layout=ipywidgets.Layout(max_width="900px"))
        columns = ([self.text, ipywidgets.HTML()], [self.pooling, self.padding, self.mask])
        self._arrange(columns, [self.status, self.about, self.picture, self.line])

    def _script(self) -> str:
        mask = "" if self.mask.value else ", masked=False"
        how = f"pooling={self.pooling.value!r}, length={len(self.reading.tokens)}{mask}"
        return "\n".join(
            [
                "from clipedu.inference.texts import read_text",
                "from clipedu.plots.texts import plot_reading",
                f"reading = read_text(model, {self.text.value!r}, {how})",
                "plot_reading(reading)",
            ]
        )

    def _draw(self) -> None:
        real = read_text(self._model, self.text.value).real
        length = min(real + self.padding.value, self._model.tokenizer.length)
        self.reading = read_text(
            self._model, self.text.value, pooling=self.pooling.value, length=length, masked=self.mask.value
        )
        first, *rest = in_words(self.reading)
        self._say(first)
        self.about.value = paragraphs(rest)
        self.picture.value = to_png(plot_reading(self.reading))


def in_words(reading: TextReading) -> list[str]:
    """Describe a reading: tokens, what pooling takes, what matters most.

    Args:
        reading: of `clipedu.inference.texts.read_text`.
    """
    pieces = sum(token.startswith("##") for token in reading.tokens)
    padding = len(reading.tokens) - reading.real
    wasted = 100 * reading.weights[reading.real :].sum().item()
    how = (
        "The tower pools by itself."
        if reading.pooling == OWN
        else f"{reading.pooling}: {wasted:.0f} % of the feature are states of padding."
    )
    lines = [
        f"{reading.real} tokens and {padding} of padding; cosine to the model's own embedding {reading.cosine:.2f}.",
        how,
    ]
    if pieces:
        lines[1] += f" {pieces} of the tokens are pieces that go on with a word (##)."
    if not reading.moved.isnan().all():
        most = int(reading.moved.nan_to_num(-1).argmax())
        lines.append(
            f"The embedding moves most without {reading.tokens[most]!r}: 1 - cosine = {reading.moved[most].item():.2f}."
        )
    return lines
