"""What the labs share: their base class and a few controls."""

from __future__ import annotations

import html
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import ipywidgets

from clipedu.utils.errors import ClipeduError


class Lab(ipywidgets.VBox):
    """Controls, and a picture that is drawn anew when one of them changes.

    A subclass makes its controls, calls `_arrange`, and implements `_draw` and `_script`. Pictures are PNG bytes in `Image`
    widgets, never an `Output` widget: that one depends on the cell that runs, and loses what a thread draws.

    Args:
        width: the largest width of the picture, in CSS units.

    Attributes:
        status: one line of text; an error is shown here, and the picture stays.
        picture: what the library draws of the choice.
        script: Python that makes the same view, of the last choice that worked.
        line: shows `script`.
    """

    script_label = "The same in Python:"

    def __init__(self, width: str):
        super().__init__()
        self.script = ""
        self.status = ipywidgets.HTML()
        self.picture = png_image(width)
        self.line = ipywidgets.HTML()
        self._observing = True

    def _draw(self) -> None:
        """Show what was chosen. A ClipeduError from here is shown as the status."""
        raise NotImplementedError

    def _script(self) -> str:
        """Return Python code that makes what `_draw` shows."""
        raise NotImplementedError

    def _arrange(self, columns: Sequence[Sequence[ipywidgets.Widget]], parts: Sequence[ipywidgets.Widget]) -> None:
        """Lay out the lab, show the first view, and observe the controls.

        Args:
            columns: the controls, and texts (HTML) that belong beside them.
            parts: the widgets below, from top to bottom.
        Raises:
            ClipeduError: the first choice does not work.
        """
        self.children = [ipywidgets.HBox([ipywidgets.VBox(column) for column in columns]), *parts]
        self._show_view()
        for control in (control for column in columns for control in column):
            if not isinstance(control, ipywidgets.HTML):
                control.observe(self._observe, "value")

    def _observe(self, change: dict[str, Any]) -> None:
        if self._observing:
            self._on_change(change)

    def _on_change(self, change: dict[str, Any]) -> None:
        """React to a changed control, `change["owner"]`."""
        self._show()

    @contextmanager
    def _unobserved(self) -> Iterator[None]:
        """Set controls inside without reacting to the change."""
        self._observing = False
        try:
            yield
        finally:
            self._observing = True

    def _show(self) -> None:
        """Show what was chosen, or why it cannot be shown."""
        try:
            self._show_view()
        except ClipeduError as error:
            self._say(f"{error} (the picture shows the last choice that worked)", warn=True)

    def _show_view(self) -> None:
        self._draw()
        self.script = self._script()
        code = html.escape(self.script)
        self.line.value = self.script_label + (f"<pre>{code}</pre>" if "\n" in code else f" <code>{code}</code>")

    def _say(self, text: str, *, warn: bool = False) -> None:
        """Show a line of text as the status, in colour if it is a warning."""
        colour = "#D55E00" if warn else "inherit"
        self.status.value = f'<b style="color:{colour}">{html.escape(text)}</b>' if text else ""


def control_style(width: str, label_width: str = "90px") -> dict[str, Any]:
    """Return options for a control: its width and its label's, in CSS units."""
    return {"style": {"description_width": label_width}, "layout": ipywidgets.Layout(width=width)}


def slider(name: str, values: Sequence[float], chosen: float, style: dict[str, Any]) -> ipywidgets.SelectionSlider:
    """Make a slider over given values and the chosen one.

    Args:
        name: the label.
        values: shown, and rounded, to three digits.
        chosen: where it starts; kept to its last digit.
        style: `control_style(...)`.
    """
    options = [(f"{value:g}", value) for value in sorted({float(f"{value:.3g}") for value in values} | {chosen})]
    return ipywidgets.SelectionSlider(options=options, value=chosen, description=name, continuous_update=False, **style)


def png_image(max_width: str, **layout: str) -> ipywidgets.Image:
    """Make an empty image, as wide as the page up to `max_width`."""
    return ipywidgets.Image(
        format="png", layout=ipywidgets.Layout(**{"max_width": max_width, "width": "100%", **layout})
    )


def paragraphs(lines: Sequence[str]) -> str:
    """Turn lines of plain text into HTML."""
    return "<br>".join(html.escape(line) for line in lines)


def slider_check() -> ipywidgets.VBox:
    """Show a slider and the value that Python receives of it."""
    moved = ipywidgets.IntSlider(value=3, min=0, max=10, description="move me")
    received = ipywidgets.Label(f"Python received: {moved.value}")
    moved.observe(lambda change: setattr(received, "value", f"Python received: {change['new']}"), "value")
    return ipywidgets.VBox([moved, received])
